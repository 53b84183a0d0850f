// The runner: oracles, one pass for all methods, logs, reports.

import CacheMethods
import Evaluation
import Foundation
import Tasks
import TestSupport
import Testing
import TieredMemory
import Tokenizers
import Transformers

/// The methods that the tests compare.
private func methods(
  _ texts: [String] = ["full", "lrqk:preset=paper,r=4,k=24,w=8", "streaming:sinks=2,w=30"]
) throws -> [any CacheMethod] {
  try texts.map { try cacheMethod($0) }
}

/// A run of the tiny model; `stopAfter` samples it is killed.
private struct TinyRun {
  var seed: UInt64 = 0
  var texts = ["full", "lrqk:preset=paper,r=4,k=24,w=8"]
  var recall = false
  var needles = false
  var stopAfter = Int.max
  struct Killed: Error {}

  func head(_ generator: RulerGenerator) throws -> LogHead {
    LogHead(
      generator, model: try modelHash(folder: Tiny.folder), recall: recall,
      needleRecall: needles)
  }

  func run(samples: Int, log path: String?) throws -> RulerReport {
    let (decoder, tokenizer) = try Tiny.load()
    let generator = RulerGenerator(seed: seed, form: PromptForm(tokenizer))
    var answers = ModelAnswers(decoder, tokenizer, form: generator.form)
    answers.measuresRecall = recall
    answers.measuresNeedles = needles
    var asked = 0
    let runner = RulerRunner(generator, methods: try methods(texts)) { [answers, stopAfter] in
      asked += 1
      if asked > stopAfter { throw Killed() }
      return try answers.answers($0, $1)
    }
    let head = try head(generator)
    let rows = try runner.run(
      [.variableTracking, .question1], lengths: [900], samples: samples,
      log: try path.map { try SampleLog(path: $0, head: head) } ?? SampleLog())
    return RulerReport(rows, head: head, modelFolder: "tiny")
  }
}

@Suite struct RunnerTests {
  @Test func `a perfect reader scores 100 on every task, an empty one 0`() throws {
    let methods = try methods()
    let perfect = RulerRunner(wordGenerator(), methods: methods) { sample, methods in
      methods.map { _ in RulerAnswer(prediction: sample.answer) }
    }
    let rows = try perfect.run(RulerTask.allCases, lengths: [900], samples: 4)
    #expect(rows.count == 13 * 3)
    #expect(rows.allSatisfy { $0.score == 100 && $0.stderr == 0 && $0.nulls == 0 })
    #expect(rows.allSatisfy { $0.samples == 4 && $0.length == 900 })
    let silent = RulerRunner(wordGenerator(), methods: methods) { _, methods in
      methods.map { _ in RulerAnswer(prediction: " \u{1} ") }
    }
    for row in try silent.run(RulerTask.allCases, lengths: [900], samples: 2) {
      #expect(row.score == 0 && row.nulls == 2)
    }
  }

