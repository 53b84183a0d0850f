// The model that is converted, as a weight method sees it.
//
// In:  a decoder with ordinary heads; calibration texts where the method wants them.
// Out: W_Q, W_K, W_V, W_O of each layer, and the sums that were gathered.
//
// Models whose keys and values are not ordinary heads are refused: LRKV and MLA hold latents
// already, which were trained; a converted model would have to be converted from its source again.

import TieredMemory
package import Tensors
package import Transformers

/// The weights of a model's attention, and what calibration texts said of it.
package struct ConversionSource: Sendable {
  /// The model that is converted.
  package let decoder: Decoder
  /// Each layer's attention.
  package let layers: [AttentionWeights]
  /// What was gathered in each layer; empty for a method that wants nothing.
  package private(set) var gathered: [any RowGatherer] = []

  /// A model of ordinary heads.
  package init(_ decoder: Decoder) throws(MethodError) {
    self.decoder = decoder
    if let conversion = decoder.configuration.conversion {
      throw MethodError(
        "the model was converted already, by \(conversion.method); convert its source, "
          + conversion.source)
    }
    var layers: [AttentionWeights] = []
    for layer in 0..<decoder.configuration.layers {
      guard let weights = decoder.attentionWeights(layer: layer) else {
        throw MethodError(
          "\(decoder.configuration.architecture) has no ordinary heads to convert: its cache holds "
            + "latents that were trained")
      }
      layers.append(weights)
    }
    self.layers = layers
  }

  /// Whether the method wants to see texts.
  package func isCalibrated(_ method: any WeightMethod) throws(MethodError) -> Bool {
    try method.gatherer(of: layers[0]) != nil
  }

  /// Passes `stretches` of tokens through the model, each a prompt of its own, for `method`.
  package mutating func gather(
    for method: any WeightMethod, _ stretches: [[Int]], progress: (Int) -> Void = { _ in }
  ) throws {
    var caches: [any KeyValueCache] = []
    for layer in layers {
      guard let gatherer = try method.gatherer(of: layer) else { return }
      caches.append(GatheringCache(AnyGatherer(inside: gatherer)))
    }
    var seen = 0
    for tokens in stretches {
      let state = DecodingState(caches: caches, tiers: Tiers())
      _ = try decoder.prefill(tokens, state: state, logits: .none)
      caches = state.caches
      seen += tokens.count
      progress(seen)
    }
    gathered = caches.compactMap { ($0 as? GatheringCache<AnyGatherer>)?.gatherer.inside }
  }

  /// What `layer` gathered, as the method's own type.
  package func gathered<Gatherer: RowGatherer>(_ layer: Int, as: Gatherer.Type) -> Gatherer {
    guard layer < gathered.count, let own = gathered[layer] as? Gatherer else {
      preconditionFailure("layer \(layer) has gathered nothing of this kind")
    }
    return own
  }
}

/// A gatherer of any kind.
private struct AnyGatherer: RowGatherer {
  var inside: any RowGatherer
  var needs: CacheNeeds { inside.needs }
  mutating func add(_ rows: PromptRows) throws { try inside.add(rows) }
}

/// The new weights of a layer.
package struct ConvertedLayer: Sendable {
  /// Matrices of the source that stay, with their biases, in their own format.
  package enum Part: String, Sendable, CaseIterable {
    case query = "q_proj"
    case key = "k_proj"
    case value = "v_proj"
    case output = "o_proj"
  }

  /// The form that config.json states.
  package var form: ConvertedForm
  /// The matrices that stay as they are.
  package var kept: Set<Part>
  /// New tensors by their names behind "model.layers.N.self_attn.": "k_down_proj.weight".
  package var tensors: [(name: String, tensor: Tensor<Double>)] = []
  /// How far keys and values are off, relative, by the method's own measure; for the report.
  package var keyError: Double
  /// The same of values.
  package var valueError: Double

  /// A layer of this form.
  package init(
    _ form: ConvertedForm, kept: Set<Part>, tensors: [(name: String, tensor: Tensor<Double>)],
    keyError: Double, valueError: Double
  ) {
    self.form = form
    self.kept = kept
    self.tensors = tensors
    self.keyError = keyError
    self.valueError = valueError
  }

  /// Low-rank keys and values: L_g and R_g of each group, and the biases of the source.
  package init(
    _ source: AttentionWeights, keys: LowRankProduct, values: LowRankProduct, keyError: Double,
    valueError: Double
  ) {
    var tensors: [(name: String, tensor: Tensor<Double>)] = []
    for (letter, side, bias) in [
      ("k", keys, source.key.bias), ("v", values, source.value.bias),
    ] {
      tensors.append(("\(letter)_down_proj.weight", Tensor(joiningRows: side.down)))
      for (g, up) in side.up.enumerated() {
        tensors.append(("\(letter)_up_proj.\(g).weight", up))
      }
      if let bias {
        let b = Tensor(shape: [bias.count], elements: bias)
        tensors.append(("\(letter)_up_proj.bias", b.converted()))
      }
    }
    self.init(
      .lowRank(LowRankSizes(keys: keys.groups, values: values.groups)), kept: [.query, .output],
      tensors: tensors, keyError: keyError, valueError: valueError)
  }
}

/// L_g R_g of every group of heads.
package struct LowRankProduct: Sendable {
  /// The groups and their ranks.
  package let groups: HeadGroups
  /// L_g, (|g| d, r_g); rows in the order of the group's heads.
  package let up: [Tensor<Double>]
  /// R_g, (r_g, D).
  package let down: [Tensor<Double>]

  /// Products of the heads in `heads`, one pair of factors a group.
  package init(heads: [[Int]], factors: [(up: Tensor<Double>, down: Tensor<Double>)]) {
    up = factors.map(\.up)
    down = factors.map(\.down)
    groups = HeadGroups(heads: heads, ranks: up.map(\.columns))
  }
}
