// What a kernel's loops compute in: one text, four runs.
//
// In:  numbers of a case, as Double.
// Out: the same loops in
//
//   Double              the reference: what a candidate is compared with
//   Float               the plain implementation of a candidate in F32
//   Rounded<BFloat16>   of one in BF16: sums in Float, and every tensor that is stored is rounded
//   Rounded<Float16>    of one in F16: the same
//
// `stored` stands in the loops where a kernel would write a number to memory. Operations have a
// written order and none is fused: the bits of all four are the same on every machine.

package import Tensors

/// A number that a kernel's loops can compute with.
package protocol KernelNumber: Comparable, Sendable {
  /// `value`, rounded as an input of this precision is.
  init(rounding value: Double)
  /// Exactly this number, as a Double.
  var value: Double { get }
  /// This number after it was written to memory and read again.
  var stored: Self { get }
  /// The number 0.
  static var zero: Self { get }
  /// The sum, rounded once.
  static func + (a: Self, b: Self) -> Self
  /// The difference, rounded once.
  static func - (a: Self, b: Self) -> Self
  /// The product, rounded once.
  static func * (a: Self, b: Self) -> Self
  /// a = a + b.
  static func += (a: inout Self, b: Self)
  /// a = a − b.
  static func -= (a: inout Self, b: Self)
  /// The quotient, rounded once.
  static func / (a: Self, b: Self) -> Self
  /// The square root √x, rounded once.
  func squareRoot() -> Self
  /// The power eˣ, by this package's polynomial.
  func exponential() -> Self
}

extension KernelNumber {
  package static func += (a: inout Self, b: Self) { a = a + b }
  package static func -= (a: inout Self, b: Self) { a = a - b }
}

extension Double: KernelNumber {
  package init(rounding value: Double) { self = value }
  package var value: Double { self }
  package var stored: Double { self }
  package func exponential() -> Double { polynomialExponential(self) }
}

extension Float: KernelNumber {
  package init(rounding value: Double) { self = Float(value) }
  package var value: Double { Double(self) }
  package var stored: Float { self }
  package func exponential() -> Float { polynomialExponential(self) }
}

private func polynomialExponential<E: Scalar>(_ x: E) -> E {
  var one = [x]
  var span = one.mutableSpan
  E.chainExponentials(&span)
  return one[0]
}

/// A format that tensors are stored in.
package protocol StoredFormat: Sendable {
  /// `value` after it was written to memory and read again.
  static func stored(_ value: Double) -> Float
}

/// Storage in F32.
package enum Float32Format: StoredFormat {
  package static func stored(_ value: Double) -> Float { Float(value) }
}

/// A 16-bit format that tensors are stored in.
package protocol NarrowFormat: StoredFormat {
  /// The format's bit patterns.
  static var bits: SixteenBitFloat { get }
}

extension NarrowFormat {
  package static func stored(_ value: Double) -> Float { bits.value(of: bits.bits(of: value)) }
}

/// Storage in BF16.
package enum BFloat16: NarrowFormat {
  package static var bits: SixteenBitFloat { .bfloat16 }
}

/// Storage in F16.
package enum Float16Format: NarrowFormat {
  package static var bits: SixteenBitFloat { .float16 }
}

/// A Float that becomes 16 bits wide wherever it is stored.
package struct Rounded<Format: NarrowFormat>: KernelNumber {
  private let float: Float

  private init(_ float: Float) { self.float = float }

  package init(rounding value: Double) {
    float = Format.stored(value)
  }

  package var value: Double { Double(float) }
  package var stored: Rounded { Rounded(rounding: value) }
  package static var zero: Rounded { Rounded(0) }
  package static func < (a: Rounded, b: Rounded) -> Bool { a.float < b.float }
  package static func + (a: Rounded, b: Rounded) -> Rounded { Rounded(a.float + b.float) }
  package static func - (a: Rounded, b: Rounded) -> Rounded { Rounded(a.float - b.float) }
  package static func * (a: Rounded, b: Rounded) -> Rounded { Rounded(a.float * b.float) }
  package static func / (a: Rounded, b: Rounded) -> Rounded { Rounded(a.float / b.float) }
  package func squareRoot() -> Rounded { Rounded(float.squareRoot()) }
  package func exponential() -> Rounded { Rounded(float.exponential()) }
}
