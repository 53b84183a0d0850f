// The map of a code: what queries and keys become before they are compared.
//
// In:  queries and keys of a prompt, after RoPE; which map, and its rank r.
// Out: W_Q and W_K, (d, r) each, on the device. A score is (q W_Q) · (k W_K).
//
//     none          W_Q = W_K = 1             the keys themselves; nothing is held
//     closed-form   W_Q = R_Q⁺ U_r S_r^½      the best rank-r fit of QKᵀ over the prompt, with the
//                   W_K = R_K⁺ V_r S_r^½      queries of a group stacked: one map a key head
//     random        W_Q = W_K = P_rᵀ          r orthonormal rows of a seed, the same for all heads
//
// Source: the closed form is KQ-SVD's (arXiv 2512.05916), in LRQK's ClosedForm.swift; here are only
// the two sums that it starts from. Its gauge matters for few bits: any invertible T gives the same
// scores by W_Q T and W_K T⁻ᵀ, but not the same rounding. √S on both sides is the balanced one:
// over the prompt both codes have the Gram matrix S. A random rotation spreads what a few channels
// have over all of them; RaBitQ (arXiv 2405.12497) needs it for its estimate to be unbiased.
//
// A map that is fitted to a prompt of fewer than r tokens has columns of zeros: it knows no more
// directions. A rotation is built by Gram and Schmidt's process in a written order, not by LAPACK,
// so that it is the same one on every machine.

import LRQK
package import Tensors
package import TieredMemory
import Transformers

/// Which map turns queries and keys into codes.
package enum KeyMapping: String, Sendable, CaseIterable {
  /// No map: the keys themselves.
  case identity = "none"
  /// The closed-form optimum over the prompt.
  case closedForm
  /// An orthogonal matrix of a seed.
  case random
}

/// W_Q and W_K of one key/value head on the device; without a map, nothing.
package struct KeyMap: Sendable {
  /// Both sides, (d, r) each; nil for the rows themselves.
  private let sides: (queries: DeviceBuffer<Float>, keys: DeviceBuffer<Float>)?
  /// Numbers of a code, r.
  package let rank: Int

  /// The rows themselves, `width` numbers each.
  package init(identity width: Int) { (sides, rank) = (nil, width) }

  /// These maps, (d, r) each; one buffer may be both.
  package init(queries: DeviceBuffer<Float>, keys: DeviceBuffer<Float>, rank: Int) {
    (sides, self.rank) = ((queries, keys), rank)
  }

  /// q̂ = q W_Q of queries (n, d): (n, r), in reference order.
  package func queries(_ rows: Tensor<Float>) -> Tensor<Float> { apply(sides?.queries, rows) }

  /// k̂ = k W_K of keys (n, d): (n, r), in reference order.
  package func keys(_ rows: Tensor<Float>) -> Tensor<Float> { apply(sides?.keys, rows) }

  private func apply(_ map: DeviceBuffer<Float>?, _ rows: Tensor<Float>) -> Tensor<Float> {
    guard let map else { return rows }
    let W = Tensor(shape: [rows.columns, rank], elements: map.elements)
    return matmul(rows, W, in: .reference)
  }

  /// Bytes that the maps of a layer take on the device.
  static func bytes(_ mapping: KeyMapping, rank: Int, layer: LayerShape) -> Int {
    let one = layer.width * rank * MemoryLayout<Float>.stride
    return switch mapping {
    case .identity: 0
    case .closedForm: layer.keyValueHeads * 2 * one
    case .random: one
    }
  }
}

/// W_Q and W_K (d, r) of the closed form, for the queries (l, d) of a group and its keys (l, d).
///
/// Throws `LRQKError` where a row holds NaN or infinity.
package func closedFormMaps(
  queries: [Tensor<Float>], keys: Tensor<Float>, rank: Int, layer: Int, head: Int
) throws -> (queries: Tensor<Float>, keys: Tensor<Float>) {
  func gram(_ rows: Tensor<Float>) -> Tensor<Double> {
    var sum = RowProduct<Float>(gram: rows.columns, in: .reference)
    sum.add(rows)
    return sum.total
  }
  let grams = queries.map(gram)  // a head has its own sum, as in LRQK: the same bits
  let maps = try spectralMaps(
    queryGram: SummedGram(
      grams.dropFirst().reduce(grams[0], +), rows: keys.rows * queries.count, of: Float.self),
    keyGram: SummedGram(gram(keys), rows: keys.rows, of: Float.self), rank: rank,
    Location(layer: layer, head: head, step: 0))
  return (maps.queries.converted(), maps.keys.converted())
}

/// The first r rows of a random orthogonal matrix, (r, d): normal numbers made orthonormal.
///
/// Every rotation is equally likely. The process runs twice over each row, which leaves rounding.
package func randomRotation(rank r: Int, width d: Int, seed: UInt64) -> Tensor<Double> {
  precondition(r <= d, "\(r) orthonormal rows of width \(d)")
  let start = Tensor<Double>.normal(shape: [r, d], seed: seed)
  var rows: [[Double]] = []
  for i in 0..<r {
    var row = start.row(i)
    for _ in 0..<2 {
      for other in rows {
        let part = dot(row, other)
        for j in row.indices { row[j] -= part * other[j] }
      }
    }
    let length = dot(row, row).squareRoot()
    rows.append(row.map { $0 / length })
  }
  return Tensor(rows: rows)
}
