// Bytes and copies of every method, recounted from the sets alone.
//
// In:  `selectingRivals`, `keepingRivals` and `holdingRivals` over random sequences.
// Out: buffers against the closed form, and events against what the attended sets say must have
//      moved: each row that a holder needs and did not have, and no other.

import CacheMethods
import Tensors
import Testing
import TieredMemory
import Transformers

/// The query heads of each holder of rows.
private func holders(_ count: Int, _ layer: Layer) -> [Range<Int>] {
  let size = layer.H / count
  return (0..<count).map { $0 * size..<($0 + 1) * size }
}

/// What every holder needs of older tokens at each step: the union of its heads' sets.
private func needs(_ step: AttendedStep, _ holders: [Range<Int>], below ring: Int) -> [Set<Int>] {
  holders.map { heads in Set(heads.flatMap { step.attended[$0].filter { $0 < ring } }) }
}

@Suite struct RivalLedgerTests {
  @Test(arguments: selectingRivals + keepingRivals + holdingRivals, Layer.all)
  func `bytes after the prompt are those of the buffers and of the host`(
    _ text: String, _ layer: Layer
  ) throws {
    let method = try rival(text, layer)
    if !method.applies(to: layer.shape) || exception(text, .bytes) != nil { return }
    for prompt in promptLengths + [12, 16, 22, 59] {
      let run = try Run(text, Rows(layer, tokens: prompt), prompt: prompt)
      let bytes = method.bytes(tokens: prompt, layer: layer.shape)
      #expect(run.liveBuffers.reduce(0) { $0 + $1.bytes } == run.residentBytes[0])
      if bytes.isUpperBound {
        #expect(run.residentBytes[0] <= bytes.device, "prompt \(prompt)")
        #expect(run.hostBytes[0] <= bytes.host, "prompt \(prompt)")
      } else {
        #expect(run.residentBytes[0] == bytes.device, "prompt \(prompt)")
        #expect(run.hostBytes[0] == bytes.host, "prompt \(prompt)")
      }
    }
  }

  @Test(
    arguments: selectingRivals + keepingRivals + holdingRivals,
    [Layer(4, 2, 16), Layer(3, 3, 16, window: 9)])
  func `a device of the peak is enough, and one byte less is not`(_ text: String, _ layer: Layer)
    throws
  {
    if !(try rival(text, layer).applies(to: layer.shape)) { return }
    let rows = Rows(layer, tokens: 40)
    for prompt in [3, 25] {
      let free = try Run(text, rows, prompt: prompt)
      #expect(free.peakBytes >= free.residentBytes.max() ?? 0)
      let tight = try Run(text, rows, prompt: prompt, capacity: free.peakBytes)
      #expect(tight.steps.map(\.attention) == free.steps.map(\.attention))
      #expect(throws: DeviceTierError.self) {
        _ = try Run(text, rows, prompt: prompt, capacity: free.peakBytes - 1)
      }
    }
  }

  @Test(arguments: selectingRivals, [Layer(4, 2, 16), Layer(3, 3, 16, window: 17)])
  func `what comes from the host is what a holder needs and has not`(
    _ text: String, _ layer: Layer
  ) throws {
    let method = try rival(text, layer)
    if !method.applies(to: layer.shape) || exception(text, .exactRows) != nil { return }
    let run = try Run(text, Rows(layer, tokens: 50), prompt: 25)
    let isShared = method.options.contains {
      $0.name == "transfers" && $0.value == "per-key-value-head"
    }
    let holders = holders(isShared ? layer.M : layer.H, layer)
    var before: [Set<Int>]?
    for (i, step) in run.steps.enumerated() {
      let now = needs(step, holders, below: 26 + i - method.recentTokens)
      let misses = run.events.filter { $0.step == i + 1 && $0.reason == .miss }
      if let before {
        let missing = zip(now, before).map { $0.subtracting($1).count }
        for (s, count) in missing.enumerated() {
          #expect(misses.filter { $0.head == s }.reduce(0) { $0 + $1.rows } == count)
        }
        #expect(step.missedRows == missing.reduce(0, +))
        #expect(step.hitRows + step.missedRows == now.reduce(0) { $0 + $1.count })
      }
      for event in misses { #expect(event.bytes == event.rows * layer.rowBytes) }
      before = now
    }
  }

  @Test(arguments: selectingRivals)
  func `the same query again brings nothing where it chooses the same rows`(_ text: String) throws {
    let layer = Layer(4, 2, 16)
    if !(try rival(text, layer).applies(to: layer.shape)) { return }
    if exception(text, .repeats) != nil { return }
    var same = 0
    for seed in 1...8 {
      var rows = Rows(layer, tokens: 26, seed: UInt64(seed))
      // The second of two equal queries sees one more older token, whose key is zero.
      rows.keys = rows.keys.map { keys in
        Tensor(rows: (0..<26).map { $0 < 18 ? keys.row($0) : [Float](repeating: 0, count: 16) })
      }
      rows.queries = rows.queries.map { $0.replacingLast(by: 24) }
      rows.queriesBefore = rows.queriesBefore.map { $0.replacingLast(by: 24) }
      let run = try Run(text, rows, prompt: 24)
      let older = run.steps.map { $0.attended.map { $0.filter { $0 < 20 } } }
      if older[0] != older[1] { continue }
      same += 1
      #expect(run.steps[1].missedRows == 0)
      #expect(!run.events.contains { $0.step == 2 && $0.reason == .miss })
    }
    #expect(same > 0, "a seed at which both choose the same rows")
  }

  @Test(arguments: keepingRivals, [Layer(4, 2, 8), Layer(3, 3, 16)])
  func `dropped rows move only when they are parked, each once`(_ text: String, _ layer: Layer)
    throws
  {
    let method = try rival(text, layer)
    if !method.applies(to: layer.shape) { return }
    for prompt in [1, 5, 21] {
      let rows = Rows(layer, tokens: 40)
      let isParked = method.options.contains { $0.name == "dropped" && $0.value == "parked" }
      if !isParked {
        let run = try Run(text, rows, prompt: prompt)
        #expect(run.events.isEmpty && run.hostBytes.allSatisfy { $0 == 0 })
      }
      if !method.optionList.contains(where: { $0.name == "dropped" }) { continue }
      let run = try Run(isParked ? text : text + ",dropped=parked", rows, prompt: prompt)
      let plain = try Run(text, rows, prompt: prompt)
      #expect(run.steps.map(\.attention) == plain.steps.map(\.attention))
      let count = method.bytes(tokens: 1, layer: layer.shape).deviceRows / layer.rowBytes
      #expect(run.events.allSatisfy { $0.reason == .parked && $0.direction == .deviceToHost })
      #expect(run.events.allSatisfy { $0.bytes == $0.rows * layer.rowBytes })
      for (i, next) in run.steps.enumerated() {
        let gone = run.events.filter { $0.step <= i }
        #expect(run.hostBytes[i] == gone.reduce(0) { $0 + $1.bytes })
        for (s, heads) in holders(count, layer).enumerated() {
          let held = next.attended[heads.lowerBound].count - 1
          let parked = gone.filter { $0.head == s }.reduce(0) { $0 + $1.rows }
          #expect(held + parked == prompt + i, "a row is here or there")
        }
      }
    }
  }
}

extension CacheMethod {
  /// The options of this method's type.
  fileprivate var optionList: [MethodOption] { Self.optionList }
}

extension Tensor where Element == Float {
  /// The last row replaced by row `i`.
  fileprivate func replacingLast(by i: Int) -> Tensor {
    Tensor(rows: (0..<rows).map { row($0 == rows - 1 ? i : $0) })
  }
}
