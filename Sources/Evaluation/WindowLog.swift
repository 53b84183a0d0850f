// The log of `lrqk perplexity`: a line a window and method.
//
// In:  what a window's numbers depend on: model, text, context, stride.
// Out: the head of a log, and its records by window and method (RecordLog.swift writes the file).
//
// Methods and the number of windows may differ from run to run, since no window depends on them:
// a row of a batched product has the same bits as the row alone. So a record holds the numbers of
// each token, and everything that compares methods or averages is computed from records. Only the
// log of a shard is about these as well (Shards/WindowPart.swift).

import CacheMethods
import Tensors

/// What all windows of a log have in common.
package struct WindowHead: LogHeading, Sendable {
  /// The kind of file.
  package var log = "lrqk perplexity 1"
  /// The hash of the model's files (ModelHash.swift).
  package let model: String
  /// FNV-1a of the text's token ids.
  package let text: String
  /// C, tokens of a window's prompt.
  package let context: Int
  /// S, scored tokens of a window.
  package let stride: Int
  /// The part of a run that the log holds; nil for a whole run.
  package var part: WindowPart?

  /// The head of a run.
  package init(model: String, tokens: [Int], _ windows: PerplexityWindows) {
    self.model = model
    text = hexadecimal(fnv1a(tokens.map(String.init).joined(separator: " ")))
    context = windows.context
    stride = windows.stride
  }

  /// The command that writes such logs.
  package static var command: String { "lrqk perplexity" }

  /// What another run may have differently.
  package var settings: [(name: String, text: String)] {
    [
      ("file", log), ("model", model), ("text", text), ("context", "\(context)"),
      ("stride", "\(stride)"),
    ] + partSettings
  }

  /// What another run may have differently where both are parts.
  private var partSettings: [(name: String, text: String)] {
    guard let part else { return [("shards", "none")] }
    return [
      ("shards", "\(part.shard.count)"), ("shard", "\(part.shard.number)"),
      ("windows", "\(part.windows)"), ("scored bytes", "\(part.bytes)"),
      ("model folder", part.modelFolder),
    ] + cacheSettings(part.caches)
  }

  /// Windows of at least one token; of a part, a run that can be.
  package var isSound: Bool {
    [context, stride].allSatisfy { $0 >= 1 && Evaluation.isSound(count: $0) }
      && part?.isSound ?? true
  }
}

extension WindowHead: ShardHeading {
  /// Which part the log holds; nil for a whole run.
  package var shard: Shard? { part?.shard }

  /// The same head, of another part.
  package func with(_ shard: Shard) -> WindowHead {
    var head = self
    head.part?.shard = shard
    return head
  }
}

/// What one method did in one window; nothing of it depends on the clock.
package struct WindowRecord: ShardRecord, Sendable, Equatable {
  /// A window under a method.
  package struct Key: Hashable, CustomStringConvertible {
    let window: Int
    let cache: String

    /// In words, for an error.
    package var description: String { "window \(window), \(briefCache(cache))" }
  }

  /// What the records of a part are about.
  package static func keys(of head: WindowHead) -> [Key] { head.part?.keys ?? [] }

  /// The window's number, from 0.
  package let window: Int
  /// The method with all its options.
  package let cache: String
  /// -log p of each scored token, in nats.
  package internal(set) var losses: [Double] = []
  /// The likeliest token at each of them.
  package internal(set) var tops: [Int] = []
  /// Bytes on the device at the window's end.
  package internal(set) var residentBytes = 0
  /// Bytes that all decode steps moved, both ways.
  package internal(set) var movedBytes = 0
  /// Rows that were needed from the host and lay on the device.
  package internal(set) var hitRows = 0
  /// Rows that were copied from the host.
  package internal(set) var missedRows = 0

  init(window: Int, _ method: any CacheMethod) {
    self.window = window
    cache = method.description
  }

  /// Which window, under which method.
  package var key: Key { Key(window: window, cache: cache) }

  /// A loss and a likeliest token for each scored token, no loss below 0 but for rounding; of a
  /// part, a record of its own windows.
  package func isSound(under head: WindowHead) -> Bool {
    losses.count == head.stride && tops.count == head.stride
      && losses.allSatisfy { !($0 < -1e-6) }
      && ([window, residentBytes, movedBytes, hitRows, missedRows] + tops)
        .allSatisfy(Evaluation.isSound(count:))
      && head.part?.has(key) ?? true
  }
}

/// The log of windows.
package typealias WindowLog = RecordLog<WindowRecord>
