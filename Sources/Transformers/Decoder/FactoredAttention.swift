// Attention over factors: what LRKV and MLA have in common beside ordinary heads.
//
// In:  one layer's rows of new tokens, before and after RoPE.
// Out: the same rows as ordinary heads see them; or attention that never builds a head's keys.
//
// Two architectures make every head's keys and values out of fewer numbers, linearly:
//
//   LRKV   one shared key and value, and r numbers for each head     LRKVFactors.swift
//   MLA    one latent vector and one rotated key                     LatentAttention.swift
//
// Each can be run in two ways, equal but for rounding:
//
//   materialised   K_h and V_h (l, d) are built; from there on all is ordinary attention, and every
//                  cache method applies. Training and prompts run like this.
//   factored       a cache keeps the small numbers and moves the linear maps over to the query and
//                  to the answer: q · (B x) = (q B) · x, and Σ a_t (B x_t) = B Σ a_t x_t.
//
// A head's value may be narrower than its key. Caches know one width, so its row ends in zeros
// there, and the layer drops the zeros of the answer.

public import Tensors

/// Attention of one new token over the small numbers of every token, for all heads of a layer.
public protocol FactoredAttention<Element>: Sendable {
  /// Float or Double.
  associatedtype Element: Scalar
  /// What a token leaves in a cache, part by part: so many numbers each.
  var partWidths: [Int] { get }
  /// What the numbers are, in words, for reports.
  var summary: String { get }
  /// The heads' answers, (H, d): softmax(q Kᵀ / √d) V without K or V of any head.
  ///
  /// `queries` are those of the materialised form, after RoPE, (H, d). `parts` holds for each part
  /// the numbers of all tokens in order, (l, width) row-major; the new token is the last.
  func attend(queries: Tensor<Element>, parts: [[Element]]) throws -> Tensor<Element>
}

extension FactoredAttention {
  /// Numbers that a token leaves in a cache.
  public var numbersPerToken: Int { partWidths.reduce(0, +) }
}

/// Some tokens' rows in one layer, for every head, as ordinary attention sees them.
public struct HeadRows<E: Scalar>: Sendable {
  /// Queries of each query head before RoPE, (n, d).
  public var queriesBeforeRotary: [Tensor<E>]
  /// Queries of each query head after RoPE, (n, d).
  public var queries: [Tensor<E>]
  /// Keys of each key/value head before RoPE, (n, d).
  public var keysBeforeRotary: [Tensor<E>]
  /// Keys of each key/value head after RoPE, (n, d).
  public var keys: [Tensor<E>]
  /// Values of each key/value head, (n, d_v), d_v <= d.
  public var values: [Tensor<E>]
  /// What factored attention keeps, (n, sum of `partWidths`).
  public var factored: Tensor<E>
}

extension HeadRows<Float> {
  /// As a prompt's rows, values with zeros behind them where they are narrower than keys.
  public var prompt: PromptRows {
    PromptRows(
      queries: queries, keys: keys, keysBeforeRotary: keysBeforeRotary,
      values: values.map { padded($0, to: keys[0].columns) }, factored: factored,
      queriesBeforeRotary: queriesBeforeRotary)
  }

  /// As one token's rows; there must be one token.
  public var token: TokenRows {
    precondition(factored.rows == 1, "one token, not \(factored.rows)")
    return TokenRows(
      queries: Tensor(joiningRows: queries),
      queriesBeforeRotary: Tensor(joiningRows: queriesBeforeRotary),
      keys: Tensor(joiningRows: keys), keysBeforeRotary: Tensor(joiningRows: keysBeforeRotary),
      values: padded(Tensor(joiningRows: values), to: keys[0].columns), factored: factored)
  }
}

/// Matrices side by side: (n, a) and (n, b) make (n, a + b).
func joinedColumns<E: Scalar>(_ parts: [Tensor<E>]) -> Tensor<E> {
  if parts.count == 1 { return parts[0] }
  let rows = parts[0].rows
  precondition(parts.allSatisfy { $0.rows == rows }, "as many rows in every part")
  let sources = parts.map { (elements: $0.elements, width: $0.columns) }
  var joined: [E] = []
  joined.reserveCapacity(parts.reduce(0) { $0 + $1.count })
  for n in 0..<rows {
    for part in sources { joined += part.elements[n * part.width..<(n + 1) * part.width] }
  }
  return Tensor(shape: [rows, parts.reduce(0) { $0 + $1.columns }], elements: joined)
}

/// Columns `range` of a matrix, as a matrix.
@specialized(where E == Float)
@specialized(where E == Double)
func columns<E: Scalar>(_ range: Range<Int>, of x: Tensor<E>) -> Tensor<E> {
  let (elements, width) = (x.elements, x.columns)
  var part: [E] = []
  part.reserveCapacity(x.rows * range.count)
  for n in 0..<x.rows {
    part += elements[n * width + range.lowerBound..<n * width + range.upperBound]
  }
  return Tensor(shape: [x.rows, range.count], elements: part)
}

/// Zeros behind every row, until it is `width` wide.
func padded<E: Scalar>(_ x: Tensor<E>, to width: Int) -> Tensor<E> {
  if x.columns == width { return x }
  let zeros = Tensor<E>(
    shape: [x.rows, width - x.columns], elements: zeros(x.rows * (width - x.columns)))
  return joinedColumns([x, zeros])
}

/// Softmax of one head's scores and the weighted sum of `parts`, each (l, width): one row each.
///
/// The same steps in the same order as LRQK's `attention`, so that one part alone gives its bits.
@specialized(where E == Float)
@specialized(where E == Double)
func weightedSums<E: Scalar>(_ scores: [E], scale: E, over parts: [[E]]) -> [[E]] {
  var weights = scores
  for t in weights.indices { weights[t] *= scale }
  weights = softmax(weights)
  let slots = (0..<Int32(weights.count)).map { $0 }
  return parts.map { part in
    let width = part.count / weights.count
    var sum: [E] = zeros(width)
    var out = sum.mutableSpan
    E.chainIndexedWeightedSum(
      rows: part.span, width: width, slots: slots.span, weights: weights.span, into: &out)
    return sum
  }
}

/// q · row for every row of (l, width).
func rowScores<E: Scalar>(_ q: [E], _ rows: [E], count: Int) -> [E] {
  var scores: [E] = zeros(count)
  var out = scores.mutableSpan
  E.chainRowScores(rows: rows.span, width: q.count, q: q.span, into: &out)
  return scores
}
