// What KVzip says of a text, row by row: the lessons of Fast KVzip's gates.
//
// In:  a model, a text's tokens, the words that ask for a repetition.
// Out: for each layer the inputs of all rows after the sinks, and KVzip's scores of them.
//
// The teacher is a keeper that keeps everything: it hears the repetition as KVzip does, and does
// not decide.

import TieredMemory
import Tensors
package import Transformers

/// One lesson for each layer of `decoder`, from one text.
///
/// The first `sinks` rows, which are kept in any case, are no part of it. Throws what the decoder
/// throws.
package func fastGateLessons(
  _ decoder: Decoder, tokens: [Int], words: RepetitionWords, sinks: Int = 4, chunk: Int = 2000
) throws -> [FastGateLesson] {
  let choices = KVzipChoices(sinks: sinks, chunk: chunk, level: .pair, rule: .exact)
  let caches = decoder.layerShapes.map { layer in
    KeepingCache(layer, keeper: GateTeacher(KVzipKeeper(choices: choices)), parks: false) { _ in 0 }
  }
  let state = DecodingState(caches: caches, tiers: Tiers())
  state.repetition = words
  _ = try decoder.prefill(tokens, state: state, logits: .none)
  return state.caches.compactMap { ($0 as? KeepingCache<GateTeacher>)?.keeper.lesson }
}

/// Keeps everything, and remembers inputs and scores.
struct GateTeacher: RepetitionKeeper {
  private var zip: KVzipKeeper
  private var input: Tensor<Double>?
  /// What was heard, once it has been.
  private(set) var lesson: FastGateLesson?

  init(_ zip: KVzipKeeper) { self.zip = zip }

  var needs: CacheNeeds { zip.needs.union(.layerInput) }
  var repeatedChunks: [Range<Int>] { zip.repeatedChunks }

  mutating func keep(
    of prompt: PromptRows, count: Int, layer: LayerShape, tiers: inout Tiers
  ) throws -> [[Int]]? {
    input = prompt.layerInput?.converted()
    return try zip.keep(of: prompt, count: count, layer: layer, tiers: &tiers)
  }

  mutating func hear(_ pass: RepetitionRows, context: ContextRows) throws {
    try zip.hear(pass, context: context)
  }

  static func decide(
    _ layers: inout [GateTeacher], held: [[[Int]]], tiers: inout Tiers
  ) throws -> [[[Int]]]? {
    for x in layers.indices {
      let heads = layers[x].zip.headScores()
      if let input = layers[x].input, let tokens = heads.first?.tokens {
        layers[x].lesson = FastGateLesson(
          input: input.gather(rows: tokens), scores: heads.map { $0.scores.map(Double.init) })
      }
      layers[x].input = nil
    }
    return nil
  }
}
