// Who shares codes and rows, and heads that are a batch: what may change, and what must not.

import LRQK
import Tensors
import Testing
import TieredMemory

private let prompt = 30
private let tokens = 60
private let data = Synthetic<Float>(
  tokens: tokens, width: 8, queryHeads: 4, keyValueHeads: 2, decay: 0.8, seed: 31)

@Suite struct CacheSharingTests {
  @Test
  func `sharing codes or rows changes no bit where a group is one head`() throws {
    let single = Synthetic<Float>(
      tokens: 50, width: 8, queryHeads: 2, keyValueHeads: 2, decay: 0.8, seed: 32)
    for choice in CacheCase.all {
      var runs: [Run<Float>] = []
      for sharing in CodeSharing.allCases {
        for transfers in Transfers.allCases {
          var parameters = choice.parameters
          parameters.codeSharing = sharing
          parameters.transfers = transfers
          runs.append(try Run(single, parameters, prompt: prompt))
        }
      }
      for run in runs.dropFirst() {
        #expect(run.steps.map(\.attention) == runs[0].steps.map(\.attention), "\(choice.name)")
        #expect(run.steps.map(\.selected) == runs[0].steps.map(\.selected), "\(choice.name)")
        #expect(run.events == runs[0].events, "\(choice.name)")
        #expect(run.residentBytes == runs[0].residentBytes, "\(choice.name)")
        #expect(run.cache.keyCodes == runs[0].cache.keyCodes, "\(choice.name)")
      }
    }
  }

  @Test
  func `who moves rows, and whether rows stay, changes the ledger only`() throws {
    for choice in CacheCase.all {
      var runs: [Run<Float>] = []
      for transfers in Transfers.allCases {
        for reuse in [Reuse.hitMiss, .none] {
          var parameters = choice.parameters
          parameters.transfers = transfers
          parameters.reuse = reuse
          runs.append(try Run(data, parameters, prompt: prompt))
        }
      }
      for run in runs.dropFirst() {
        #expect(run.steps.map(\.attention) == runs[0].steps.map(\.attention), "\(choice.name)")
        #expect(run.steps.map(\.selected) == runs[0].steps.map(\.selected), "\(choice.name)")
        #expect(run.cache.keyCodes == runs[0].cache.keyCodes, "\(choice.name)")
        #expect(run.events != runs[0].events, "\(choice.name)")
      }
    }
  }

  @Test
  func `a batch as more heads equals one cache for each sequence`() throws {
    let other = Synthetic<Float>(
      tokens: tokens, width: 8, queryHeads: 4, keyValueHeads: 2, decay: 0.8, seed: 33)
    let both = Synthetic(
      queries: data.queries + other.queries, keys: data.keys + other.keys,
      values: data.values + other.values)
    for choice in CacheCase.all {
      var parameters = choice.parameters
      // A start that does not count heads, and no stopping rule that looks at all of them.
      parameters.initialization = .topColumns
      parameters.prefillIterations.tolerance = 0
      parameters.decodeIterations.tolerance = 0
      let batch = try Run(both, parameters, prompt: prompt)
      let parts = [
        try Run(data, parameters, prompt: prompt), try Run(other, parameters, prompt: prompt),
      ]
      for (i, step) in batch.steps.enumerated() {
        let attention = Tensor(joiningRows: parts.map { $0.steps[i].attention })
        #expect(step.attention == attention, "\(choice.name), step \(step.step)")
        #expect(step.selected == parts.flatMap { $0.steps[i].selected })
        #expect(step.missedRows == parts.flatMap { $0.steps[i].missedRows })
      }
      #expect(
        batch.residentBytes == zip(parts[0].residentBytes, parts[1].residentBytes).map { $0 + $1 })
    }
  }
}
