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
}

/// One method's result.
package struct PerplexityRow: Sendable, Equatable, Encodable {
  /// The method's brief text.
  package let cache: String
  /// All options in effect, and the method's name.
  package let options: [String: String]
  /// What the method's budget came to after a window's prompt.
  package let budget: BudgetUse
  /// How many tokens were scored.
  package let tokens: Int
  /// Mean of −log p, in nats.
  package let meanNegativeLogLikelihood: Double
  /// Standard error of that mean, as if tokens were independent; nil for one token.
  package let standardError: Double?
  /// exp of the mean.
  package let perplexity: Double
  /// Σ -log₂ p over the bytes of the scored tokens.
  package let bitsPerByte: Double
  /// Share of steps whose likeliest token is the first method's.
  package let sameTopToken: Double
  /// Mean over windows, on the device, at their ends.
  package let residentBytes: Int
  /// Bytes that a decode step moved, both ways, mean over all steps.
  package let movedBytesPerToken: Double
  /// Share of the rows needed from the host that lay on the device; nil where none was needed.
  package let hitRate: Double?
  /// Where the method attended to everything: what would make it leave tokens out.
  package let note: String?
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

  /// One row for each method; `log` is opened before anything runs.
  package func run(
    _ tokens: [Int], _ windows: PerplexityWindows, log: WindowLog = WindowLog()
  ) throws -> [PerplexityRow] {
    var records: [[WindowRecord]] = Array(repeating: [], count: methods.count)
    var bytes = 0
    let ends = byteEnds(tokens)
    for window in 0..<windows.count {
      let start = window * windows.stride
      let scored = start + windows.context..<start + windows.context + windows.stride
      bytes += ends[scored.upperBound] - ends[scored.lowerBound]
      let known = methods.map { log.record(.init(window: window, cache: $0.description)) }
      let open = methods.indices.filter { known[$0] == nil }
      var new: [WindowRecord] = []
      if !open.isEmpty {
        new = try score(window, Array(tokens[start...scored.upperBound]), windows, open)
        for record in new { try log.add(record) }
      }
      for n in methods.indices {
        records[n] += known[n].map { [$0] } ?? [new.removeFirst()]
      }
      onToken((window + 1) * windows.stride, windows.count * windows.stride)
    }
    return methods.indices.map { row(methods[$0], records[$0], records[0], windows, bytes) }
  }

  /// A window's record under each of the methods `open`; `tokens` are its prompt, its scored
  /// tokens and the one before them.
  private func score(
    _ window: Int, _ tokens: [Int], _ windows: PerplexityWindows, _ open: [Int]
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
      onToken(window * windows.stride + t - windows.context, windows.count * windows.stride)
    }
    for (n, state) in states.enumerated() {
      records[n].residentBytes = state.tiers.device.residentBytes
      records[n].movedBytes =
        state.tiers.ledger.events.reduce(0) { $0 + ($1.step > 0 ? $1.bytes : 0) }
    }
    return records
  }

  /// A method's result from its windows; `first` are those of the first method.
  private func row(
    _ method: any CacheMethod, _ records: [WindowRecord], _ first: [WindowRecord],
    _ windows: PerplexityWindows, _ bytes: Int
  ) -> PerplexityRow {
    let length = windows.context + windows.stride
    let losses = records.flatMap(\.losses)
    let n = Double(losses.count)
    let total = losses.reduce(0, +)
    let mean = total / n
    let variance = losses.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / max(1, n - 1)
    let same = zip(records.flatMap(\.tops), first.flatMap(\.tops)).count { $0.0 == $0.1 }
    func sum(_ count: (WindowRecord) -> Int) -> Int { records.reduce(0) { $0 + count($1) } }
    let (hits, misses) = (sum(\.hitRows), sum(\.missedRows))
    return PerplexityRow(
      cache: method.brief,
      options: Dictionary(method.options.map { ($0.name, $0.value) }) { first, _ in first }
        .merging(["method": type(of: method).name]) { $1 },
      budget: method.budgetUse(tokens: windows.context, layers: decoder.layerShapes),
      tokens: losses.count, meanNegativeLogLikelihood: mean,
      standardError: n > 1 ? (variance / n).squareRoot() : nil, perplexity: exp(mean),
      bitsPerByte: total / log(2) / Double(max(1, bytes)), sameTopToken: Double(same) / n,
      residentBytes: sum(\.residentBytes) / windows.count,
      movedBytesPerToken: Double(sum(\.movedBytes)) / n,
      hitRate: hits + misses == 0 ? nil : Double(hits) / Double(hits + misses),
      note: method.nothingLeftOut(length: length, layers: decoder.layerShapes))
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
