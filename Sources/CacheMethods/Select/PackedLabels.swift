// Labels: a few channels of every key, in a few bits each.
//
// In:  keys, one after another; a query.
// Out: approximate logits of any tokens.
//
//     lo, hi = smallest and largest element of a vector x
//     s      = (2^bits - 1) / (hi - lo), or (2^bits - 1) / 1 where hi = lo
//     code   = round((x - lo) · s), halves to even, within 0 ... 2^bits - 1
//     x̂      = code / s + lo                        equal elements come back as they are
//
// Both sides are rounded so, the key's label and the query's. Codes lie packed, each row from a
// byte of its own: ⌈c · bits / 8⌉ bytes and two numbers (lo and s) for c channels. A vector that
// has a NaN or an infinity gets lo = NaN, so that its scores show it.

package import Tensors
package import TieredMemory

/// A vector in few bits.
package struct LabelCode<E: Scalar>: Sendable, Equatable {
  /// Codes from 0 to 2^bits - 1.
  package let codes: [Int]
  /// The smallest element.
  package let lowest: E
  /// s, codes by unit.
  package let scale: E

  /// `x` in `bits` bits an element.
  package init(_ x: [E], bits: Int) {
    let levels = E((1 << bits) - 1)
    let (lo, hi) = (x.min() ?? 0, x.max() ?? 0)
    let range = hi - lo
    guard E.allFinite(x.span), range.isFinite, (levels / (range == 0 ? 1 : range)).isFinite else {
      // Not a number, or so near each other that the scale overflows: then equal.
      let isFinite = E.allFinite(x.span) && range.isFinite
      (codes, lowest, scale) = (x.map { _ in 0 }, isFinite ? lo : .nan, levels)
      return
    }
    let s = levels / (range == 0 ? 1 : range)
    codes = x.map { Int(min(max((($0 - lo) * s).rounded(.toNearestOrEven), 0), levels)) }
    (lowest, scale) = (lo, s)
  }

  /// What the codes stand for, x̂.
  package var values: [E] { codes.map { E($0) / scale + lowest } }
}

/// Writes `codes` of `bits` bits each into bytes, the lowest bits first.
package func packed(_ codes: [Int], bits: Int) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: (codes.count * bits + 7) / 8)
  for (i, code) in codes.enumerated() {
    for bit in 0..<bits where code >> bit & 1 == 1 {
      bytes[(i * bits + bit) / 8] |= 1 << UInt8((i * bits + bit) % 8)
    }
  }
  return bytes
}

/// The labels of one head, on the device.
package struct PackedLabels<E: Scalar>: Sendable {
  /// The channels of a label, ascending.
  package let channels: [Int]
  /// Bits of a channel.
  package let bits: Int
  /// Labels so far.
  package private(set) var count = 0
  /// The channels' numbers, as a device would gather by them.
  private var numbers: DeviceBuffer<Int32>
  /// (tokens, ⌈c · bits / 8⌉).
  private var codes: DeviceBuffer<UInt8>
  /// lo and s, (tokens, 2).
  private var ranges: DeviceBuffer<E>

  /// Bytes of a label of `channels` channels.
  package static func rowBytes(channels: Int, bits: Int) -> Int {
    (channels * bits + 7) / 8 + 2 * MemoryLayout<E>.stride
  }

  /// The labels of `keys`, (l, d).
  package init(
    _ keys: Tensor<E>, channels: [Int], bits: Int, label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    (self.channels, self.bits) = (channels, bits)
    numbers = try device.allocate("channels of \(label)", holding: channels.map(Int32.init))
    let bytes = (channels.count * bits + 7) / 8
    codes = try device.allocate("labels of \(label)", count: keys.rows * bytes, of: 0)
    ranges = try device.allocate("label ranges of \(label)", count: keys.rows * 2, of: 0)
    for t in 0..<keys.rows { write(keys.row(t)) }
  }

  /// Takes the next token's key, (d).
  package mutating func append(
    _ key: [E], on device: inout DeviceTier
  ) throws(DeviceTierError) {
    let bytes = codes.count / count
    try device.resize(&codes, count: codes.count + bytes, fill: 0)
    try device.resize(&ranges, count: ranges.count + 2, fill: 0)
    write(key)
  }

  private mutating func write(_ key: [E]) {
    let label = LabelCode(channels.map { key[$0] }, bits: bits)
    let bytes = packed(label.codes, bits: bits)
    codes.elements.replaceSubrange(count * bytes.count..<(count + 1) * bytes.count, with: bytes)
    ranges.elements.replaceSubrange(2 * count..<2 * count + 2, with: [label.lowest, label.scale])
    count += 1
  }

  /// x̂ of the keys of `tokens`, (tokens, c), read out of the packed bytes.
  package func values(_ tokens: Range<Int>) -> Tensor<E> {
    let bytes = count == 0 ? 0 : codes.count / count
    let (codes, ranges) = (codes.elements, ranges.elements)
    var values: [E] = []
    values.reserveCapacity(tokens.count * channels.count)
    for t in tokens {
      var (window, held, next) = (0, 0, t * bytes)  // bits read and not used yet
      for _ in channels {
        while held < bits {
          window |= Int(codes[next]) << held
          (held, next) = (held + 8, next + 1)
        }
        values.append(E(window & (1 << bits - 1)) / ranges[2 * t + 1] + ranges[2 * t])
        (window, held) = (window >> bits, held - bits)
      }
    }
    return Tensor(shape: [tokens.count, channels.count], elements: values)
  }

  /// q̂ · k̂ / √c of `tokens` for a query, (d), whose label is rounded in the same way.
  package func scores(_ q: [E], _ tokens: Range<Int>) -> [E] {
    let label = LabelCode(channels.map { q[$0] }, bits: bits).values
    let keys = values(tokens)
    var scores: [E] = zeros(tokens.count)
    do {
      var out = scores.mutableSpan
      E.chainRowScores(
        rows: keys.elements.span, width: channels.count, q: label.span, into: &out)
    }
    let scale = 1 / E(channels.count).squareRoot()
    return scores.map { $0 * scale }
  }
}
