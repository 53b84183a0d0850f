// Every copy recounted from the attended sets alone, by a simulation that knows rows as sets.
//
// A method is told by a few facts (`Kind`); from them and from which tokens were attended to
// follows which rows were where, and so every event, its order included. Nothing here calls
// SlotPool, RecentRing or a method's bytes.

import CacheMethods
import LRQK
import Tensors
import Testing
import TieredMemory
import Transformers

/// What the simulation needs to know of a method.
private struct Kind {
  var isLRQK = false
  var (k, w, r) = (6, 4, 3)
  var isShared = false
  var codesAreShared = false
  var movesAll = false
  var parks = false
  var refresh: Int?

  init(_ text: String) {
    let isRecommended = text.contains("recommended")
    isLRQK = text.hasPrefix("lrqk")
    func size(_ name: String, _ standard: Int) -> Int {
      let given = text.split(whereSeparator: { ":,".contains($0) }).first {
        $0.hasPrefix(name + "=")
      }
      return given.flatMap { Int($0.dropFirst(name.count + 1)) } ?? standard
    }
    (k, w, r) = (size("k", 6), size("w", 4), size("r", 3))
    isShared =
      text.contains("transfers=per-key-value-head")
      || isRecommended && !text.contains("transfers=per-query-head")
    codesAreShared = isRecommended
    movesAll = text.hasPrefix("lrqk-no-hit-miss")
    parks = text.hasPrefix("lrqk-prefill-offload")
    if text.contains("map-refresh") { refresh = size("map-refresh", 0) }
  }
}

/// The events of a run, and hits and misses of every step, from its attended sets.
private struct Recount {
  let layer: Layer
  let kind: Kind
  var events: [TransferEvent] = []
  var hits: [Int] = []
  var misses: [Int] = []
  private var held: [Set<Int>] = []
  private var onHost = 0

  init(_ text: String, _ run: Run, _ rows: Rows, prompt: Int, first: [[Int]]) {
    layer = rows.layer
    kind = Kind(text)
    let (k, w) = (kind.k, kind.w)
    // LRQK keeps everything until there are codes; top-k offloads every prompt whole.
    let start = kind.isLRQK ? max(k, kind.r, prompt) : prompt
    func offload(_ step: Int, _ l: Int, _ sets: [[Int]]) {
      onHost = kind.isLRQK && l <= k + w ? k : l
      each(layer.M, step, .deviceToHost, onHost, .promptOffload)
      held = needs(sets)
      flush(step, l)
    }
    if start == prompt {
      offload(0, prompt, first)
      if kind.parks { park(0, .deviceToHost, prompt) }
    }
    for (i, step) in run.steps.enumerated() {
      let l = prompt + i + 1
      let ring = kind.isLRQK ? max(k, l - w) : max(0, l - w)  // its oldest token
      let sets = step.attended.map { $0.filter { $0 < ring } }
      if start > prompt && l < start {
        note(0, 0)
        continue
      }
      if start > prompt && l == start {
        note(0, 0)
        // Its sets are chosen after attention; all of 0 ..< k if that is all there is.
        offload(i + 1, l, l <= k + w ? sets : first)
        continue
      }
      if kind.parks && i == 0 && start == prompt { park(1, .hostToDevice, prompt) }
      flush(i + 1, l)
      let now = needs(sets)
      var (hit, missed) = (0, 0)
      for (s, (before, after)) in zip(held, now).enumerated() {
        let (there, not) = (after.intersection(before).count, after.subtracting(before).count)
        add(i + 1, s, .hostToDevice, not, .miss)
        if kind.movesAll && l > k + w { add(i + 1, s, .hostToDevice, there, .reload) }
        hit += there
        missed += not
      }
      held = now
      // While LRQK has all rows on the device, nothing is needed from the host.
      let isDense = kind.isLRQK && l <= k + w
      note(
        kind.movesAll || isDense ? 0 : hit, kind.movesAll && !isDense ? hit + missed : missed)
      if let n = kind.refresh, (i + 1) % n == 0 {
        each(layer.M, i + 1, .hostToDevice, onHost, .reload, bytes: layer.rowBytes / 2)
      }
    }
  }

  private mutating func note(_ hit: Int, _ missed: Int) {
    hits.append(hit)
    misses.append(missed)
  }

