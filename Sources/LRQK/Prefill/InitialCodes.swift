// Stage 1: where the sweeps start.
//
// In:  the choice of a start, and what that start needs of the prompt.
// Out: A_Q and A_K themselves, or maps X with A_Q = Q X_Q and A_K = K X_K.
//
// A start given as a map costs nothing in d by d space: choosing columns of Q is Q times a
// selection matrix. The next file, Sweep.swift, does one sweep.

public import Tensors

/// Where the sweeps start.
public enum Initialization: Sendable, Equatable {
  /// Independent standard normal A_Q and A_K ("randn", the released default).
  case gaussian(seed: UInt64)
  /// The r columns of Q, and of K, with the largest sums of magnitudes ("top").
  case topColumns
  /// One common set of columns, by the sums over Q and K together ("topcol").
  case sharedTopColumns
  /// The closed-form optimum of the first term (see ClosedForm.swift).
  case spectral
  /// A_Q and A_K handed in with the prompt.
  case given
}

/// A_Q (l_q, r) and A_K (l, r) to start from, for one head or one group of heads that share codes.
public struct InitialCodes<E: Scalar>: Sendable {
  /// A_Q, (l_q, r): l_q = l, or G l for a group of G query heads, head 0's rows first.
  public var queries: Tensor<E>
  /// A_K, (l, r).
  public var keys: Tensor<E>

  /// A start handed in, for `Initialization.given`.
  public init(queries: Tensor<E>, keys: Tensor<E>) {
    self.queries = queries
    self.keys = keys
  }

  /// Standard normals for tokens `tokens` of the prompt ("randn", [C:145-152]).
  ///
  /// Query head h draws A_Q from stream 2 h of the seed; A_K comes from stream 2 `group` + 1.
  /// An element depends on the seed, its stream, its token and its column only, so a prompt fed in
  /// chunks starts from the same numbers as one fed whole.
  package static func gaussian(
    seed: UInt64, queryHeads: Range<Int>, group: Int, tokens: Range<Int>, rank: Int
  ) -> InitialCodes {
    func rows(_ stream: Int) -> Tensor<E> {
      Tensor(
        shape: [tokens.count, rank],
        elements: normals(
          count: tokens.count * rank, seed: seed, stream: UInt64(stream),
          offset: tokens.lowerBound * rank))
    }
    return InitialCodes(
      queries: Tensor(joiningRows: queryHeads.map { rows(2 * $0) }), keys: rows(2 * group + 1))
  }
}

/// The columns that `topColumns` and `sharedTopColumns` pick ([C:154-185]).
///
/// The magnitudes are the sums of |Q| and of |K| down each of the d columns. The column with the
/// largest one comes first; of equal ones the lower index.
func topColumns(
  queryMagnitudes: [Double], keyMagnitudes: [Double], rank: Int, shared: Bool
) -> (queries: [Int], keys: [Int]) {
  func best(_ magnitudes: [Double]) -> [Int] {
    Array(
      magnitudes.indices
        .sorted { (-magnitudes[$0], $0) < (-magnitudes[$1], $1) }
        .prefix(rank))
  }
  if shared {
    let common = best(zip(queryMagnitudes, keyMagnitudes).map { $0 + $1 })
    return (common, common)
  }
  return (best(queryMagnitudes), best(keyMagnitudes))
}

/// The (d, r) matrix X with A X = columns `columns` of A.
func selectionMap(_ columns: [Int], width: Int) -> Tensor<Double> {
  var map = Tensor<Double>(repeating: 0, shape: [width, columns.count])
  for (j, column) in columns.enumerated() { map[column, j] = 1 }
  return map
}
