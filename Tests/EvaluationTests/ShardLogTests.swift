// The logs of parts, put together: the whole run to the byte, or one line that says what is wrong.

import CacheMethods
import Evaluation
import Foundation
import Tasks
import TestSupport
import Testing
import Tokenizers
import Transformers

/// A run without a model, in parts: what is answered depends on sample and method alone.
private struct PartialRun {
  var seed: UInt64 = 0
  var texts = ["full", "streaming:sinks=2,w=30"]
  var samples = 5
  var tasks: [RulerTask] = [.variableTracking, .commonWords, .niahMultiquery]
  var lengths = [200, 400]
  /// After how many answers the run is killed.
  var stopAfter = Int.max
  struct Killed: Error {}

  /// The sweep that the methods are: one line.
  func sweep() throws -> SweepPlan {
    SweepPlan([try texts.map { try cacheMethod($0) }], measured: "three tasks")
  }

  /// The report of a part (nil: of everything), with its log at `path`.
  func report(_ shard: Shard?, log path: String?) throws -> RulerReport {
    let generator = RulerGenerator(seed: seed, form: wordGenerator().form)
    var asked = 0
    var runner = RulerRunner(generator, methods: try texts.map { try cacheMethod($0) }) {
      [stopAfter] sample, methods in
      asked += 1
      if asked > stopAfter { throw Killed() }
      return methods.map { method in
        // Some references of the right answer: means have more than one digit.
        let known = sample.references.prefix(1 + (sample.index + "\(method)".count) % 3)
        var answer = RulerAnswer(prediction: known.joined(separator: " "), tokens: 7)
        answer.steps = 6 + sample.index
        answer.residentBytes = 1000 * sample.index + "\(method)".count
        answer.movedBytes = 31 * sample.index
        answer.hitRows = 3 * sample.index
        answer.missedRows = sample.index + 1
        return answer
      }
    }
    runner.passesOverMisfits = true  // cwe takes more than 200 words
    let plan = try runner.plan(tasks, lengths: lengths, samples: samples)
    let head = LogHead(generator, model: "m", recall: false, needleRecall: false)
    var own = head
    own.part = try shard.map {
      RulerPart($0, of: plan, modelFolder: "folder", sweep: try sweep())
    }
    let rows = try runner.run(
      plan, shard: shard, log: try path.map { try SampleLog(path: $0, head: own) } ?? SampleLog())
    return RulerReport(rows, head: head, modelFolder: "folder", longestSequence: 300)
  }

  /// The logs of all parts of `count`.
  func logs(_ count: Int) throws -> [TemporaryFile] {
    try (1...count).map { number in
      let log = TemporaryFile()
      _ = try report(Shard(number, of: count), log: log.path)
      return log
    }
  }
}

/// What the files hold.
private func read(_ logs: [TemporaryFile]) throws -> [(path: String, bytes: [UInt8])] {
  try logs.map { ($0.path, Array(try $0.text().utf8)) }
}

/// The merged report of logs.
private func merged(_ logs: [TemporaryFile]) throws -> RulerReport {
  try RulerReport.merged(
    ShardLogs<SampleRecord>(try read(logs)), layers: [], longestSequence: 300
  ).report
}

@Suite struct ShardLogTests {
  /// Requires that the logs cannot be merged, in one line with all of `parts`.
  private func refuses(_ logs: [TemporaryFile], _ parts: [String]) throws {
    let error = #expect(throws: EvaluationError.self) { try merged(logs) }
    let line = try #require(error).description
    #expect(parts.allSatisfy(line.contains) && !line.contains("\n"), "\(line)")
  }