  @Test func `a shared prompt gives every method what it gets alone, to the bit`() throws {
    let (decoder, tokenizer) = try Tiny.load()
    let methods = try methods(
      cacheMethods.filter {
        ![
          "lrqk", "factored", "fastkvzip", "kvsink", "smallkv",
        ].contains($0.name)
      }
      .map { "\($0.name)" }
        + [
          "kvsink:calibration=0/5", "lrqk:preset=paper,r=4,k=24,w=8",
          "lrqk:preset=recommended,r=4,k=24,w=8",
        ]
    ).map { method in
      // Sizes below the prompt's, so that every method leaves tokens out.
      switch type(of: method).name {
      case "topk", "lrqk-no-hit-miss", "lrqk-prefill-offload":
        try cacheMethod("\(type(of: method).name):k=24,w=8")
      case "streaming": try cacheMethod("streaming:sinks=2,w=30")
      default: method
      }
    }
    let prompt = tokenizer.encode(
      try RulerGenerator(seed: 1, form: PromptForm(tokenizer))
        .sample(.niahMultikey2, length: 400, index: 0).prompt)
    func generations(_ methods: [any CacheMethod]) throws -> [Generation] {
      var generator = Generator(decoder, limit: 40) { n, layer in
        RecallProbe(try methods[n].makeCache(for: layer), layer: layer)
      }
      generator.endOfText = []
      return try generator.generate(prompt, sequences: methods.count)
    }
    let together = try generations(methods)
    var answers: Set<[Int]> = []
    for (method, shared) in zip(methods, together) {
      var single = Generator(decoder, limit: 40) { _, layer in
        RecallProbe(try method.makeCache(for: layer), layer: layer)
      }
      single.endOfText = []
      let alone = try single.generate([prompt])[0]
      #expect(shared.tokens == alone.tokens, "\(method)")
      #expect(shared.states[0].tiers.ledger.events == alone.states[0].tiers.ledger.events)
      #expect(
        shared.states[0].tiers.device.residentBytes == alone.states[0].tiers.device.residentBytes)
      // The probes' masses are sums of softmax weights: any other bit would show.
      let probes = (shared.states[0].caches + alone.states[0].caches).map { $0 as? RecallProbe }
      #expect(probes[0]?.steps == probes[2]?.steps && probes[1]?.steps == probes[3]?.steps)
      #expect(shared.steps == 39 && shared.needed == alone.needed)
      answers.insert(shared.tokens)
    }
    #expect(answers.count > 1)  // the methods are not all the same
  }

  @Test(arguments: [1, 5, 40])
  func `tokens that are given one by one give full attention's answer, and steps of any method`(
    _ count: Int
  ) throws {
    let (decoder, tokenizer) = try Tiny.load()
    let prompt = tokenizer.encode(prose(words: 60, seed: 4))
    var whole = Generator(decoder, limit: 12) { _, layer in
      try cacheMethod("full").makeCache(for: layer)
    }
    whole.endOfText = []
    let expected = try whole.generate([prompt])[0]
    for text in ["full", "streaming:sinks=1,w=9"] {
      var split = Generator(decoder, limit: 12) { _, layer in
        try cacheMethod(text).makeCache(for: layer)
      }
      split.endOfText = []
      split.given = Array(prompt.suffix(count))
      let answer = try split.generate([Array(prompt.dropLast(count))])[0]
      #expect(answer.tokens.count == 12 && answer.given == split.given)
      // Every given token is a step; the first one comes for the prompt's own pass.
      #expect(answer.steps == count + 11)
      if text == "full" { #expect(answer.tokens == expected.tokens) }
    }
  }

  @Test(arguments: ["full", "streaming:sinks=1,w=9", "lrqk:preset=recommended,r=4,k=8,w=4"])
  func `a sequence that goes on gives what it gives with all later tokens given`(
    _ text: String
  ) throws {
    let (decoder, tokenizer) = try Tiny.load()
    let prompt = tokenizer.encode(prose(words: 60, seed: 4))
    let message = tokenizer.encode(prose(words: 9, seed: 5))
    func generator() -> Generator {
      var generator = Generator(decoder, limit: 7) { _, layer in
        try cacheMethod(text).makeCache(for: layer)
      }
      generator.endOfText = []
      return generator
    }
    var going = generator()
    var last = try going.generate([prompt])[0]
    var later: [Int] = []
    for turn in 0..<3 {
      // Once the answer's last token, which was not fed back, is not part of what goes on.
      later += (turn == 1 ? last.tokens.dropLast() : last.tokens[...]) + message
      last = try #require(try going.goOn(last, to: prompt + later))
      var given = generator()
      given.given = later
      let expected = try given.generate([prompt])[0]
      #expect(last.tokens == expected.tokens && last.tokens.count == 7)
      #expect(last.states[0].tiers.ledger.events == expected.states[0].tiers.ledger.events)
      #expect(last.steps == message.count + 7 - (turn == 1 ? 1 : 0))
    }
    // Other tokens in the past, and nothing new, need a new prompt.
    #expect(try going.goOn(last, to: [prompt[0] + 1] + prompt.dropFirst() + later) == nil)
    #expect(try going.goOn(last, to: prompt + later) == nil)
    // An answer ends where the caller wants no more.
    var count = 0
    going.onToken = { _, _ in count += 1 }
    going.goesOn = { _ in count < 3 }
    let stopped = try going.generate([prompt])[0]
    #expect(stopped.tokens.count == 3 && stopped.isStopped && !stopped.isEnded)
  }

  @Test
  func `a decoded question changes no answer of full attention, and begins behind the haystack`()
    throws
  {
    let (decoder, tokenizer) = try Tiny.load()
    let form = PromptForm(tokenizer)
    var answers = ModelAnswers(decoder, tokenizer, form: form)
    for task in [RulerTask.niahMultiquery, .niahMultikey2, .variableTracking, .commonWords] {
      let sample = try RulerGenerator(seed: 2, form: form, answerLimit: 10)
        .sample(task, length: 1600, index: 0)
      let question = String(
        decoding: Array(sample.prompt.utf8)[sample.questionStart...], as: UTF8.self)
      #expect(question.hasSuffix(sample.prefix))
      if task != .variableTracking && task != .commonWords {
        #expect(question.hasPrefix("\nWhat "))
      }
      answers.decodesQuestions = false
      let whole = try answers.answers(sample, [try cacheMethod("full")])[0]
      answers.decodesQuestions = true
      let split = try answers.answers(sample, [try cacheMethod("full")])[0]
      #expect(split.prediction == whole.prediction)
      #expect(split.steps > whole.steps)
    }
  }

  @Test func `full attention sees all needles, a short window next to none`() throws {
    var run = TinyRun()
    run.texts = ["full", "streaming:sinks=1,w=9"]
    run.needles = true
    run.recall = true
    let rows = try run.run(samples: 2, log: nil).results
    for row in rows {
      let share = try #require(row.needleRecall)
      #expect(row.recall != nil && row.attentionMass != nil)
      if row.cache == "full" {
        #expect(share == 1 && row.attentionMass ?? 0 > 0.999)
        #expect(row.movedBytesPerToken == 0)
      } else {
        #expect(share < 0.2)
      }
      #expect((row.residentBytes ?? 0) > 0 && row.promptTokens ?? 0 > 300)
    }
  }

  @Test func `a run that was killed goes on to the same report`() throws {
    let whole = try TinyRun().run(samples: 3, log: nil)
    let log = TemporaryFile()
    var killed = TinyRun()
    killed.stopAfter = 2
    #expect(throws: TinyRun.Killed.self) { try killed.run(samples: 3, log: log.path) }
    // What a process leaves that dies while it writes: half a line.
    let half = try log.text() + "{\"task\":\"vt\",\"leng"
    try log.write(half)
    let resumed = try TinyRun().run(samples: 3, log: log.path)
    #expect(try resumed.text(.json) == whole.text(.json))
    #expect(try log.text().split(separator: "\n").count == 1 + 2 * 3 * 2)
    // Everything is there now: no model is asked again.
    var finished = TinyRun()
    finished.stopAfter = 0
    #expect(try finished.run(samples: 3, log: log.path).text(.json) == whole.text(.json))
    // One more method: only that one runs.
    var more = TinyRun()
    more.texts.append("streaming:sinks=2,w=30")
    let rows = try more.run(samples: 3, log: log.path).results
    #expect(rows.filter { $0.cache != "streaming:sinks=2,w=30" } == whole.results)
    #expect(try log.text().split(separator: "\n").count == 1 + 2 * 3 * 3)
  }

  @Test func `the log of another run is refused in one line and left as it is`() throws {
    let log = TemporaryFile()
    _ = try TinyRun().run(samples: 1, log: log.path)
    let before = try log.text()
    func refuses(_ run: TinyRun, _ words: String) throws {
      let error = #expect(throws: EvaluationError.self) { try run.run(samples: 1, log: log.path) }
      let line = try #require(error).description
      #expect(line.contains(words) && !line.contains("\n"), "\(line)")
    }
    var other = TinyRun()
    other.seed = 1
    try refuses(other, "seed \"0\", here \"1\"")
    other = TinyRun()
    other.recall = true
    try refuses(other, "recall \"false\", here \"true\"")
    #expect(try log.text() == before)

    // A record about another prompt, a line that is not a record, files of other kinds.
    let hash = try #require(before.firstMatch(of: #/"prompt_hash":"([0-9a-f]{16})"/#)).1
    try log.write(before.replacing(hash, with: "0123456789abcdef"))
    try refuses(TinyRun(), "was another prompt")
    try log.write(before + "{}\n")
    try refuses(TinyRun(), "is no record")
    // Two records of one sample: the same twice is one, two that differ are none.
    let lines = before.split(separator: "\n").map(String.init)
    let steps = try #require(lines[1].firstMatch(of: #/"steps":(\d+)/#)).0
    try log.write(before + lines[1].replacing(steps, with: "\"steps\":0") + "\n")
    try refuses(TinyRun(), "lines 2 and \(lines.count + 1) are about the same, task ")
    try log.write(before.replacing(steps, with: "\"steps\":100000"))
    try refuses(TinyRun(), "line 2 is no record")
    try log.write(before + lines[1] + "\n")
    _ = try TinyRun().run(samples: 1, log: log.path)
    for text in ["hello\nthere\n", "no line break", "{}\n", "[]\n{}\n"] {
      try log.write(text)
      try refuses(TinyRun(), "not a log of lrqk ruler")
      #expect(try log.text() == text)
    }
  }

  @Test func `of all tasks, those that do not fit have rows that say why`() throws {
    var runner = RulerRunner(wordGenerator(), methods: try methods()) { sample, methods in
      methods.map { _ in RulerAnswer(prediction: sample.answer) }
    }
    #expect(throws: MisfitError.self) {
      try runner.run([.commonWords, .frequentWords], lengths: [200], samples: 1)
    }
    runner.passesOverMisfits = true
    let rows = try runner.run([.commonWords, .frequentWords], lengths: [200], samples: 1)
    #expect(rows.count == 6)
    for row in rows.prefix(3) {
      #expect(row.score == nil && row.samples == 0)
      #expect(row.note?.hasPrefix("cwe does not fit 200 tokens") == true)
    }
    #expect(rows.suffix(3).allSatisfy { $0.score == 100 && $0.note == nil })
    let report = RulerReport(
      rows, head: LogHead(wordGenerator(), model: "m", recall: false, needleRecall: false),
      modelFolder: "tiny", longestSequence: 100)
    #expect(try report.text(.md).contains("lengths above 100 are longer"))
    #expect(report.averages.map(\.tasks) == [1, 1, 1])
    #expect(try report.text(.md).contains("cwe does not fit"))
  }

  @Test func `every format has every row, and questions say that they are a stand-in`() throws {
    let report = try TinyRun().run(samples: 1, log: nil)
    let json = try JSONSerialization.jsonObject(with: Data(report.text(.json).utf8))
    let object = try #require(json as? [String: Any])
    let results = try #require(object["results"] as? [[String: Any]])
    #expect(results.count == 4)
    for row in results {
      for key in [
        "task", "length", "cache", "options", "score", "samples", "resident_bytes",
        "moved_bytes_per_token",
      ] {
        #expect(row[key] != nil, "\(key)")
      }
    }
    #expect((object["head"] as? [String: Any])?["seed"] as? String == "0")
    let lines = try report.text(.jsonl).split(separator: "\n")
    #expect(lines.count == 4 && lines.allSatisfy { $0.hasPrefix("{") && $0.hasSuffix("}") })
    let csv = try report.text(.csv).split(separator: "\n")
    #expect(csv.count == 5 && csv[0].hasPrefix("task,length,cache,score,stderr,samples"))
    let markdown = try report.text(.md)
    for format in [ReportFormat.md, .csv, .json] {
      #expect(try report.text(format).contains("stand-in"), "\(format)")
    }
    #expect(markdown.split(separator: "\n").count { $0.hasPrefix("| vt |") } == 2)
  }
}
