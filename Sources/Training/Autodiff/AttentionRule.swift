// Causal attention of many heads and sequences, and its way back.
//
// In:  Q (n, H d), K (n, M d), V (n, M e): n rows are sequences of L tokens one after another,
//      heads lie side by side, query head h asks key/value head h / G, G = H / M; all after RoPE.
// Out: O (n, H e): row t of a sequence is softmax(q_t Kᵀ scale) V over the tokens j <= t. Back,
//      with P the weights and D_t = dO_t · O_t:
//
//          dV += Pᵀ dO                dP = dO Vᵀ
//          dS  = P ⊙ (dP − D) scale   dQ += dS K      dK += dSᵀ Q
//
// P is L² numbers a head, more than everything else together. So it is made in blocks of query
// rows, never kept, and made again on the way back from the logarithm of each row's sum, as
// FlashAttention does (arXiv 2205.14135 section 3, 2307.08691 section 2.3). Blocks end at the
// diagonal, so about half of the products of the full square are never computed.

import RealModule
import Tensors

/// The shapes of one attention.
package struct AttentionShape: Sendable, Equatable {
  /// H, query heads.
  package var queryHeads: Int
  /// M, key/value heads.
  package var keyValueHeads: Int
  /// d, of queries and keys.
  package var width: Int
  /// e, of values and answers.
  package var valueWidth: Int
  /// L, tokens of a sequence.
  package var sequenceLength: Int

  /// 1 / √d.
  func scale<E: Scalar>() -> E { 1 / E(width).squareRoot() }
  /// G, query heads per key/value head.
  var groupSize: Int { queryHeads / keyValueHeads }

  /// Heads of one width.
  package init(
    queryHeads: Int, keyValueHeads: Int, width: Int, valueWidth: Int? = nil, sequenceLength: Int
  ) {
    self.queryHeads = queryHeads
    self.keyValueHeads = keyValueHeads
    self.width = width
    self.valueWidth = valueWidth ?? width
    self.sequenceLength = sequenceLength
  }
}

extension Tape {
  /// softmax(Q Kᵀ / √d) V, causal, (n, H e).
  package func attention(
    _ q: Variable<E>, _ k: Variable<E>, _ v: Variable<E>, _ shape: AttentionShape
  ) -> Variable<E> {
    let n = q.value.rows
    precondition(
      q.value.shape == [n, shape.queryHeads * shape.width]
        && k.value.shape == [n, shape.keyValueHeads * shape.width]
        && v.value.shape == [n, shape.keyValueHeads * shape.valueWidth]
        && n % shape.sequenceLength == 0 && shape.queryHeads % shape.keyValueHeads == 0,
      "attention of \(q.value.shape) over \(k.value.shape) and \(v.value.shape)")
    let (Q, K, V) = (q.value.elements, k.value.elements, v.value.elements)
    var output: [E] = zeros(n * shape.queryHeads * shape.valueWidth)
    var logSums: [E] = zeros(n * shape.queryHeads)
    do {
      var out = output.mutableSpan
      var sums = logSums.mutableSpan
      for head in HeadOfSequence.all(shape, rows: n) {
        attend(shape, head, Q.span, K.span, V.span, into: &out, logSums: &sums)
      }
    }
    let answers = Tensor(shape: [n, shape.queryHeads * shape.valueWidth], elements: output)
    return record(answers) { [logSums] dO in
      let (O, gradient) = (answers.elements, dO.elements)
      let parts = HeadOfSequence.all(shape, rows: n)
      q.accumulate { dQ in
        k.accumulate { dK in
          v.accumulate { dV in
            for head in parts {
              attendBack(
                shape, head, Q.span, K.span, V.span, O.span, gradient.span, logSums.span,
                dQ: &dQ, dK: &dK, dV: &dV)
            }
          }
        }
      }
    }
  }
}

/// One query head of one sequence.
private struct HeadOfSequence {
  /// The sequence's first row.
  let row: Int
  /// h, the query head.
  let head: Int

