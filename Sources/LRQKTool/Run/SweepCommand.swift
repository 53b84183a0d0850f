// lrqk sweep: what r, k and w buy: scores against bytes held and bytes moved, as table and picture.

import ArgumentParser
import CacheMethods
import Evaluation
import Foundation
import LRQK
import Tensors

struct SweepCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sweep",
    abstract: "Score LRQK over ranks and budgets: accuracy against bytes held and moved.",
    discussion: """
      Every choice of preset, r, k and w answers the same samples, beside full attention and every \
      --cache given. The table is that of lrqk ruler; the picture has the mean score over the tasks \
      against bytes held on the device, and against bytes moved per token.

        lrqk sweep --model DIR --tasks niah_multikey_1 --length 1024 --r 8,16 --k 32,64,112 --w 16 \
      --preset paper,on-breakdown=proceed --preset recommended --svg sweep.svg
      """)

  @OptionGroup var model: ModelOption
  @OptionGroup var ruler: RulerOptions

  @Option(help: "Tokens of prompt and answer together.")
  var length = 1024

  @Option(help: "Ranks, separated by commas.") var r = "8,16,32"
  @Option(help: "Selected tokens, separated by commas.") var k = "32,64,128"
  @Option(help: "Recent tokens, separated by commas.") var w = "16"
  @Option(
    help: "A preset, with further options as in --cache; may be repeated. (default: paper)",
    completion: .words(of: Preset.self)
  )
  var preset: [String] = []

  @Option(
    help:
      "Another method to draw beside them; may be repeated. Those that differ only in k or budget are a line.",
    completion: .cacheMethods
  )
  var cache: [String] = []

  @Option(
    help:
      "Where the picture goes, an SVG file; with --shard none, as lrqk merge draws that of all shards.",
    completion: .file(extensions: ["svg"]))
  var svg: String?

  /// A preset with a rank and a number of recent tokens is one line of the picture; so are other
  /// methods that differ only in k, or in their budget.
  private func lines() throws -> [SweepLine] {
    let (ranks, budgets, recents) = (
      try numbers(r, "--r", in: 1...1 << 20), try numbers(k, "--k", in: 1...1 << 20),
      try numbers(w, "--w", in: 1...1 << 20)
    )
    var lines: [SweepLine] = []
    for name in preset.isEmpty ? ["paper"] : preset {
      for r in ranks {
        for w in recents {
          let texts = budgets.map { "lrqk:preset=\(name),r=\(r),k=\($0),w=\(w)" }
          lines.append(try cacheMethodList(texts, option: "--preset"))
        }
      }
    }
    var places: [String: Int] = [:]
    for text in ["full"] + cache {
      let method = try cacheMethodList([text])
      let rest = method[0].brief.replacing(#/([:,])(k|budget)=[^,]*,?/#) { $0.1 }
        .trimmingCharacters(in: CharacterSet(charactersIn: ":,"))
      if let place = places[rest] {
        lines[place] += method
      } else {
        places[rest] = lines.count
        lines.append(method)
      }
    }
    _ = try cacheMethodList(
      lines.joined().map(\.description), option: "--preset, --cache:")
    return lines
  }

  func validate() throws {
    if !(1...1 << 20).contains(length) {
      throw ValidationError("--length \(length): it must be from 1 to \(1 << 20)")
    }
    if ruler.part.shard == nil && svg == nil {
      throw ValidationError("--svg is missing: name the file for the picture")
    }
    if ruler.part.shard != nil && svg != nil {
      throw ValidationError(
        "--svg has no effect with --shard: a part has no picture; give it to lrqk merge")
    }
    if try lines().joined().count > 256 {
      throw ValidationError("more than 256 methods; sweep over fewer values")
    }
  }

  func run() throws {
    do {
      var files = ruler.files
      files.readsModel(model.model)
      files.writes(svg, "--svg")
      try files.check()
      let lines = try lines()
      let plan = SweepPlan(
        lines,
        measured: "\(ruler.asked.tasks), \(length) tokens, \(ruler.asked.samples) samples each")
      let report = try ruler.report(
        model, lengths: [length], methods: Array(lines.joined()), sweep: plan)
      show(try report.text(ruler.format))  // first: the numbers are there if the picture fails
      if let svg { try writePicture(sweepChart(lines, report, measured: plan.measured), to: svg) }
    } catch { fail(error, model.model, goingOn: cacheGoesOn) }
  }
}

/// Writes the picture of a sweep.
func writePicture(_ picture: String, to svg: String) throws {
  do {
    try writeFile(picture.utf8, to: svg)
  } catch {
    throw InputError("--svg \(error)")
  }
}
