// lrqk ruler: the thirteen tasks, under any cache methods, with scores beside bytes.

import ArgumentParser
import CacheMethods
import Evaluation
import Foundation
import Tasks
import Tokenizers

struct RulerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ruler",
    abstract: "Score a checkpoint on RULER's tasks under several cache methods.",
    discussion: """
      Samples come from our own generators ("ruler-like v1"), sized in the checkpoint's own tokens; \
      sample i is the same whatever else runs. All methods answer the same prompt after one pass of \
      it through the model. A table goes to standard output: score from 0 to 100, standard error, \
      bytes held on the device, bytes moved per token. Docs/evaluation.md describes the tasks.

        lrqk ruler --model DIR --tasks niah_single_2,vt --lengths 512,1024 --cache full \
      --cache lrqk:preset=paper,r=16,k=112,w=16 --samples 50 --log run.jsonl
      """)

  @OptionGroup var model: ModelOption
  @OptionGroup var ruler: RulerOptions

  @Option(help: "Tokens of prompt and answer together, separated by commas.")
  var lengths = "512,1024"

  @Option(
    help:
      "How keys and values are kept: METHOD[:option=value,...]; may be given several times. (default: full)",
    completion: .cacheMethods
  )
  var cache: [String] = []

  @Flag(
    help: "Print the samples instead of running the model: as text, or with --format jsonl as JSON."
  )
  var showPrompts = false

  private var methods: [any CacheMethod] {
    get throws { try cacheMethodList(cache.isEmpty ? ["full"] : cache) }
  }
  private var lengthList: [Int] {
    get throws { try numbers(lengths, "--lengths", in: 1...1 << 20) }
  }

  func validate() throws {
    _ = try lengthList
    _ = try methods
    if showPrompts {
      for (name, isGiven) in [
        ("--cache", !cache.isEmpty), ("--shard", ruler.part.shard != nil),
        ("--log", ruler.log != nil), ("--recall", ruler.recall),
        ("--needle-recall", ruler.needleRecall),
        ("--decode-questions", ruler.asked.decodeQuestions),
        ("--progress", ruler.progress == true),
        ("--format \(ruler.format)", ruler.format == .csv || ruler.format == .json),
      ] where isGiven {
        throw ValidationError("\(name) has no effect with --show-prompts: no model runs")
      }
    }
  }

  func run() throws {
    do {
      var files = ruler.files
      files.readsModel(model.model)
      try files.check()
      if showPrompts { return try printSamples() }
      let report = try ruler.report(model, lengths: try lengthList, methods: try methods)
      show(try report.text(ruler.format))
    } catch { fail(error, model.model, goingOn: cacheGoesOn) }
  }

  private func printSamples() throws {
    let generator = try ruler.asked.generator(model.model, try requiredTokenizer(model.model))
    let misfits = try generator.misfits(
      try ruler.asked.taskList(), lengths: try lengthList, samples: ruler.asked.samples,
      passingOver: ruler.asked.tasks == "all")
    for misfit in misfits { say("\(misfit.error)") }
    for task in try ruler.asked.taskList() {
      for length in try lengthList
      where !misfits.contains(where: { $0.task == task && $0.length == length }) {
        for index in 0..<ruler.asked.samples {
          let sample = try generator.sample(task, length: length, index: index)
          if ruler.format == .jsonl {
            show(try sample.json(source: generator.source(task)))
          } else {
            show(
              "---- \(task.rawValue), length \(length), sample \(index): "
                + "\(sample.tokens.count) tokens, prompt \(sample.promptHash)")
            if task.metric == .part { show("---- \(generator.source(task).description)") }
            show(sample.prompt)
            show("---- references: \(sample.references.joined(separator: " | "))")
          }
        }
      }
    }
  }
}
