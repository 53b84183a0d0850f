// A generation, step by step: the format lrqk-trace/1.
//
// In:  what a recorder saw (TraceRecorder.swift), or a file that was written before.
// Out: one JSON object that other programs can read, too: Docs/viewer.md has the table of its keys.
//
// Most of what a head attends to in a step it attended to in the step before. So a step has no sets
// but differences: the tokens that came and those that went. Before step 1 every set is empty.
//
// Scores are whole numbers, in steps that the file names: a score of 1234 with a `score_step` of
// 0.01 is 12.34 ± 0.005. Only the `bestCount` tokens of largest exact score are listed.
//
// The next file, TraceRecorder.swift, is where the numbers come from.

package import TieredMemory

/// A prompt, its answer, and what every head attended to in every step.
package struct GenerationTrace: Codable, Equatable, Sendable {
  /// The format that this program writes, and the only one that it reads.
  package static let schema = "lrqk-trace/1"
  /// Tokens with the largest exact scores that are listed for a head and a step.
  package static let bestCount = 8
  /// A score, q · k / √d, is a multiple of this.
  package static let scoreStep = 0.01
  /// A share of attention is a multiple of this.
  package static let shareStep = 0.0001

  /// The format and its version: "lrqk-trace/1".
  package var schema: String
  /// The model's architecture.
  package var model: String
  /// The cache method in short, for a heading.
  package var name: String
  /// The cache method with all its options.
  package var cache: String
  /// Tokens of the prompt, which one pass took.
  package var promptTokens: Int
  /// The newest tokens, w, that lie in a ring of their own and not in slots.
  package var recentTokens: Int
  package var scoreStep: Double
  package var shareStep: Double
  /// All token ids: those of the prompt, then those after it.
  ///
  /// Step t feeds token promptTokens + t - 1, counted from 0.
  package var tokens: [Int]
  /// The text of every token; joined, the whole text.
  package var pieces: [String]
  package var layers: [Layer]
  /// What lay and moved after the prompt.
  package var prompt: Memory
  package var steps: [Step]

  enum CodingKeys: String, CodingKey {
    case schema, model, name, cache, tokens, pieces, layers, prompt, steps
    case promptTokens = "prompt_tokens"
    case recentTokens = "recent_tokens"
    case scoreStep = "score_step"
    case shareStep = "share_step"
  }

  /// The heads of one layer.
  package struct Layer: Codable, Equatable, Sendable {
    package var queryHeads: Int
    package var keyValueHeads: Int
    /// By row holder, the tokens in slots after the prompt; absent where no rows come from the
    /// host.
    package var slots: [[Int]]?

    enum CodingKeys: String, CodingKey {
      case slots
      case queryHeads = "query_heads"
      case keyValueHeads = "key_value_heads"
    }

    /// The query heads of each row holder.
    package var holderSize: Int? { slots.map { queryHeads / max(1, $0.count) } }
  }

  /// Bytes at the end of a step, and what the step moved.
  package struct Memory: Codable, Equatable, Sendable {
    /// Rows and bytes by direction, then by reason: the ledger's lines.
    package var moved: [String: [String: LedgerLine]]
    package var deviceBytes: Int
    package var hostBytes: Int

    enum CodingKeys: String, CodingKey {
      case moved
      case deviceBytes = "device_bytes"
      case hostBytes = "host_bytes"
    }
  }

  /// One decode step.
  package struct Step: Codable, Equatable, Sendable {
    package var memory: Memory
    package var layers: [LayerStep]
  }

  /// One step of one layer.
  package struct LayerStep: Codable, Equatable, Sendable {
    /// Rows that were needed from the host and lay on the device, over all row holders.
    package var hits: Int
    /// Rows that were copied from the host.
    package var misses: Int
    package var heads: [HeadStep]
  }

  /// One step of one query head.
  package struct HeadStep: Codable, Equatable, Sendable {
    /// Attended tokens that the head did not attend to in the step before, ascending.
    package var came: [Int]
    /// Tokens of the step before that it no longer attends to, ascending.
    package var gone: [Int]
    /// The share of exact attention that the attended tokens have, in share steps.
    package var mass: Int
    /// Of the attended tokens older than the ring, how many are among as many best ones.
    package var found: Int
    /// log Σ exp(score) over all tokens in sight, in score steps.
    package var norm: Int
    /// [token, exact score, the method's own score or null], the largest exact score first.
    package var best: [[Int?]]
  }
}

extension GenerationTrace {
  /// A number in steps of `step`, rounded to the nearest; beyond 2^31 steps, that bound.
  package static func inSteps(_ value: Double, of step: Double) -> Int {
    Int(min(max((value / step).rounded(), -0x1p31), 0x1p31))
  }

  /// Every step's attended tokens of one query head, ascending.
  package func attended(layer: Int, head: Int) -> [[Int]] {
    var set: Set<Int> = []
    return steps.map { step in
      let change = step.layers[layer].heads[head]
      set.subtract(change.gone)
      set.formUnion(change.came)
      return set.sorted()
    }
  }
}
