// Stages 2 to 4 from C: the two sweeps, and the codes of a new token.
//
// In:  lrqk_sweep_rowwise, lrqk_sweep_gram, lrqk_decode_codes; lrqk.h has the formulas.
// Out: what Sources/LRQK/Common/SingleStages.swift computes, to the bit.
//
// The next file, SelectionKernels.swift, has the stages that select and move rows.

public import CLRQK
import LRQK
import Tensors

private func checkedWeights(_ queries: Double, _ keys: Double) throws -> SweepWeights {
  try SweepWeights(
    queries: try checkedNumber(queries, "lambda_q", atLeast: 0),
    keys: try checkedNumber(keys, "lambda_k", atLeast: 0))
}

private func checkedRank(_ r: Int64, width: Int) throws(CallError) -> Int {
  let rank = try checked(r, "r", to: largestWidth)
  if rank > width {
    throw CallError(LRQK_ERROR_SIZE, "rank r = \(rank) exceeds the head width d = \(width)")
  }
  return rank
}

/// Stage 2: one sweep over all rows.
@c @implementation
public func lrqk_sweep_rowwise(
  _ l_q: Int64, _ l_k: Int64, _ d: Int64, _ r: Int64, _ Q: UnsafePointer<Float>?,
  _ K: UnsafePointer<Float>?, _ A_Q: UnsafePointer<Float>?, _ A_K: UnsafePointer<Float>?,
  _ lambda_q: Double, _ lambda_k: Double, _ B_Q: UnsafeMutablePointer<Float>?,
  _ B_K: UnsafeMutablePointer<Float>?, _ W_Q: UnsafeMutablePointer<Float>?,
  _ W_K: UnsafeMutablePointer<Float>?, _ A_Q_new: UnsafeMutablePointer<Float>?,
  _ A_K_new: UnsafeMutablePointer<Float>?, _ message: UnsafeMutablePointer<CChar>?,
  _ message_size: Int
) -> lrqk_status {
  unsafe answer(message, message_size) {
    let (l_q, l_k) = (try checked(l_q, "l_q"), try checked(l_k, "l_k"))
    let d = try checked(d, "d", to: largestWidth)
    let r = try checkedRank(r, width: d)
    let weights = try checkedWeights(lambda_q, lambda_k)
    let (outB_Q, outB_K) = (
      try unsafe Output(B_Q, "B_Q", r, d), try unsafe Output(B_K, "B_K", r, d)
    )
    let (outW_Q, outW_K) = (
      try unsafe Output(W_Q, "W_Q", d, r), try unsafe Output(W_K, "W_K", d, r)
    )
    let outA_Q = try unsafe Output(A_Q_new, "A_Q_new", l_q, r)
    let outA_K = try unsafe Output(A_K_new, "A_K_new", l_k, r)
    let sweep = try unsafe rowwiseSweep(
      queries: tensor(Q, "Q", l_q, d), keys: tensor(K, "K", l_k, d),
      from: InitialCodes(
        queries: tensor(A_Q, "A_Q", l_q, r), keys: tensor(A_K, "A_K", l_k, r)),
      weights: weights)
    try deliver(
      (outB_Q, sweep.queryBasis.elements), (outB_K, sweep.keyBasis.elements),
      (outW_Q, sweep.queryMap.elements), (outW_K, sweep.keyMap.elements),
      (outA_Q, sweep.queryCodes?.elements ?? []), (outA_K, sweep.keyCodes?.elements ?? []))
  }
}

