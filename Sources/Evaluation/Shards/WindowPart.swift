// What the log of a part of `lrqk perplexity` says of the whole run.
//
// In:  windows, methods, the bytes of the scored text.
// Out: the windows that have to be there.
//
// Source: ours.

package import CacheMethods

/// What the head of a shard's log has beside what its windows depend on.
package struct WindowPart: Codable, Sendable, Equatable {
  /// Which part of the run the log holds.
  package var shard: Shard
  /// Windows of the whole run.
  package let windows: Int
  /// UTF-8 bytes of all tokens that the whole run scores.
  package let bytes: Int
  /// The methods with all their options, in the order of the table.
  package let caches: [String]
  /// The model's folder, as given.
  package let modelFolder: String

  /// A part of a run with so many windows.
  package init(
    _ shard: Shard, windows: Int, bytes: Int, methods: [any CacheMethod], modelFolder: String
  ) {
    self.shard = shard
    self.windows = windows
    self.bytes = bytes
    caches = methods.map(\.description)
    self.modelFolder = modelFolder
  }

  /// Whether a run can be of this kind; one that was read from a damaged file may be none.
  var isSound: Bool {
    windows >= 1 && Evaluation.isSound(count: windows) && Evaluation.isSound(count: bytes)
      && !caches.isEmpty
  }

  /// What the records of the part are about, in the order of the run.
  var keys: [WindowRecord.Key] {
    shard.samples(of: windows).flatMap { window in caches.map { .init(window: window, cache: $0) } }
  }

  /// Whether a record about `key` belongs to the part.
  func has(_ key: WindowRecord.Key) -> Bool {
    key.window < windows && shard.contains(key.window) && caches.contains(key.cache)
  }
}
