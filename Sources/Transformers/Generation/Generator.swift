// From prompts to answers: one token at a time, several prompts side by side.
//
// In:  prompts as token ids (or one that several sequences share), a way to make caches, a limit.
// Out: each prompt's answer, the state its caches ended in, and how long both phases took.
//
//   prefill   each prompt alone, all its tokens at once
//   decode    the newest token of every unfinished sequence together: the weights are read once a
//             step for 31 sequences at a time; attention is each sequence's own
//
// A sequence depends on its own prompt and its place in the batch alone: it has its own caches and
// tiers, its draws are a stream of that number, and a row of a batched product has the same bits as
// the row alone. So a batch gives greedily what its prompts give one by one.
//
// Where the rotary frequencies change with the length (Phi-3's long factors), the cached keys were
// rotated by other angles than the new ones: the sequence is prefilled again at that point, as the
// `transformers` library does. Its new state starts a new ledger; `states` keeps both.

import TieredMemory
import Tensors

/// One prompt and its answer.
public final class Generation {
  /// Token ids of the prompt, which one pass takes.
  public let prompt: [Int]
  /// Tokens after the prompt that decode steps took before the answer.
  public let given: [Int]
  /// Token ids of the answer, after those that were given; an end-of-text token that ended it is
  /// the last one.
  public fileprivate(set) var tokens: [Int] = []
  /// The state of the sequence: one, or one more for every time that the prompt was prefilled
  /// again.
  public fileprivate(set) var states: [DecodingState]
  /// Decode steps of all states.
  public fileprivate(set) var steps = 0
  /// Rows that were needed from the host in these steps, over layers and row stores: those that
  /// lay on the device already, and those that were copied.
  public fileprivate(set) var needed = (hits: 0, misses: 0)
  /// True when an end-of-text token ended the answer, false when the limit did.
  public fileprivate(set) var isEnded = false
  /// True when `Generator.goesOn` ended the answer.
  public fileprivate(set) var isStopped = false
  fileprivate var sampler: Sampler
  /// Everything after the prompt so far: given tokens, then the answer.
  fileprivate var later: [Int] = []

  fileprivate init(prompt: [Int], given: [Int], state: DecodingState, sampler: Sampler) {
    self.prompt = prompt
    self.given = given
    states = [state]
    self.sampler = sampler
  }
}

/// Generates answers with one decoder.
public struct Generator {
  /// What the batch took; prompts count all their tokens, an answer's first token comes out of
  /// prefill.
  public struct Times: Sendable {
    /// Prompt tokens, and the seconds they took.
    public fileprivate(set) var prefill = (tokens: 0, seconds: 0.0)
    /// Tokens that decode steps produced, over all sequences, and the seconds they took.
    public fileprivate(set) var decode = (tokens: 0, seconds: 0.0)
  }

  /// The model that answers.
  public let decoder: Decoder
  /// How tokens are chosen.
  public var sampling = Sampling()
  /// Most tokens in an answer.
  public var limit: Int
  /// Tokens after every prompt that come one by one, as decode steps: what a cache chose for a
  /// question is then the method's own, where a prompt's own pass attends in full.
  public var given: [Int] = []
  /// Tokens that end an answer.
  public var endOfText: Set<Int>
  /// Bytes that each sequence's device holds; nil sets no limit.
  public var deviceCapacity: Int?
  /// An empty cache for a layer of a sequence.
  public var makeCache: (_ sequence: Int, LayerShape) throws -> any KeyValueCache
  /// The words that ask a sequence's model for a repetition, where its caches need one.
  public var repetition: (_ sequence: Int) -> RepetitionWords = { _ in RepetitionWords() }
  /// Hears every new token.
  public var onToken: (_ sequence: Int, _ token: Int) -> Void = { _, _ in }
  /// Asked after every new token; false ends the sequence's answer there.
  public var goesOn: (_ sequence: Int) -> Bool = { _ in true }
  /// What the last call of `generate` took.
  public private(set) var times = Times()

  /// A greedy generator that stops at the model's end-of-text tokens.
  public init(
    _ decoder: Decoder, limit: Int,
    makeCache: @escaping (_ sequence: Int, LayerShape) throws -> any KeyValueCache
  ) {
    self.decoder = decoder
    self.limit = limit
    self.makeCache = makeCache
    endOfText = decoder.configuration.endOfText
  }

  /// The answers to all prompts.
  public mutating func generate(_ prompts: [[Int]]) throws -> [Generation] {
    precondition(limit >= 0, "an answer of \(limit) tokens")
    times = Times()
    var all: [Generation] = []
    for (n, prompt) in prompts.enumerated() {
      let generation = Generation(
        prompt: prompt, given: given, state: try newState(n),
        sampler: Sampler(sampling, sequence: n))
      all.append(generation)
      try prefill(all, n..<n + 1)
    }
    return try finish(all)
  }