  /// What each holder of rows needs.
  private func needs(_ sets: [[Int]]) -> [Set<Int>] {
    if !kind.isShared { return sets.map(Set.init) }
    let G = layer.H / layer.M
    return (0..<layer.M).map { Set(sets[$0 * G..<($0 + 1) * G].joined()) }
  }

  private mutating func flush(_ step: Int, _ l: Int) {
    if l - onHost < kind.w { return }
    each(layer.M, step, .deviceToHost, kind.w, .ringFlush)
    onHost = l
  }

  private mutating func park(_ step: Int, _ direction: TransferDirection, _ l: Int) {
    for (s, rows) in held.enumerated() {
      add(step, s, direction, kind.w + max(kind.k, rows.count), .parkedRows)
    }
    let groups = kind.codesAreShared ? layer.M : layer.H
    each(groups, step, direction, l, .parkedCodes, bytes: kind.r * 4)
  }

  private mutating func each(
    _ heads: Int, _ step: Int, _ direction: TransferDirection, _ rows: Int,
    _ reason: TransferReason, bytes: Int? = nil
  ) {
    for head in 0..<heads { add(step, head, direction, rows, reason, bytes: bytes) }
  }

  private mutating func add(
    _ step: Int, _ head: Int, _ direction: TransferDirection, _ rows: Int,
    _ reason: TransferReason, bytes: Int? = nil
  ) {
    if rows == 0 { return }
    events.append(
      TransferEvent(
        step: step, layer: 3, head: head, direction: direction, rows: rows,
        bytes: rows * (bytes ?? layer.rowBytes), reason: reason))
  }
}

/// The sets that hold after the prompt, or after the step that ends collecting: exact ones for
/// top-k, those of the algorithm itself for LRQK.
private func firstSets(_ text: String, _ rows: Rows, prompt: Int) throws -> [[Int]] {
  let (kind, layer) = (Kind(text), rows.layer)
  if !kind.isLRQK {
    let oldest = layer.shape.visible(length: prompt).lowerBound
    return (0..<layer.H).map {
      rows.best(kind.k, $0, prompt - 1, among: oldest..<max(oldest, prompt - kind.w))
    }
  }
  var parameters = try Parameters(
    text.contains("recommended") ? .recommended : .paper, rank: kind.r, selected: kind.k,
    recent: kind.w)
  if text.contains("counts=pooled") { parameters.counts = .pooled }
  if text.contains("ranks=by-layer") {
    parameters.ranks = .spectrum(
      .byLayer, energy: text.contains("relative") ? .relative : .absolute)
  }
  if let n = kind.refresh { parameters.codes = .linear(refresh: .every(try RefreshSteps(n))) }
  var cache = try LRQKCache<Float>(
    queryHeads: layer.H, keyValueHeads: layer.M, width: layer.d, window: layer.window,
    parameters: parameters)
  let data = rows.prompt(max(prompt, kind.k, kind.r))
  var tiers = Tiers()
  try cache.prefill(queries: data.queries, keys: data.keys, values: data.values, tiers: &tiers)
  return cache.selected
}

