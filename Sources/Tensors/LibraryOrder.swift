/// Placeholder.
public protocol LibraryOrder {}
extension Float: LibraryOrder {}
extension Double: LibraryOrder {}
