// The rows of a prompt before it is factorised.
//
// In:  chunks of the prompt, or single tokens of a short one.
// Out: the factorisation, and exact rows to offload or keep.
//
// All keys and values stay on the device until the end of the prompt, as in the released code: that
// is the peak of prefill. The sums or rows that the solver itself keeps (PromptFactorizer) are
// workspace and not counted.

import Tensors
import TieredMemory

/// Keys and values of a prompt on the device, and the factorizer that has seen them.
struct IncomingPrompt<E: Scalar>: Sendable {
  private var factorizer: PromptFactorizer<E>
  /// K and V of each key/value head, (l, d).
  private var rows: [(keys: DeviceBuffer<E>, values: DeviceBuffer<E>)] = []
  private let keyValueHeads: Int
  private var width = 0

  init(_ factorizer: PromptFactorizer<E>, keyValueHeads: Int) {
    self.factorizer = factorizer
    self.keyValueHeads = keyValueHeads
  }

  /// Takes the next tokens: queries (n, d) by query head, keys and values by key/value head.
  mutating func add(
    queries: [Tensor<E>], keys: [Tensor<E>], values: [Tensor<E>], initial: [InitialCodes<E>]?,
    on device: inout DeviceTier
  ) throws {
    try factorizer.add(queries: queries, keys: keys, initial: initial)
    width = keys[0].columns
    for head in 0..<keyValueHeads {
      let (k, v) = (keys[head].elements, values[head].elements)
      if rows.count == head {
        rows.append(
          (
            try device.allocate("prompt K of head \(head)", holding: k),
            try device.allocate("prompt V of head \(head)", holding: v)
          ))
        continue
      }
      let old = rows[head].keys.count
      try device.resize(&rows[head].keys, count: old + k.count, fill: 0)
      try device.resize(&rows[head].values, count: old + v.count, fill: 0)
      rows[head].keys.elements.replaceSubrange(old..<old + k.count, with: k)
      rows[head].values.elements.replaceSubrange(old..<old + v.count, with: v)
    }
  }

  /// All K and V of one head, row-major.
  func all(_ head: Int) -> (keys: [E], values: [E]) {
    (rows[head].keys.elements, rows[head].values.elements)
  }

  /// K and V of tokens `range`, as matrices.
  func take(_ head: Int, _ range: Range<Int>) -> (keys: Tensor<E>, values: Tensor<E>) {
    let (k, v) = all(head)
    func matrix(_ elements: [E]) -> Tensor<E> {
      let whole = Tensor(shape: [elements.count / width, width], elements: elements)
      return range.count == whole.rows ? whole : whole.rows(range)
    }
    return (matrix(k), matrix(v))
  }

  /// The factorisation of everything that has come in.
  func finish(trace: Trace?) throws -> [PromptCodes<E>] {
    let keys = rows.indices.map { head in
      Tensor(shape: [factorizer.tokens, width], elements: all(head).keys)
    }
    return try factorizer.finish(keys: keys, trace: trace)
  }

  /// Gives the device's memory back.
  mutating func free(on device: inout DeviceTier) {
    for head in rows.indices {
      device.free(&rows[head].keys)
      device.free(&rows[head].values)
    }
  }
}
