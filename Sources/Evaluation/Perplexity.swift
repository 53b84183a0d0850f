// How well a model predicts a text through a cache: teacher forcing.
//
// In:  token ids of a text, a context of C tokens, a stride of S tokens, cache methods, a log.
// Out: for every method the mean -log p over all scored tokens, its exponential, bits per byte.
//
//   window n   tokens n S ... n S + C - 1 are the prompt: full attention, one pass for all methods
//              then the S tokens t = n S + C ... one at a time through the cache; each step's
//              logits score token t + 1
//
//   nll = - log softmax(logits)[t + 1]       perplexity = exp(mean nll)
//   bits per byte = Σ nll / log 2 / bytes of the scored tokens    for models of any vocabulary
//   standard error = s / sqrt(n), as if tokens were independent
//
// Every scored token has at least C tokens before it and is predicted through the cache; no logits
// of a prompt are scored. Every window starts with new caches. A beginning-of-text token, where
// the tokenizer adds one, stands before the text once, not before every window.
//
// A window is computed once: what the log has of it is taken from there, and a method that it lacks
// runs alone. A row of a batched product has the same bits as the row alone, so a run that was
// killed and continued ends with the numbers of one that was not.

package import CacheMethods
import Foundation
import Tensors
import TieredMemory
package import Tokenizers
package import Transformers

/// Which stretches of a text are scored.
package struct PerplexityWindows: Sendable, Equatable {
  /// C, tokens of a window's prompt.
  package let context: Int
  /// S, scored tokens of a window.
  package let stride: Int
  /// Number of windows.
  package let count: Int

  /// The windows of a text of `tokens` tokens, at most `limit` of them.
  package init(tokens: Int, context: Int, stride: Int, limit: Int?) throws(EvaluationError) {
    precondition(context >= 1 && stride >= 1 && limit ?? 1 >= 1, "windows of at least one token")
    self.context = context
    self.stride = stride
    let all = (tokens - context - 1) / stride
    if tokens < context + stride + 1 {
      throw EvaluationError(
        "the text has \(tokens) tokens, and one window takes \(context + stride + 1): the context "
          + "\(context), the stride \(stride), and one more; take smaller ones or a longer text")
    }
    count = min(all, limit ?? all)
  }

  /// The windows of a log's head.
  init(context: Int, stride: Int, count: Int) {
    self.context = context
    self.stride = stride
    self.count = count
  }

  /// The scored tokens of a window.
  func scored(_ window: Int) -> Range<Int> {
    let start = window * stride + context
    return start..<start + stride
  }
}

/// Scores a text.
package struct Perplexity {
  private let decoder: Decoder
  private let tokenizer: Tokenizer
  private let methods: [any CacheMethod]
  /// Hears of every scored token: how many, of how many.
  package var onToken: (_ done: Int, _ total: Int) -> Void = { _, _ in }

  /// Scores with a model under several methods.
  package init(_ decoder: Decoder, _ tokenizer: Tokenizer, methods: [any CacheMethod]) {
    precondition(!methods.isEmpty, "at least one method")
    self.decoder = decoder
    self.tokenizer = tokenizer
    self.methods = methods
  }

  /// One row for each method, of all windows or of those of a part; `log` is opened before anything
  /// runs.
  package func run(
    _ tokens: [Int], _ windows: PerplexityWindows, shard: Shard? = nil,
    log: WindowLog = WindowLog()
  ) throws -> [PerplexityRow] {
    var records: [[WindowRecord]] = Array(repeating: [], count: methods.count)
    let own = ownSamples(shard, of: windows.count)
    for (place, window) in own.enumerated() {
      let start = window * windows.stride
      let end = windows.scored(window).upperBound
      let known = methods.map { log.record(.init(window: window, cache: $0.description)) }
      let open = methods.indices.filter { known[$0] == nil }
      var new: [WindowRecord] = []
      if !open.isEmpty {
        new = try score(window, Array(tokens[start...end]), windows, open) { done in
          onToken(place * windows.stride + done, own.count * windows.stride)
        }
        for record in new { try log.add(record) }
      }
      for n in methods.indices {
        records[n] += known[n].map { [$0] } ?? [new.removeFirst()]
      }
      onToken((place + 1) * windows.stride, own.count * windows.stride)
    }
    let bytes = scoredBytes(tokens, windows, shard: shard)
    return methods.indices.map {
      PerplexityRow(
        methods[$0], shard, records[$0], first: records[0], windows, bytes: bytes,
        layers: decoder.layerShapes)
    }
  }

  /// UTF-8 bytes of the tokens that all windows score, or those of a part.
  package func scoredBytes(
    _ tokens: [Int], _ windows: PerplexityWindows, shard: Shard? = nil
  ) -> Int {
    let ends = byteEnds(tokens)
    return ownSamples(shard, of: windows.count).map { windows.scored($0) }
      .reduce(0) { $0 + ends[$1.upperBound] - ends[$1.lowerBound] }
  }

  /// A window's record under each of the methods `open`; `tokens` are its prompt, its scored
  /// tokens and the one before them.
  private func score(
    _ window: Int, _ tokens: [Int], _ windows: PerplexityWindows, _ open: [Int],
    onToken: (_ done: Int) -> Void
  ) throws -> [WindowRecord] {
    for length in windows.context..<windows.context + windows.stride
    where decoder.configuration.needsNewPrompt(at: length) {
      throw EvaluationError(
        "the model's rotary frequencies change at \(length) tokens, inside of a window; choose a "
          + "context beyond it or a shorter window")
    }
    let states = try open.map { n in
      let method = methods[n]
      let state = DecodingState(
        caches: try decoder.layerShapes.map { try method.makeCache(for: $0) }, tiers: Tiers())
      state.repetition = repetitionWords(method, tokenizer)
      return state
    }
    var records = open.map { WindowRecord(window: window, methods[$0]) }
    _ = try decoder.prefill(Array(tokens[..<windows.context]), states: states, logits: .none)
    for t in windows.context..<windows.context + windows.stride {
      let logits = try decoder.decode(
        Array(repeating: tokens[t], count: open.count), states: states)
      for n in open.indices {
        let row = logits.row(n)
        records[n].losses.append(Self.loss(row, tokens[t + 1]))
        records[n].tops.append(Self.top(row))
        for step in states[n].lastSteps {
          records[n].hitRows += step.hitRows
          records[n].missedRows += step.missedRows
        }
      }
      onToken(t - windows.context)
    }
    for (n, state) in states.enumerated() {
      records[n].residentBytes = state.tiers.device.residentBytes
      records[n].movedBytes =
        state.tiers.ledger.events.reduce(0) { $0 + ($1.step > 0 ? $1.bytes : 0) }
    }
    return records
  }

  /// -log softmax(z)[token], in Double.
  static func loss(_ z: [Float], _ token: Int) -> Double {
    let top = Double(z.max() ?? 0)
    let sum = z.reduce(0.0) { $0 + exp(Double($1) - top) }
    return top + log(sum) - Double(z[token])
  }

  /// The lowest index of the largest logit.
  private static func top(_ z: [Float]) -> Int {
    var best = 0
    for i in z.indices where z[i] > z[best] { best = i }
    return best
  }

  /// How many UTF-8 bytes of text have come out after each token.
  private func byteEnds(_ tokens: [Int]) -> [Int] {
    var stream = tokenizer.makeStream()
    var bytes = 0
    return tokens.map { token in
      bytes += stream.append(token).utf8.count
      return bytes
    }
  }
}
