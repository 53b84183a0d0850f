// A part of a run: what one machine computes where several share the work.
//
// In:  a text "2/3": part 2 of 3.
// Out: which samples belong to it.
//
//   sample s of every task and length, and window s of a text, belongs to part  s mod n + 1
//
// So every part has a sample of every task and length, parts differ by one sample at most, and what
// belongs to a part depends on nothing else: neither on tasks nor on methods. No sample depends on
// another one, so parts put together are the whole run, to the bit (ShardLogs.swift). A run has at
// most as many parts as samples: an empty part would be a machine without work.
//
// These shards are parts of an evaluation. A recipe's shards are tapes of a training step, those of
// a checkpoint files of weights.
//
// Source: ours.

/// One of n parts of a run.
package struct Shard: Sendable, Hashable, Codable, CustomStringConvertible {
  /// Which part, from 1 to `count`.
  package let number: Int
  /// How many parts there are, n.
  package let count: Int

  /// Part `number` of `count`.
  package init(_ number: Int, of count: Int) {
    precondition(count >= 1 && 1...count ~= number, "part \(number) of \(count)")
    self.number = number
    self.count = count
  }

  /// Reads "2/3"; nil where the text is no part of a run.
  package init?(_ text: String) {
    let sides = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    let numbers = sides.compactMap(Int.init)
    guard sides.count == 2, numbers.count == 2, numbers.map(String.init) == sides,
      numbers[0] >= 1, numbers[0] <= numbers[1], numbers[1] <= 1 << 20
    else { return nil }
    self.init(numbers[0], of: numbers[1])
  }

  /// Reads the text of a log's head.
  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    guard let shard = Shard(try container.decode(String.self)) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "no part of a run")
    }
    self = shard
  }

  /// Writes the text for a log's head.
  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }

  /// The text that makes it again: "2/3".
  package var description: String { "\(number)/\(count)" }

  /// Whether sample (or window) `sample`, counted from 0, belongs to it.
  package func contains(_ sample: Int) -> Bool { sample % count == number - 1 }

  /// The numbers of its samples among `total` ones, in their order.
  package func samples(of total: Int) -> [Int] {
    Array(stride(from: number - 1, to: total, by: count))
  }

  /// Throws where some part of `total` samples (or windows: `what`) would be empty.
  package func check(_ total: Int, _ what: String) throws(EvaluationError) {
    if count > total {
      throw EvaluationError(
        "--shard \(self): there are \(total) \(what), and every shard takes at least one; take at "
          + "most \(total) shards")
    }
  }
}

/// The numbers of a run's samples, or those of a part of it.
func ownSamples(_ shard: Shard?, of total: Int) -> [Int] {
  shard?.samples(of: total) ?? Array(0..<total)
}
