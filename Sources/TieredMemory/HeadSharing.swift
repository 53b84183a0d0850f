// The heads of one layer, and which of them share something.
//
// In:  H query heads, H / G key/value heads, and who owns a thing: a query head or its group.
// Out: the index arithmetic between query heads h, key/value heads m and holders s.
//
//     H = 4, G = 2                    h   0 1 2 3
//     key/value heads                 m   0 0 1 1
//     holders, per query head         s   0 1 2 3      size 1
//     holders, per key/value head     s   0 0 1 1      size 2
//
// A *holder* of rows has slots on the device and moves the rows that are missing there: a query
// head, or a key/value head for all query heads of its group. A *group* is the G query heads that
// use one key/value head. LRQK shares codes in the same way, by a choice of its own.
//
// ResidentRows.swift uses this for rows, LRQK's cache for codes as well. The next file,
// RowStore.swift, is what one holder has on the device.

/// Who holds selected rows on the device, and so moves rows.
public enum RowHolders: String, Sendable, CaseIterable {
  /// Every query head holds and moves its own rows.
  case perQueryHead
  /// The query heads of a group share slots: a row that several want is held and moved once.
  case perKeyValueHead
}

/// The heads of one layer's cache and the width of their rows.
public struct CacheShape: Sendable, Equatable {
  /// Layer, from 0, as the ledger names it.
  public let layer: Int
  /// Query heads, H, of all sequences together.
  public let queryHeads: Int
  /// Key/value heads, H / G, of all sequences together.
  public let keyValueHeads: Int
  /// Elements of one key and of one value, d.
  public let width: Int
  /// How many tokens each token sees, itself included; nil: all.
  public let window: Int?

  /// The shape of a layer; its heads must divide evenly.
  public init(
    layer: Int = 0, queryHeads: Int, keyValueHeads: Int, width: Int, window: Int? = nil
  ) {
    precondition(
      keyValueHeads >= 1 && queryHeads >= keyValueHeads && queryHeads % keyValueHeads == 0,
      "\(queryHeads) query heads cannot share \(keyValueHeads) key/value heads evenly")
    precondition(window ?? 1 >= 1, "a token sees at least itself, not \(window ?? 0) tokens")
    self.layer = layer
    self.queryHeads = queryHeads
    self.keyValueHeads = keyValueHeads
    self.width = width
    self.window = window
  }

  /// Query heads for each key/value head, G.
  public var groupSize: Int { queryHeads / keyValueHeads }

  /// The tokens that the newest of `length` tokens sees.
  public func visible(length: Int) -> Range<Int> { max(0, length - (window ?? length))..<length }

  /// Holders: one for each query head, or one for each group of them.
  public func sharing(perKeyValueHead isShared: Bool) -> HeadSharing {
    HeadSharing(
      queryHeads: queryHeads, groupSize: groupSize, size: isShared ? groupSize : 1)
  }
}

/// Which query heads share one holder of rows or codes.
public struct HeadSharing: Sendable, Equatable {
  fileprivate let queryHeads: Int
  fileprivate let groupSize: Int
  /// Query heads for each holder: 1 or G.
  public let size: Int

  fileprivate init(queryHeads: Int, groupSize: Int, size: Int) {
    self.queryHeads = queryHeads
    self.groupSize = groupSize
    self.size = size
  }

  /// Number of holders.
  public var count: Int { queryHeads / size }

  /// The holder that query head `h` belongs to.
  public func holder(ofQueryHead h: Int) -> Int { h / size }

  /// The query heads of holder `s`.
  public func queryHeads(of s: Int) -> Range<Int> { s * size..<(s + 1) * size }

  /// The key/value head of holder `s`.
  public func keyValueHead(of s: Int) -> Int { s * size / groupSize }

  /// The first holder of key/value head `m`.
  public func firstHolder(ofKeyValueHead m: Int) -> Int { m * groupSize / size }

  /// The name of holder `s` in messages and in labels of buffers.
  public func label(_ s: Int) -> String {
    size == 1 && groupSize > 1 ? "query head \(s)" : "head \(s)"
  }

  /// The tokens that each holder needs: its head's set, or the union of its heads' sets.
  ///
  /// `sets` holds the ascending tokens of each query head.
  public func union(of sets: [[Int]]) -> [[Int]] {
    (0..<count).map { union(of: sets, holder: $0) }
  }

  /// The tokens that holder `s` needs.
  func union(of sets: [[Int]], holder s: Int) -> [Int] {
    size == 1 ? sets[s] : SlotPool.union(of: Array(sets[queryHeads(of: s)]))
  }

  /// `list`, one element for each holder, for every query head.
  public func forQueryHeads<Element>(_ list: [Element]) -> [Element] {
    (0..<queryHeads).map { list[$0 / size] }
  }
}
