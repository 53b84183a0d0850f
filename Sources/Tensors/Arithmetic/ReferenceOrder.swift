// Reference order: the arithmetic whose bits are part of the answer.
//
// In:  flat row-major elements (`Span`) and their sizes.
// Out: sums in which every dot product is one chain of fused multiply-adds in index order,
//      s = 0; s = fma(x0, y0, s); s = fma(x1, y1, s); ... One rounding per step, one order, so one
//      result: the same bits on every machine, and what a GPU thread that walks the same indices
//      gets. Selections made from such numbers can be compared with ==.
//
// A chain cannot be split, but many chains run side by side, one per SIMD lane. Swift cannot ask
// for AVX at run time and baseline x86-64 has no fused multiply-add, so the loops are in C
// (CFusedChains), compiled for three instruction sets from one text. This file says what they
// compute; FusedChains.swift, for Float and Double, checks the bounds and makes the calls.
//
// NaN in gives NaN out; which NaN (sign, payload) is the one thing that may differ.

internal import CFusedChains

/// An instruction set that the chains run on; results do not depend on it.
public enum ChainLevel: Int, CaseIterable, Comparable, Sendable {
  /// The compiler's baseline; on x86-64 each fused multiply-add is a call into libm.
  case plain = 0
  /// AVX2 with FMA.
  case avx2 = 1
  /// AVX-512 (F, VL, DQ and BW).
  case avx512 = 2

  /// The best level of this machine: the default of every call.
  public static var best: ChainLevel {
    ChainLevel(rawValue: Int(chains_best_level())) ?? .plain
  }

  /// The levels that this machine runs, slowest first.
  public static var available: [ChainLevel] { allCases.filter { $0 <= best } }

  /// Runs `body` with every chain of this thread at this level; tests show by it that bits agree.
  public func run<Result, Failure: Error>(
    _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(self <= .best, "this machine has no \(self)")
    let previous = chains_level()
    _ = chains_set_level(Int32(rawValue))
    defer { _ = chains_set_level(previous) }
    return try body()
  }

  /// Orders levels from plain upwards.
  public static func < (a: ChainLevel, b: ChainLevel) -> Bool { a.rawValue < b.rawValue }
}

/// What Cholesky factorisation says about the pivots that it accepted.
public struct CholeskyPivots<Element: Sendable & Equatable>: Sendable, Equatable {
  /// The first column whose pivot was not above the threshold; nil if the factor is complete.
  public let failed: Int?
  /// The smallest accepted pivot (the square of a diagonal element); infinity if there was none.
  public let smallest: Element
  /// The largest accepted pivot; 0 if there was none.
  public let largest: Element
}

/// Where the elements A(i, t) of a matrix lie in flat memory: at `offset + i * row + t * column`.
///
/// `.rows(width)` is a row-major matrix; `.transposed(width)` the transpose of one, without a copy.
public struct ChainLayout: Sendable, Equatable {
  /// Where A(0, 0) lies.
  public var offset: Int
  /// From A(i, t) to A(i + 1, t).
  public var row: Int
  /// From A(i, t) to A(i, t + 1).
  public var column: Int

  /// A layout by its three numbers, none negative.
  public init(offset: Int = 0, row: Int, column: Int) {
    precondition(offset >= 0 && row >= 0 && column >= 0, "layouts only go forward")
    self.offset = offset
    self.row = row
    self.column = column
  }

  /// A row-major matrix whose rows are `width` apart.
  public static func rows(_ width: Int, offset: Int = 0) -> ChainLayout {
    ChainLayout(offset: offset, row: width, column: 1)
  }

  /// The transpose of a row-major matrix whose rows are `width` apart.
  public static func transposed(_ width: Int, offset: Int = 0) -> ChainLayout {
    ChainLayout(offset: offset, row: 1, column: width)
  }

