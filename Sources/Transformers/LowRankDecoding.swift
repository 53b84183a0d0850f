// LRKV, decoding: one new token over the cached factors, without keys or values of any head.
//
// In:  queries (H, d) after RoPE; of every token K_sh turned, V_sh, and R_h^K, R_h^V of each head.
// Out: the heads' answers, (H, d):
//
//   score(t) = (q Θ_s) · (K_sh[t] Θ_t)  +  residual(t)
//   answer   = a V_sh + (a R_h^V) (B_h^V)ᵀ,   a = softmax(score / √d_h)
//
// The residual of the score, by where positions enter (LowRankKeyValue.swift):
//
//   sharedOnly         (q B_h) · R_h[t]              one row of r numbers for all t: O(L r)
//   rotatedResidual    (q B_h Θ'_s) · (R_h[t] Θ'_t)  the same
//   rotated            [(q Θ_s) Θ_tᵀ B_h] · R_h[t]   another row of r numbers for each t: O(L r d_h)
//
// For `rotated`, let x = q Θ_s, with halves x' and x'', and B' and B'' the halves of B_h's rows. Pair
// i of x turns back by the angle t f_i, so
//
//   x Θ_tᵀ B_h = Σ_i cos(t f_i) (x'_i B'_i + x''_i B''_i) + sin(t f_i) (x''_i B'_i − x'_i B''_i)
//              = [cos t f, sin t f] C_q,   C_q (d_h, r)
//
// C_q is made once a query. The angles are the same for every head, query and layer, so the residual
// is one product of a table (L, d_h) with C_q, and L dot products of r numbers. Building the keys
// R_h B_hᵀ would cost as many operations, L r d_h, but L d_h numbers of memory for each head.

public import Tensors

extension LRKVFactors: FactoredAttention {
  /// K_sh, V_sh; then R_h^K of each head; then R_h^V of each head.
  public var partWidths: [Int] {
    [width, width] + (rank == 0 ? [] : Array(repeating: rank, count: 2 * heads))
  }

  /// "2 · 16 shared and 2 · 4 · 6 residual numbers a token".
  public var summary: String {
    "LRKV, \(positions.rawValue): 2 · \(width) shared and 2 · \(heads) · \(rank) residual numbers a token"
  }

  /// The heads' answers, (H, d); behind column d_h they are zero.
  @specialized(where E == Float)
  @specialized(where E == Double)
  public func attend(queries: Tensor<E>, parts: [[E]]) throws -> Tensor<E> {
    precondition(
      queries.shape == [heads, headWidth] && parts.count == partWidths.count,
      "queries (\(heads), \(headWidth)) and \(partWidths.count) parts")
    let l = parts[0].count / width
    precondition(
      zip(parts, partWidths).allSatisfy { $0.count == l * $1 }, "as many rows in every part")
    let turns = positions == .rotated && rank > 0 ? angles.turns(upTo: l) : nil
    let answers = try mapConcurrently(heads) { h in
      let q = queries.row(h)
      // 1. Scores: the shared part, then the residual.
      var scores = rowScores(Array(q[..<width]), parts[0], count: l)
      if rank > 0 {
        let residual =
          turns.map { turnedResidual(q, keyFactors[h], parts[2 + h], $0) }
          ?? rowScores(Array(q[width...]), parts[2 + h], count: l)
        for t in 0..<l { scores[t] += residual[t] }
      }
      // 2. The softmax, and both weighted sums.
      let values = rank == 0 ? [parts[1]] : [parts[1], parts[2 + heads + h]]
      let sums = weightedSums(scores, scale: 1 / E(headWidth).squareRoot(), over: values)
      // 3. a V_sh + (a R_h^V) (B_h^V)ᵀ.
      var answer = Tensor(shape: [1, width], elements: sums[0])
      if rank > 0 {
        let mixed = Tensor(shape: [1, rank], elements: sums[1])
        answer = answer + matmul(mixed, transposed: valueFactors[h], in: .reference)
      }
      return padded(answer, to: headWidth)
    }
    return Tensor(joiningRows: answers)
  }
}

/// [(q Θ_s) Θ_tᵀ B] · R[t] of every token t; `x` is q Θ_s (d_h), B is (d_h, r), R is (L, r).
@specialized(where E == Float)
@specialized(where E == Double)
private func turnedResidual<E: Scalar>(
  _ x: [E], _ B: Tensor<E>, _ R: [E], _ turns: RotaryTurns<E>
) -> [E] {
  let (half, r) = (x.count / 2, B.columns)
  let l = R.count / r
  // C_q: the factors of the cosines, then those of the sines.
  var C: [E] = zeros(2 * half * r)
  let b = B.elements
  for i in 0..<half {
    for j in 0..<r {
      let (near, far) = (b[i * r + j], b[(half + i) * r + j])
      C[i * r + j] = x[i] * near + x[half + i] * far
      C[(half + i) * r + j] = x[half + i] * near - x[i] * far
    }
  }
  // The query as each token's residual sees it, (L, r).
  var seen: [E] = zeros(l * r)
  do {
    let (cosines, sines) = (turns.cosines.elements, turns.sines.elements)
    var out = seen.mutableSpan
    E.chainMatmul(
      m: l, n: r, k: half, cosines.span, .rows(half), C.span, bOffset: 0, bWidth: r,
      accumulate: false, into: &out)
    E.chainMatmul(
      m: l, n: r, k: half, sines.span, .rows(half), C.span, bOffset: half * r, bWidth: r,
      accumulate: true, into: &out)
  }
  var scores: [E] = zeros(l)
  for t in 0..<l {
    var sum: E = 0
    for j in 0..<r { sum += seen[t * r + j] * R[t * r + j] }
    scores[t] = sum
  }
  return scores
}
