// LRQK on one page: the whole method in plain loops over arrays of Double.
//
// A language model keeps a key and a value row for every past token. LRQK (arXiv 2510.23649) keeps
// all of them on the host and a few on the device: the newest, and those that look important for
// the new token. To find these without reading every key, the device holds a code of r numbers for
// each token, r < d. A query's code times a key's code comes close to query times key.
//
//   prompt:   0 what is minimised   1 a start   2 sweeps         -> codes and bases
//   a token:  3 its codes   4 the bases follow                      one head, eight tokens,
//             5 scores   6 selection   7 hit and miss               one more token
//             8 exact attention over the chosen rows
//
// The sections have the numbers of the stages, as in the rest of the package. The page imports
// nothing of the package. Its numbers are those of `lrqk explain`, which also shows every number
// between them (a test compares the two). Left out: more heads, chunks of a prompt, Float, speed,
// weights of the terms, stopping tests and the other choices; Sources/LRQK has these. One thing
// differs from the released code, as in `lrqk explain`: in the released code the token that has
// just left the recent ones cannot be selected yet (quirk Q1, Docs/differences.md).
//
//   swift run lrqk-in-one-page

import Foundation

// ---- The letters, and eight tokens by hand ------------------------------------------------------

let l = 8  // tokens of the prompt
let d = 4  // width of a query, a key, a value
let r = 2  // rank: numbers in a code
let k = 3  // selected tokens
let w = 2  // recent tokens, always on the device

typealias Matrix = [[Double]]  // rows of equal length

// Queries and keys are those after the rotary embedding. Row 8 is the token after the prompt.
let Q: Matrix = [
  [3.6, -1.0, 0.7, 0.7], [-0.8, 0.2, 0.5, -0.8], [0.2, -0.8, -1.3, -0.7], [0.6, -0.4, 0.1, 0.5],
  [-0.3, 0.0, -0.4, -1.6], [-3.7, 0.8, 0.9, 1.1], [0.1, 0.1, 0.6, 1.3], [-0.9, 0.5, -0.1, 0.1],
  [1.5, -0.6, 0.2, 1.5],
]
let K: Matrix = [
  [1.7, -0.4, -0.3, -1.5], [1.1, 0.3, 0.4, 2.0], [-0.7, -0.2, -0.5, 0.1], [-0.8, -0.5, -0.8, 0.0],
  [1.5, -0.4, 1.1, 2.5], [0.9, 0.1, -0.6, 0.3], [-1.4, 0.7, 0.9, 2.0], [0.1, -0.4, 0.4, -1.1],
  [1.8, -0.2, 0.3, 1.0],
]
let V: Matrix = [
  [-0.3, 1.9, -0.2, -0.1], [-1.0, -0.9, 0.0, 0.6], [-1.3, 0.8, 1.1, 1.5], [-0.1, 1.1, -0.2, 0.0],
  [-1.2, 0.5, 0.2, -1.0], [-0.1, -0.2, 1.0, 0.6], [-0.1, 0.0, -1.0, -0.4], [0.0, 1.5, -0.1, -0.9],
  [0.7, 1.0, -1.1, 1.6],
]

// ---- The little linear algebra that it takes ----------------------------------------------------

func transposed(_ A: Matrix) -> Matrix {
  A[0].indices.map { j in A.map { $0[j] } }
}

/// The matrix product A B.
func times(_ A: Matrix, _ B: Matrix) -> Matrix {
  A.map { row in
    B[0].indices.map { j in row.indices.reduce(0) { $0 + row[$1] * B[$1][j] } }
  }
}

/// The sum A + s B, element by element.
func plus(_ A: Matrix, _ B: Matrix, _ s: Double = 1) -> Matrix {
  A.indices.map { i in A[0].indices.map { j in A[i][j] + s * B[i][j] } }
}

/// ‖A‖², the sum of all squares.
func squares(_ A: Matrix) -> Double { A.reduce(0) { $0 + $1.reduce(0) { $0 + $1 * $1 } } }

/// S⁻¹ C for a symmetric positive definite S (r, r), by elimination: no pivots are needed.
func solved(_ S: Matrix, _ C: Matrix) -> Matrix {
  var (S, C) = (S, C)
  for i in S.indices {
    for row in S.indices where row != i {
      let factor = S[row][i] / S[i][i]
      for j in S.indices { S[row][j] -= factor * S[i][j] }
      for j in C[0].indices { C[row][j] -= factor * C[i][j] }
    }
  }
  return S.indices.map { i in C[i].map { $0 / S[i][i] } }
}

