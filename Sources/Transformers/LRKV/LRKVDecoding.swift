// LRKV, decoding: one new token over the cached factors, without keys or values of any head.
//
// In:  queries (H, d) after RoPE; of every token K_sh rotated, V_sh, and R_h^K, R_h^V of each head.
// Out: the heads' answers, (H, d):
//
//   score(t) = (q Θ_s) · (K_sh[t] Θ_t)  +  residual(t)
//   answer   = a V_sh + (a R_h^V) (B_h^V)ᵀ,   a = softmax(score / √d_h)
//
// The residual of the score, by where positions enter (LRKVFactors.swift):
//
//   sharedOnly         (q B_h) · R_h[t]              one row of r numbers for all t: O(L r)
//   rotatedResidual    (q B_h Θ'_s) · (R_h[t] Θ'_t)  the same
//   rotated            [(q Θ_s) Θ_tᵀ B_h] · R_h[t]  another row of r numbers for each t: O(L r d_h)
//
// For `rotated`, let x = q Θ_s, with halves x' and x'', and B' and B'' the halves of B_h's rows.
// Pair i of x is rotated back by the angle t f_i, so
//
//   x Θ_tᵀ B_h = Σ_i cos(t f_i) (x'_i B'_i + x''_i B''_i) + sin(t f_i) (x''_i B'_i − x'_i B''_i)
//              = [cos t f, sin t f] C_q,   C_q (d_h, r)
//
// C_q is made once a query. The angles are the same for every head, query and layer, so the
// residual is one product of a table (L, d_h) with C_q, and L dot products of r numbers. Building
// the keys R_h B_hᵀ would cost as many operations, L r d_h, but L d_h numbers of memory for each
// head.

public import Tensors

extension LRKVFactors: FactoredAttention {
  /// K_sh, V_sh; then R_h^K of each head; then R_h^V of each head.
  public var partWidths: [Int] {
    [width, width] + (rank == 0 ? [] : Array(repeating: rank, count: 2 * heads))
  }

  /// "2 · 16 shared and 2 · 4 · 6 residual numbers a token".
  public var summary: String {
    "LRKV, \(positions.rawValue): 2 · \(width) shared and 2 · \(heads) · \(rank) residual "
      + "numbers a token"
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
    let rotations = positions == .rotated && rank > 0 ? angles.rotations(upTo: l) : nil
    let answers = try mapConcurrently(heads) { h in
      let q = queries.row(h)
      let residual: [E]? =
        rank == 0
        ? nil
        : rotations.map { rotatedKeyResidual(q, keyFactors[h], parts[2 + h], $0) }
          ?? rowScores(Array(q[width...]), parts[2 + h], count: l)
      let answer = factoredAnswer(
        query: Array(q[..<width]), keys: parts[0], values: parts[1], residual: residual,
        valueCodes: rank == 0 ? [] : parts[2 + heads + h], valueFactor: valueFactors[h],
        scale: 1 / E(headWidth).squareRoot())
      return padded(answer, to: headWidth)
    }
    return Tensor(joiningRows: answers)
  }
}

/// Attention of one token over LRKV's factors, all heads, with positions rotated into q and K, or
/// nowhere: (H, d).
///
/// Head h has keys K + C_K[:, h] U_K[h] and values V + C_V[:, h] U_V[h], which are never built:
/// its score of token t is (q · K[t] + (q U_K[h]ᵀ) · C_K[t, h]) / √d. `queries` are (H, d), `keys`
/// and `values` (l, d), `keyCodes` and `valueCodes` (l, H, r), `keyFactors` and `valueFactors` (H,
/// r, d).
public func factoredAttention<E: Scalar>(
  queries q: Tensor<E>, keys: Tensor<E>, values: Tensor<E>, keyCodes: Tensor<E>,
  valueCodes: Tensor<E>, keyFactors: Tensor<E>, valueFactors: Tensor<E>
) throws -> Tensor<E> {
  let (H, d, l) = (q.rows, q.columns, keys.rows)
  let r = keyCodes.columns
  precondition(
    l > 0 && r > 0 && keys.shape == [l, d] && values.shape == [l, d]
      && keyCodes.shape == [l, H, r] && valueCodes.shape == [l, H, r]
      && keyFactors.shape == [H, r, d] && valueFactors.shape == [H, r, d],
    "factors of \(H) heads of width \(d), rank \(r), over \(l) tokens")
  let (allKeyCodes, allValueCodes) = (
    keyCodes.reshaped([l, H * r]), valueCodes.reshaped([l, H * r])
  )
  let answers = try mapConcurrently(H) { h in
    let own = h * r..<(h + 1) * r
    let projected = matmul(q.rows(h..<h + 1), transposed: keyFactors.slice(h), in: .reference)
    return factoredAnswer(
      query: q.row(h), keys: keys.elements, values: values.elements,
      residual: rowScores(projected.elements, columns(own, of: allKeyCodes).elements, count: l),
      valueCodes: columns(own, of: allValueCodes).elements,
      valueFactor: valueFactors.slice(h).transposed(), scale: 1 / E(d).squareRoot())
  }
  return Tensor(joiningRows: answers)
}

/// One head's answer, (1, d): a V + (a C) Bᵀ with a = softmax(scale (q Kᵀ + residual)).
///
/// K and V (l, d) are shared, C (l, r) are the head's codes and B (d, r) their factor; without a
/// residual there are no codes either.
@specialized(where E == Float)
@specialized(where E == Double)
private func factoredAnswer<E: Scalar>(
  query q: [E], keys: [E], values: [E], residual: [E]?, valueCodes: [E], valueFactor: Tensor<E>,
  scale: E
) -> Tensor<E> {
  // 1. Scores: the shared part, then the residual.
  var scores = rowScores(q, keys, count: keys.count / q.count)
  if let residual {
    for t in scores.indices { scores[t] += residual[t] }
  }
  // 2. The softmax, and both weighted sums.
  let sums = weightedSums(
    scores, scale: scale, over: residual == nil ? [values] : [values, valueCodes])
  // 3. a V + (a C) Bᵀ.
  let shared = Tensor(shape: [1, q.count], elements: sums[0])
  if residual == nil { return shared }
  let mixed = Tensor(shape: [1, sums[1].count], elements: sums[1])
  return shared + matmul(mixed, transposed: valueFactor, in: .reference)
}

/// [(q Θ_s) Θ_tᵀ B] · R[t] of every token t; `x` is q Θ_s (d_h), B is (d_h, r), R is (L, r).
@specialized(where E == Float)
@specialized(where E == Double)
private func rotatedKeyResidual<E: Scalar>(
  _ x: [E], _ B: Tensor<E>, _ R: [E], _ rotations: Rotations<E>
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
    let (cosines, sines) = (rotations.cosines.elements, rotations.sines.elements)
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
