// lrqk overview: finished comparisons in short, and their picture.

import ArgumentParser
import Evaluation
import Tensors

struct OverviewCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "overview",
    abstract: "Show finished comparisons in short: a line a method, and a picture.",
    discussion: """
      FILES are table.csv of lrqk compare, of one model or of several. The tables have mean scores at \
      every budget, KiB held and KiB moved a token; methods stand in the order of the sum of their \
      scores, and a dash says that a method does not fit for all tasks. The picture has the same \
      means. No model runs.

        lrqk overview Examples/Comparison/needles/table.csv --methods topk,key-bits,lrqk \
      --svg overview.svg
      """)

  @Argument(
    help: "Tables of lrqk compare, as it writes them into its folder.",
    completion: .file(extensions: ["csv"]))
  var files: [String]

  @Option(
    help:
      "Names of methods, separated by commas; full attention is always there. (default: all)")
  var methods: String?

  @Option(help: "Where the picture goes, an SVG file.", completion: .file(extensions: ["svg"]))
  var svg: String?

  func run() throws {
    do {
      var used = CommandFiles()
      for file in files { used.reads(file, "FILE") }
      used.writes(svg, "--svg")
      try used.check()
      var overview = try CompareOverview(
        try files.map { (path: $0, bytes: try readInput(at: $0, limit: 1 << 28)) })
      if let methods {
        let names = methods.split(separator: ",", omittingEmptySubsequences: false)
        do { try overview.choose(names.map(String.init)) } catch let error as EvaluationError {
          throw ValidationError("--methods: \(error)")
        }
      }
      show(overview.markdown)  // first: the numbers are there if the picture fails
      if let svg { try writePicture(overview.picture, to: svg) }
    } catch { fail(error, files[0]) }
  }
}