@Suite struct MethodLedgerTests {
  @Test(
    arguments: sparseMethods.filter { $0.hasPrefix("lrqk") || $0.hasPrefix("topk") }, Layer.few)
  func `events, hits and misses follow from the attended sets`(_ text: String, _ layer: Layer)
    throws
  {
    if !layer.takes(text) { return }
    let rows = Rows(layer, tokens: 30)
    for prompt in promptLengths {
      let run = try Run(text, rows, prompt: prompt)
      let first = try firstSets(text, rows, prompt: prompt)
      let recount = Recount(text, run, rows, prompt: prompt, first: first)
      let place = zip(run.events, recount.events).enumerated().first { $0.1.0 != $0.1.1 }
      #expect(
        run.events == recount.events,
        "prompt \(prompt): \(run.events.count) events, \(recount.events.count) expected; first \(String(describing: place))"
      )
      #expect(run.steps.map(\.hitRows) == recount.hits, "prompt \(prompt)")
      #expect(run.steps.map(\.missedRows) == recount.misses, "prompt \(prompt)")
    }
  }

  @Test(arguments: ["topk:k=6,w=4", "lrqk:r=3,k=6,w=4", "lrqk-no-hit-miss:r=3,k=6,w=4"])
  func `some rows hit and some miss, and both together are k a head`(_ text: String) throws {
    let run = try Run(text, Rows(Layer(4, 2, 8), tokens: 60), prompt: 20)
    #expect(run.steps.allSatisfy { $0.hitRows + $0.missedRows == 4 * 6 })
    #expect(run.steps.contains { $0.missedRows > 0 && ($0.hitRows > 0 || text.contains("no-hit")) })
    let moved = run.events.filter { $0.step > 0 && $0.direction == .hostToDevice }
    if text.contains("no-hit") {
      #expect(moved.reduce(0) { $0 + $1.bytes } == 40 * 4 * 6 * 64)  // k rows a head and step
    } else {
      #expect(moved.reduce(0) { $0 + $1.rows } == run.steps.reduce(0) { $0 + $1.missedRows })
    }
    // The host gets the prompt, and every w steps the ring.
    let written = run.events.filter { $0.direction == .deviceToHost }
    #expect(written.reduce(0) { $0 + $1.rows } == 2 * (20 + 40))
    #expect(run.hostBytes.last == 2 * 60 * 64)
  }

  @Test(arguments: Layer.all)
  func `offload moves every visible row down and one row up`(_ layer: Layer) throws {
    for prompt in [1, 20] {
      let run = try Run("offload", Rows(layer, tokens: 40), prompt: prompt)
      var expected = (0..<layer.M).map {
        TransferEvent(
          step: 0, layer: 3, head: $0, direction: .deviceToHost, rows: prompt,
          bytes: prompt * layer.rowBytes, reason: .promptOffload)
      }
      var all = 0
      for l in prompt + 1...40 {
        let n = min(l, layer.window ?? l)
        for m in 0..<layer.M {
          expected += [
            TransferEvent(
              step: l - prompt, layer: 3, head: m, direction: .deviceToHost, rows: 1,
              bytes: layer.rowBytes, reason: .append),
            TransferEvent(
              step: l - prompt, layer: 3, head: m, direction: .hostToDevice, rows: n,
              bytes: n * layer.rowBytes, reason: .reload),
          ]
        }
        all += layer.M * n
        #expect(run.steps[l - prompt - 1].missedRows == layer.M * n)
        #expect(run.steps[l - prompt - 1].hitRows == 0)
      }
      #expect(run.events == expected)
      #expect(run.events.reduce(0) { $0 + $1.bytes } == (all + 40 * layer.M) * layer.rowBytes)
    }
  }

  @Test(arguments: sparseMethods.filter { $0 == "full" || $0.hasPrefix("streaming") }, Layer.all)
  func `methods without a host move nothing`(_ text: String, _ layer: Layer) throws {
    let run = try Run(text, Rows(layer, tokens: 40), prompt: 13)
    #expect(run.events.isEmpty && run.hostBytes.allSatisfy { $0 == 0 })
    #expect(run.steps.allSatisfy { $0.hitRows == 0 && $0.missedRows == 0 })
  }

  @Test(arguments: ["r=3,k=6,w=4", "preset=recommended,r=3,k=6,w=4,map-refresh=5"])
  func `parking, and moving everything, change what moves and nothing else`(_ options: String)
    throws
  {
    for layer in [Layer(4, 2, 8), Layer(3, 3, 16, window: 9)] {
      let rows = Rows(layer, tokens: 30)
      for prompt in [1, 6, 10, 21] {
        let plain = try Run("lrqk:" + options, rows, prompt: prompt)
        for other in ["lrqk-prefill-offload:", "lrqk-no-hit-miss:"] {
          let run = try Run(other + options, rows, prompt: prompt)
          #expect(run.steps.map(\.attention) == plain.steps.map(\.attention))
          #expect(run.steps.map(\.attended) == plain.steps.map(\.attended))
          let parked: Set<TransferReason> = [.parkedRows, .parkedCodes]
          let rest = run.events.filter { !parked.contains($0.reason) }
          #expect(rest == plain.events || other.hasPrefix("lrqk-no"))
          #expect(run.residentBytes.dropFirst() == plain.residentBytes.dropFirst())
        }
      }
    }
  }
}
