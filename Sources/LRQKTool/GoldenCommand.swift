// lrqk golden: bundles of cases with their references, for readers that need no Swift.

import ArgumentParser
import Conformance
import Foundation
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
  @Option(help: "One kernel.") var kernel: String?

  func validate() throws {
    if let kernel, !kernels.contains(where: { $0.name == kernel }) {
      throw ValidationError(
        "--kernel \(kernel): there are \(kernels.map(\.name).joined(separator: ", "))")
    }
  }

  func run() throws {
    do {
      let count = try GoldenBundle(folder: folder).write { (kernel ?? $0.kernel) == $0.kernel }
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
      for name in golden.names.sorted() {
        let format = try golden.format(of: name)
        let shape = try golden.shape(of: name).map(String.init).joined(separator: " × ")
        let numbers: [Double] =
          format.isFloatingPoint
          ? try golden.tensor(name, as: Double.self).elements
          : try golden.integers(name).elements.map(Double.init)
        func text(_ x: Double?) -> String {
          x.map { format.isFloatingPoint ? number($0) : "\(Int($0))" } ?? "-"
        }
        rows.append([name, format.rawValue, shape, text(numbers.min()), text(numbers.max())])
      }
      lines += ["", table(rows, indent: "")]
      show(lines.joined(separator: "\n"))
    } catch { fail(error, file) }
  }
}