func show(_ numbers: [Double], _ digits: Int = 3) -> String {
  numbers.map { String(format: "%.\(digits)f", $0) }.joined(separator: " ")
}
func show(_ tokens: [Int]) -> String { tokens.map(String.init).joined(separator: " ") }

// ---- 0. What is minimised -----------------------------------------------------------------------
// Codes A_Q, A_K (l, r) whose products come close to QKᵀ, which is never formed. Bases B_Q, B_K
// (r, d) rebuild the rows from the codes: they tie codes to rows, and they code new tokens. F is
// judged with the bases that fit best.
//
//   F = ½ ‖QKᵀ − A_Q A_Kᵀ‖² + ½ ‖Q − A_Q B_Q‖² + ½ ‖K − A_K B_K‖²

let (promptQ, promptK) = (Array(Q[..<l]), Array(K[..<l]))

func objective(_ A_Q: Matrix, _ A_K: Matrix) -> Double {
  let product = plus(
    times(promptQ, transposed(promptK)), times(A_Q, transposed(A_K)), -1)
  let queries = plus(promptQ, times(A_Q, basis(A_Q, promptQ)), -1)
  let keys = plus(promptK, times(A_K, basis(A_K, promptK)), -1)
  return (squares(product) + squares(queries) + squares(keys)) / 2
}

/// The basis that fits best to codes: B = (AᵀA)⁻¹ AᵀX.
func basis(_ A: Matrix, _ X: Matrix) -> Matrix {
  solved(times(transposed(A), A), times(transposed(A), X))
}

// ---- 1. A start ---------------------------------------------------------------------------------
// Random codes. Any of full rank will do.

var A_Q: Matrix = [
  [-1.1, 0.5], [0.9, 0.6], [0.4, 0.0], [1.4, 0.5], [-0.4, 0.7], [-0.6, -0.3], [1.4, -1.8],
  [0.8, 0.0],
]
var A_K: Matrix = [
  [-0.9, 0.5], [0.0, -2.3], [-0.5, 0.2], [-0.6, -0.1], [-0.9, -1.1], [1.1, -1.4], [-0.8, 0.4],
  [0.1, 0.1],
]
print("start     F \(show([objective(A_Q, A_K)]))")

// ---- 2. Sweeps ----------------------------------------------------------------------------------
// Each line solves for one factor in closed form, with the others held: there the gradient of F
// in this factor is zero. The bases are those of the codes that the sweep begins with:
//
//   W_Qᵀ = (A_KᵀA_K + B_Q B_Qᵀ)⁻¹ (A_KᵀK + B_Q)     A_Q = Q W_Q     a linear map (d, r)
//   W_Kᵀ = (A_QᵀA_Q + B_K B_Kᵀ)⁻¹ (A_QᵀQ + B_K)     A_K = K W_K     with the new A_Q

for sweep in 1...2 {
  let (B_Q, B_K) = (basis(A_Q, promptQ), basis(A_K, promptK))
  let W_Qt = solved(
    plus(times(transposed(A_K), A_K), times(B_Q, transposed(B_Q))),
    plus(times(transposed(A_K), promptK), B_Q))
  A_Q = times(promptQ, transposed(W_Qt))
  let W_Kt = solved(
    plus(times(transposed(A_Q), A_Q), times(B_K, transposed(B_K))),
    plus(times(transposed(A_Q), promptQ), B_K))
  A_K = times(promptK, transposed(W_Kt))
  print("sweep \(sweep)   F \(show([objective(A_Q, A_K)]))")
}
var (B_Q, B_K) = (basis(A_Q, promptQ), basis(A_K, promptK))

// ---- 5 and 6. Scores and selection --------------------------------------------------------------
// s_t = q_hat · A_K[t] for every token older than the recent ones. The k largest are selected; of
// equal ones the older.

func scores(_ q_hat: [Double], _ A_K: Matrix) -> [Double] {
  (0..<A_K.count - w).map { t in (0..<r).reduce(0) { $0 + q_hat[$1] * A_K[t][$1] } }
}

func selection(_ scores: [Double]) -> [Int] {
  let best = scores.indices.sorted { a, b in
    scores[a] == scores[b] ? a < b : scores[a] > scores[b]
  }
  return best.prefix(k).sorted()
}

// The prompt ends: its last query selects, all exact rows go to the host, and the device keeps the
// selected and the recent ones, A_K and the bases. A_Q is dropped.
let first = scores(A_Q[l - 1], A_K)
print("prompt    scores \(show(first))")
var selected = selection(first)
print("          selected \(show(selected))")

