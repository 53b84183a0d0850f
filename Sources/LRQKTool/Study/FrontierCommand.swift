// lrqk frontier: what a byte of codes buys: recorded layers under every map, rank and bit width.

import ArgumentParser
import Foundation
import Replay
import Reports
import Tensors

struct FrontierCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "frontier",
    abstract: "Compare codes on recorded layers: recall and mass against bytes of a token.",
    discussion: """
      FILES are recorded layers of one model, as lrqk capture writes them. Every code chooses k older \
      rows beside w recent ones: keys as they are, the closed form of the prompt and a random \
      rotation, of rank d, d/2 and d/4, in 32 bits to 1; and LRQK's own codes, as released (r = d/4) \
      and recommended (r = d/2). The table has recall against the exact best rows, and attention \
      mass, by quarter of the answer; the picture has means over the layers. \
      Docs/Methods/key-bits.md reads one.

        lrqk frontier layer1.safetensors layer3.safetensors --k 112 --w 16 --prompt-length 1000 \
      --steps 960 --svg frontier.svg
      """)

  @Argument(
    help: "Recordings of layers (safetensors).", completion: .file(extensions: ["safetensors"]))
  var files: [String]

  @Option(help: "Older rows that a head chooses.") var k = 112
  @Option(help: "Recent rows beside them.") var w = 16

  @Option(help: "Tokens of the prompt; the rest is decoded. (default: the recordings')")
  var promptLength: Int?

  @Option(help: "Decode steps. (default: to the end of the recordings)")
  var steps: Int?

  @Option(
    help: "What is printed: md, csv, json.", completion: .words(of: FrontierFormat.self),
    transform: { try choice($0, as: FrontierFormat.self) })
  var format = FrontierFormat.md

  @Option(help: "Where the picture goes, an SVG file.", completion: .file(extensions: ["svg"]))
  var svg: String?

  @Option(help: "What the picture calls the model.")
  var name: String?

  @Flag(inversion: .prefixedNo, help: "Progress bar on standard error (default: on a terminal).")
  var progress: Bool?

  func validate() throws {
    for (option, value) in [
      ("--k", k), ("--w", w), ("--prompt-length", promptLength ?? 1), ("--steps", steps ?? 4),
    ] where !(1...1 << 20).contains(value) {
      throw ValidationError("\(option) \(value): it must be from 1 to \(1 << 20)")
    }
    if let steps, steps < 4 {
      throw ValidationError("--steps \(steps): the quarters of an answer need at least 4")
    }
    if name != nil && svg == nil {
      throw ValidationError("--name has no effect without --svg; the table names the files")
    }
  }

  func run() throws {
    do {
      var used = CommandFiles()
      for file in files { used.reads(file, "FILE") }
      used.writes(svg, "--svg")
      try used.check()
      let recordings = try files.map { try Recording(path: $0) }
      var options = ReplayOptions()
      (options.promptLength, options.steps) = (promptLength, steps)
      let bar = ProgressBar(label: "replays", isWanted: progress)
      let frontier: CodeFrontier
      do {
        defer { bar.clear() }
        frontier = try CodeFrontier(recordings, selected: k, recent: w, options) {
          bar.show($0, of: $1)
        }
      }
      show(try frontier.text(format))  // first: the numbers are there if the picture fails
      if let svg { try writePicture(frontier.picture(name: name), to: svg) }
    } catch { fail(error, files[0]) }
  }
}
