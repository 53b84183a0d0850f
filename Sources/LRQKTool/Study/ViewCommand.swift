// lrqk view: one page on which a generation can be walked through, step by step.
//
// In:  one trace, or two of the same prompt (lrqk generate --trace).
// Out: an HTML file with everything inside; it opens without a network.

import ArgumentParser
import Evaluation
import Foundation
import Reports
import Tensors

struct ViewCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "view",
    abstract: "Make a page of a trace: which tokens every step attended to, and what it moved.",
    discussion: """
      A trace comes from lrqk generate, demo or replay, with --trace. Two traces of the same prompt stand side by side. \
      The page is one file: open it in any browser, no network is needed. Keys: arrows for steps, \
      l and h for layers and heads, ? for the rest. Docs/viewer.md says what it shows.

        lrqk generate -m DIR -f FILE --cache lrqk:r=16,k=240,w=16 --trace a.json
        lrqk view a.json -o page.html
      """)

  @Argument(
    help: "One trace, or two to compare.", completion: .file(extensions: ["json"]))
  var traces: [String]

  @Option(
    name: [.short, .long], help: "The page to write.", completion: .file(extensions: ["html"]))
  var output: String

  func validate() throws {
    if traces.count > 2 {
      throw ValidationError("a page shows one trace or two, not \(traces.count)")
    }
  }

  func run() throws {
    do {
      var files = CommandFiles()
      for trace in traces { files.reads(trace, "trace") }
      files.writes(output, "--output")
      try files.check()
      let read = try traces.map { path in
        let bytes = try readFile(at: path, limit: 1 << 30)
        do { return try GenerationTrace(fileText: bytes) } catch {
          throw InputError("\(path): \(error)")
        }
      }
      let page = try ViewerPage.html(read)
      try writeFile(page.utf8, to: output)
      let steps = read.map { "\($0.steps.count)" }.joined(separator: " and ")
      say("\(output): \(steps) steps, \(bytes(page.utf8.count))")
    } catch { fail(error, output) }
  }
}
