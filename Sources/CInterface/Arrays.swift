// From pointers and sizes to tensors, and back.
//
// In:  what C hands over.
// Out: checked sizes, tensors of finite numbers, and checked addresses for results.
//
// Pointers of C arrive here, so this is one of the few files with unsafe code. Every pointer is
// checked for NULL and alignment, every product of sizes for overflow, and every number for NaN and
// infinity. That an array is as long as its sizes say cannot be checked; the caller answers for it.
// Inputs are copied before anything is computed, and outputs are written after everything has been
// computed, so an input and an output may be the same array.

import CLRQK
import Glibc
import Tensors

/// The largest size that an index of 32 bits reaches: tokens, slots, candidates.
let largestIndexed = Int(Int32.max)
/// The largest number of heads, and the largest width of one; a larger one is surely a mistake.
let largestHead = 1 << 16
let largestWidth = 1 << 12

/// A size as an Int.
func checked(
  _ value: Int64, _ name: String, from least: Int = 1, to most: Int = largestIndexed
) throws(CallError) -> Int {
  guard value >= Int64(least), value <= Int64(most) else {
    throw CallError(LRQK_ERROR_SIZE, "\(name) = \(value): it must be \(least) to \(most)")
  }
  return Int(value)
}

/// H and M, of which the second divides the first.
func checkedHeads(_ H: Int64, _ M: Int64) throws(CallError) -> (H: Int, M: Int) {
  let heads = (
    H: try checked(H, "H", to: largestHead), M: try checked(M, "M", to: largestHead)
  )
  if heads.H % heads.M != 0 {
    throw CallError(
      LRQK_ERROR_SIZE, "\(H) query heads cannot share \(M) key/value heads evenly")
  }
  return heads
}

/// A finite number, at least `least`.
func checkedNumber(
  _ value: Double, _ name: String, atLeast least: Double
) throws(CallError) -> Double {
  guard value.isFinite, value >= least else {
    throw CallError(LRQK_ERROR_PARAMETER, "\(name) = \(value): it must be finite, >= \(least)")
  }
  return value
}

/// The product of sizes, if memory for so many elements of `stride` bytes can exist.
func product(_ name: String, _ axes: [Int], stride: Int) throws(CallError) -> Int {
  var bytes = stride
  for axis in axes {
    let (larger, overflow) = bytes.multipliedReportingOverflow(by: axis)
    if overflow {
      throw CallError(LRQK_ERROR_SIZE, "\(name) \(axes): more bytes than a machine can address")
    }
    bytes = larger
  }
  try requireRoom(bytes, for: "\(name) \(axes)")
  return bytes / stride
}

/// Throws if the system would refuse a few times `bytes` of memory.
///
/// Swift ends a program whose allocation fails. So large ones are first requested here, as address
/// space that is returned at once. Memory can still run out later, while it is being used.
func requireRoom(_ bytes: Int, for what: String) throws(CallError) {
  if bytes < 1 << 24 { return }
  if bytes < 1 << 45 {
    let size = 3 * bytes
    let probe = unsafe mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if unsafe probe != MAP_FAILED {
      _ = unsafe munmap(probe, size)
      return
    }
  }
  throw CallError(LRQK_ERROR_MEMORY, "\(what): this machine does not give \(bytes) bytes for it")
}

/// Throws for NULL, and for an address that is not aligned for the element type.
private func requireAddress<Element>(
  _ pointer: UnsafePointer<Element>?, _ name: String
) throws(CallError) -> UnsafePointer<Element> {
  guard let pointer = unsafe pointer else {
    throw CallError(LRQK_ERROR_NULL, "\(name) is NULL")
  }
  if Int(bitPattern: pointer) % MemoryLayout<Element>.alignment != 0 {
    throw CallError(
      LRQK_ERROR_NULL,
      "\(name) is not aligned to \(MemoryLayout<Element>.alignment) bytes")
  }
  return unsafe pointer
}

/// The elements of an array of C, copied.
func elements<Element: BitwiseCopyable & Sendable>(
  _ pointer: UnsafePointer<Element>?, _ name: String, _ axes: [Int]
) throws(CallError) -> [Element] {
  let start = try unsafe requireAddress(pointer, name)
  let count = try product(name, axes, stride: MemoryLayout<Element>.stride)
  return unsafe Array(UnsafeBufferPointer(start: start, count: count))
}

