// Stage 2, the sums over a prompt's rows: all that sweeps in d by d space ever need of the rows.
//
// In:  rows X of one side (Q of a head, or K), in chunks of any size, and for a start with codes
//      the initial codes A of these rows.
// Out: G = XᵀX (d, d); column magnitudes; S = AᵀA (r, r) and C = AᵀX (r, d).
//
// Sums add over chunks in the order of the rows, so no bit depends on where chunks begin. A sweep
// over the rows takes its S and C from `StartSums`, too: that is the next file, RowwiseSide.swift.

import Tensors

/// Sums over the rows X of one side so far: all that the maps of a solver can depend on.
struct DataSums<E: Scalar>: Sendable {
  private var product: RowProduct<E>
  /// Sum of |X| down each column, (d); only where a start needs it.
  private(set) var magnitudes: [Double]
  private let needsGram: Bool
  private let needsMagnitudes: Bool

  /// Nothing yet, for rows of `width`; only what is needed will be summed.
  init(width: Int, gram: Bool, magnitudes: Bool, in arithmetic: Arithmetic) {
    product = RowProduct(gram: width, in: arithmetic)
    self.magnitudes = Array(repeating: 0, count: width)
    (needsGram, needsMagnitudes) = (gram, magnitudes)
  }

  /// G = XᵀX, (d, d).
  var gram: Tensor<Double> { product.total }

  /// Adds the rows `rows` of X (n, d); returns whether they are finite.
  mutating func add(_ data: Tensor<E>, rows: Range<Int>) -> Bool {
    let isFinite = needsGram ? product.add(data, rows: rows) : data.isFinite(rows: rows)
    if needsMagnitudes {
      let d = data.columns
      let part = data.elements.span.extracting(rows.lowerBound * d..<rows.upperBound * d)
      addMagnitudes(part, width: d, to: &magnitudes)
    }
    return isFinite
  }
}

/// S₀ = A₀ᵀA₀ (r, r) and C₀ = A₀ᵀX (r, d) over the rows seen so far, for a start with codes.
struct StartSums<E: Scalar>: Sendable {
  private var codes: RowProduct<E>
  private var crossing: RowProduct<E>

  init(rank: Int, width: Int, in arithmetic: Arithmetic) {
    codes = RowProduct(gram: rank, in: arithmetic)
    crossing = RowProduct(width, rank, in: arithmetic)
  }

  /// S₀ = A₀ᵀA₀, (r, r), over the rows so far.
  var gram: Tensor<Double> { codes.total }
  /// C₀ = A₀ᵀX, (r, d): summed as XᵀA₀, the taller product, which is faster and has the same bits.
  var cross: Tensor<Double> { crossing.total.transposed() }

  /// Adds the rows `rows` of X (n, d) with their initial codes A₀ (n, r).
  mutating func add(_ data: Tensor<E>, codes initial: Tensor<E>, rows: Range<Int>) {
    codes.add(initial, rows: rows)
    crossing.add(data, initial, rows: rows)
  }
}

@specialized(where E == Float)
@specialized(where E == Double)
private func addMagnitudes<E: Scalar>(_ data: Span<E>, width: Int, to sums: inout [Double]) {
  for first in stride(from: 0, to: data.count, by: width) {
    for j in 0..<width { sums[j] += abs(Double(data[first + j])) }
  }
}

/// A start with codes of its own: summed with the rows, or kept where the rows are kept as well.
enum StartCodes<E: Scalar>: Sendable {
  /// S₀ and C₀, for sweeps in d by d space.
  case sums(StartSums<E>)
  /// A₀, (l, r), chunk after chunk, for sweeps over the rows.
  case rows([Tensor<E>])

  /// Adds the rows `rows` of X with their codes, where sums are kept.
  mutating func sum(_ data: Tensor<E>, _ codes: Tensor<E>, rows: Range<Int>) {
    guard case .sums(var sums) = self else { return }
    self = .rows([])  // the sums have one owner while they grow
    sums.add(data, codes: codes, rows: rows)
    self = .sums(sums)
  }

  /// Keeps a chunk's codes, where codes are kept.
  mutating func keep(_ codes: Tensor<E>) {
    if case .rows(let chunks) = self { self = .rows(chunks + [codes]) }
  }

  /// The sums; a start that keeps rows has none.
  var sums: StartSums<E> {
    guard case .sums(let sums) = self else { preconditionFailure("this start keeps its rows") }
    return sums
  }

  /// A₀, (l, r); a start that is summed has none.
  var codes: Tensor<E> {
    guard case .rows(let chunks) = self else { preconditionFailure("this start is summed") }
    return Tensor(joiningRows: chunks)
  }
}
