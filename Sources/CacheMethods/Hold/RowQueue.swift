// Rows of consecutive tokens on the device: the newest come at the end, the oldest leave in front.
//
// In:  rows of a fixed width, and how many of the oldest are no longer needed.
// Out: one device buffer without gaps, in token order.
//
// Methods that hold rows in parts of different widths (fewer channels, packed words) have a queue
// for each part. Row i is the i-th token that is still there. What leaves gives its bytes back at
// once; the rows behind it move up, a copy within the device.

import TieredMemory

/// Rows (count, width) of one head, oldest first.
struct RowQueue<Element: Sendable & ExpressibleByIntegerLiteral>: Sendable {
  /// Elements of a row; 0 is a row of nothing.
  let width: Int
  /// Rows that there are.
  private(set) var count: Int
  private var buffer: DeviceBuffer<Element>

  /// `count` rows, their elements row-major in `rows`.
  init(
    _ label: String, rows: [Element], count: Int, width: Int, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    precondition(rows.count == count * width, "\(count) rows of width \(width)")
    (self.width, self.count) = (width, count)
    buffer = try device.allocate(label, holding: rows)
  }

  /// All elements, row-major.
  var elements: [Element] { buffer.elements }

  /// Adds the rows in `rows`, the newest last.
  mutating func append(
    _ rows: [Element], on device: inout DeviceTier
  ) throws(DeviceTierError) {
    precondition(width > 0 && rows.count.isMultiple(of: width), "rows of width \(width)")
    let end = count * width
    try device.resize(&buffer, count: end + rows.count, fill: 0)
    buffer.elements.replaceSubrange(end..<end + rows.count, with: rows)
    count += rows.count / width
  }

  /// Takes the `n` oldest rows away.
  mutating func dropFirst(_ n: Int, on device: inout DeviceTier) throws(DeviceTierError) {
    precondition((0...count).contains(n), "\(n) of \(count) rows")
    if n == 0 { return }
    let (gone, left) = (n * width, (count - n) * width)
    buffer.withMutableSpan { rows in
      for i in 0..<left { rows[i] = rows[i + gone] }
    }
    try device.resize(&buffer, count: left, fill: 0)
    count -= n
  }
}