  @Test(arguments: 1...5) func `parts merge to the bytes of the whole run, in any order`(
    _ count: Int
  ) throws {
    let run = PartialRun()
    let whole = try run.report(nil, log: nil)
    #expect(whole.results.contains { $0.note?.contains("does not fit") ?? false })
    let logs = try run.logs(count)
    for order in [logs, logs.reversed()] {
      let report = try merged(order)
      for format in ReportFormat.allCases {
        #expect(try report.text(format) == whole.text(format), "\(format)")
      }
      let lines = [try run.texts.map { try cacheMethod($0) }]
      #expect(
        sweepChart(lines, report, measured: "x") == sweepChart(lines, whole, measured: "x"))
    }
    // Together they have every record once.
    let records = try logs.map { try $0.text().split(separator: "\n").count - 1 }
    #expect(records.reduce(0, +) == whole.results.reduce(0) { $0 + $1.samples })
  }

  @Test func `a part says in every format that it is one, the whole does not`() throws {
    let part = try PartialRun().report(Shard(2, of: 3), log: nil)
    let whole = try PartialRun().report(nil, log: nil)
    for format in ReportFormat.allCases {
      #expect(try part.text(format).contains("2/3"), "\(format)")
      #expect(try !whole.text(format).contains("shard"), "\(format)")
    }
    #expect(part.results.filter { $0.score != nil }.allSatisfy { $0.samples == 2 })
  }

  @Test func `a part that was killed is named, and continues to the same bytes`() throws {
    var run = PartialRun()
    run.tasks = [.variableTracking]
    run.lengths = [300, 400, 500]
    let whole = try run.report(nil, log: nil)
    let logs = try run.logs(2)
    let path = logs[1].path
    try FileManager.default.removeItem(atPath: path)
    var killed = run
    killed.stopAfter = 3  // of the samples 1 and 3 at each length
    let second = Shard(2, of: 2)
    #expect(throws: PartialRun.Killed.self) { try killed.report(second, log: path) }
    // What a process leaves that dies while it writes: half a line, which is no record.
    try logs[1].write(try logs[1].text() + "{\"task\":\"vt\",\"leng")
    try refuses(
      logs,
      [
        path, "shard 2/2 lacks 6 records: task vt, length 400, sample 3, full; ", "and 3 more",
        "run its command again",
      ])
    _ = try run.report(second, log: path)
    #expect(try merged(logs).text(.json) == whole.text(.json))
  }

  @Test func `a shard that is missing, or comes twice, is named`() throws {
    let logs = try PartialRun().logs(4)
    try refuses([logs[0], logs[2]], ["no file holds shard 2/4; 4/4"])
    try refuses(logs + [logs[1]], [logs[1].path, "shard 2/4, and so is"])
  }

  @Test func `parts of other runs are refused, with the setting that differs`() throws {
    let logs = try PartialRun().logs(2)
    func other(_ change: (inout PartialRun) -> Void) throws -> [TemporaryFile] {
      var run = PartialRun()
      change(&run)
      return [logs[0], try run.logs(2)[1]]
    }
    for (change, words) in [
      ({ $0.seed = 1 }, "seed \"1\", there \"0\""),
      ({ $0.texts.append("topk:k=9,w=3") }, "number of caches \"3\", there \"2\""),
      ({ $0.texts[1] = "streaming:sinks=2,w=31" }, "streaming:sinks=2,w=31"),
      ({ $0.texts.reverse() }, "there \"full\""),
      ({ $0.samples = 6 }, "samples \"6\", there \"5\""),
      ({ $0.tasks.removeLast() }, "tasks \"vt,cwe\", there \"vt,cwe,niah_multiquery\""),
      ({ $0.lengths[1] = 401 }, "lengths \"200,401\", there \"200,400\""),
    ] as [((inout PartialRun) -> Void, String)] {
      let files = try other(change)
      try refuses(files, ["\(files[1].path): another run than \(files[0].path)", words])
    }
    let thirds = try PartialRun().logs(3)
    try refuses([logs[0], thirds[1]], ["shards \"3\", there \"2\""])
  }

  @Test func `a log continues its own part alone`() throws {
    let log = TemporaryFile()
    _ = try PartialRun().report(Shard(1, of: 2), log: log.path)
    for (shard, words) in [
      (Shard(2, of: 2), "shard \"1\", here \"2\""), (Shard(1, of: 3), "shards \"2\", here \"3\""),
      (nil, "shards \"2\", here \"none\""),
    ] {
      let error = #expect(throws: EvaluationError.self) {
        try PartialRun().report(shard, log: log.path)
      }
      #expect(error?.description.contains("another run (\(words))") ?? false, "\(error as Any)")
    }
    let whole = TemporaryFile()
    _ = try PartialRun().report(nil, log: whole.path)
    try refuses([whole], [whole.path, "the log of a whole run, not of a shard"])
    #expect(throws: EvaluationError.self) {
      try PartialRun().report(Shard(1, of: 2), log: whole.path)
    }
  }

  @Test func `damaged lines, and records of another part, are refused`() throws {
    let logs = try PartialRun().logs(2)
    let text = try logs[1].text()
    func refusesFile(_ changed: String, _ words: String) throws {
      #expect(changed != text)
      try logs[1].write(changed)
      try refuses(logs, [logs[1].path, words])
    }
    let lines = text.split(separator: "\n").map(String.init)
    try refusesFile(text + "{}\n", "line \(lines.count + 1) is no record")
    for (old, new) in [
      ("\"sample\":1", "\"sample\":2"), ("\"sample\":1", "\"sample\":5"),
      ("\"cache\":\"full", "\"cache\":\"fuel"),
      ("\"length\":400,\"missed", "\"length\":402,\"missed"),
    ] {
      let changed = text.replacing(old, with: new, maxReplacements: 1)
      try refusesFile(changed, "line 2 is no record")
    }
    try refusesFile("", "it has no whole line")
    try refusesFile("{}\n", "not a log of lrqk ruler")
    for (old, new) in [
      ("\"shard\":\"2/2\"", "\"shard\":\"3/2\""), ("\"samples\":5", "\"samples\":-5"),
      ("\"samples\":5", "\"samples\":0"),
    ] {
      try refusesFile(text.replacing(old, with: new), "not a log of lrqk ruler")
    }
    // A method that there is not, in both logs alike.
    try logs[1].write(text)
    for log in logs { try log.write(try log.text().replacing("streaming", with: "dreaming")) }
    try refuses(logs, ["dreaming", "cannot be made here", "did you mean streaming"])
  }
}