  /// The answers of `sequences` sequences to one prompt, which passes through the model once.
  ///
  /// Each is what the prompt alone would give with the same caches, to the bit; the sequence
  /// numbers tell `makeCache` whose cache to make.
  public mutating func generate(_ prompt: [Int], sequences: Int) throws -> [Generation] {
    precondition(sequences >= 1, "\(sequences) answers")
    return try generate(prompt, given: Array(repeating: given, count: sequences))
  }

  /// The same for sequences that go on differently: `given` has the tokens that each one takes
  /// step by step before its answer, in place of the generator's own.
  public mutating func generate(_ prompt: [Int], given: [[Int]]) throws -> [Generation] {
    precondition(limit >= 0 && !given.isEmpty, "\(given.count) answers of \(limit) tokens")
    times = Times()
    let all = try given.enumerated().map { n, own in
      Generation(
        prompt: prompt, given: own, state: try newState(n),
        sampler: Sampler(sampling, sequence: n))
    }
    try prefill(all, 0..<given.count)
    return try finish(all)
  }

  /// One more answer of a sequence that goes on: `tokens` are all of it, those that the state of
  /// `before` has taken and those that come now.
  ///
  /// The new ones come as decode steps, as `given` tokens do, and the answer has the bits of one
  /// that was generated with all of them given. Returns nil where `tokens` do not begin with what
  /// the state has taken, or add nothing to it: a new prompt is needed then.
  public mutating func goOn(_ before: Generation, to tokens: [Int]) throws -> Generation? {
    // The last token of an answer was not fed back.
    let taken = (before.prompt + before.later).dropLast()
    guard !before.later.isEmpty, let state = before.states.last, tokens.count > taken.count,
      tokens.starts(with: taken)
    else { return nil }
    times = Times()
    let generation = Generation(
      prompt: before.prompt, given: Array(tokens[before.prompt.count...]), state: state,
      sampler: Sampler(sampling))
    generation.later = Array(tokens[before.prompt.count...taken.count])
    return try finish([generation])[0]
  }

  /// Steps until every sequence has ended.
  private mutating func finish(_ all: [Generation]) throws -> [Generation] {
    while true {
      let open = all.indices.filter {
        !all[$0].isEnded && !all[$0].isStopped && all[$0].tokens.count < limit
      }
      if open.isEmpty { return all }
      try step(all, open)
    }
  }

  /// One more token for each of the sequences `open`.
  private mutating func step(_ all: [Generation], _ open: [Int]) throws {
    var batch: [Int] = []
    for n in open {
      let length = all[n].prompt.count + all[n].later.count
      if decoder.configuration.needsNewPrompt(at: length) {
        all[n].states.append(try newState(n))
        try prefill(all, n..<n + 1)
      } else {
        batch.append(n)
      }
    }
    if batch.isEmpty { return }
    let start = ContinuousClock.now
    let logits = try decoder.decode(
      batch.map { all[$0].later[all[$0].later.count - 1] },
      states: batch.map { all[$0].states[all[$0].states.count - 1] })
    for (row, n) in batch.enumerated() {
      all[n].steps += 1
      for step in all[n].states[all[n].states.count - 1].lastSteps {
        all[n].needed.hits += step.hitRows
        all[n].needed.misses += step.missedRows
      }
      try choose(all[n], n, logits.row(row))
    }
    times.decode.seconds += (ContinuousClock.now - start) / .seconds(1)
    times.decode.tokens += batch.count
  }

  /// Everything so far through the decoder at once, for sequences that are equal so far.
  private mutating func prefill(_ all: [Generation], _ sequences: Range<Int>) throws {
    let start = ContinuousClock.now
    let first = all[sequences.lowerBound]
    let tokens = first.prompt + first.later
    let logits = try decoder.prefill(
      tokens, states: sequences.map { all[$0].states[all[$0].states.count - 1] }, logits: .last)
    if limit > 0 {
      for (n, own) in zip(sequences, logits) { try choose(all[n], n, own.row(0)) }
    }
    times.prefill.seconds += (ContinuousClock.now - start) / .seconds(1)
    times.prefill.tokens += tokens.count
  }

  private func choose(_ generation: Generation, _ sequence: Int, _ logits: [Float]) throws {
    if generation.later.count < generation.given.count {
      generation.later.append(generation.given[generation.later.count])
      return
    }
    let token = try generation.sampler.next(
      logits, after: generation.prompt + generation.later)
    generation.later.append(token)
    generation.tokens.append(token)
    generation.isEnded = endOfText.contains(token)
    onToken(sequence, token)
    generation.isStopped = !goesOn(sequence)
  }

  private func newState(_ sequence: Int) throws -> DecodingState {
    let caches = try decoder.layerShapes.map { try makeCache(sequence, $0) }
    let state = DecodingState(caches: caches, tiers: Tiers(capacity: deviceCapacity))
    state.repetition = repetition(sequence)
    return state
  }
}
