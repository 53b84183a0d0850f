// A run of perplexity that is stopped anywhere goes on to the bits of one that was not.

import CacheMethods
import Evaluation
import Foundation
import Tasks
import Testing
import Tokenizers
import Transformers

@Suite struct WindowLogTests {
  private let decoder: Decoder
  private let tokenizer: Tokenizer
  private let tokens: [Int]
  private let folder: String

  init() throws {
    (decoder, tokenizer) = try Tiny.load()
    tokens = tokenizer.encode(
      try RulerGenerator(seed: 0, form: PromptForm(tokenizer))
        .sample(.niahSingle2, length: 500, index: 0).text)
    folder = NSTemporaryDirectory() + "lrqk-windows-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  /// The rows of 3 windows, and how many tokens were scored for them.
  private func run(
    _ names: [String], log path: String?, context: Int = 60, windows: Int = 3
  ) throws -> (rows: [PerplexityRow], scored: Int) {
    let plan = try PerplexityWindows(
      tokens: tokens.count, context: context, stride: 20, limit: windows)
    let head = WindowHead(model: try modelHash(folder: Tiny.folder), tokens: tokens, plan)
    var perplexity = Perplexity(
      decoder, tokenizer, methods: try names.map { try cacheMethod($0) })
    var calls = 0
    perplexity.onToken = { _, _ in calls += 1 }
    let rows = try perplexity.run(
      tokens, plan, log: try path.map { try WindowLog(path: $0, head: head) } ?? WindowLog())
    return (rows, calls - plan.count)  // one more call for every window, however it came
  }

  private let names = ["full", "lrqk:preset=recommended,r=4,k=16,w=8", "streaming:sinks=2,w=10"]

  @Test func `a run that was stopped anywhere ends with the bits of one that was not`() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let whole = try run(names, log: nil)
    #expect(whole.scored == 60)
    let path = folder + "/log.jsonl"
    #expect(try run(names, log: path).rows == whole.rows)
    let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    let ends = bytes.indices.filter { bytes[$0] == 10 }.map { $0 + 1 }
    #expect(ends.count == 1 + 3 * 3)
    // Behind a line, within one, before the head's end, and with nothing at all.
    let cuts = [0, ends[0] - 5, ends[0], ends[0] + 30, ends[1], ends[4] - 1, ends[4], ends[8] + 7]
    for cut in cuts {
      try bytes.prefix(cut).write(to: URL(fileURLWithPath: path))
      let resumed = try run(names, log: path)
      #expect(resumed.rows == whole.rows, "cut at \(cut)")
      // A window with a line too few is computed again, the others are not.
      let windows = (ends.firstIndex { $0 > cut } ?? ends.count) - 1
      #expect(resumed.scored == 20 * (3 - max(0, windows) / 3), "cut at \(cut)")
      #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == bytes, "cut at \(cut)")
    }
    #expect(try run(names, log: path).scored == 0)
  }

  @Test func `methods and windows may be added, and the records of others are left alone`() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let path = folder + "/log.jsonl"
    _ = try run([names[1]], log: path, windows: 2)
    let whole = try run(names, log: nil)
    let resumed = try run(names, log: path)
    #expect(resumed.rows == whole.rows)
    // One method alone, in another place, from the same records.
    #expect(try run([names[2]], log: path).scored == 0)
    #expect(try run([names[2]], log: path).rows == run([names[2]], log: nil).rows)
  }

  @Test func `another text, context or file is refused in one line`() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let path = folder + "/log.jsonl"
    _ = try run([names[0]], log: path, windows: 1)
    func refusal(_ body: () throws -> Void) throws -> String {
      do {
        try body()
        return "accepted"
      } catch { return "\(error)" }
    }
    let context = try refusal { _ = try run([names[0]], log: path, context: 50) }
    #expect(context.contains("another run (context \"60\", here \"50\")"), "\(context)")
    let plan = try PerplexityWindows(tokens: tokens.count, context: 60, stride: 20, limit: 1)
    let other = WindowHead(
      model: try modelHash(folder: Tiny.folder), tokens: Array(tokens.reversed()), plan)
    let text = try refusal { _ = try WindowLog(path: path, head: other) }
    #expect(text.contains("another run (text "), "\(text)")
    // Somebody's own JSON on one line is no torn head; a damaged record is none of ours.
    let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
    let (head, record) = (lines[0] + "\n", String(lines[1]))
    func damaged(_ pattern: some RegexComponent, _ text: String) -> (String, String) {
      let line = record.replacing(pattern, with: text, maxReplacements: 1)
      #expect(line != record)
      return (head + line + "\n", "line 2 is no record of lrqk perplexity")
    }
    for (content, part) in [
      ("# a page\n", "not a log of lrqk perplexity"), ("no line", "not a log of lrqk perplexity"),
      (#"{"mine":"precious"}"#, "not a log of lrqk perplexity"),
      (head + "{}\n", "line 2 is no record of lrqk perplexity"),
      damaged(#/"losses":\[[^,]*,/#, #""losses":["#), damaged(#/"losses":\[/#, #""losses":[-"#),
      damaged(#/"moved_bytes":[0-9]*/#, #""moved_bytes":9223372036854775807"#),
      damaged(#/"hit_rows":[0-9]*/#, #""hit_rows":-5"#),
    ] {
      try Data(content.utf8).write(to: URL(fileURLWithPath: path))
      let line = try refusal { _ = try run([names[0]], log: path, windows: 1) }
      #expect(line.contains(part) && !line.contains("\n"), "\(line)")
      #expect(try String(contentsOfFile: path, encoding: .utf8) == content)
    }
  }
}
