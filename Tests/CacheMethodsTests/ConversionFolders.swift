// What the tests of conversions share: folders, converted checkpoints in them, logits of a run.

import CacheMethods
import Foundation
import Tensors
import TieredMemory
import Transformers

/// Folders of one test, removed at the end.
final class ConversionFolders {
  let path = FileManager.default.temporaryDirectory
    .appendingPathComponent("lrqk-convert-\(UUID().uuidString)").path

  init() throws {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// A tiny checkpoint of the tests of Transformers.
  static func tiny(_ name: String) -> String {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("TransformersTests/Fixtures/Checkpoints/\(name)").path
  }

  static func prompt(_ name: String) throws -> [Int] {
    try SafetensorsFile(path: "\(tiny(name))/expected.safetensors").integers("input_ids").elements
  }

  /// Converts the model `name` by `method` into the folder `output`.
  @discardableResult
  func convert(
    _ name: String, _ method: any WeightMethod, into output: String = "out",
    format: StorageFormat = .float32
  ) throws -> ConversionReport {
    let folder = name.hasPrefix("/") ? name : Self.tiny(name)
    let conversion = try Conversion(
      method, of: try Decoder(folder: folder), folder: folder, hash: "0123",
      output: "\(path)/\(output)", format: format)
    // Texts of more tokens than any basis has directions.
    let texts = (0..<6).map { n in (0..<20).map { (31 * n * n + 17 * $0 + n * $0 * $0) % 80 } }
    return try conversion.run(stretches: conversion.isCalibrated ? texts : [])
  }

  @discardableResult
  func convert(_ name: String, _ text: String, into output: String = "out") throws
    -> ConversionReport
  {
    try convert(name, try weightMethod(text), into: output)
  }
}

/// Logits of a prompt, then of one step after the other, under a cache method.
func logits(_ folder: String, _ tokens: [Int], prompt: Int, cache: String) throws -> [Float] {
  let decoder = try Decoder(folder: folder)
  let method = try cacheMethod(cache)
  let state = DecodingState(
    caches: try decoder.layerShapes.map { try method.makeCache(for: $0) }, tiers: Tiers())
  var all = try decoder.prefill(Array(tokens[..<prompt]), state: state, logits: .all).elements
  for token in tokens[prompt...] {
    all += try decoder.decode([token], states: [state]).elements
  }
  return all
}

/// The largest difference of two runs, relative to the largest logit.
func difference(_ a: [Float], _ b: [Float]) -> Float {
  guard a.count == b.count else { return .infinity }
  return (zip(a, b).map { abs($0 - $1) }.max() ?? 0) / (b.map { abs($0) }.max() ?? 1)
}

/// What an error says; empty where there is none.
func errorLine(_ body: () throws -> Void) -> String {
  do {
    try body()
    return ""
  } catch { return "\(error)" }
}

func errorLine(_ body: () throws -> ConversionReport) -> String {
  errorLine { () throws -> Void in _ = try body() }
}