  static func all(_ shape: AttentionShape, rows: Int) -> [HeadOfSequence] {
    stride(from: 0, to: rows, by: shape.sequenceLength).flatMap { row in
      (0..<shape.queryHeads).map { HeadOfSequence(row: row, head: $0) }
    }
  }
}

/// Where the matrices of a head begin, and how long their rows are.
private struct HeadPlaces {
  let (q, k, v, o): (Int, Int, Int, Int)
  let (ldq, ldk, ldv, ldo): (Int, Int, Int, Int)

  init(_ s: AttentionShape, _ h: HeadOfSequence) {
    (ldq, ldk) = (s.queryHeads * s.width, s.keyValueHeads * s.width)
    (ldv, ldo) = (s.keyValueHeads * s.valueWidth, s.queryHeads * s.valueWidth)
    let m = h.head / s.groupSize
    (q, k) = (h.row * ldq + h.head * s.width, h.row * ldk + m * s.width)
    (v, o) = (h.row * ldv + m * s.valueWidth, h.row * ldo + h.head * s.valueWidth)
  }
}

/// Query rows of a block.
private let blockRows = 64

private func attend<E: Scalar>(
  _ s: AttentionShape, _ h: HeadOfSequence, _ Q: Span<E>, _ K: Span<E>, _ V: Span<E>,
  into O: inout MutableSpan<E>, logSums: inout MutableSpan<E>
) {
  let at = HeadPlaces(s, h)
  var block: [E] = zeros(blockRows * s.sequenceLength)
  for first in stride(from: 0, to: s.sequenceLength, by: blockRows) {
    let last = min(first + blockRows, s.sequenceLength)
    var P = block.mutableSpan
    E.libraryMatmul(
      m: last - first, n: last, k: s.width, a: Q.extracting((at.q + first * at.ldq)...),
      lda: at.ldq, transposeA: false, b: K.extracting(at.k...), ldb: at.ldk, transposeB: true,
      into: &P, ldc: last, accumulate: false)
    weigh(
      &P, first..<last, s.scale(), &logSums, at: h.row * s.queryHeads + h.head, by: s.queryHeads)
    E.libraryMatmul(
      m: last - first, n: s.valueWidth, k: last, a: P.span, lda: last, transposeA: false,
      b: V.extracting(at.v...), ldb: at.ldv, transposeB: false, into: &O,
      from: at.o + first * at.ldo, ldc: at.ldo, accumulate: true)
  }
}

private func attendBack<E: Scalar>(
  _ s: AttentionShape, _ h: HeadOfSequence, _ Q: Span<E>, _ K: Span<E>, _ V: Span<E>,
  _ O: Span<E>, _ dO: Span<E>, _ logSums: Span<E>, dQ: inout MutableSpan<E>,
  dK: inout MutableSpan<E>, dV: inout MutableSpan<E>
) {
  let at = HeadPlaces(s, h)
  var (weights, changes): ([E], [E]) = (
    zeros(blockRows * s.sequenceLength), zeros(blockRows * s.sequenceLength)
  )
  for first in stride(from: 0, to: s.sequenceLength, by: blockRows) {
    let last = min(first + blockRows, s.sequenceLength)
    let rows = last - first
    var P = weights.mutableSpan
    var dS = changes.mutableSpan
    let (q, dOut) = (
      Q.extracting((at.q + first * at.ldq)...), dO.extracting((at.o + first * at.ldo)...)
    )
    // P again.
    E.libraryMatmul(
      m: rows, n: last, k: s.width, a: q, lda: at.ldq, transposeA: false, b: K.extracting(at.k...),
      ldb: at.ldk, transposeB: true, into: &P, ldc: last, accumulate: false)
    weighAgain(
      &P, first..<last, s.scale(), logSums, at: h.row * s.queryHeads + h.head, by: s.queryHeads)
    // dV += Pᵀ dO
    E.libraryMatmul(
      m: last, n: s.valueWidth, k: rows, a: P.span, lda: last, transposeA: true, b: dOut,
      ldb: at.ldo, transposeB: false, into: &dV, from: at.v, ldc: at.ldv, accumulate: true)
    // dP = dO Vᵀ, then dS in its place.
    E.libraryMatmul(
      m: rows, n: last, k: s.valueWidth, a: dOut, lda: at.ldo, transposeA: false,
      b: V.extracting(at.v...), ldb: at.ldv, transposeB: true, into: &dS, ldc: last,
      accumulate: false)
    scoreGradient(
      &dS, P.span, first..<last, O.extracting((at.o + first * at.ldo)...), dOut,
      width: s.valueWidth,
      stride: at.ldo, s.scale())
    // dQ += dS K, dK += dSᵀ Q
    E.libraryMatmul(
      m: rows, n: s.width, k: last, a: dS.span, lda: last, transposeA: false,
      b: K.extracting(at.k...), ldb: at.ldk, transposeB: false, into: &dQ,
      from: at.q + first * at.ldq, ldc: at.ldq, accumulate: true)
    E.libraryMatmul(
      m: last, n: s.width, k: rows, a: dS.span, lda: last, transposeA: true, b: q, ldb: at.ldq,
      transposeB: false, into: &dK, from: at.k, ldc: at.ldk, accumulate: true)
  }
}