/// Stage 2: the same sweep in d by d space.
@c @implementation
public func lrqk_sweep_gram(
  _ d: Int64, _ r: Int64, _ G_Q: UnsafePointer<Float>?, _ G_K: UnsafePointer<Float>?,
  _ W_Q: UnsafePointer<Float>?, _ W_K: UnsafePointer<Float>?, _ lambda_q: Double,
  _ lambda_k: Double, _ B_Q: UnsafeMutablePointer<Float>?, _ B_K: UnsafeMutablePointer<Float>?,
  _ W_Q_new: UnsafeMutablePointer<Float>?, _ W_K_new: UnsafeMutablePointer<Float>?,
  _ message: UnsafeMutablePointer<CChar>?, _ message_size: Int
) -> lrqk_status {
  unsafe answer(message, message_size) {
    let d = try checked(d, "d", to: largestWidth)
    let r = try checkedRank(r, width: d)
    let weights = try checkedWeights(lambda_q, lambda_k)
    let (outB_Q, outB_K) = (
      try unsafe Output(B_Q, "B_Q", r, d), try unsafe Output(B_K, "B_K", r, d)
    )
    let (outW_Q, outW_K) = (
      try unsafe Output(W_Q_new, "W_Q_new", d, r), try unsafe Output(W_K_new, "W_K_new", d, r)
    )
    let sweep = try unsafe gramSweep(
      queryGram: tensor(G_Q, "G_Q", d, d).converted(),
      keyGram: tensor(G_K, "G_K", d, d).converted(),
      queryMap: tensor(W_Q, "W_Q", d, r).converted(),
      keyMap: tensor(W_K, "W_K", d, r).converted(), weights: weights)
    func rounded(_ matrix: Tensor<Double>) -> [Float] { matrix.converted().elements }
    try deliver(
      (outB_Q, rounded(sweep.queryBasis)), (outB_K, rounded(sweep.keyBasis)),
      (outW_Q, rounded(sweep.queryMap)), (outW_K, rounded(sweep.keyMap)))
  }
}

/// Stages 3 and 4: codes of a new token, and the released update of the bases.
@c @implementation
public func lrqk_decode_codes(
  _ G: Int64, _ n: Int64, _ d: Int64, _ r: Int64, _ q: UnsafePointer<Float>?,
  _ k: UnsafePointer<Float>?, _ B_Q: UnsafePointer<Float>?, _ B_K: UnsafePointer<Float>?,
  _ A_Omega: UnsafePointer<Float>?, _ K_Omega: UnsafePointer<Float>?, _ iterations: Int64,
  _ lambda_1: Double, _ lambda_2: Double, _ q_hat: UnsafeMutablePointer<Float>?,
  _ k_hat: UnsafeMutablePointer<Float>?, _ B_Q_new: UnsafeMutablePointer<Float>?,
  _ B_K_new: UnsafeMutablePointer<Float>?, _ message: UnsafeMutablePointer<CChar>?,
  _ message_size: Int
) -> lrqk_status {
  unsafe answer(message, message_size) {
    let (G, n) = (try checked(G, "G", to: largestHead), try checked(n, "n"))
    let d = try checked(d, "d", to: largestWidth)
    let r = try checkedRank(r, width: d)
    let iterations = try checked(iterations, "iterations")
    let weights = try AlternationWeights(
      selfProduct: try checkedNumber(lambda_1, "lambda_1", atLeast: 0),
      selectedProducts: try checkedNumber(lambda_2, "lambda_2", atLeast: 0))
    let (outQ, outK) = (
      try unsafe Output(q_hat, "q_hat", G, r), try unsafe Output(k_hat, "k_hat", r)
    )
    let (outB_Q, outB_K) = (
      try unsafe Output(B_Q_new, "B_Q_new", r, d), try unsafe Output(B_K_new, "B_K_new", r, d)
    )
    let codes = try unsafe heads(A_Omega, "A_Omega", G, n, r)
    let keys = try unsafe heads(K_Omega, "K_Omega", G, n, d)
    let token = try unsafe decodeCodes(
      query: tensor(q, "q", G, d), key: tensor(k, "k", 1, d),
      queryBasis: tensor(B_Q, "B_Q", r, d), keyBasis: tensor(B_K, "B_K", r, d),
      selected: Array(zip(codes, keys)).map { (codes: $0, keys: $1) },
      iterations: try AlternationIterations(iterations, tolerance: 0), weights: weights)
    try deliver(
      (outQ, token.queryCodes.elements), (outK, token.keyCode.elements),
      (outB_Q, token.queryBasis.elements), (outB_K, token.keyBasis.elements))
  }
}