  /// Whether a (rows, columns) matrix of this layout lies within `count` elements.
  func fits(_ rows: Int, _ columns: Int, in count: Int) -> Bool {
    if rows == 0 || columns == 0 { return true }
    let (down, overflow1) = (rows - 1).multipliedReportingOverflow(by: row)
    let (across, overflow2) = (columns - 1).multipliedReportingOverflow(by: column)
    let (both, overflow3) = down.addingReportingOverflow(across)
    let (last, overflow4) = both.addingReportingOverflow(offset)
    return !(overflow1 || overflow2 || overflow3 || overflow4) && last < count
  }
}

/// Dot products, exponentials and Cholesky factors with one result on every machine.
///
/// Requirements take flat row-major `Span`s with their sizes; all of them check the bounds.
/// "chain over t of x(t) * y(t)" is s = 0, then s = fma(x(t), y(t), s) for t ascending.
public protocol ReferenceOrder: Equatable, Sendable {
  /// Unsigned integers of the same size: what `orderKey` returns.
  associatedtype OrderKey: FixedWidthInteger & UnsignedInteger & Sendable

  /// An integer that sorts as the number does: -infinity lowest, -0 equal to +0, any NaN highest.
  var orderKey: OrderKey { get }

  /// The number that has this key (+0 for both zeros).
  init(orderKey: OrderKey)

  /// Matrix product: out(i, j) = chain over t < k of A(i, t) * B(t, j), i < m, j < n.
  ///
  /// A lies in `a` as `aLayout` says; B is row-major, B(t, j) at `bOffset + t * bWidth + j`; out is
  /// row-major, out(i, j) at `i * n + j`. With `accumulate` each chain starts at the value in `out`
  /// instead of 0, so that a long k may come in chunks: the bits are those of the whole.
  static func chainMatmul(
    m: Int, n: Int, k: Int, _ a: Span<Self>, _ aLayout: ChainLayout, _ b: Span<Self>,
    bOffset: Int, bWidth: Int, accumulate: Bool, into out: inout MutableSpan<Self>)

  /// Gram matrix: out(i, j) = chain over rows t of rows(t, i) * rows(t, j), for i <= j < width.
  ///
  /// rows is (t, width) row-major, out (width, width); what its lower triangle holds afterwards is
  /// not part of the answer. `accumulate` is that of `chainMatmul`. The result is true when none of
  /// the rows holds NaN or infinity: they pass through anyway, so the question costs nothing.
  static func chainGram(
    rows: Span<Self>, width: Int, accumulate: Bool, into out: inout MutableSpan<Self>
  ) -> Bool

  /// Scores of rows: out[i] = chain over j < width of rows(i, j) * q[j], for the first rows.
  ///
  /// rows is row-major, q has `width` elements, and `out.count` is the number of scores.
  static func chainRowScores(
    rows: Span<Self>, width: Int, q: Span<Self>, into out: inout MutableSpan<Self>)

  /// Scores of gathered rows: out[i] = (chain over j of rows(slots[i], j) * q[j]) * scale.
  ///
  /// rows is (slot, width) row-major, q has `width` elements, out as many as `slots`.
  static func chainIndexedScores(
    rows: Span<Self>, width: Int, slots: Span<Int32>, q: Span<Self>, scale: Self,
    into out: inout MutableSpan<Self>)

  /// Weighted sum of gathered rows: out[j] = chain over i of weights[i] * rows(slots[i], j).
  ///
  /// rows is (slot, width) row-major, weights has as many elements as `slots`, out has `width`.
  static func chainIndexedWeightedSum(
    rows: Span<Self>, width: Int, slots: Span<Int32>, weights: Span<Self>,
    into out: inout MutableSpan<Self>)

  /// `chainIndexedScores` of several queries over the same rows, in one pass, to the same bits.
  ///
  /// queries is (heads, width) row-major, out (heads, slots). Without slots the rows are the first
  /// ones, as many as out has for each head.
  static func chainGroupScores(
    rows: Span<Self>, width: Int, slots: Span<Int32>?, heads: Int, queries: Span<Self>,
    scale: Self, into out: inout MutableSpan<Self>)

