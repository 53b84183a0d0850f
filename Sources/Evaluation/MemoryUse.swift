// What an answer's caches held, moved and found.
//
// In:  finished generations, with the ledgers, devices and probes of their states.
// Out: bytes, rates, means; sums over events, no estimates.

import CacheMethods
package import TieredMemory
package import Transformers

/// What the caches of one or more answers held and moved.
///
/// Bytes moved per token are those of decode steps alone; the prompt's own are in the ledger.
package struct MemoryUse {
  /// Every copy between the tiers.
  package private(set) var events: [TransferEvent] = []
  /// How many decode steps ran.
  package private(set) var steps = 0
  /// Rows that were needed from the host and lay on the device.
  package private(set) var hitRows = 0
  /// Rows that were copied from the host.
  package private(set) var missedRows = 0
  /// Bytes on the device at the end.
  package private(set) var residentBytes = 0
  /// The most that the device held; of several answers the largest, since their prompts run one
  /// after another.
  package private(set) var peakBytes = 0
  /// Bytes on the host at the end.
  package private(set) var hostBytes = 0
  /// What second models cost, all answers together; nil where there were none.
  package private(set) var assistant: AssistantUse?
  private var probes: [RecallProbe] = []
  private var shares: [AttentionShare] = []

  /// The memory use of one answer.
  package init(_ answer: Generation) { self.init([answer]) }

  /// The memory use of several answers together.
  package init(_ answers: [Generation]) {
    for answer in answers {
      steps += answer.steps
      hitRows += answer.needed.hits
      missedRows += answer.needed.misses
      for state in answer.states {
        events += state.tiers.ledger.events
        if let use = state.assistantUse { assistant = assistant.map { $0 + use } ?? use }
        for cache in state.caches {
          let probe = cache as? RecallProbe
          if let probe { probes.append(probe) }
          if let share = (probe?.base ?? cache) as? AttentionShare { shares.append(share) }
        }
      }
      // Of several states only the last one is held at the end, and one alone at a time.
      guard let last = answer.states.last else { continue }
      residentBytes += last.tiers.device.residentBytes
      peakBytes = max(peakBytes, answer.states.map { $0.tiers.device.peakBytes }.max() ?? 0)
      hostBytes += last.caches.reduce(0) { $0 + $1.hostBytes }
    }
  }

  /// Bytes that decode steps moved, both ways, per token.
  package var movedBytesPerToken: Double { perToken(nil) }

  /// Bytes that decode steps moved one way (nil: both), per token.
  package func perToken(_ direction: TransferDirection?) -> Double {
    steps == 0 ? 0 : Double(movedBytes(direction)) / Double(steps)
  }

  /// Bytes that decode steps moved one way (nil: both).
  package func movedBytes(_ direction: TransferDirection? = nil) -> Int {
    events.reduce(0) { sum, event in
      sum + (event.step > 0 && direction ?? event.direction == event.direction ? event.bytes : 0)
    }
  }

  /// Share of the rows needed from the host that lay on the device; nil where none was needed.
  package var hitRate: Double? {
    hitRows + missedRows == 0 ? nil : Double(hitRows) / Double(hitRows + missedRows)
  }

  /// Mean over layers, heads and steps that chose anything; nil where none did.
  package var recall: Double? {
    let count = probes.reduce(0) { $0 + $1.recallCount }
    return count == 0 ? nil : probes.reduce(0) { $0 + $1.recallSum } / Double(count)
  }

  /// Mean over layers, heads and steps; nil where nothing was measured.
  package var mass: Double? {
    let count = probes.reduce(0) { $0 + $1.count }
    return count == 0 ? nil : probes.reduce(0) { $0 + $1.massSum } / Double(count)
  }

  /// Mean share of these tokens that a head attended to in a step; nil where nothing was counted.
  package func share(of tokens: [Int]) -> Double? {
    let looks = shares.reduce(0) { $0 + $1.looks }
    if looks == 0 || tokens.isEmpty { return nil }
    let found = shares.reduce(0) { sum, share in
      sum + tokens.reduce(0) { $0 + ($1 < share.looksAt.count ? share.looksAt[$1] : 0) }
    }
    return Double(found) / Double(tokens.count * looks)
  }
}
