// lrqk perplexity: how well a checkpoint predicts a text through a cache.

import ArgumentParser
import CacheMethods
import Evaluation
import Foundation
import Tokenizers
import Transformers

struct PerplexityCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "perplexity",
    abstract: "Score a checkpoint's predictions of a text through several cache methods.",
    discussion: """
      Windows of the text: --context tokens are a prompt, then --stride tokens pass one at a time \
      through the cache, and each predicts the next one. Only these predictions count. All methods \
      see the same tokens after one pass of the prompt. With --log every window is written down when \
      it is done, and the same command goes on where it was killed.
      """)

  @OptionGroup var model: ModelOption

  @Option(help: "A text file, UTF-8; - is standard input.", completion: .file())
  var text: String

  @Option(
    help:
      "How keys and values are kept: METHOD[:option=value,...]; may be given several times. (default: full)",
    completion: .cacheMethods
  )
  var cache: [String] = []

  @Option(help: "Tokens of a window's prompt.") var context = 512
  @Option(help: "Tokens of a window that pass through the cache.") var stride = 256
  @Option(help: "Most windows. (default: all)") var windows: Int?
  @Option(
    help: "A log, one line a window and cache; a run that was killed goes on from it.",
    completion: .file())
  var log: String?
  @OptionGroup var part: ShardOption

  @Option(
    help: "md, csv, json, or jsonl (one row a line).", completion: .words(of: ReportFormat.self),
    transform: { try choice($0, as: ReportFormat.self) })
  var format = ReportFormat.md

  @Flag(inversion: .prefixedNo, help: "Progress bar on standard error (default: on a terminal).")
  var progress: Bool?

  private var methods: [any CacheMethod] {
    get throws { try cacheMethodList(cache.isEmpty ? ["full"] : cache) }
  }

  func validate() throws {
    _ = try methods
    try part.check(log: log)
    for (name, value) in [
      ("--context", context), ("--stride", stride), ("--windows", windows ?? 1),
    ]
    where !(1...1 << 20).contains(value) {
      throw ValidationError("\(name) \(value): it must be from 1 to \(1 << 20)")
    }
  }

  func run() throws {
    do {
      var files = CommandFiles()
      files.reads(text, "--text")
      files.readsModel(model.model)
      files.writes(log, "--log")
      try files.check()
      let decoder = try openDecoder(model.model)
      let tokenizer = try requiredTokenizer(model.model)
      let tokens = tokenizer.encode(try readText(text))
      let plan: PerplexityWindows
      do {
        plan = try PerplexityWindows(
          tokens: tokens.count, context: context, stride: stride, limit: windows)
      } catch { throw InputError("\(text): \(error)") }
      do { try part.shard?.check(plan.count, "windows") } catch {
        throw ValidationError("\(error)")
      }
      try checkCaches(try methods, decoder, model.model)
      var lengths = LengthNote(decoder)
      lengths.check(plan.context + plan.stride, "a window")
      var perplexity = Perplexity(decoder, tokenizer, methods: try methods)
      let log = try log.map { path in
        var head = WindowHead(model: try modelHash(folder: model.model), tokens: tokens, plan)
        head.part = try part.shard.map { shard in
          WindowPart(
            shard, windows: plan.count, bytes: perplexity.scoredBytes(tokens, plan),
            methods: try methods, modelFolder: model.model)
        }
        return try WindowLog(path: path, head: head)
      }
      let bar = ProgressBar(label: "tokens", isWanted: progress)
      perplexity.onToken = { bar.show($0, of: $1) }
      let rows: [PerplexityRow]
      do {
        defer { bar.clear() }
        rows = try perplexity.run(tokens, plan, shard: part.shard, log: log ?? WindowLog())
      }
      show(try PerplexityReport(rows, plan, shard: part.shard).text(format))
    } catch { fail(error, model.model, goingOn: cacheGoesOn) }
  }
}
