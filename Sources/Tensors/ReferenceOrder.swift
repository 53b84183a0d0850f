/// Placeholder.
public protocol ReferenceOrder {}
extension Float: ReferenceOrder {}
extension Double: ReferenceOrder {}
