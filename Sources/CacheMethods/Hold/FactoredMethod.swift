// Factors instead of keys and values: what LRKV, MLA and converted models were made for.
//
// Kept:   on the device, of every token, the numbers that the layer's factors ask for; no key or
//         value of any head. LRKV: 2 d_h + 2 H r (one shared key and value, and r numbers twice
//         for each head). MLA: d_R + d_c (one rotated key, and a latent). Low-rank keys and values
//         of `lrqk convert`: the latents of each group of heads.
// A step: nothing moves; the new numbers are written where they stay, and attention absorbs the
//         layer's linear maps into the query and the answer.
// Bytes:  l · numbers · 4 on the device, none on the host.
//
// Source: LRKV, arXiv 2601.11471; MLA, arXiv 2405.04434. The mathematics is in Transformers
// (LRKVDecoding.swift, LatentAttention.swift, LowRankFactors.swift). The answers are those of
// `full` but for rounding: there the same heads are materialised. A layer of ordinary heads has no
// factors, and naming this method for one is an error.

import TieredMemory
import Tensors
public import Transformers

/// The factors of LRKV, MLA or a converted model on the device.
public struct FactoredMethod: CacheMethod {
  /// The name "factored".
  public static let name = "factored"
  /// Its paper, on arXiv.
  public static let paper: String? = "2601.11471"
  /// What `lrqk methods` says of it.
  public static let summary =
    "full attention over the factors of LRKV, MLA or a converted model"
  /// Empty: the method has no options.
  public static let optionList: [MethodOption] = []

  /// Takes no options.
  public init(_ given: MethodOptions) {}

  /// Empty: there is nothing to choose.
  public var options: [(name: String, value: String)] { [] }

  /// Whether the layer has factors.
  public func applies(to layer: LayerShape) -> Bool { layer.factors != nil }

  /// An empty cache; throws for a layer of ordinary heads.
  public func makeCache(for layer: LayerShape) throws -> any KeyValueCache {
    guard let factors = layer.factors else {
      throw MethodError(
        "factored: layer \(layer.layer) has ordinary heads, or a sliding window or RoPE that changes "
          + "with the length stands between it and its factors; use full")
    }
    return FactoredCache(layer, factors)
  }

  /// `numbersPerToken` numbers for each token; none for a layer without factors.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    let numbers = layer.factors?.numbersPerToken ?? 0
    return CacheBytes(deviceRows: tokens * numbers * MemoryLayout<Float>.stride)
  }
}

/// One layer's factors.
struct FactoredCache: KeyValueCache {
  let layer: LayerShape
  let factors: any FactoredAttention<Float>
  private(set) var length = 0
  var hostBytes: Int { 0 }
  /// One buffer for each part, (l, width) row-major.
  private var parts: [DeviceBuffer<Float>] = []

  init(_ layer: LayerShape, _ factors: any FactoredAttention<Float>) {
    self.layer = layer
    self.factors = factors
  }

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    length = layer.check(prompt)
    let rows = numbers(prompt.factored, count: length)
    for (i, part) in split(rows).enumerated() {
      parts.append(try tiers.device.allocate("factors, part \(i)", holding: part))
    }
  }

  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    let new = split(numbers(token.factored, count: 1))
    for (i, width) in factors.partWidths.enumerated() {
      try tiers.device.resize(&parts[i], count: (length + 1) * width, fill: 0)
      parts[i].elements.replaceSubrange(length * width..<(length + 1) * width, with: new[i])
    }
    length += 1
    return AttendedStep(
      attention: try factors.attend(queries: token.queries, parts: parts.map(\.elements)),
      attended: Array(repeating: Array(0..<length), count: layer.queryHeads), hitRows: 0,
      missedRows: 0)
  }

  /// The factors among a layer's rows, (count, numbers).
  private func numbers(_ rows: Tensor<Float>?, count: Int) -> Tensor<Float> {
    guard let rows, rows.shape == [count, factors.numbersPerToken] else {
      preconditionFailure("\(factors.numbersPerToken) numbers for each of \(count) tokens")
    }
    return rows
  }

  /// Rows (n, numbers) part by part, each (n, width).
  private func split(_ rows: Tensor<Float>) -> [[Float]] {
    var first = 0
    return factors.partWidths.map { width in
      defer { first += width }
      let elements = rows.elements
      return (0..<rows.rows).flatMap { n in
        elements[n * rows.columns + first..<n * rows.columns + first + width]
      }
    }
  }
}
