// The decoder: tokens in, logits out.
//
// In:  a folder with config.json and weights; then a prompt, and one token at a time.
// Out: logits (n, vocabulary): row t says what may follow token t.
//
//   1. x = the embedding's rows of the tokens, (n, D)
//   2. block after block                                                      Block.swift
//   3. logits = norm(x) W_outputᵀ
//
// A prompt passes whole, layer after layer, and attends in full whatever the caches do with it
// afterwards (Decoder+Prompt.swift); a new token attends through the caches of its sequence. Tokens
// of several sequences pass together, so that every weight is read once a step.
//
// Positions. Token p of a sequence is rotated by position p. Two scalings of RoPE depend on the
// length of the sequence as well. `dynamic`: a prompt is rotated by the frequencies of its own
// length, and each new token by those of the length it brings about; older keys keep theirs. That
// is what the library transformers does when it generates with a cache, and it differs from one
// forward pass over the whole sequence. `longrope` of Phi-3: see
// ModelConfiguration.needsNewPrompt(at:).

public import Tensors
import TieredMemory

/// A transformer decoder whose weights stay in their files.
public struct Decoder: Sendable {
  /// What it is.
  public let configuration: ModelConfiguration
  let weights: DecoderWeights

  /// Which rows of a prompt's logits are wanted.
  public enum LogitRows: Sendable {
    /// The last token's: (1, vocabulary).
    case last
    /// Every token's: (l, vocabulary).
    case all
    /// None: (0, vocabulary).
    case none
  }

  /// Opens the model in `folder`: config.json and model.safetensors, or an index and its shards.
  ///
  /// Throws a ConfigurationError, a CheckpointError or a SafetensorsError.
  public init(folder: String) throws {
    configuration = try ModelConfiguration(folder: folder)
    weights = try DecoderWeights(configuration, folder: folder)
  }

  /// What a user should know about how the folder was read, a line each.
  ///
  /// Which of two files was taken, which key has no effect. Most folders have none.
  public var notes: [String] { configuration.notes + weights.notes }

  /// How large the weights are.
  public var weightSize: WeightSize { weights.size }

  /// Bytes of weights that a decode step reads, once for all sequences of a batch: every matrix,
  /// but of the embedding only rows where it is not the output matrix as well.
  public var weightBytesPerStep: Int { weights.bytesPerStep }

  /// What each layer's cache needs to know.
  public var layerShapes: [LayerShape] { weights.blocks.map(\.attention.shape) }

  /// The attention of one layer.
  func attention(layer: Int) -> AttentionLayer { weights.blocks[layer].attention }

  /// The next token of each of several sequences: logits (n, vocabulary), row n for `states[n]`.
  ///
  /// The sequences are distinct and each has had its prompt. Throws a DecoderError, or whatever a
  /// cache throws; the states are then not to be used again.
  public func decode(_ tokens: [Int], states: [DecodingState]) throws -> Tensor<Float> {
    precondition(
      tokens.count == states.count && Set(states.map(ObjectIdentifier.init)).count == states.count,
      "one token for each of several distinct sequences")
    precondition(
      states.allSatisfy { $0.length > 0 && $0.caches.count == configuration.layers },
      "every sequence has had its prompt and has a cache for each layer")
    if tokens.isEmpty { throw DecoderError.emptyPrompt }
    // In slices, so that every product is one for few rows: a row has the same bits in any batch.
    let slice = StoredMatrix.manyRows - 1
    var rows: [Float] = []
    for first in stride(from: 0, to: tokens.count, by: slice) {
      let part = first..<min(first + slice, tokens.count)
      rows += try decodeSlice(Array(tokens[part]), Array(states[part])).elements
    }
    return Tensor(shape: [tokens.count, configuration.vocabulary], elements: rows)
  }

  /// `decode` for fewer than `StoredMatrix.manyRows` sequences.
  private func decodeSlice(_ tokens: [Int], _ states: [DecodingState]) throws -> Tensor<Float> {
    var x = try embed(tokens)
    let rotations = states.map {
      configuration.rotary.rotations(positions: [$0.length], length: $0.length + 1)
    }
    for (state, token) in zip(states, tokens) {
      state.lastSteps = []
      try state.assistant?.decode(token, tiers: &state.tiers)
    }
    var previous: Tensor<Float>?
    for (layer, block) in weights.blocks.enumerated() {
      let needs = Self.needs(of: states, layer)
      x = try block.tokens(x, rotations, needs: needs, previous: &previous) { n, rows in
        let state = states[n]
        var rows = rows
        if needs.contains(.tokens) { rows.token = tokens[n] }
        rows.assistant = state.assistant?.rows
        let step = try state.caches[layer].decode(rows, tiers: &state.tiers)
        state.lastSteps.append(step)
        return step.attention
      }
    }
    for state in states {
      state.length += 1
      state.assistant?.finishStep(on: &state.tiers.device)
      try settleTogether(&state.caches, tiers: &state.tiers)
    }
    return try logits(x)
  }

  /// What any of these sequences needs in a layer.
  static func needs(of states: [DecodingState], _ layer: Int) -> CacheNeeds {
    states.reduce(into: []) { needs, state in
      if !state.caches.isEmpty { needs.formUnion(state.caches[layer].needs) }
    }
  }

  /// Rows of the embedding, (n, D).
  func embed(_ tokens: [Int]) throws(DecoderError) -> Tensor<Float> {
    let (vocabulary, width) = (configuration.vocabulary, configuration.hiddenSize)
    for (place, token) in tokens.enumerated() where token < 0 || token >= vocabulary {
      throw .tokenOutsideVocabulary(token: token, place: place, vocabulary: vocabulary)
    }
    var rows: [Float] = []
    rows.reserveCapacity(tokens.count * width)
    for token in tokens { rows += weights.embedding.row(token) }
    return Tensor(shape: [tokens.count, width], elements: rows)
  }

  /// Line 3 of the head: (n, D) to (n, vocabulary); every logit is finite.
  func logits(_ x: Tensor<Float>) throws(DecoderError) -> Tensor<Float> {
    let logits = weights.output.product(weights.norm(x))
    let elements = logits.elements
    if !Float.allFinite(elements.span) {
      let place = elements.firstIndex { !$0.isFinite } ?? 0
      throw .notFiniteLogits(row: place / configuration.vocabulary)
    }
    return logits
  }
}