@Suite struct WindowShardTests {
  private static let names = [
    "full", "lrqk:preset=recommended,r=4,k=16,w=8", "streaming:sinks=2,w=10",
  ]

  /// The report of a part of 5 windows (nil: of all), with its log at `path`.
  private func report(
    _ shard: Shard?, log path: String?, context: Int = 60
  ) throws -> PerplexityReport {
    let (decoder, tokenizer) = try Tiny.load()
    let tokens = tokenizer.encode(prose(words: 200, seed: 3))
    let plan = try PerplexityWindows(
      tokens: tokens.count, context: context, stride: 20, limit: 5)
    let methods = try Self.names.map { try cacheMethod($0) }
    let perplexity = Perplexity(decoder, tokenizer, methods: methods)
    var head = WindowHead(model: "m", tokens: tokens, plan)
    head.part = shard.map {
      WindowPart(
        $0, windows: plan.count, bytes: perplexity.scoredBytes(tokens, plan), methods: methods,
        modelFolder: "folder")
    }
    let log = try path.map { try WindowLog(path: $0, head: head) } ?? WindowLog()
    let rows = try perplexity.run(tokens, plan, shard: shard, log: log)
    return PerplexityReport(rows, plan, shard: shard)
  }

  private func merged(_ logs: [TemporaryFile]) throws -> PerplexityReport {
    try PerplexityReport(
      merging: ShardLogs<WindowRecord>(try read(logs)), layers: try Tiny.load().decoder.layerShapes)
  }

  @Test(arguments: [1, 2, 3, 5]) func `parts of a text merge to the bytes of the whole run`(
    _ count: Int
  ) throws {
    let whole = try report(nil, log: nil)
    var logs: [TemporaryFile] = []
    for number in 1...count {
      logs.append(TemporaryFile())
      let part = try report(Shard(number, of: count), log: logs[number - 1].path)
      #expect(part.windows == (5 + count - number) / count)
      for format in ReportFormat.allCases {
        #expect(try part.text(format).contains("\(number)/\(count)"), "\(format)")
      }
    }
    for format in ReportFormat.allCases {
      #expect(try merged(logs.reversed()).text(format) == whole.text(format), "\(format)")
    }
  }

  @Test func `other contexts, missing windows and windows of another part are refused`() throws {
    let logs = [TemporaryFile(), TemporaryFile(), TemporaryFile()]
    _ = try report(Shard(1, of: 2), log: logs[0].path)
    _ = try report(Shard(2, of: 2), log: logs[1].path)
    _ = try report(Shard(2, of: 2), log: logs[2].path, context: 50)
    func refusal(_ logs: [TemporaryFile]) throws -> String {
      let error = #expect(throws: EvaluationError.self) { try merged(logs) }
      return try #require(error).description
    }
    #expect(try refusal([logs[0], logs[2]]).contains("context \"50\", there \"60\""))
    #expect(try refusal([logs[1]]).contains("no file holds shard 1/2"))
    let lines = try logs[1].text().split(separator: "\n").map { $0 + "\n" }
    try logs[1].write(lines.dropLast().joined())
    #expect(
      try refusal([logs[0], logs[1]]).contains("lacks 1 record: window 3, streaming:sinks=2,w=10"))
    try logs[1].write(lines.joined().replacing("\"window\":3", with: "\"window\":2"))
    #expect(try refusal([logs[0], logs[1]]).contains("is no record of lrqk perplexity"))
  }
}
