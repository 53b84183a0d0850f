// The passes in which the model repeats a context.
//
// In:  a context's tokens, and a sequence whose caches have its rows.
// Out: each cache that wants it has heard every layer of every pass (Repetition.swift).
//
//   for every chunk
//     1. x = the embedding's rows of the words and of the chunk, at positions l, l + 1, ...
//     2. layer after layer: queries, keys, values of the pass; the cache hears them
//     3. row i attends to the context's rows and to the pass's rows up to i
//
// Position l is the one after the context, in every pass. Frequencies of RoPE that depend on the
// length are those of the context, by which its keys were rotated.

import Tensors
import TieredMemory

extension Decoder {
  /// Repeats the context of one sequence where its caches ask for it.
  func repeatContext(_ context: [Int], _ state: DecodingState) throws {
    guard state.caches.contains(where: { $0.needs.contains(.repetition) }) else { return }
    var caches = state.caches.map(innermost)
    let chunks = caches.compactMap { ($0 as? any RepetitionScored)?.repeatedChunks }
      .first { !$0.isEmpty }
    var previous: Range<Int>?
    for chunk in chunks ?? [] {
      let input = state.repetition.input(context, chunk: chunk, after: previous)
      try repeatOnce(input, of: chunk, after: context.count, &caches, &state.tiers)
      previous = chunk
    }
    for i in caches.indices { state.caches[i] = rewrapped(state.caches[i], around: caches[i]) }
  }

  /// One pass over `input`, whose last tokens are `chunk` of a context of `length` tokens.
  private func repeatOnce(
    _ input: [Int], of chunk: Range<Int>, after length: Int,
    _ caches: inout [any KeyValueCache], _ tiers: inout Tiers
  ) throws {
    var x = try embed(input)
    let rotations = configuration.rotary.rotations(
      positions: Array(length..<length + input.count), length: length)
    for (layer, block) in weights.blocks.enumerated() {
      guard var cache = caches[layer] as? any RepetitionScored else {
        preconditionFailure("layers that hear a repetition are of one method")
      }
      x = try block.repetition(x, rotations, after: cache.contextRows) { rows in
        try cache.hear(
          RepetitionRows(
            chunk: chunk, queries: rows.queries, keys: rows.keys, values: rows.values),
          tiers: &tiers)
      }
      caches[layer] = cache
    }
  }
}

extension Block {
  /// The rows x (t, D) of a pass after `context`; `hear` gets the layer's rows.
  fileprivate func repetition(
    _ x: Tensor<Float>, _ rotations: Rotations<Float>, after context: ContextRows,
    hear: (PromptRows) throws -> Void
  ) throws -> Tensor<Float> {
    let rows = try attention.heads.prompt(inputNorm(x), rotations)
    try hear(rows)
    return finish(x, attention.output(attention.attend(rows, after: context)))
  }
}
