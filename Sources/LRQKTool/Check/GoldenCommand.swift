// lrqk golden: bundles of cases with their references, for readers that need no Swift.

import ArgumentParser
import Conformance
import Foundation
import Reports
import Tensors

struct GoldenCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "golden",
    abstract: "Write, verify and show golden bundles: inputs and references of every kernel.",
    discussion: """
      One safetensors file a case, and manifest.json with their SHA-256. The bytes are the same on every \
      machine. Docs/golden.md describes the format, with readers in C and Python.
      """,
    subcommands: [GoldenWrite.self, GoldenVerify.self, GoldenShow.self])
}

struct GoldenWrite: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "write", abstract: "Write a bundle.")

  @Argument(help: "The folder.", completion: .directory) var folder: String
  @Option(help: "One kernel.", completion: .kernels) var kernel: String?

  func validate() throws {
    if let kernel, !Kernel.allCases.contains(where: { $0.name == kernel }) {
      throw ValidationError(
        "--kernel \(kernel): there are \(Kernel.allCases.map(\.name).joined(separator: ", "))")
    }
  }

  func run() throws {
    do {
      let count = try GoldenBundle(folder: folder).write {
        (kernel ?? $0.kernel.name) == $0.kernel.name
      }
      show("\(folder): \(count) cases, and manifest.json")
    } catch { fail(error, folder) }
  }
}

struct GoldenVerify: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Compare a bundle with its manifest, and with what this version writes.")

  @Argument(help: "The folder.", completion: .directory) var folder: String

  func run() throws {
    do {
      let faults = try GoldenBundle(folder: folder).faults()
      if faults.isEmpty {
        show("\(folder): every file is as its manifest says")
        return
      }
      show(faults.map { visible($0) }.joined(separator: "\n"))
    } catch { fail(error, folder) }
    Streams.exit(1)
  }
}

struct GoldenShow: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Show what a golden file holds.")

  @Argument(help: "A file of a bundle.", completion: .file(extensions: ["safetensors"]))
  var file: String

  func run() throws {
    do {
      let golden = try SafetensorsFile(path: file)
      var lines = labelled(golden.metadata.sorted { $0.key < $1.key }.map { [$0.key, $0.value] })
      var rows = [["tensor", "format", "shape", "least", "largest"]]
      var remarks: [String] = []
      for name in golden.names.sorted() {
        let shape = try golden.shape(of: name)
        let values = try TensorRange(golden, name)
        rows.append([
          name, try golden.format(of: name).rawValue,
          shape.map(String.init).joined(separator: " × "), values.least, values.largest,
        ])
        if values.notNumbers > 0 { remarks.append("\(visible(name)): \(values.notNumbers) NaN") }
      }
      lines += ["", table(rows, indent: "")] + remarks
      show(lines.joined(separator: "\n"))
    } catch { fail(error, file) }
  }
}

/// The least and the largest number of a tensor, found piece by piece: files may be larger than
/// memory.
private struct TensorRange {
  /// As text: whole numbers in full; "-" where there is none.
  let least, largest: String
  /// How many elements are NaN; they are neither least nor largest.
  let notNumbers: Int

  private static let piece = 1 << 16

  init(_ file: SafetensorsFile, _ name: String) throws {
    let count = try file.shape(of: name).reduce(1, *)
    let bar = ProgressBar(label: "elements of \(visible(name))", isWanted: nil)
    defer { bar.clear() }
    func forEachPiece(_ body: (Range<Int>) throws -> Void) rethrows {
      for start in stride(from: 0, to: count, by: Self.piece) {
        try body(start..<min(start + Self.piece, count))
        bar.show(start, of: count)
      }
    }
    if try !file.format(of: name).isFloatingPoint {
      var (low, high) = (Int.max, Int.min)
      try forEachPiece { places in
        for number in try file.integers(name, places) {
          (low, high) = (min(low, number), max(high, number))
        }
      }
      (least, largest, notNumbers) = count == 0 ? ("-", "-", 0) : ("\(low)", "\(high)", 0)
      return
    }
    var (low, high, strange) = (Double.infinity, -Double.infinity, 0)
    try forEachPiece { places in
      for number in try file.elements(name, places, as: Double.self) {
        if number < low { low = number }
        if number > high { high = number }
        if number.isNaN { strange += 1 }
      }
    }
    notNumbers = strange
    (least, largest) = strange == count ? ("-", "-") : (number(low), number(high))
  }
}
