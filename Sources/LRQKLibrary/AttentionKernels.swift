// Step 8 from C, and what a decoder has around it: attention, rotary embedding, norm.
//
// In:  lrqk_sparse_attention, lrqk_dense_attention, lrqk_lrkv_attention, lrqk_rope, lrqk_rms_norm.
// Out: what LRQK and Transformers compute, to the bit.
//
// The next file opens caches.

public import CLRQK
import LRQK
import Tensors
import Transformers

/// Step 8: exact attention over the rows that each head names.
@c @implementation
public func lrqk_sparse_attention(
  _ H: Int64, _ M: Int64, _ S: Int64, _ n: Int64, _ d: Int64, _ q: UnsafePointer<Float>?,
  _ K: UnsafePointer<Float>?, _ V: UnsafePointer<Float>?, _ slots: UnsafePointer<Int32>?,
  _ out: UnsafeMutablePointer<Float>?, _ message: UnsafeMutablePointer<CChar>?,
  _ message_size: Int
) -> lrqk_status {
  unsafe answer(message, message_size) {
    let (H, M) = try checkedHeads(H, M)
    let (S, n) = (try checked(S, "S"), try checked(n, "n"))
    let d = try checked(d, "d", to: largestWidth)
    let output = try unsafe Output(out, "out", H, d)
    let queries = try unsafe tensor(q, "q", H, d)
    let keys = try unsafe elements(K, "K", [M, S, d])
    let values = try unsafe elements(V, "V", [M, S, d])
    let named = try unsafe elements(slots, "slots", [H, n])
    if let i = named.firstIndex(where: { $0 < 0 || Int($0) >= S }) {
      throw Refusal(
        LRQK_ERROR_PARAMETER,
        "slots\(place(i, [H, n])) = \(named[i]): it must be 0 to \(S - 1)")
    }
    // Rows that nobody names may hold anything.
    for h in 0..<H {
      for slot in named[h * n..<(h + 1) * n] {
        let first = (h * M / H * S + Int(slot)) * d
        for i in first..<first + d {
          if !keys[i].isFinite { throw nonFinite("K", keys[i], at: i, [M, S, d]) }
          if !values[i].isFinite { throw nonFinite("V", values[i], at: i, [M, S, d]) }
        }
      }
    }
    let answers = try attention(
      queries: queries, keys: split(keys, into: M), values: split(values, into: M),
      slots: split(named, into: H))
    try deliver((output, answers.elements))
  }
}

/// Full attention over every row.
@c @implementation
public func lrqk_dense_attention(
  _ H: Int64, _ M: Int64, _ l: Int64, _ d: Int64, _ q: UnsafePointer<Float>?,
  _ K: UnsafePointer<Float>?, _ V: UnsafePointer<Float>?, _ out: UnsafeMutablePointer<Float>?,
  _ message: UnsafeMutablePointer<CChar>?, _ message_size: Int
) -> lrqk_status {
  unsafe answer(message, message_size) {
    let (H, M) = try checkedHeads(H, M)
    let l = try checked(l, "l")
    let d = try checked(d, "d", to: largestWidth)
    let output = try unsafe Output(out, "out", H, d)
    let queries = try unsafe tensor(q, "q", H, d)
    let keys = try unsafe heads(K, "K", M, l, d)
    let values = try unsafe heads(V, "V", M, l, d)
    let answers = try mapConcurrently(H) { h in
      fullAttention(query: queries.row(h), keys: keys[h * M / H], values: values[h * M / H])
    }
    try deliver((output, Array(answers.joined())))
  }
}

/// LRKV: attention over factors, without keys or values of any head.
@c @implementation
public func lrqk_lrkv_attention(
  _ H: Int64, _ l: Int64, _ d: Int64, _ r: Int64, _ q: UnsafePointer<Float>?,
  _ K: UnsafePointer<Float>?, _ V: UnsafePointer<Float>?, _ C_K: UnsafePointer<Float>?,
  _ C_V: UnsafePointer<Float>?, _ U_K: UnsafePointer<Float>?, _ U_V: UnsafePointer<Float>?,
  _ out: UnsafeMutablePointer<Float>?, _ message: UnsafeMutablePointer<CChar>?,
  _ message_size: Int
) -> lrqk_status {
  unsafe answer(message, message_size) {
    let (H, l) = (try checked(H, "H", to: largestHead), try checked(l, "l"))
    let (d, r) = (try checked(d, "d", to: largestWidth), try checked(r, "r", to: largestWidth))
    let output = try unsafe Output(out, "out", H, d)
    let answers = try unsafe factoredAttention(
      queries: tensor(q, "q", H, d), keys: tensor(K, "K", l, d), values: tensor(V, "V", l, d),
      keyCodes: tensor(C_K, "C_K", l, H, r), valueCodes: tensor(C_V, "C_V", l, H, r),
      keyFactors: tensor(U_K, "U_K", H, r, d), valueFactors: tensor(U_V, "U_V", H, r, d))
    try deliver((output, answers.elements))
  }
}

/// Rotary embedding.
@c @implementation
public func lrqk_rope(
  _ n: Int64, _ H: Int64, _ d: Int64, _ base: Double, _ x: UnsafePointer<Float>?,
  _ positions: UnsafePointer<Int32>?, _ y: UnsafeMutablePointer<Float>?,
  _ message: UnsafeMutablePointer<CChar>?, _ message_size: Int
) -> lrqk_status {
  unsafe answer(message, message_size) {
    let (n, H) = (try checked(n, "n"), try checked(H, "H", to: largestHead))
    let d = try checked(d, "d", to: largestWidth)
    if d % 2 != 0 { throw Refusal(LRQK_ERROR_SIZE, "d = \(d): RoPE rotates pairs of elements") }
    let base = try checkedNumber(base, "base", atLeast: 1)
    let output = try unsafe Output(y, "y", n, H, d)
    let rows = try unsafe tensor(x, "x", n, H, d)
    let places = try unsafe elements(positions, "positions", [n]).map(Int.init)
    try requireIndices(places, "positions", below: largestIndexed)
    let rotary = RotaryEmbedding(rotatedWidth: d, base: base)
    let rotated = (0..<n).map { t in
      rotary.rotations(positions: [places[t]], length: places[t] + 1).rotate(rows.slice(t)).elements
    }
    try deliver((output, Array(rotated.joined())))
  }
}

/// Root-mean-square norm.
@c @implementation
public func lrqk_rms_norm(
  _ n: Int64, _ D: Int64, _ x: UnsafePointer<Float>?, _ weight: UnsafePointer<Float>?,
  _ eps: Double, _ y: UnsafeMutablePointer<Float>?, _ message: UnsafeMutablePointer<CChar>?,
  _ message_size: Int
) -> lrqk_status {
  unsafe answer(message, message_size) {
    let (n, D) = (try checked(n, "n"), try checked(D, "D"))
    let epsilon = try checkedNumber(eps, "eps", atLeast: 0)
    if epsilon == 0 {
      throw Refusal(LRQK_ERROR_PARAMETER, "eps = 0: a row of zeros would be divided by zero")
    }
    let output = try unsafe Output(y, "y", n, D)
    let norm = RMSNorm(
      weights: try unsafe tensor(weight, "weight", D).elements, epsilon: epsilon)
    try deliver((output, norm(try unsafe tensor(x, "x", n, D)).elements))
  }
}

/// One array as `count` arrays of one length.
private func split<Element>(_ elements: [Element], into count: Int) -> [[Element]] {
  let size = elements.count / count
  return (0..<count).map { Array(elements[$0 * size..<($0 + 1) * size]) }
}
