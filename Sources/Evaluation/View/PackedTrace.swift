// A trace made small, for a page that carries it.
//
// In:  a trace.
// Out: one JSON object; what there is much of is a byte stream for each layer and head, in Base64.
//
//   sets      for each step: how many tokens changed, then those tokens as gaps. A token that was
//             there goes, any other comes: one list says both, and read backwards it undoes a step.
//   scores    for each step: norm, mass, found, how many best tokens; then for each of these the
//             token, how far its exact score is below the one before, and its own score: 0 for
//             none, else 1 + the difference from the exact one.
//
// Numbers are varints: seven bits a byte, the lowest first, the top bit set where more follow.
// Those that may be negative are folded: 0, -1, 1, -2 become 0, 1, 2, 3. Page/data.js reads all of
// this; TraceFileTests.swift reads it a second time.

import Foundation
import Reports
import TieredMemory

/// What the page carries of a trace.
package struct PackedTrace: Encodable, Sendable {
  package let model: String
  package let name: String
  package let cache: String
  package let promptTokens: Int
  package let recentTokens: Int
  package let scoreStep: Double
  package let shareStep: Double
  package let pieces: [String]
  package let layers: [Layer]
  /// Bytes moved, by "direction reason", of the prompt and then of each step.
  package let moved: [Moved]
  /// Bytes on the device and on the host, after the prompt and then after each step.
  package let device: [Int]
  package let host: [Int]

  /// One layer: counts of each step, and a stream for each query head.
  package struct Layer: Encodable, Sendable {
    package let slots: [[Int]]?
    package let hits: [Int]
    package let misses: [Int]
    package let sets: [String]
    package let scores: [String]
  }

  /// One kind of copies.
  package struct Moved: Encodable, Sendable {
    package let direction: String
    package let reason: String
    package let bytes: [Int]
  }

  /// What the page needs of `trace`, packed.
  package init(_ trace: GenerationTrace) {
    model = trace.model
    name = trace.name
    cache = trace.cache
    promptTokens = trace.promptTokens
    recentTokens = trace.recentTokens
    scoreStep = trace.scoreStep
    shareStep = trace.shareStep
    pieces = trace.pieces
    let memory = [trace.prompt] + trace.steps.map(\.memory)
    device = memory.map(\.deviceBytes)
    host = memory.map(\.hostBytes)
    moved = ["host_to_device", "device_to_host"].flatMap { direction in
      Set(memory.flatMap { ($0.moved[direction] ?? [:]).keys }).sorted().map { reason in
        Moved(
          direction: direction, reason: reason,
          bytes: memory.map { $0.moved[direction]?[reason]?.bytes ?? 0 })
      }
    }
    layers = trace.layers.indices.map { n in
      let steps = trace.steps.map { $0.layers[n] }
      let heads = 0..<trace.layers[n].queryHeads
      return Layer(
        slots: trace.layers[n].slots, hits: steps.map(\.hits), misses: steps.map(\.misses),
        sets: heads.map { h in Self.sets(steps.map { $0.heads[h] }) },
        scores: heads.map { h in Self.scores(steps.map { $0.heads[h] }) })
    }
  }

  private static func sets(_ steps: [GenerationTrace.HeadStep]) -> String {
    var stream = VarintStream()
    for step in steps {
      let changed = (step.came + step.gone).sorted()
      stream.add(changed.count)
      var next = 0
      for token in changed {
        stream.add(token - next)
        next = token + 1
      }
    }
    return stream.base64
  }

  private static func scores(_ steps: [GenerationTrace.HeadStep]) -> String {
    var stream = VarintStream()
    for step in steps {
      stream.add(folding: step.norm)
      stream.add(step.mass)
      stream.add(step.found)
      stream.add(step.best.count)
      var previous = step.norm
      for entry in step.best {
        let (token, exact) = (entry[0] ?? 0, entry[1] ?? 0)
        stream.add(token)
        stream.add(folding: previous - exact)
        // Folded, a number is not negative; one more makes room for "none".
        stream.add(entry[2].map { 1 + VarintStream.folded($0 - exact) } ?? 0)
        previous = exact
      }
    }
    return stream.base64
  }
}

/// Whole numbers as bytes, small numbers in one byte.
private struct VarintStream {
  private var bytes: [UInt8] = []

  var base64: String { Data(bytes).base64EncodedString() }

  /// Adds a number that is not negative.
  mutating func add(_ number: Int) {
    precondition(number >= 0, "\(number) must be folded")
    var rest = UInt(number)
    while rest >= 128 {
      bytes.append(UInt8(rest & 127) | 128)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }

  /// Adds any number.
  mutating func add(folding number: Int) { add(Self.folded(number)) }

  /// 0, -1, 1, -2, 2 as 0, 1, 2, 3, 4.
  static func folded(_ number: Int) -> Int { number >= 0 ? 2 * number : -2 * number - 1 }
}
