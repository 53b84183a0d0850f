// How a calibration sees a model's rows: a cache that keeps none of them.
//
// In:  stretches of text, each a prompt of its own, layer after layer.
// Out: a `RowGatherer` for every layer: sums over all rows so far.
//
// Second moments (d by d), not rows: a text of any length takes the same memory. The decoder's
// prompt pass is all that is needed; nothing is ever decoded.

package import TieredMemory
package import Transformers

/// Sums over the rows of one layer.
package protocol RowGatherer: Sendable {
  /// What it wants beside queries, keys and values.
  var needs: CacheNeeds { get }
  /// Takes the rows of one more stretch of text.
  mutating func add(_ rows: PromptRows) throws
}

extension RowGatherer {
  package var needs: CacheNeeds { [] }
}

/// One layer's gatherer in a cache's place.
package struct GatheringCache<Gatherer: RowGatherer>: KeyValueCache {
  /// What was gathered so far.
  package private(set) var gatherer: Gatherer

  /// Gathers into `gatherer`.
  package init(_ gatherer: Gatherer) { self.gatherer = gatherer }

  /// 0: nothing is kept, so that the next stretch is a prompt again.
  package var length: Int { 0 }
  package var hostBytes: Int { 0 }
  package var needs: CacheNeeds { gatherer.needs }

  package mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    try gatherer.add(prompt)
  }

  package mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    preconditionFailure("a calibration decodes nothing")
  }
}
