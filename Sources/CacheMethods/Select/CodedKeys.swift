// The codes of one key/value head on the device, and the scores of queries by them.
//
// In:  coded rows, first those of a prompt, then one a step; queries q̂ (G, r) of the group.
// Out: a score for every query and token.
//
//     score_j = (q̂ · c_j) s_j       q̂ · c_j one chain of fused multiply-adds over the r integers
//
// Why in this order: an integer of 8 bits or fewer is exact as a Float, so that the chain has r
// roundings, and the scale comes last with one more. No bit of a score depends on how codes are
// packed, on how many tokens are read together or on the machine: a GPU thread that walks the same
// r integers gets the same ones, and sets can be compared with ==. Scaling the integers first would
// cost r products a token. Codes of 16 and 32 bits are numbers already.
//
// Codes are unpacked a block of tokens at a time, once for all queries of the group, and the block
// is scored by the chains that exact keys have (CFusedChains). What a step reads of the device is
// the packed codes.
//
// Bytes: ⌈r b / 8⌉ + 2 a token (KeyCode.swift). Source: ours; Double Sparsity's labels, KIVI and
// KVQuant hold keys in few bits before us.

package import Tensors
package import TieredMemory

/// Codes of one key/value head, a token a row.
package struct CodedKeys: Sendable {
  /// Tokens that are unpacked together.
  private static let block = 128

  /// How numbers are written.
  package let code: KeyCode
  /// Tokens that have a code.
  package private(set) var count: Int
  /// (tokens, `packedBytes`).
  private var bytes: DeviceBuffer<UInt8>
  /// (tokens), as BF16; empty where numbers are floats.
  private var scales: DeviceBuffer<UInt16>

  /// These codes on the device, under this label.
  package init(
    _ rows: KeyCode.Rows, _ code: KeyCode, label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    self.code = code
    count = rows.bytes.count / code.packedBytes
    bytes = try device.allocate("\(label)", holding: rows.bytes)
    scales = try device.allocate("scales of \(label)", holding: rows.scales)
  }

  /// Takes the codes of the next tokens.
  package mutating func append(
    _ rows: KeyCode.Rows, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    let (end, last) = (bytes.count, scales.count)
    try device.resize(&bytes, count: end + rows.bytes.count, fill: 0)
    try device.resize(&scales, count: last + rows.scales.count, fill: 0)
    bytes.elements.replaceSubrange(end..<bytes.count, with: rows.bytes)
    scales.elements.replaceSubrange(last..<scales.count, with: rows.scales)
    count += rows.bytes.count / code.packedBytes
  }

  /// (q̂ · c_j) s_j of each of `queries` (G, r), for these tokens: G lists.
  package func scores(
    _ queries: Tensor<Float>, of tokens: some RandomAccessCollection<Int>
  ) -> [[Float]] {
    let (G, r) = (queries.rows, code.width)
    precondition(queries.columns == r, "query codes of width \(queries.columns), rank \(r)")
    var scores = [[Float]](repeating: [], count: G)
    for h in scores.indices { scores[h].reserveCapacity(tokens.count) }
    let (packed, scales, q) = (bytes.elements, scales.elements, queries.elements)
    var rest = tokens[...]
    while !rest.isEmpty {
      let part = rest.prefix(Self.block)
      rest = rest.dropFirst(Self.block)
      var rows: [Float] = zeros(part.count * r)
      do {
        var out = rows.mutableSpan
        let slots = part.map(Int32.init)
        code.unpack(packed.span, slots: slots.span, into: &out)
      }
      var products: [Float] = zeros(G * part.count)
      do {
        var out = products.mutableSpan
        Float.chainGroupScores(
          rows: rows.span, width: r, slots: nil, heads: G, queries: q.span, scale: 1, into: &out)
      }
      for h in 0..<G {
        for (product, t) in zip(products[h * part.count..<(h + 1) * part.count], part) {
          let scale = code.hasScale ? Float(bitPattern: UInt32(scales[t]) << 16) : 1
          scores[h].append(product * scale)
        }
      }
    }
    return scores
  }
}