// ---- 3. Codes of a new token --------------------------------------------------------------------
// Its rows q and k are known, its codes are not. It takes the place of the oldest recent token.
// Omega is the tokens that have a code and an exact row on the device: the old selection, and the
// recent tokens without the new one. On Omega q_hat is to give the exact scores, and both codes are
// to rebuild their rows. Two small systems, each solved with the other's answer held, twice:
//
//   k_hat = k B_Kᵀ (B_K B_Kᵀ)⁻¹                                               to begin with
//   q_hat = [q B_Qᵀ + q K_Omegaᵀ A_Omega + (q kᵀ) k_hat]
//           [B_Q B_Qᵀ + A_OmegaᵀA_Omega + k_hatᵀk_hat]⁻¹
//   k_hat = [k B_Kᵀ + (q kᵀ) q_hat] [B_K B_Kᵀ + q_hatᵀq_hat]⁻¹

let (q, key) = ([Q[l]], [K[l]])  // (1, d)
let omega = selected + Array(l + 1 - w..<l)
let (A_Omega, K_Omega) = (omega.map { A_K[$0] }, omega.map { K[$0] })
let exact = times(q, transposed(key))[0][0]

/// x S⁻¹ for a row x and a symmetric S.
func row(_ x: Matrix, over S: Matrix) -> Matrix { transposed(solved(S, transposed(x))) }

var q_hat: Matrix = []
var k_hat = row(times(key, transposed(B_K)), over: times(B_K, transposed(B_K)))
for _ in 1...2 {
  q_hat = row(
    plus(
      plus(times(q, transposed(B_Q)), times(times(q, transposed(K_Omega)), A_Omega)), k_hat, exact),
    over: plus(
      plus(times(B_Q, transposed(B_Q)), times(transposed(A_Omega), A_Omega)),
      times(transposed(k_hat), k_hat)))
  k_hat = row(
    plus(times(key, transposed(B_K)), q_hat, exact),
    over: plus(times(B_K, transposed(B_K)), times(transposed(q_hat), q_hat)))
}
A_K += k_hat  // row l
print("token \(l)   q_hat \(show(q_hat[0]))   k_hat \(show(k_hat[0]))")

// ---- 4. The bases follow ------------------------------------------------------------------------
// One gradient step on ½ ‖x_hat B − x‖² with an exact line search: afterwards x_hat B gives x.
//
//   R = x_hat B − x      B = B − eta x_hatᵀR      eta = ‖x_hatᵀR‖² / (‖x_hat x_hatᵀR‖² + 1e-6)

func following(_ B: Matrix, _ code: Matrix, _ x: Matrix) -> Matrix {
  let gradient = times(transposed(code), plus(times(code, B), x, -1))
  let eta = squares(gradient) / (squares(times(code, gradient)) + 1e-6)
  return plus(B, gradient, -eta)
}
B_Q = following(B_Q, q_hat, q)
B_K = following(B_K, k_hat, key)
print("          B_Q \(show(B_Q[0])) / \(show(B_Q[1]))")
print("          B_K \(show(B_K[0])) / \(show(B_K[1]))")

// ---- 5 and 6 again, for the new token -----------------------------------------------------------

let new = scores(q_hat[0], A_K)
let before = selected
selected = selection(new)
print("          scores \(show(new))")
print("          selected \(show(selected))")

// ---- 7. Hit and miss ----------------------------------------------------------------------------
// Rows that were selected before are on the device already. The others are copied from the host:
// a key and a value, d numbers of 8 bytes each. (Token 6 was there as a recent one, but the new
// token has taken its place.)

let hits = selected.filter { before.contains($0) }
let misses = selected.filter { !before.contains($0) }
print("          hits \(show(hits))   misses \(show(misses))   \(misses.count * 2 * d * 8) bytes")

// ---- 8. Exact attention over the rows on the device ---------------------------------------------
//   o = softmax(q K_Sᵀ / √d) V_S      S = selected and recent tokens

let S = selected + Array(l + 1 - w...l)
let logits = S.map { t in (0..<d).reduce(0) { $0 + q[0][$1] * K[t][$1] } / Double(d).squareRoot() }
let powers = logits.map { exp($0 - (logits.max() ?? 0)) }
let weights = powers.map { $0 / powers.reduce(0, +) }
let output = (0..<d).map { j in S.indices.reduce(0) { $0 + weights[$1] * V[S[$1]][j] } }
print("          attends to \(show(S))   weights \(show(weights, 4))")
print("          o \(show(output, 4))")
