// Calling C from these tests: a buffer for the message, random inputs, and statuses that print.

import CLRQK
import LRQK
import Tensors

/// What a plain function returned.
struct Answer: Equatable, CustomStringConvertible {
  let status: lrqk_status
  let message: String
  var isOK: Bool { status == LRQK_OK && message.isEmpty }
  var description: String { "status \(status.rawValue): \(message)" }
}

/// Calls a plain function with a buffer of `size` bytes for its message.
func call(
  size: Int = 400, _ function: (UnsafeMutablePointer<CChar>?, Int) -> lrqk_status
) -> Answer {
  var buffer = [CChar](repeating: 1, count: size)
  let status = unsafe buffer.withUnsafeMutableBufferPointer { buffer in
    unsafe function(buffer.baseAddress, buffer.count)
  }
  return Answer(status: status, message: text(buffer))
}

/// The characters before the final NUL; "no NUL" if there is none.
func text(_ buffer: [CChar]) -> String {
  guard let end = buffer.firstIndex(of: 0) else { return "no NUL" }
  return String(decoding: buffer[..<end].map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// Normals of this shape.
func normals(_ shape: Int..., stream: UInt64) -> Tensor<Float> {
  Tensor<Float>.normal(shape: shape, seed: 77, stream: stream)
}

/// Zeros for a result.
func room(_ count: Int) -> [Float] { Array(repeating: 0, count: count) }

extension Tensor where Element == Float {
  /// The bits of every element: == on them tells -0 from +0.
  var bits: [UInt32] { elements.map(\.bitPattern) }
}

/// The bits of every number.
func bits(_ numbers: [Float]) -> [UInt32] { numbers.map(\.bitPattern) }

/// Rows of a layer, in the order of axes that C wants: (heads, tokens, width).
struct LayerRows {
  let queries: [Tensor<Float>]
  let keys: [Tensor<Float>]
  let values: [Tensor<Float>]

  /// `tokens` rows of width `d` for H query and M key/value heads; later directions weigh less.
  init(tokens: Int, width d: Int, queryHeads: Int, keyValueHeads: Int) {
    func rows(_ stream: Int) -> Tensor<Float> {
      var x = normals(tokens, d, stream: UInt64(stream))
      var factor: Float = 1
      for j in 0..<d {
        for t in 0..<tokens { x[t, j] *= factor }
        factor *= 0.8
      }
      return x
    }
    queries = (0..<queryHeads).map { rows(100 + $0) }
    keys = (0..<keyValueHeads).map { rows(200 + $0) }
    values = (0..<keyValueHeads).map { rows(300 + $0) }
  }

  /// Tokens `range`: Q (H, n, d), K and V (M, n, d), flat.
  func flat(_ range: Range<Int>) -> (Q: [Float], K: [Float], V: [Float]) {
    func join(_ heads: [Tensor<Float>]) -> [Float] { heads.flatMap { $0.rows(range).elements } }
    return (join(queries), join(keys), join(values))
  }

  /// Token t: q (H, d), k and v (M, d).
  func token(_ t: Int) -> (q: Tensor<Float>, k: Tensor<Float>, v: Tensor<Float>) {
    func row(_ heads: [Tensor<Float>]) -> Tensor<Float> {
      Tensor(joiningRows: heads.map { $0.rows(t..<t + 1) })
    }
    return (row(queries), row(keys), row(values))
  }
}
