// The two element types that arithmetic runs in.
//
// The algorithm is written once, generic over `Scalar`; its Double run is the yardstick of its
// Float run. BFloat16 and Float16 are storage formats only (see StorageFormats.swift).

/// Float or Double: everything that the algorithm computes with.
///
/// The two requirements are the two arithmetics of this package: `ReferenceOrder`, fused chains in
/// a written order, the same bits on every machine; `LibraryOrder`, OpenBLAS and LAPACK, for speed.
public protocol Scalar: BinaryFloatingPoint, Sendable, ReferenceOrder, LibraryOrder {
  /// "float" or "double", as reports and options call it.
  static var precisionName: String { get }

  /// True when none of the numbers is NaN or infinite.
  static func allFinite(_ numbers: Span<Self>) -> Bool
}

extension Float: Scalar {
  /// The name of this precision, "float".
  public static var precisionName: String { "float" }

  /// True when no exponent has all its bits set.
  public static func allFinite(_ numbers: Span<Float>) -> Bool {
    let exponent: UInt32 = 0x7F80_0000
    var found: UInt32 = 0  // no early end, so that many numbers are looked at side by side
    for i in numbers.indices {
      found |= numbers[i].bitPattern & exponent == exponent ? 1 : 0
    }
    return found == 0
  }
}

extension Double: Scalar {
  /// The name of this precision, "double".
  public static var precisionName: String { "double" }

  /// True when no exponent has all its bits set.
  public static func allFinite(_ numbers: Span<Double>) -> Bool {
    let exponent: UInt64 = 0x7FF0_0000_0000_0000
    var found: UInt64 = 0  // no early end, so that many numbers are looked at side by side
    for i in numbers.indices {
      found |= numbers[i].bitPattern & exponent == exponent ? 1 : 0
    }
    return found == 0
  }
}
