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
        for transfers in RowHolders.allCases {
          var parameters = choice.parameters
          parameters.codeSharing = sharing
          parameters.rows = RowSharing(transfers)
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
      for transfers in RowHolders.allCases {
        for reuse in [Reuse.hitMiss, .reloadAll] {
          var parameters = choice.parameters
          parameters.rows = RowSharing(transfers)
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
  func `attending to the group's rows holds and moves what attending to one's own does`() throws {
    // Linear codes: what is attended to has no part in the codes.
    for refresh in [MapRefresh.never, .every(5)] {
      var parameters = try Parameters(.recommended, rank: 3, selected: 6, recent: 4)
      parameters.codes = .linear(refresh: refresh)
      let own = try Run(data, parameters, prompt: prompt)
      parameters.rows = .perKeyValueHead(attended: .group)
      let group = try Run(data, parameters, prompt: prompt)
      #expect(group.events == own.events && group.residentBytes == own.residentBytes)
      #expect(group.steps.map(\.gaps) == own.steps.map(\.gaps))
      var isLarger = false
      for (mine, step) in zip(own.steps, group.steps) {
        let l = prompt + step.step
        for h in 0..<4 {
          let union = Set(mine.selected[h / 2 * 2] + mine.selected[h / 2 * 2 + 1]).sorted()
          #expect(step.selected[h] == union)
          isLarger = isLarger || union.count > 6
          let rows = union + Array(l - 4..<l)
          let expected = fullAttention(
            query: data.queries[h].row(l - 1), keys: data.keys[h / 2].gather(rows: rows),
            values: data.values[h / 2].gather(rows: rows))
          #expect(step.attention.row(h) == expected && step.attended[h] == rows)
        }
      }
      #expect(isLarger)
    }
  }

  @Test
  func `alternating codes see the group's rows too`() throws {
    var parameters = try Parameters(.paper, rank: 3, selected: 6, recent: 4)
    parameters.rows = .perKeyValueHead(attended: .own)
    let own = try Run(data, parameters, prompt: prompt)
    parameters.rows = .perKeyValueHead(attended: .group)
    let group = try Run(data, parameters, prompt: prompt)
    #expect(group.firstSelected[0] == Set(own.firstSelected[0] + own.firstSelected[1]).sorted())
    #expect(
      group.steps[0].selected.count == 4 && group.steps[0].queryCodes != own.steps[0].queryCodes)
    for step in group.steps {
      #expect(step.selected[0] == step.selected[1] && (6...12).contains(step.selected[0].count))
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
      parameters.sweeps?.start = .topColumns
      parameters.sweeps?.iterations = SweepIterations().untilLimit
      parameters.alternation?.iterations = AlternationIterations().untilLimit
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
