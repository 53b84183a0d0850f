// Golden bundles: cases on disk, for readers that need no Swift.
//
// In:  a folder.
// Out: one safetensors file a case, KERNEL.CASE.safetensors, and manifest.json. In a file:
//
//   inputs/NAME            F32, or I32 for integers
//   expected/NAME          F64: the reference; I32 for integers
//   allowed/f32/NAME       F64: how far each row of the last axis may be off in F32; without that
//   allowed/bf16/NAME      axis. Missing where every bit is known: then the expected number,
//   allowed/f16/NAME       rounded to the candidate's format, is the only right one. Missing, too,
//                          where `misfits` says so
//   __metadata__           schema, kernel, case, purpose, seed, parameters and axes as JSON, tie
//                          rule; misfits, as JSON: by format, why no candidate can have the case
//
// The bytes are a function of the generator's version and of nothing else: loops in a written
// order, no library's elementary functions, tensors sorted by name. Docs/golden.md is the page for
// readers.

import Foundation
import Tensors

/// Writes and verifies bundles.
package struct GoldenBundle: Sendable {
  /// The layout of files and manifest.
  package static let schema = "lrqk-golden-1"
  /// What makes the numbers; it changes when any of them does.
  package static let generator = "lrqk-conformance 2"
  /// Bytes of the largest file that is read.
  private static let fileLimit = 1 << 28
  /// How ties are broken wherever scores are compared.
  static let tieRule = "larger score first, then lower index; -0 equals 0"

  /// The folder of the bundle.
  package let folder: String

  /// The bundle in `folder`.
  package init(folder: String) { self.folder = folder }

  /// The file of a case, such as "proxy-scores.ties.safetensors".
  package static func fileName(_ example: KernelCase) -> String {
    "\(example.kernel.name).\(example.name).safetensors"
  }

  /// The bytes of a case's file.
  package static func bytes(_ kernel: Kernel, _ example: KernelCase) throws -> [UInt8] {
    let references = kernel.reference(example)
    var axes: [String: [String]] = [:]
    var file = SafetensorsWriter()
    func add(_ name: String, _ tensor: NamedTensor, reals format: StorageFormat) throws {
      axes[name] = tensor.axes
      switch tensor.values {
      case .reals(let numbers):
        try file.add(name, Tensor(shape: tensor.shape, elements: numbers), as: format)
      case .integers(let numbers):
        try file.add(name, integers: Tensor(shape: tensor.shape, elements: numbers), as: .int32)
      }
    }
    for tensor in example.inputs { try add("inputs/\(tensor.name)", tensor, reals: .float32) }
    for tensor in references { try add("expected/\(tensor.name)", tensor, reals: .float64) }
    var misfits: [String: String] = [:]
    for precision in CandidatePrecision.allCases {
      misfits[precision.rawValue.lowercased()] = example.misfit(precision)
    }
    if !example.isExact {
      for precision in CandidatePrecision.allCases where example.misfit(precision) == nil {
        let all = kernel.allowedErrors(example, references, precision)
        for (n, output) in kernel.outputs.enumerated() where !output.isInteger && output.isJudged {
          let (R, allowed) = (references[n], all[n])
          let name = "allowed/\(precision.rawValue.lowercased())/\(R.name)"
          axes[name] = Array(R.axes.dropLast())
          try file.add(
            name, Tensor(shape: Array(R.shape.dropLast()), elements: allowed), as: .float64)
        }
      }
    }
    file.metadata = [
      "schema": schema, "generator": generator, "kernel": kernel.name, "case": example.name,
      "summary": kernel.summary, "purpose": example.purpose, "seed": "\(example.seed)",
      "parameters": try json(example.parameters), "axes": try json(axes), "ties": tieRule,
    ]
    if !misfits.isEmpty { file.metadata["misfits"] = try json(misfits) }
    return file.bytes()
  }

  /// Writes the cases that `isWanted`, and the manifest; returns the number of files.
  package func write(where isWanted: (KernelCase) -> Bool) throws -> Int {
    try makeFolder(folder)
    try requireOwnManifest()
    var entries: [Manifest.Entry] = []
    for kernel in Kernel.allCases {
      for example in kernel.cases where isWanted(example) {
        let bytes = try Self.bytes(kernel, example)
        let name = Self.fileName(example)
        try write(bytes, name)
        entries.append(Manifest.Entry(example, file: name, bytes))
      }
    }
    let manifest = Manifest(
      schema: Self.schema, generator: Self.generator, tieRule: Self.tieRule, cases: entries)
    try write(Array((Self.json(manifest, isPretty: true) + "\n").utf8), "manifest.json")
    return entries.count
  }

  /// Refuses a folder whose manifest.json is another program's: it would be lost.
  private func requireOwnManifest() throws {
    struct Head: Decodable { let schema: String }
    let path = "\(folder)/manifest.json"
    if !fileExists(at: path) { return }
    let bytes = try readFile(at: path, limit: Self.fileLimit)
    let head = try? JSONDecoder().decode(Head.self, from: Data(bytes))
    if head?.schema.hasPrefix("lrqk-golden-") != true {
      throw GoldenError("\(path) is no manifest of golden files; choose another folder")
    }
  }

  private func write(_ bytes: [UInt8], _ name: String) throws {
    try writeFile(bytes, to: "\(folder)/\(name)")
  }

  /// Compares the folder with its manifest, and with what this generator writes.
  ///
  /// One line for each fault; empty where all is well.
  package func faults() throws -> [String] {
    let manifest: Manifest
    do {
      manifest = try JSONDecoder().decode(
        Manifest.self,
        from: Data(try readFile(at: "\(folder)/manifest.json", limit: Self.fileLimit)))
    } catch let error as FileError {
      throw GoldenError("\(error); write the bundle with `lrqk golden write`")
    } catch {
      throw GoldenError(
        "\(folder)/manifest.json cannot be read as a manifest of golden files; write the bundle "
          + "with `lrqk golden write`")
    }
    if manifest.schema != Self.schema {
      throw GoldenError(
        "\(folder) has the schema \(manifest.schema), and this reads \(Self.schema)")
    }
    var faults: [String] = []
    for entry in manifest.cases {
      let bytes: [UInt8]
      do {
        bytes = try readFile(at: "\(folder)/\(entry.file)", limit: Self.fileLimit)
      } catch {
        let isThere = fileExists(at: "\(folder)/\(entry.file)")
        faults.append("\(entry.file): \(isThere ? error.reason : "is not there")")
        continue
      }
      let digest = sha256(bytes)
      if digest != entry.sha256 {
        faults.append("\(entry.file): its SHA-256 is \(digest), the manifest says \(entry.sha256)")
      } else if manifest.generator == Self.generator {
        guard let kernel = Kernel(rawValue: entry.kernel),
          let example = kernel.cases.first(where: { $0.name == entry.case })
        else {
          faults.append("\(entry.file): there is no case \(entry.kernel)/\(entry.case)")
          continue
        }
        if sha256(try Self.bytes(kernel, example)) != digest {
          faults.append("\(entry.file): made anew here, it has other bytes")
        }
      }
    }
    return faults
  }

  fileprivate static func json(_ value: some Encodable, isPretty: Bool = false) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting =
      isPretty
      ? [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
      : [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }
}

/// The content of manifest.json.
struct Manifest: Codable {
  struct Entry: Codable {
    let file, sha256, kernel, `case`, purpose: String
    let bytes: Int
    let seed: UInt64
    let exact: Bool

    init(_ example: KernelCase, file: String, _ content: [UInt8]) {
      (self.file, sha256, bytes) = (file, Conformance.sha256(content), content.count)
      (kernel, `case`, purpose) = (example.kernel.name, example.name, example.purpose)
      (seed, exact) = (example.seed, example.isExact)
    }
  }

  let schema, generator, tieRule: String
  let cases: [Entry]
}

/// A bundle that cannot be read.
package struct GoldenError: Error, CustomStringConvertible {
  /// What is wrong, in one line.
  package let description: String

  init(_ description: String) { self.description = description }
}
