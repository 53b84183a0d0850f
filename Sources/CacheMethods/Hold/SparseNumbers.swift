// Single numbers of a matrix that stay as they are: compressed sparse rows, on the device.
//
// In:  for every token some columns, ascending, and their numbers.
// Out: these numbers, written over what the codes of a row said.
//
//     starts     (n + 1) 32-bit integers: where each row's entries begin
//     columns    16 bits an entry
//     numbers    a Float an entry
//
// So an outlier costs 6 bytes and a row 4. (The published simulation counts nothing; its kernels
// hold 16-bit numbers with 32-bit indices.)

package import TieredMemory

/// Rows of single numbers; nothing at all where there can be none.
package struct SparseNumbers: Sendable {
  /// More columns than this have no 16-bit number.
  package static let mostColumns = 1 << 16

  private var starts: DeviceBuffer<UInt32>
  private var columns: DeviceBuffer<UInt16>
  private var numbers: DeviceBuffer<Float>

  /// Rows of columns and numbers; nil takes no memory.
  package init(
    _ rows: [[(column: Int, number: Float)]]?, label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    var ends: [UInt32] = rows == nil ? [] : [0]
    for row in rows ?? [] { ends.append((ends.last ?? 0) + UInt32(row.count)) }
    let all = Array((rows ?? []).joined())
    starts = try device.allocate("outliers of \(label), starts", holding: ends)
    columns = try device.allocate(
      "outliers of \(label), columns", holding: all.map { UInt16($0.column) })
    numbers = try device.allocate("outliers of \(label), numbers", holding: all.map(\.number))
  }

  /// Numbers of all rows.
  package var count: Int { numbers.count }

  /// Adds a row.
  package mutating func append(
    _ row: [(column: Int, number: Float)], on device: inout DeviceTier
  ) throws(DeviceTierError) {
    let end = count + row.count
    try device.resize(&starts, count: starts.count + 1, fill: UInt32(end))
    let first = count
    try device.resize(&columns, count: end, fill: 0)
    try device.resize(&numbers, count: end, fill: 0)
    for (i, entry) in row.enumerated() {
      columns.elements[first + i] = UInt16(entry.column)
      numbers.elements[first + i] = entry.number
    }
  }

  /// Writes the numbers of `row` in these columns over `block`, whose column 0 lies at `place`.
  package func overwrite(
    row: Int, columns wanted: Range<Int>, in block: inout MutableSpan<Float>, at place: Int
  ) {
    if starts.count == 0 { return }
    for i in Int(starts.elements[row])..<Int(starts.elements[row + 1]) {
      let column = Int(columns.elements[i])
      if wanted.contains(column) {
        block[place + column - wanted.lowerBound] = numbers.elements[i]
      }
    }
  }

  /// The bytes of `rows` rows with `numbers` numbers in all.
  package static func bytes(rows: Int, numbers: Int) -> Int {
    (rows + 1) * MemoryLayout<UInt32>.stride
      + numbers * (MemoryLayout<UInt16>.stride + MemoryLayout<Float>.stride)
  }
}
