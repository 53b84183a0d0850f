// Every copy recounted from the selected sets alone, and every byte on the device from sizes alone.

import LRQK
import Tensors
import Testing
import TieredMemory

private let (prompt, tokens, d, k, w) = (30, 60, 8, 6, 4)
private let data = Synthetic<Float>(
  tokens: tokens, width: d, queryHeads: 4, keyValueHeads: 2, decay: 0.8, seed: 31)
private let rowBytes = 2 * d * MemoryLayout<Float>.stride

/// What each holder of rows needs: a head's own set, or the union over its group.
private func needs(_ selected: [[Int]], _ transfers: RowHolders) -> [Set<Int>] {
  switch transfers {
  case .perQueryHead: selected.map(Set.init)
  case .perKeyValueHead: [0, 1].map { Set(selected[2 * $0]).union(selected[2 * $0 + 1]) }
  }
}

@Suite struct LedgerTests {
  @Test(arguments: CacheCase.all, [3, 6, 8, 9, 10, 30])
  func `events are an independent recount`(_ choice: CacheCase, _ prompt: Int) throws {
    let run = try Run(data, choice.parameters, prompt: prompt)
    var expected: [TransferEvent] = []
    func add(
      _ step: Int, _ head: Int, _ direction: TransferDirection, _ rows: Int,
      _ reason: TransferReason, bytes: Int = rowBytes
    ) {
      if rows > 0 {
        expected.append(
          TransferEvent(
            step: step, layer: 0, head: head, direction: direction, rows: rows,
            bytes: rows * bytes, reason: reason))
      }
    }

    // The prompt: all of it, or, where it fits on the device, its first k rows. A prompt shorter
    // than k is offloaded at the step that makes it k tokens.
    let offloadStep = max(0, k - prompt)
    let length = max(prompt, k)
    let offloaded = length <= k + w ? k : length
    var onHost = offloaded
    var held: [Set<Int>] = []
    func hostWrites(_ step: Int, _ l: Int) {
      if l - onHost == w {
        for head in 0..<2 { add(step, head, .deviceToHost, w, .ringFlush) }
        onHost = l
      }
    }
    func offload(_ selected: [[Int]]) {
      for head in 0..<2 { add(offloadStep, head, .deviceToHost, offloaded, .promptOffload) }
      held = needs(selected, choice.parameters.rows.holders)  // copied within the device: no event
      hostWrites(offloadStep, length)
    }
    if prompt >= k { offload(run.firstSelected) }

    for (i, step) in run.steps.enumerated() {
      let l = prompt + i + 1
      if step.step < offloadStep { continue }
      if step.step == offloadStep {
        offload(step.selected)
        continue
      }
      hostWrites(step.step, l)
      let now = needs(step.selected, choice.parameters.rows.holders)
      for (s, (before, after)) in zip(held, now).enumerated() {
        let misses = after.subtracting(before).count
        let hits = after.intersection(before).count
        #expect(misses == step.missedRows[s] && hits + misses == after.count)
        #expect(choice.parameters.rows.holders == .perKeyValueHead || hits + misses == k)
        add(step.step, s, .hostToDevice, misses, .miss)
        if choice.parameters.reuse == .reloadAll && l > k + w {
          add(step.step, s, .hostToDevice, hits, .reload)
        }
      }
      held = now
      if let n = choice.parameters.refreshInterval, step.step % n == 0 {
        // Keys only, of every token that the host has: half a row each.
        for head in 0..<2 {
          add(step.step, head, .hostToDevice, onHost, .reload, bytes: rowBytes / 2)
        }
      }
    }
    // Equal as lists: same copies, same order.
    let same = run.events == expected
    #expect(same, "\(run.events.count) events, \(expected.count) expected")
    if !same, let first = zip(run.events, expected).first(where: { $0 != $1 }) {
      Issue.record("first difference: \(first.0), expected \(first.1)")
    }
    #expect(run.cache.hostBytes == 2 * onHost * rowBytes)
    #expect(prompt > k + w || run.rows(.miss) > 0, "the case must move something")
  }

