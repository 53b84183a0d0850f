// lrqk convert: a checkpoint whose keys and values are smaller, out of another one.
//
// In:  a checkpoint, a weight method, texts where the method learns from them.
// Out: a folder in the Hugging Face layout, which every command reads; a table of what was done.
//
// The work is Conversion.swift in CacheMethods: written aside first, and on from where it stopped.

import ArgumentParser
import CacheMethods
import Evaluation
import Foundation
import Reports
import Tensors
import Transformers

struct ConvertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Make a checkpoint whose keys and values are smaller out of another one.",
    discussion: """
      A method is named METHOD[:option=value,...]; `lrqk methods` lists them. The folder is written \
      beside its name first (OUTPUT.part); a conversion that was stopped goes on with the layers that \
      are missing. --cache factored then holds the latents; every other method runs on the keys and \
      values that are made of them.
      """)

  @OptionGroup var model: ModelOption

  @Option(
    help: "The weight method, METHOD[:option=value,...]; help lists them.",
    completion: .weightMethods)
  var method: String

  @Option(help: "The folder to write; it must not be there yet.", completion: .directory)
  var output: String

  @Option(
    help: "A text to learn from, UTF-8; - is standard input. May be given several times.",
    completion: .file())
  var text: [String] = []

  @Option(
    help: "A safetensors file with input_ids (n) or (batch, n). May be given several times.",
    completion: .file(extensions: ["safetensors"]))
  var idsFile: [String] = []

  @Option(help: "Tokens of a stretch of text: one prompt. (default: 2048)") var stretch: Int?
  @Option(help: "Most tokens in all. (default: all)") var tokens: Int?

  @Option(
    help: "How new tensors are stored: f32, f16, bf16.", completion: .list(["f32", "f16", "bf16"]),
    transform: { try storedFormat($0) })
  var format = StorageFormat.float32

  @Flag(inversion: .prefixedNo, help: "Progress bar on standard error (default: on a terminal).")
  var progress: Bool?

  func validate() throws {
    if method == "help" { return }
    if output.isEmpty { throw ValidationError("--output is empty: name a folder") }
    if text.count(where: isStandardInput) > 1 {
      throw ValidationError("standard input can be read once: name files for the other texts")
    }
    for (name, value) in [("--stretch", stretch ?? 1), ("--tokens", tokens ?? 1)]
    where !(1...1 << 30).contains(value) {
      throw ValidationError("\(name) \(value): it must be from 1 to \(1 << 30)")
    }
    do { _ = try weightMethod(method) } catch { throw ValidationError("--method: \(error)") }
  }

  func run() throws {
    if method == "help" { return show(weightMethodList) }
    do {
      var files = CommandFiles()
      for path in text { files.reads(path, "--text") }
      for path in idsFile { files.reads(path, "--ids-file") }
      try files.check()
      let decoder = try openDecoder(model.model)
      var folder = output
      while folder.count > 1 && folder.hasSuffix("/") { folder.removeLast() }
      let conversion = try Conversion(
        try weightMethod(method), of: decoder, folder: model.model,
        hash: try modelHash(folder: model.model), output: folder, format: format)
      try conversion.checkOutput()
      let stretches = try stretches(conversion, decoder)
      let total = stretches.reduce(0) { $0 + $1.count }
      let bar = ProgressBar(label: "tokens", isWanted: progress)
      let report: ConversionReport
      do {
        defer { bar.clear() }
        report = try conversion.run(stretches: stretches) { bar.show($0, of: total) }
      }
      show(report.text(folder))
    } catch let error as MethodError {
      fail(InputError(error.description), model.model)
    } catch { fail(error, model.model) }
  }

  /// The tokens of the texts; an error where the method wants none, or where it lacks some.
  private func stretches(_ conversion: Conversion, _ decoder: Decoder) throws -> [[Int]] {
    let isGiven = !text.isEmpty || !idsFile.isEmpty
    if conversion.isCalibrated != isGiven {
      throw InputError(
        isGiven
          ? "\(method) learns from weights alone: leave --text and --ids-file away"
          : "\(method) learns from texts: give --text or --ids-file")
    }
    if !isGiven {
      if stretch != nil || tokens != nil {
        throw InputError("--stretch and --tokens have no effect without texts")
      }
      return []
    }
    let stretches = try textStretches(
      model.model, text, idsFile, length: stretch ?? 2048, tokens: tokens)
    var lengths = LengthNote(decoder)
    lengths.check(stretches.map(\.count).max() ?? 0, "a stretch")
    return stretches
  }
}

/// A format for weights by its short name.
@Sendable private func storedFormat(_ text: String) throws -> StorageFormat {
  switch text {
  case "f32": return .float32
  case "f16": return .float16
  case "bf16": return .bfloat16
  default: throw ValidationError("'\(text)' is none of: f32, f16, bf16")
  }
}

extension ConversionReport {
  /// A line a layer, and the sum.
  fileprivate func text(_ folder: String) -> String {
    func list(_ ranks: [Int]) -> String {
      Set(ranks).count == 1 && ranks.count > 1
        ? "\(ranks.count) x \(ranks[0])" : ranks.map(String.init).joined(separator: " ")
    }
    var rows = [["layer", "keys", "values", "numbers a token", "keys off", "values off"]]
    for (n, form) in layers.enumerated() {
      let (keys, values) =
        switch form {
        case .lowRank(let sizes): (list(sizes.keys.ranks), list(sizes.values.ranks))
        case .joinedHeads(let sizes):
          ("\(sizes.heads) x \(sizes.keyWidth)", "\(sizes.heads) x \(sizes.valueWidth)")
        case .narrowHeads(let sizes):
          ("\(sizes.heads) x \(sizes.keyWidth)", "\(sizes.heads) x \(sizes.valueWidth)")
        }
      rows.append(
        ["\(n)", keys, values, "\(form.cachedNumbers)"]
          + errors[n].map { "\(number(100 * $0, 1)) %" })
    }
    let (before, after) = (numbersBefore * layers.count, numbersAfter)
    let share = number(100 * Double(after) / Double(before), 1)
    return TextTable(rows).text() + "\n"
      + "\(folder): \(method), \(layers.count) layers; "
      + "\(after) of \(before) numbers a token, \(share) %"
      + (warning.map { "\n\(folder): \($0)" } ?? "")
  }
}
