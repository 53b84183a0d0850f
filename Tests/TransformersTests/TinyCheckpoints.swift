// The tiny checkpoints of make_checkpoints.py, and the plainest cache there is.

import Foundation
import LRQK
import Tensors
import TieredMemory
import Transformers

/// A checkpoint that lies beside the tests, with what the library transformers made of it.
struct TinyCheckpoint {
  static let names = [
    "llama2", "llama3", "llama31-layout4", "llama-biases", "llama-linear", "llama-dynamic-short",
    "llama-dynamic-long", "llama-yarn", "qwen2", "qwen2-yarn", "qwen2-sliding", "qwen2-sharded",
    "qwen3", "qwen3-biases", "mistral", "mistral-whole", "phi3", "phi3-short", "phi3-long",
    "phi3-crossing", "phi3-partial", "deepseek", "deepseek-halves", "lrkv", "lrkv-shared-only",
    "lrkv-rotated-residual", "lrkv-mqa",
  ]

  let folder: String
  let decoder: Decoder
  /// Token ids of the prompt.
  let tokens: [Int]
  /// Logits of the prompt, (l, vocabulary).
  let logits: Tensor<Float>
  /// What greedy generation went on with.
  let generated: [Int]

  static func path(_ name: String) -> String {
    Bundle.module.bundleURL.appendingPathComponent("Fixtures/Checkpoints/\(name)").path
  }

  init(_ name: String) throws {
    folder = Self.path(name)
    decoder = try Decoder(folder: folder)
    let expected = try SafetensorsFile(path: "\(folder)/expected.safetensors")
    tokens = try expected.integers("input_ids").elements
    logits = try expected.tensor("logits")
    generated = try expected.integers("generated").elements
  }

  /// A sequence that keeps every row.
  func exactState() -> DecodingState {
    DecodingState(
      caches: decoder.layerShapes.map { ExactCache(shape: $0) }, tiers: Tiers())
  }
}

/// Every row of a layer, attended exactly within the layer's window.
struct ExactCache: KeyValueCache {
  let shape: LayerShape
  private(set) var length = 0
  /// Of each key/value head, (length, d) flat.
  private var keys: [[Float]] = []
  private var values: [[Float]] = []

  init(shape: LayerShape) { self.shape = shape }

  var hostBytes: Int { 0 }

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) {
    keys = prompt.keys.map(\.elements)
    values = prompt.values.map(\.elements)
    length = prompt.keys[0].rows
  }

  mutating func decode(_ token: TokenRows, tiers: inout Tiers) -> AttendedStep {
    for m in 0..<shape.keyValueHeads {
      keys[m] += token.keys.row(m)
      values[m] += token.values.row(m)
    }
    length += 1
    let tokens = Array(shape.visible(length: length))
    let heads = (0..<shape.queryHeads).map { h in
      attention(
        query: token.queries.row(h), keys: keys[h / shape.groupSize],
        values: values[h / shape.groupSize], slots: tokens.map(Int32.init))
    }
    return AttendedStep(
      attention: Tensor(rows: heads),
      attended: Array(repeating: tokens, count: shape.queryHeads), hitRows: 0, missedRows: 0)
  }
}

/// The largest |a − b| and the largest |b|.
func difference(_ a: Tensor<Float>, _ b: Tensor<Float>) -> (error: Float, scale: Float) {
  precondition(a.shape == b.shape, "\(a.shape) beside \(b.shape)")
  let error = zip(a.elements, b.elements).map { abs($0 - $1) }.max() ?? 0
  return (error, b.elements.map { abs($0) }.max() ?? 0)
}

/// The place of the largest logit.
func best(_ logits: [Float]) -> Int {
  logits.indices.max { logits[$0] < logits[$1] } ?? 0
}