/// An input of finite numbers.
func tensor(
  _ pointer: UnsafePointer<Float>?, _ name: String, _ axes: Int...
) throws(CallError) -> Tensor<Float> {
  let tensor = Tensor(shape: axes, elements: try unsafe elements(pointer, name, axes))
  if let index = tensor.firstNonFinite {
    throw nonFinite(name, tensor.elements[index], at: index, axes)
  }
  return tensor
}

/// An input (heads, rows, width), head by head.
func heads(
  _ pointer: UnsafePointer<Float>?, _ name: String, _ heads: Int, _ rows: Int, _ width: Int
) throws(CallError) -> [Tensor<Float>] {
  let whole = try unsafe tensor(pointer, name, heads, rows, width)
  return (0..<heads).map { whole.slice($0) }
}

/// "Q holds nan at (0, 3, 1)".
func nonFinite(_ name: String, _ value: Float, at index: Int, _ axes: [Int]) -> CallError {
  CallError(
    LRQK_ERROR_NON_FINITE, "\(name) holds \(value) at \(place(index, axes)): clean the input")
}

/// A flat index as (i, j, ...).
func place(_ index: Int, _ axes: [Int]) -> String {
  var rest = index
  var places: [Int] = []
  for axis in axes.reversed() {
    places.append(rest % axis)
    rest /= axis
  }
  return "(\(places.reversed().map(String.init).joined(separator: ", ")))"
}

/// An array of C that a result goes to, once everything has been computed.
@safe struct Output<Element: BitwiseCopyable> {
  let name: String
  let axes: [Int]
  let count: Int
  private let start: UnsafeMutablePointer<Element>

  init(
    _ pointer: UnsafeMutablePointer<Element>?, _ name: String, _ axes: Int...
  ) throws(CallError) {
    self.name = name
    self.axes = axes
    _ = try unsafe requireAddress(UnsafePointer(pointer), name)
    count = try product(name, axes, stride: MemoryLayout<Element>.stride)
    guard let pointer = unsafe pointer else { throw CallError(LRQK_ERROR_NULL, "\(name) is NULL") }
    unsafe start = pointer
  }

  /// Writes all elements.
  func write(_ elements: [Element]) throws(CallError) {
    if elements.count != count {
      throw CallError(
        LRQK_ERROR_INTERNAL, "\(name): \(elements.count) results for \(count) places")
    }
    for i in elements.indices { unsafe start[i] = elements[i] }
  }
}

/// Writes results, unless one of them is not finite: then none is written.
func deliver(_ results: (output: Output<Float>, elements: [Float])...) throws(CallError) {
  for (output, elements) in results {
    if let index = elements.firstIndex(where: { !$0.isFinite }) {
      throw CallError(
        LRQK_ERROR_BREAKDOWN,
        "\(output.name) would hold \(elements[index]) at \(place(index, output.axes)): numbers "
          + "overflowed on the way; scale the input down")
    }
  }
  for (output, elements) in results { try output.write(elements) }
}

/// An array of C that rows are copied into in place.
@safe struct RowsInPlace {
  private let memory: UnsafeMutableBufferPointer<Float>

  init(
    _ pointer: UnsafeMutablePointer<Float>?, _ name: String, _ axes: Int...
  ) throws(CallError) {
    _ = try unsafe requireAddress(UnsafePointer(pointer), name)
    let count = try product(name, axes, stride: MemoryLayout<Float>.stride)
    unsafe memory = UnsafeMutableBufferPointer(start: pointer, count: count)
  }

  /// The addresses, to find overlaps with.
  var addresses: Range<Int> {
    let (first, count) = unsafe (Int(bitPattern: memory.baseAddress), memory.count)
    return first..<first + count * MemoryLayout<Float>.stride
  }

  /// Row `slots[i]` becomes row `rows[i]` of `source`.
  func copy(width: Int, rows: [Int], from source: RowsInPlace, slots: [Int]) {
    let target = unsafe memory
    let from = unsafe UnsafeBufferPointer(source.memory)
    var out = unsafe target.mutableSpan
    copyRows(width: width, from: unsafe from.span, rows: rows, into: &out, slots: slots)
  }
}
