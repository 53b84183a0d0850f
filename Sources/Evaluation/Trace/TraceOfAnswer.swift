// From a finished generation, or a replayed recording, to its trace.
//
// In:  an answer whose caches had recorders, its method, the tokenizer if there is one.
// Out: the trace. Bytes and rows that moved are sums of the ledger's events, step by step.

package import CacheMethods
package import TieredMemory
package import Tokenizers
package import Transformers

extension GenerationTrace {
  /// The trace of `answer`; every layer's cache has a recorder among its wrappers.
  package init(
    _ answer: Generation, _ method: any CacheMethod, _ tokenizer: Tokenizer?, model: String
  ) throws(EvaluationError) {
    guard answer.states.count == 1 else {
      throw EvaluationError(
        "the rotary angles change within these tokens, so the prompt passes twice; a trace has one "
          + "pass: generate fewer tokens")
    }
    let tokens = answer.prompt + answer.given + answer.tokens
    self.init(
      answer.states[0].caches, events: answer.states[0].tiers.ledger.events, method, model: model,
      promptTokens: answer.prompt.count, tokens: tokens, pieces: Self.pieces(tokens, tokenizer))
  }

  /// The trace of one recorded layer whose cache was `cache`, a replay's.
  ///
  /// A recording has neither ids nor text, so a token's id and its text are its place.
  package init(
    recording cache: any KeyValueCache, events: [TransferEvent], _ method: any CacheMethod,
    model: String, promptTokens: Int
  ) {
    let places = Array(0..<cache.length)
    self.init(
      [cache], events: events, method, model: model, promptTokens: promptTokens, tokens: places,
      pieces: Self.pieces(places, nil))
  }

  /// What the recorders of all layers saw, and what the ledger's events moved.
  private init(
    _ caches: [any KeyValueCache], events all: [TransferEvent], _ method: any CacheMethod,
    model: String, promptTokens: Int, tokens: [Int], pieces: [String]
  ) {
    let recorders = caches.map { cache in
      guard let recorder = Self.recorder(in: cache) else {
        preconditionFailure("a trace is made of caches with recorders")
      }
      return recorder
    }
    let count = recorders.first?.steps.count ?? 0
    schema = Self.schema
    self.model = model
    name = method.brief
    cache = method.description
    self.promptTokens = promptTokens
    recentTokens = recorders.first?.recent ?? 1
    scoreStep = Self.scoreStep
    shareStep = Self.shareStep
    self.tokens = tokens
    self.pieces = pieces
    layers = recorders.map {
      Layer(
        queryHeads: $0.layer.queryHeads, keyValueHeads: $0.layer.keyValueHeads, slots: $0.slots)
    }
    var events: [[TransferEvent]] = Array(repeating: [], count: count + 1)
    for event in all { events[event.step].append(event) }
    let memory = events.indices.map { t in
      Memory(
        moved: TransferLedger.lines(events[t]),
        // The device is that of all layers: the last one's figure is the step's.
        deviceBytes: recorders.last?.bytes[t].device ?? 0,
        hostBytes: recorders.reduce(0) { $0 + $1.bytes[t].host })
    }
    prompt = memory[0]
    steps = (0..<count).map { t in
      Step(memory: memory[t + 1], layers: recorders.map { $0.steps[t] })
    }
  }

  /// The recorder among the wrappers of a cache.
  private static func recorder(in cache: any KeyValueCache) -> TraceRecorder? {
    (cache as? TraceRecorder) ?? (cache as? any WrappingCache).flatMap { recorder(in: $0.base) }
  }

  /// The text of each token, which is what is certain after it.
  ///
  /// So a character of several tokens stands with its last one. Without a tokenizer, the ids.
  private static func pieces(_ tokens: [Int], _ tokenizer: Tokenizer?) -> [String] {
    guard var stream = tokenizer?.makeStream(skippingSpecialTokens: false) else {
      return tokens.map { "\($0) " }
    }
    var pieces = tokens.map { stream.append($0) }
    if !pieces.isEmpty { pieces[pieces.count - 1] += stream.finish() }
    return pieces
  }
}
