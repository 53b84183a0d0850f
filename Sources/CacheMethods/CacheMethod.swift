// What a cache method is to the rest of the package: a name, its options, and a cache for a layer.
//
// In:  text such as "lrqk:preset=paper,r=16,k=240,w=16"; the same syntax wherever a method is named.
// Out: a checked method that makes caches.

public import Transformers

/// A way to keep keys and values, with its options.
public protocol CacheMethod: Sendable {
  /// What the command line calls it.
  static var name: String { get }
  /// The options in effect, defaults included, in a fixed order.
  var options: [(name: String, value: String)] { get }
  /// An empty cache for one layer of one sequence.
  func makeCache(for layer: LayerShape) throws -> any KeyValueCache
}
