// Stage 2, the literal way: sweeps over all l rows.
//
// In:  X (l, d), which is Q or K, and codes A (l, r) to start from.
// Out: S = AᵀA, C = AᵀX (both summed by PromptSums.swift) and new codes A' = X W, each a pass over
//      l rows.
//
// A sweep costs O(l d r). This is what the released code runs. The next file, GramSide.swift, does
// the same in d by d space, where the cost of a sweep no longer depends on l.

import Tensors

/// One side of a sweep that keeps its l rows.
struct RowwiseSide<E: Scalar>: FactorSide {
  /// X, (l, d).
  let data: Tensor<E>
  /// A, (l, r).
  private(set) var codes: Tensor<E>
  /// Wᵀ, (r, d), of the last update; nil before the first.
  private(set) var map: Tensor<E>?
  private(set) var gram: Tensor<E>
  private(set) var cross: Tensor<E>
  private let arithmetic: Arithmetic

  init(data: Tensor<E>, codes: Tensor<E>, arithmetic: Arithmetic) {
    self.data = data
    self.codes = codes
    self.arithmetic = arithmetic
    (gram, cross) = Self.products(codes, data, arithmetic)
  }

  /// The codes X W for a start given as a map W (d, r).
  init(data: Tensor<E>, map: Tensor<Double>, arithmetic: Arithmetic) {
    self.init(
      data: data, codes: matmul(data, map.converted(to: E.self), in: arithmetic),
      arithmetic: arithmetic)
  }

  var size: Int { codes.count }

  mutating func replaceCodes(map: Tensor<E>) -> Double {
    let new = matmul(data, transposed: map, in: arithmetic)
    let change = (new - codes).squaredNorm
    self.map = map
    codes = new
    (gram, cross) = Self.products(codes, data, arithmetic)
    return change
  }

  /// S = AᵀA and C = AᵀX.
  private static func products(
    _ codes: Tensor<E>, _ data: Tensor<E>, _ arithmetic: Arithmetic
  ) -> (gram: Tensor<E>, cross: Tensor<E>) {
    var sums = StartSums<E>(rank: codes.columns, width: data.columns, in: arithmetic)
    sums.add(data, codes: codes, rows: 0..<data.rows)
    return (sums.gram.converted(), sums.cross.converted())
  }
}