/// Rows `tokens` of scores, each as long as the last token sees, become weights.
///
/// What lies beyond a row's own token becomes 0. The logarithms of the rows' sums go to `logSums`.
@specialized(where E == Float)
@specialized(where E == Double)
private func weigh<E: Scalar>(
  _ P: inout MutableSpan<E>, _ tokens: Range<Int>, _ scale: E, _ logSums: inout MutableSpan<E>,
  at place: Int, by step: Int
) {
  let columns = tokens.upperBound
  for t in tokens {
    let first = (t - tokens.lowerBound) * columns
    let top = largest(P.span.extracting(first..<first + t + 1))
    for j in first...first + t { P[j] = (P[j] - top) * scale }
    for j in first + t + 1..<first + max(columns, t + 1) { P[j] = 0 }
    E.chainExponentials(&P, in: first..<first + t + 1)
    let sum = total(P.span.extracting(first..<first + t + 1))
    let factor = 1 / sum
    for j in first...first + t { P[j] *= factor }
    logSums[place + t * step] = E(Double.log(Double(sum))) + top * scale
  }
}

/// The same weights again, exp(score · scale − log of the row's sum).
@specialized(where E == Float)
@specialized(where E == Double)
private func weighAgain<E: Scalar>(
  _ P: inout MutableSpan<E>, _ tokens: Range<Int>, _ scale: E, _ logSums: Span<E>, at place: Int,
  by step: Int
) {
  let columns = tokens.upperBound
  for t in tokens {
    let first = (t - tokens.lowerBound) * columns
    let logSum = logSums[place + t * step]
    for j in first...first + t { P[j] = P[j] * scale - logSum }
    for j in first + t + 1..<first + max(columns, t + 1) { P[j] = 0 }
    E.chainExponentials(&P, in: first..<first + t + 1)
  }
}

/// dP becomes dS = P ⊙ (dP − D) scale, D_t = dO_t · O_t; P is 0 beyond a row's own token.
@specialized(where E == Float)
@specialized(where E == Double)
private func scoreGradient<E: Scalar>(
  _ dS: inout MutableSpan<E>, _ P: Span<E>, _ tokens: Range<Int>, _ O: Span<E>, _ dO: Span<E>,
  width: Int, stride: Int, _ scale: E
) {
  let columns = tokens.upperBound
  for row in 0..<tokens.count {
    let part = row * stride..<row * stride + width
    let D = dot(O.extracting(part), dO.extracting(part))
    for j in row * columns..<(row + 1) * columns { dS[j] = P[j] * (dS[j] - D) * scale }
  }
}
