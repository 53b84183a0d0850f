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
}

extension Float: Scalar {
  /// "float".
  public static var precisionName: String { "float" }
}

extension Double: Scalar {
  /// "double".
  public static var precisionName: String { "double" }
}
