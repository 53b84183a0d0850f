// Stages 5 to 7 from C: proxy scores, top-k, hit and miss, and the copy of missed rows.
//
// In:  lrqk_proxy_scores, lrqk_top_k, lrqk_plan, lrqk_gather; lrqk.h says what each computes.
// Out: what Tensors and TieredMemory compute, to the bit.
//
// The next file, AttentionKernels.swift, attends.

public import CLRQK
import Tensors
import TieredMemory

/// Stage 5: q_hat times A_K transposed.
@c @implementation
public func lrqk_proxy_scores(
  _ H: Int64, _ c: Int64, _ r: Int64, _ A_K: UnsafePointer<Float>?,
  _ q_hat: UnsafePointer<Float>?, _ scores: UnsafeMutablePointer<Float>?,
  _ message: UnsafeMutablePointer<CChar>?, _ message_size: Int
) -> lrqk_status {
  unsafe answer(message, message_size) {
    let (H, c) = (try checked(H, "H", to: largestHead), try checked(c, "c"))
    let r = try checked(r, "r", to: largestWidth)
    let out = try unsafe Output(scores, "scores", H, c)
    let codes = try unsafe tensor(A_K, "A_K", c, r).elements
    let queries = try unsafe tensor(q_hat, "q_hat", H, r)
    let rows = try mapConcurrently(H) { h in
      let q = queries.row(h)
      var row: [Float] = zeros(c)
      var span = row.mutableSpan
      Float.chainRowScores(rows: codes.span, width: r, q: q.span, into: &span)
      return row
    }
    try deliver((out, Array(rows.joined())))
  }
}

/// Stage 6: the k largest scores of each head.
@c @implementation
public func lrqk_top_k(
  _ H: Int64, _ c: Int64, _ k: Int64, _ scores: UnsafePointer<Float>?,
  _ indices: UnsafeMutablePointer<Int32>?, _ gaps: UnsafeMutablePointer<Float>?,
  _ message: UnsafeMutablePointer<CChar>?, _ message_size: Int
) -> lrqk_status {
  unsafe answer(message, message_size) {
    let (H, c) = (try checked(H, "H", to: largestHead), try checked(c, "c"))
    let k = try checked(k, "k")
    if k > c { throw CallError(LRQK_ERROR_SIZE, "k = \(k) of c = \(c) candidates") }
    let outIndices = try unsafe Output(indices, "indices", H, k)
    let outGaps = try unsafe gaps == nil ? nil : Output(gaps, "gaps", H)
    let all = try unsafe elements(scores, "scores", [H, c])
    if let index = all.firstIndex(where: \.isNaN) {
      throw nonFinite("scores", all[index], at: index, [H, c])
    }
    let best = try mapConcurrently(H) { h in
      try topK(Array(all[h * c..<(h + 1) * c]), count: k)
    }
    try outIndices.write(best.flatMap { $0.indices.map(Int32.init) })
    try outGaps?.write(best.map(\.gap))
  }
}

