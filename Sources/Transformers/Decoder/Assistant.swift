// A second, smaller model that goes ahead: it gets the same tokens first, and caches see what it
// attends to.
//
// In:  caches that ask for an assistant, with the decoder that is to be it; a prompt's tokens, then
//      one at a time.
// Out: for every query head of every layer of the assistant: of a prompt, what each token has
//      received; of a new token, the weights of its query on all tokens.
//
//   prompt   1. the assistant takes the whole prompt; its own full cache keeps all rows
//            2. the model takes it; every layer's cache gets the same `AssistantRows`
//   a step   1. the assistant takes the token
//            2. the model takes it, layer after layer; then the weights are given back
//
// The assistant's rows and weights lie in the sequence's own device tier, so that every report of
// its bytes counts them; its time is part of the model's and told besides (`AssistantUse`). A token
// id must mean the same to both models: the assistant needs an embedding for every id that comes,
// and who opens both folders compares the tokenizers.
//
// Sums and weights are in reference order. Nothing in here runs unless a cache asks for it.

import TieredMemory
import Tensors

/// What an assistant attends to: lists of numbers for its query heads, layer by layer.
public struct AssistantRows: Sendable {
  /// Of a prompt: the sum of its queries' weights on each token, (l) a head.
  public var received: [[Float]]
  /// The same of the first few tokens alone, as many as the cache compares heads by.
  public var receivedEarly: [[Float]]
  /// Of a token: the weights of its query, (l) a head, the token itself included; 0 out of sight.
  public var weights: [[Float]]

  /// Lists for every head; empty where there are none.
  public init(
    received: [[Float]] = [], receivedEarly: [[Float]] = [], weights: [[Float]] = []
  ) {
    self.received = received
    self.receivedEarly = receivedEarly
    self.weights = weights
  }
}

/// A cache that needs `CacheNeeds.assistant`.
public protocol AssistedCache: KeyValueCache {
  /// The model that goes ahead.
  var assistant: Decoder { get }
  /// First tokens of a prompt by which heads are compared: the length of `receivedEarly`, or all.
  var matchedTokens: Int { get }
}

/// What an assistant cost one sequence so far.
public struct AssistantUse: Sendable, Equatable, Codable {
  /// Layers of the assistant.
  public let layers: Int
  /// Steps that it took, one before each of the model's.
  public internal(set) var steps = 0
  /// Seconds of its prompt, which are among the model's.
  public internal(set) var prefillSeconds = 0.0
  /// Seconds of its steps, which are among the model's.
  public internal(set) var decodeSeconds = 0.0
  /// Bytes of its keys and values on the device.
  public internal(set) var deviceBytes = 0

  /// What two sequences cost together.
  public static func + (a: AssistantUse, b: AssistantUse) -> AssistantUse {
    var sum = a
    sum.steps += b.steps
    sum.prefillSeconds += b.prefillSeconds
    sum.decodeSeconds += b.decodeSeconds
    sum.deviceBytes += b.deviceBytes
    return sum
  }
}

/// One sequence of an assistant.
final class AssistantRun {
  private let decoder: Decoder
  private var layers: [AssistantLayer]
  private var length = 0
  /// What it attended to in the latest pass.
  private(set) var rows = AssistantRows()
  /// What it cost.
  private(set) var use: AssistantUse
  /// The step's weights on the device, from `decode` to `finishStep`.
  private var weights: DeviceBuffer<Float>?

  init(_ decoder: Decoder) {
    self.decoder = decoder
    layers = decoder.layerShapes.map(AssistantLayer.init)
    use = AssistantUse(layers: layers.count)
  }

  /// The whole prompt.
  func prefill(_ tokens: [Int], early: Int, tiers: inout Tiers) throws {
    let start = ContinuousClock.now
    try check(tokens)
    let early = min(early, tokens.count)
    var x = try decoder.embed(tokens)
    let rotations = decoder.configuration.rotary.rotations(
      positions: Array(tokens.indices), length: tokens.count)
    for (layer, block) in decoder.weights.blocks.enumerated() {
      x = try block.prompt(x, rotations, needs: [], attend: nil) { prompt in
        rows.received += try layers[layer].received(prompt, first: tokens.count)
        rows.receivedEarly += try layers[layer].received(prompt, first: early)
        try layers[layer].keep(prompt, on: &tiers.device)
      }
    }
    length = tokens.count
    use.deviceBytes = decoder.assistantBytes(tokens: length)
    use.prefillSeconds = (ContinuousClock.now - start) / .seconds(1)
  }

