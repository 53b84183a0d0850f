// The pass of a prompt.
//
// In:  a prompt's tokens; sequences whose caches are empty.
// Out: logits of the prompt; every cache has its layer's rows.
//
//   0. an assistant takes the prompt, where a sequence's caches need one (Assistant.swift)
//   1. x = the embedding's rows of the tokens, at positions 0, 1, 2, ...
//   2. layer after layer: queries, keys and values; attention; the caches take the rows
//   3. what comes after the last layer: a repetition (Decoder+Repetition.swift), a joint decision
//
// Sequences that have a prompt in common share one pass: nothing in it depends on their caches. A
// cache that attends for the prompt itself (`PromptAttending`) changes what the layers behind it
// see, so a sequence with such caches has a pass of its own.

public import Tensors

extension Decoder {
  /// A whole prompt, from position 0: its logits; the caches of `state` take its rows.
  ///
  /// Without a state, or with one that has no caches, nothing is kept. Throws a DecoderError, or
  /// whatever a cache throws; the state is then not to be used again.
  public func prefill(
    _ tokens: [Int], state: DecodingState? = nil, logits: LogitRows
  ) throws -> Tensor<Float> {
    try prefill(tokens, states: state.map { [$0] } ?? [], logits: logits)[0]
  }

  /// A whole prompt that several sequences have in common: its rows to the caches of all.
  ///
  /// Each state is left as if the prompt had been its own. The logits are those of each state, or
  /// of the prompt alone where there are none.
  public func prefill(
    _ tokens: [Int], states: [DecodingState], logits: LogitRows
  ) throws -> [Tensor<Float>] {
    if tokens.isEmpty { throw DecoderError.emptyPrompt }
    precondition(
      Set(states.map(ObjectIdentifier.init)).count == states.count
        && states.allSatisfy {
          $0.caches.isEmpty || $0.caches.count == configuration.layers && $0.length == 0
        },
      "a prompt needs fresh states with one cache for each of \(configuration.layers) layers")
    var passes = states.indices.filter { attendsItself(states[$0]) }.map { [$0] }
    let shared = states.indices.filter { !attendsItself(states[$0]) }
    if passes.isEmpty || !shared.isEmpty { passes.append(shared) }
    let none = Tensor<Float>(shape: [0, configuration.vocabulary], elements: [])
    var results = Array(repeating: none, count: max(1, states.count))
    for pass in passes {
      let found = try self.pass(tokens, pass.map { states[$0] }, logits: logits)
      for n in pass.isEmpty ? [0] : pass { results[n] = found }
    }
    return results
  }

  /// Whether a sequence's caches change what the prompt's layers compute.
  private func attendsItself(_ state: DecodingState) -> Bool {
    state.caches.contains { $0.needs.contains(.promptAttention) }
  }

  /// One pass of a prompt, for sequences that share it.
  private func pass(
    _ tokens: [Int], _ states: [DecodingState], logits: LogitRows
  ) throws -> Tensor<Float> {
    for state in states { try startAssistant(tokens, state) }
    var x = try embed(tokens)
    let rotations = configuration.rotary.rotations(
      positions: Array(tokens.indices), length: tokens.count)
    for (layer, block) in weights.blocks.enumerated() {
      let needs = Self.needs(of: states, layer)
      try block.attention.shape.check(needs)
      var attend: ((PromptRows) throws -> [Tensor<Float>])?
      if needs.contains(.promptAttention), let state = states.first {
        attend = { try self.answers(to: $0, layer, state) }
      }
      x = try block.prompt(x, rotations, needs: needs, attend: attend) { rows in
        var rows = rows
        if needs.contains(.tokens) { rows.tokens = tokens }
        for state in states where !state.caches.isEmpty {
          rows.assistant = state.assistant?.rows
          try state.caches[layer].prefill(rows, tiers: &state.tiers)
        }
      }
    }
    for state in states {
      state.length = tokens.count
      try repeatContext(tokens, state)
      try settleTogether(&state.caches, tiers: &state.tiers)
    }
    switch logits {
    case .all: return try self.logits(x)
    case .last: return try self.logits(x.rows(x.rows - 1..<x.rows))
    case .none: return Tensor(shape: [0, configuration.vocabulary], elements: [])
    }
  }

  /// What a layer's cache answers to the prompt, (l, d) for each query head.
  private func answers(
    to rows: PromptRows, _ layer: Int, _ state: DecodingState
  ) throws -> [Tensor<Float>] {
    guard var cache = innermost(state.caches[layer]) as? any PromptAttending else {
      preconditionFailure("a cache that needs the prompt's attention is PromptAttending")
    }
    let answers = try cache.attend(to: rows)
    state.caches[layer] = rewrapped(state.caches[layer], around: cache)
    return answers
  }
}