/// Stage 7: which needed tokens are missing, and where they go.
@c @implementation
public func lrqk_plan(
  _ S: Int64, _ k: Int64, _ resident: UnsafePointer<Int32>?, _ needed: UnsafePointer<Int32>?,
  _ missed_count: UnsafeMutablePointer<Int64>?, _ missed: UnsafeMutablePointer<Int32>?,
  _ slots: UnsafeMutablePointer<Int32>?, _ new_resident: UnsafeMutablePointer<Int32>?,
  _ message: UnsafeMutablePointer<CChar>?, _ message_size: Int
) -> lrqk_status {
  unsafe answer(message, message_size) {
    let (S, k) = (try checked(S, "S"), try checked(k, "k"))
    if k > S { throw CallError(LRQK_ERROR_SIZE, "k = \(k) needed tokens in S = \(S) slots") }
    let outCount = try unsafe Output(missed_count, "missed_count", 1)
    let (outMissed, outSlots) = (
      try unsafe Output(missed, "missed", k), try unsafe Output(slots, "slots", k)
    )
    let outResident = try unsafe Output(new_resident, "new_resident", S)
    let held = try unsafe elements(resident, "resident", [S]).map(Int.init)
    let wanted = try unsafe elements(needed, "needed", [k]).map(Int.init)
    if let slot = held.firstIndex(where: { $0 < -1 }) {
      throw CallError(
        LRQK_ERROR_PARAMETER, "resident[\(slot)] = \(held[slot]): a token, or -1 for a free slot")
    }
    let tokens = held.filter { $0 >= 0 }.sorted()
    if let twice = zip(tokens, tokens.dropFirst()).first(where: { $0 == $1 }) {
      throw CallError(LRQK_ERROR_PARAMETER, "resident holds token \(twice.0) twice")
    }
    if wanted[0] < 0 {
      throw CallError(LRQK_ERROR_PARAMETER, "needed[0] = \(wanted[0]): tokens count from 0")
    }
    if let i = wanted.indices.dropFirst().first(where: { wanted[$0] <= wanted[$0 - 1] }) {
      throw CallError(
        LRQK_ERROR_PARAMETER,
        "needed[\(i)] = \(wanted[i]) follows \(wanted[i - 1]): needed tokens ascend")
    }
    var pool = SlotPool(residents: held)
    let plan = pool.update(to: wanted)
    func filled(_ list: [Int]) -> [Int32] {
      list.map(Int32.init) + Array(repeating: -1, count: k - list.count)
    }
    try outMissed.write(filled(plan.missedTokens))
    try outSlots.write(filled(plan.missedSlots))
    try outResident.write(pool.residents.map(Int32.init))
    try outCount.write([Int64(plan.misses)])
  }
}

/// Stage 7: missed rows go to their slots.
@c @implementation
public func lrqk_gather(
  _ l: Int64, _ d: Int64, _ m: Int64, _ S: Int64, _ K_host: UnsafePointer<Float>?,
  _ V_host: UnsafePointer<Float>?, _ tokens: UnsafePointer<Int32>?,
  _ slots: UnsafePointer<Int32>?, _ K_dev: UnsafeMutablePointer<Float>?,
  _ V_dev: UnsafeMutablePointer<Float>?, _ message: UnsafeMutablePointer<CChar>?,
  _ message_size: Int
) -> lrqk_status {
  unsafe answer(message, message_size) {
    let (l, S) = (try checked(l, "l"), try checked(S, "S"))
    let d = try checked(d, "d", to: largestWidth)
    let m = try checked(m, "m", from: 0)
    // The host's arrays are only read; the type for both is one.
    let host = (
      K: try unsafe RowsInPlace(UnsafeMutablePointer(mutating: K_host), "K_host", l, d),
      V: try unsafe RowsInPlace(UnsafeMutablePointer(mutating: V_host), "V_host", l, d)
    )
    let device = (
      K: try unsafe RowsInPlace(K_dev, "K_dev", S, d),
      V: try unsafe RowsInPlace(V_dev, "V_dev", S, d)
    )
    let others = [host.K.addresses, host.V.addresses]
    if device.K.addresses.overlaps(device.V.addresses)
      || others.contains(where: { $0.overlaps(device.K.addresses) })
      || others.contains(where: { $0.overlaps(device.V.addresses) })
    {
      throw CallError(
        LRQK_ERROR_PARAMETER, "K_dev and V_dev overlap each other or the host's arrays")
    }
    if m == 0 { return }
    let from = try unsafe elements(tokens, "tokens", [m]).map(Int.init)
    let to = try unsafe elements(slots, "slots", [m]).map(Int.init)
    try requireIndices(from, "tokens", below: l)
    try requireIndices(to, "slots", below: S)
    let sorted = to.sorted()
    if let twice = zip(sorted, sorted.dropFirst()).first(where: { $0 == $1 }) {
      throw CallError(LRQK_ERROR_PARAMETER, "two rows go to slot \(twice.0)")
    }
    device.K.copy(width: d, rows: from, from: host.K, slots: to)
    device.V.copy(width: d, rows: from, from: host.V, slots: to)
  }
}

/// Throws for the first index that is not in 0 ..< `end`.
func requireIndices(_ indices: [Int], _ name: String, below end: Int) throws(CallError) {
  if let i = indices.firstIndex(where: { $0 < 0 || $0 >= end }) {
    throw CallError(
      LRQK_ERROR_PARAMETER, "\(name)[\(i)] = \(indices[i]): it must be 0 to \(end - 1)")
  }
}