  /// The next token.
  func decode(_ token: Int, tiers: inout Tiers) throws {
    let start = ContinuousClock.now
    try check([token])
    if decoder.configuration.needsNewPrompt(at: length + 1) {
      throw DecoderError.assistantRotary(length: length + 1)
    }
    var x = try decoder.embed([token])
    let rotations = decoder.configuration.rotary.rotations(
      positions: [length], length: length + 1)
    length += 1
    rows = AssistantRows()
    var previous: Tensor<Float>?
    for (layer, block) in decoder.weights.blocks.enumerated() {
      x = try block.tokens(x, [rotations], needs: [], previous: &previous) { _, token in
        let (answer, weights) = try layers[layer].attend(token, length, on: &tiers.device)
        rows.weights += weights
        return answer
      }
    }
    weights = try tiers.device.allocate(
      "assistant's weights", holding: rows.weights.flatMap { $0 })
    use.steps += 1
    use.deviceBytes = decoder.assistantBytes(tokens: length)
    use.decodeSeconds += (ContinuousClock.now - start) / .seconds(1)
  }

  /// Gives the step's weights back, once every layer has seen them.
  func finishStep(on device: inout DeviceTier) {
    guard var buffer = weights else { return }
    weights = nil
    device.free(&buffer)
    rows = AssistantRows()
  }

  /// Throws for an id that the assistant has no embedding for.
  private func check(_ tokens: [Int]) throws(DecoderError) {
    let vocabulary = decoder.configuration.vocabulary
    for token in tokens where token < 0 || token >= vocabulary {
      throw .assistantVocabulary(token: token, vocabulary: vocabulary)
    }
  }
}

/// One layer's full cache.
private struct AssistantLayer {
  let shape: LayerShape
  /// K and V of each key/value head, (l, d).
  private var keys: [DeviceBuffer<Float>] = []
  private var values: [DeviceBuffer<Float>] = []

  init(_ shape: LayerShape) { self.shape = shape }

  /// What each of the first `l` tokens receives from their queries, (l) for each query head.
  func received(_ prompt: PromptRows, first l: Int) throws -> [[Float]] {
    try mapConcurrently(shape.queryHeads) { h in
      let keys = prompt.keys[h / shape.groupSize].elements
      var sums: [Float] = zeros(l)
      for t in 0..<l {
        let seen = shape.visible(length: t + 1)
        let weights = attentionWeights(
          query: prompt.queries[h].row(t), keys: keys, slots: seen.map(Int32.init))
        for (i, j) in seen.enumerated() { sums[j] += weights[i] }
      }
      return sums
    }
  }

  /// Keeps a prompt's rows.
  mutating func keep(_ prompt: PromptRows, on device: inout DeviceTier) throws {
    for m in 0..<shape.keyValueHeads {
      let label = "of the assistant's layer \(shape.layer), head \(m)"
      keys.append(try device.allocate("K \(label)", holding: prompt.keys[m].elements))
      values.append(try device.allocate("V \(label)", holding: prompt.values[m].elements))
    }
  }

  /// Adds the newest of `length` tokens: its answers (H, d), and every head's weights, (l).
  mutating func attend(
    _ token: TokenRows, _ length: Int, on device: inout DeviceTier
  ) throws -> (answers: Tensor<Float>, weights: [[Float]]) {
    let d = shape.width
    for m in keys.indices {
      try device.resize(&keys[m], count: length * d, fill: 0)
      try device.resize(&values[m], count: length * d, fill: 0)
      let place = (length - 1) * d..<length * d
      keys[m].elements.replaceSubrange(place, with: token.keys.row(m))
      values[m].elements.replaceSubrange(place, with: token.values.row(m))
    }
    let seen = shape.visible(length: length)
    let slots = seen.map(Int32.init)
    let before: [Float] = zeros(seen.lowerBound)
    let (keys, values) = (self.keys.map(\.elements), self.values.map(\.elements))
    let heads = try mapConcurrently(shape.queryHeads) { h in
      let m = h / shape.groupSize
      let weights = attentionWeights(query: token.queries.row(h), keys: keys[m], slots: slots)
      return (
        answer: weightedSum(weights, values: values[m], width: d, slots: slots), weights: weights
      )
    }
    return (Tensor(rows: heads.map(\.answer)), heads.map { before + $0.weights })
  }
}

extension Decoder {
  /// The prompt of one sequence through the assistant that its caches ask for, if they do.
  func startAssistant(_ tokens: [Int], _ state: DecodingState) throws {
    guard state.caches.contains(where: { $0.needs.contains(.assistant) }) else { return }
    let asking = state.caches.compactMap { innermost($0) as? any AssistedCache }
    guard let cache = asking.first else {
      preconditionFailure("a cache that needs an assistant is an AssistedCache")
    }
    let run = AssistantRun(cache.assistant)
    state.assistant = run
    try run.prefill(tokens, early: cache.matchedTokens, tiers: &state.tiers)
  }

  /// Bytes of keys and values that an assistant holds after `tokens` tokens.
  public func assistantBytes(tokens: Int) -> Int {
    layerShapes.reduce(0) {
      $0 + 2 * $1.keyValueHeads * tokens * $1.width * MemoryLayout<Float>.stride
    }
  }
}
