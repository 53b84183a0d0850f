// From a finished generation to its trace.
//
// In:  an answer whose caches had recorders, its method, the tokenizer if there is one.
// Out: the trace. Bytes and rows that moved are sums of the ledger's events, step by step.

package import CacheMethods
import TieredMemory
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
    let state = answer.states[0]
    let recorders = state.caches.map { cache in
      guard let recorder = Self.recorder(in: cache) else {
        preconditionFailure("a trace is made of caches with recorders")
      }
      return recorder
    }
    schema = Self.schema
    self.model = model
    name = method.brief
    cache = method.description
    promptTokens = answer.prompt.count
    recentTokens = recorders.first?.recent ?? 1
    scoreStep = Self.scoreStep
    shareStep = Self.shareStep
    tokens = answer.prompt + answer.given + answer.tokens
    pieces = Self.pieces(tokens, tokenizer)
    layers = recorders.map {
      Layer(
        queryHeads: $0.layer.queryHeads, keyValueHeads: $0.layer.keyValueHeads, slots: $0.slots)
    }
    var events: [[TransferEvent]] = Array(repeating: [], count: answer.steps + 1)
    for event in state.tiers.ledger.events { events[event.step].append(event) }
    let memory = events.indices.map { t in
      Memory(
        moved: TransferLedger.lines(events[t]),
        // The device is that of all layers: the last one's figure is the step's.
        deviceBytes: recorders.last?.bytes[t].device ?? 0,
        hostBytes: recorders.reduce(0) { $0 + $1.bytes[t].host })
    }
    prompt = memory[0]
    steps = (0..<answer.steps).map { t in
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