  /// `chainIndexedWeightedSum` of several heads over the same rows, in one pass, to the same bits.
  ///
  /// weights is (heads, slots) row-major, out (heads, width).
  static func chainGroupWeightedSum(
    rows: Span<Self>, width: Int, slots: Span<Int32>, heads: Int, weights: Span<Self>,
    into out: inout MutableSpan<Self>)

  /// out[i] = normal `offset` + i of the random numbers that start at `start` (`RandomNumbers`).
  ///
  /// Not a chain, but here for the same reason: one result on every machine, at every level.
  static func chainNormals(start: UInt64, offset: Int, into out: inout MutableSpan<Self>)

  /// x[i] = exp(x[i]) in place, for i in `range`.
  ///
  /// The polynomial is this package's own; its error is at most 1 unit in the last place.
  ///
  /// 0 at and below -87 (Float) or -708 (Double), where exp nears the subnormal numbers; infinity
  /// where the type overflows; NaN stays NaN.
  static func chainExponentials(_ x: inout MutableSpan<Self>, in range: Range<Int>)

  /// out[first + i] = z[i] / (1 + exp(-z[i])) * u[i]: silu(z) times u.
  static func chainGate(
    _ z: Span<Self>, _ u: Span<Self>, into out: inout MutableSpan<Self>, from first: Int)

  /// Causal attention of one head, for the tokens `first` and after it, one a query.
  ///
  /// Token t sees the keys j with t - window < j <= t. Keys come in chunks of 256, counted from
  /// key 0; each chunk's scores are chains over the width, times `scale`, and its exponentials
  /// are relative to the largest score so far. When that grows, what was summed before shrinks by
  /// the exponential of the difference. The sum of the exponentials, and each column's chain of
  /// exponentials and values, go on over the chunks in index order; their quotient is the answer.
  /// CFusedChains.h has the formulas.
  ///
  /// queries, keys and values are row-major, `width` wide. Query i's answer, the first `columns`
  /// of its columns, goes to `offset + i * row` of `out`.
  static func chainCausalAttention(
    first: Int, window: Int, width: Int, queries: Span<Self>, keys: Span<Self>,
    values: Span<Self>, columns: Int, scale: Self, into out: inout MutableSpan<Self>,
    from offset: Int, row: Int)

  /// The lower Cholesky factor, in place, of a symmetric (n, n) matrix, n² elements row-major.
  ///
  /// L(i, j) = (a(i, j) - chain over t < j of L(i, t) * L(j, t)) / L(j, j), the chain starting at
  /// a(i, j) and subtracting; the pivot of column j is that sum for i = j, and L(j, j) its root.
  /// Reads the lower triangle only; the upper is 0 afterwards. Stops at the first pivot that is not
  /// above `threshold` (as NaN is not): the matrix is then scratch.
  static func chainCholesky(
    n: Int, _ a: inout MutableSpan<Self>, threshold: Self
  ) -> CholeskyPivots<Self>

  /// Solves L Lᵀ X = B in place: `factor` is L (n, n), `b` holds B (n, m) row-major and becomes X.
  ///
  /// Y(i) = (B(i) - chain over t = 0 ..< i of L(i, t) * Y(t)) / L(i, i), then
  /// X(i) = (Y(i) - chain over t = n-1 down to i+1 of L(t, i) * X(t)) / L(i, i): both chains
  /// subtract, in the order in which the unknowns become known.
  static func chainCholeskySolve(
    n: Int, m: Int, factor: Span<Self>, _ b: inout MutableSpan<Self>)
}

extension ReferenceOrder {
  /// x[i] = exp(x[i]) in place, for all of them.
  public static func chainExponentials(_ x: inout MutableSpan<Self>) {
    chainExponentials(&x, in: 0..<x.count)
  }
}
