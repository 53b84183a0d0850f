// lrqk merge: the table of a run whose samples several machines computed.
//
// In:  the logs of all shards of one lrqk ruler, sweep or perplexity.
// Out: what the command prints without --shard, byte for byte; or one line on what is missing.

import ArgumentParser
import CacheMethods
import Evaluation
import Foundation
import Tensors
import Transformers

struct MergeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge",
    abstract: "Put the shards of a ruler, sweep or perplexity run together.",
    discussion: """
      The logs of all shards (--shard i/n --log FILE) become the table that the command prints without \
      --shard, byte for byte. No model runs; its folder has to be there, since tables name sizes of \
      its layers. Logs of different runs, a shard that is missing or comes twice, and records that \
      are not there yet are errors that name the file.

        lrqk ruler --model DIR --tasks vt --samples 20 --shard 1/2 --log 1.jsonl
        lrqk ruler --model DIR --tasks vt --samples 20 --shard 2/2 --log 2.jsonl
        lrqk merge 1.jsonl 2.jsonl
      """)

  @Argument(help: "The logs of all shards, in any order.", completion: .file())
  var logs: [String]

  @Option(
    help: "md, csv, json, or jsonl (one row a line).", completion: .words(of: ReportFormat.self),
    transform: { try choice($0, as: ReportFormat.self) })
  var format = ReportFormat.md

  @Option(
    name: [.short, .long], help: "Where the table goes. (default: standard output)",
    completion: .file())
  var output: String?

  @Option(
    help: "Where the picture of a sweep goes, an SVG file.", completion: .file(extensions: ["svg"]))
  var svg: String?

  func run() throws {
    do {
      var files = CommandFiles()
      for log in logs { files.reads(log, "log") }
      files.writes(output, "--output")
      files.writes(svg, "--svg")
      try files.check()
      let read = try logs.map { (path: $0, bytes: try readInput(at: $0, limit: 1 << 30)) }
      switch logCommand(of: read[0].bytes) {
      case LogHead.command: try mergeSamples(read)
      case WindowHead.command: try mergeWindows(read)
      default:
        throw InputError("\(logs[0]): not a log of lrqk ruler, sweep or perplexity")
      }
    } catch { fail(error, logs[0]) }
  }

  /// The table of lrqk ruler or sweep, and the picture of the latter.
  private func mergeSamples(_ files: [(path: String, bytes: [UInt8])]) throws {
    let logs = try ShardLogs<SampleRecord>(files)
    guard let part = logs.head.part else { preconditionFailure("merged logs are those of parts") }
    if svg != nil && part.sweep == nil {
      throw ValidationError(
        "--svg has no effect: the logs are those of lrqk ruler, without a picture")
    }
    let decoder = try decoder(part.modelFolder, hash: logs.head.model)
    let (report, methods) = try RulerReport.merged(
      logs, layers: decoder.layerShapes, longestSequence: decoder.configuration.reach)
    try write(try report.text(format))
    guard let svg, let sweep = part.sweep else { return }
    guard let lines = sweep.lines(of: methods) else {
      throw InputError("\(files[0].path): the lines of the picture are not those of its methods")
    }
    try writePicture(sweepChart(lines, report, measured: sweep.measured), to: svg)
  }

  /// The table of lrqk perplexity.
  private func mergeWindows(_ files: [(path: String, bytes: [UInt8])]) throws {
    let logs = try ShardLogs<WindowRecord>(files)
    guard let part = logs.head.part else { preconditionFailure("merged logs are those of parts") }
    if svg != nil {
      throw ValidationError("--svg has no effect: lrqk perplexity draws no picture")
    }
    let decoder = try decoder(part.modelFolder, hash: logs.head.model)
    try write(try PerplexityReport(merging: logs, layers: decoder.layerShapes).text(format))
  }

  /// The model of the logs, for the sizes of its layers.
  private func decoder(_ folder: String, hash: String) throws -> Decoder {
    let decoder = try openDecoder(folder)
    let found = try modelHash(folder: folder)
    if found != hash {
      throw InputError(
        "\(folder): another model than that of the logs (hash \(found), there \(hash)); run lrqk "
          + "merge where the shards ran")
    }
    return decoder
  }

  /// Prints the table, or writes it as it would be printed.
  private func write(_ text: String) throws {
    if let output {
      try writeFile((text + "\n").utf8, to: output)
    } else {
      show(text)
    }
  }
}