  @Test(arguments: CacheCase.all)
  func `resident bytes are a sum of sizes`(_ choice: CacheCase) throws {
    let run = try Run(data, choice.parameters, prompt: prompt)
    let parameters = choice.parameters
    let r = parameters.rank
    let groups = parameters.codeSharing == .perKeyValueHead ? 2 : 4
    let shared = parameters.rows.holders == .perKeyValueHead
    var most = Array(repeating: k, count: shared ? 2 : 4)  // rows per holder: they never shrink
    let sets = [run.firstSelected] + run.steps.map(\.selected)
    for (i, selected) in sets.enumerated() {
      for (s, set) in needs(selected, parameters.rows.holders).enumerated() {
        most[s] = max(most[s], set.count)
      }
      // Rows of K and V: the ring and the most that was ever needed at once.
      var bytes = most.reduce(0) { $0 + ($1 + w) * rowBytes }
      // A_K: room for the prompt and 256 tokens more, then 256 at a time.
      let l = prompt + i
      var room = prompt + 256
      while room < l { room += 256 }
      bytes += groups * room * r * 4
      // Two bases or two maps, and with a refresh two Gram matrices in Double.
      bytes += groups * 2 * r * d * 4
      if parameters.refreshInterval != nil { bytes += groups * 2 * d * d * 8 }
      #expect(run.residentBytes[i] == bytes, "after step \(i)")
    }
    #expect(run.liveBuffers.reduce(0) { $0 + $1.bytes } == run.residentBytes.last)
    // The peak is while the prompt's K and V lie beside what will stay.
    #expect(run.peakBytes >= run.residentBytes[0] + 2 * prompt * rowBytes)
  }

  @Test
  func `an answer of two thousand tokens grows the codes alone`() throws {
    let (start, r) = (20, 2)
    // Scores cost O(l) a step: one long answer, and one that grows its codes twice.
    for (preset, steps) in [(Preset.recommended, 2000), (.paper, 700)] {
      var parameters = try Parameters(preset, rank: r, selected: 3, recent: 2)
      // The released update would overflow on the way; its bases are kept here.
      if preset == .paper { parameters.codes = .alternating(Alternation(.frozen)) }
      let long = Synthetic<Float>(
        tokens: start + steps, width: 4, queryHeads: 2, keyValueHeads: 2, decay: 0.8, seed: 34)
      let run = try Run(long, parameters, prompt: start)
      // Room for 256 tokens at a time, as soon as l passes what there is room for.
      for (i, bytes) in run.residentBytes.enumerated() {
        let l = start + i
        let growths = max(0, (l - start - 256 + 255) / 256)
        #expect(bytes == run.residentBytes[0] + 2 * growths * 256 * r * 4, "length \(l)")
      }
      // One copy of w rows a head for every w tokens.
      #expect(run.rows(.ringFlush) == 2 * steps)
      #expect(run.events.filter { $0.reason == .ringFlush }.count == 2 * steps / 2)
      #expect(run.rows(.promptOffload) == 2 * start)
      #expect(run.cache.hostBytes == 2 * (start + steps) * 2 * 4 * 4)
      // At most k misses a head and step, at most one event each, and more than none.
      let misses = run.events.filter { $0.reason == .miss }
      #expect(
        misses.count <= 2 * steps && misses.allSatisfy { $0.rows <= 3 } && misses.count > steps)
      #expect(run.steps.allSatisfy { $0.attention.firstNonFinite == nil })
    }
  }

  @Test
  func `a device too small for the prompt or for a step says so`() throws {
    let parameters = try Parameters(.recommended, rank: 3, selected: k, recent: w)
    let free = try Run(data, parameters, prompt: prompt)
    // Exactly the peak is enough, one byte less is not.
    _ = try Run(data, parameters, prompt: prompt, capacity: free.peakBytes)
    #expect {
      _ = try Run(data, parameters, prompt: prompt, capacity: free.peakBytes - 1)
    } throws: { error in
      guard
        case .outOfMemory(let label, let needed, let resident, let capacity)? =
          error as? DeviceTierError
      else { return false }
      return !label.isEmpty && needed > 0 && resident + needed > capacity
        && capacity == free.peakBytes - 1
    }
    // A step that needs a larger store of codes than there is room for. (The prompt's own peak is
    // gone by then, so it takes a long answer.)
    let long = Synthetic<Float>(tokens: 700, width: d, decay: 0.8, seed: 35)
    let end = try Run(long, parameters, prompt: prompt)
    let last = try #require(end.residentBytes.last)
    #expect(last == end.peakBytes)
    #expect(throws: DeviceTierError.self) {
      _ = try Run(long, parameters, prompt: prompt, capacity: last - 1)
    }
  }
}
