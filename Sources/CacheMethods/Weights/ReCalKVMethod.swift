// ReCalKV as a weight method: keys of similar heads share a latent, all values share one that is
// fitted to texts.
//
// Kept:   z_g of every group of key heads and z_V of all values: groups · r_K + r_V numbers a token
//         where heads have 2 M d.
// A step: keys are built from z_g, brought to the heads where they were, and rotated, in blocks;
//         values stay latents until the end (LowRankFactors.swift, under `factored`).
// Bytes:  l · 4 · (groups · r_K + r_V) a layer under `factored`.
//
// The mathematics is ReCalKVFactors.swift, HeadSimilarity.swift and Whitening.swift. Of the texts a
// layer keeps n, Σ x and Σ x xᵀ of its inputs, which is all that they ask for:
//
//   S            of all inputs                              whitens W_K and W_V
//   C            their scatter, means removed               compares heads (similarity=keys)
//   G            Σ x xᵀ of every second stretch of text     the inputs that values are fitted to
//
// G has to differ from S Sᵀ, or a fit changes nothing. In the published code it is of what a layer
// gets once the layers before it are converted, which would take a pass of the texts a layer; here
// it is of other text. With a single stretch G is S Sᵀ, and values stay as they were cut.
//
// Ranks. `rank` is what every layer has, for each group of keys and for values. With ranks=FILE, of
// `lrqk calibrate recalkv`, layers share out the sum of these by Fisher information, as published
// (FisherRanks.swift); the groups of a layer share alike.
//
// Source: arXiv 2505.24357; XIANGLONGYAN/ReCalKV at ea548d5.

import Tensors
package import Transformers

/// Sums of a layer's inputs.
package struct InputMoments: RowGatherer {
  /// Of all stretches of text.
  package private(set) var all: RowMoments
  /// Of the second, the fourth and so on.
  package private(set) var second: RowMoments
  private var stretches = 0

  /// Of no inputs of width `D` yet.
  package init(width D: Int) {
    all = RowMoments(width: D)
    second = all
  }

  package var needs: CacheNeeds { .layerInput }

  package mutating func add(_ rows: PromptRows) throws {
    guard let input = rows.layerInput else { preconditionFailure("the input was asked for") }
    all.add(input)
    if stretches % 2 == 1 { second.add(input) }
    stretches += 1
  }

  /// The inputs that values are fitted to; all where there is but one stretch.
  package var fitted: RowMoments { second.count > 0 ? second : all }
}

/// Grouped low-rank keys, calibrated low-rank values.
package struct ReCalKVMethod: WeightMethod {
  package static let name = "recalkv"
  package static let summary =
    "ReCalKV: similar heads' keys share a whitened SVD, values a fitted one"
  package static let paper = "arXiv 2505.24357"
  package static let optionList = [
    MethodOption(
      "rank", "of each group of keys, and of all values: 50% (of the rows), or a number",
      defaultValue: "50%"),
    MethodOption(
      "ranks", "what layers get of all ranks: uniform (alike), or a file of lrqk calibrate recalkv",
      defaultValue: "uniform"),
    MethodOption("group", "key heads of a group; all, where there are fewer", defaultValue: "4"),
    MethodOption(
      "similarity", "what puts heads in a group: keys, official (whitened weights), neighbours",
      defaultValue: "keys"),
    MethodOption(
      "rounds", "turns of fitting values to every second stretch of text", defaultValue: "1"),
    MethodOption(
      "precision", "where is rounded: double (nowhere), float16 (as published)",
      defaultValue: "double"),
  ]

  /// What puts heads in a group.
  package enum Similarity: String, Sendable, CaseIterable { case keys, official, neighbours }

  package let rank: RankSize
  package let calibrationFile: CalibrationFile?
  package let group: Int
  package let similarity: Similarity
  package let rounds: Int
  package let precision: WeightPrecision

  package init(_ given: MethodOptions) throws(MethodError) {
    rank = try RankSize(given, "rank") ?? .percent(50)
    switch given.text("ranks") {
    case nil, "uniform": calibrationFile = nil
    case let path?: calibrationFile = try CalibrationFile(path: path, method: Self.name)
    }
    group = try given.integer("group", in: 1...4096) ?? 4
    similarity = try given.choice("similarity", of: Similarity.self) ?? .keys
    rounds = try given.integer("rounds", in: 0...100) ?? 1
    precision = try given.choice("precision", of: WeightPrecision.self) ?? .double
  }

  package var options: [(name: String, value: String)] {
    [
      ("rank", "\(rank)"), ("ranks", calibrationFile?.path ?? "uniform"), ("group", "\(group)"),
      ("similarity", similarity.rawValue),
      ("rounds", "\(rounds)"), ("precision", precision.rawValue),
    ]
  }

  /// Groups, r of each group of keys, and r_V.
  package func sizes(
    of layer: AttentionWeights
  ) throws(MethodError) -> (groups: Int, keys: Int, values: Int) {
    let (M, d, D) = (layer.shape.keyValueHeads, layer.shape.width, layer.key.matrix.columns)
    let size = min(group, M)
    if M % size != 0 {
      throw MethodError("recalkv: group=\(group) does not divide the model's \(M) key/value heads")
    }
    return (
      M / size, try rank.rank(of: size * d, min(size * d, D), Self.name, "rank"),
      try rank.rank(of: M * d, min(M * d, D), Self.name, "rank")
    )
  }

  package func gatherer(of layer: AttentionWeights) throws(MethodError) -> (any RowGatherer)? {
    _ = try sizes(of: layer)
    return InputMoments(width: layer.key.matrix.columns)
  }

  package func prepare(_ source: ConversionSource) throws -> any LayerConversion {
    ReCalKVConversion(source: source, method: self, ranks: try ranks(source.layers))
  }

  /// r of each group of keys and r_V of every layer.
  package func ranks(
    _ layers: [AttentionWeights]
  ) throws(MethodError) -> [(keys: [Int], values: Int)] {
    var uniform: [(keys: [Int], values: Int)] = []
    var bounds: [ClosedRange<Int>] = []
    for layer in layers {
      let (M, d, D) = (layer.shape.keyValueHeads, layer.shape.width, layer.key.matrix.columns)
      let sizes = try sizes(of: layer)
      uniform.append((Array(repeating: sizes.keys, count: sizes.groups), sizes.values))
      bounds.append(sizes.groups...sizes.groups * min(M / sizes.groups * d, D))
      bounds.append(1...min(M * d, D))
    }
    guard let calibrationFile else { return uniform }
    var information: [Double] = []
    for layer in layers {
      information += try calibrationFile.tensor("fisher", of: layer.shape, shape: [2]).elements
    }
    guard information.allSatisfy({ $0 >= 0 }), information.contains(where: { $0 > 0 }) else {
      throw MethodError(
        "recalkv: \(calibrationFile.path): fisher is not a list of numbers from 0 on, some above")
    }
    let total = uniform.reduce(0) { $0 + $1.keys.reduce(0, +) + $1.values }
    let shared = sharedRanks(information, bounds: bounds, total: total)
    return uniform.indices.map { n in
      let groups = uniform[n].keys.count
      return ((0..<groups).map { (shared[2 * n] + $0) / groups }, shared[2 * n + 1])
    }
  }
}

/// The layers of a model and their sums.
private struct ReCalKVConversion: LayerConversion {
  let source: ConversionSource
  let method: ReCalKVMethod
  let ranks: [(keys: [Int], values: Int)]

  func convert(_ layer: Int) throws -> ConvertedLayer {
    let weights = source.layers[layer]
    let (M, ranks) = (weights.shape.keyValueHeads, ranks[layer])
    let moments = source.gathered(layer, as: InputMoments.self)
    let whitening = try Whitening(gram: moments.all.secondMoments)

    // Keys.
    let wk = weights.key.widened
    let scaled = scaledWeight(wk, whitening, precision: method.precision)
    try checkRange(scaled, layer)
    let keys = try ReCalKVKeys(
      scaled: scaled, heads: M,
      groups: groups(wk, scaled, moments.all, heads: M, count: ranks.keys.count),
      ranks: ranks.keys, whitening,
      precision: method.precision)

    // Values.
    let wv = weights.value.widened
    var values = try WeightFactors.best(scaled: whitening(wv), rank: ranks.values, whitening)
      .factors
      .calibrated(to: wv, gram: moments.fitted.secondMoments, rounds: method.rounds)
    if method.precision == .float16 { values = values.halved }
    for factors in keys.factors + [values] {
      try checkRange(factors.left, layer)
      try checkRange(factors.right, layer)
    }
    return ConvertedLayer(
      weights,
      keys: LowRankProduct(
        heads: keys.groups.groups, factors: keys.factors.map { ($0.left, $0.right) }),
      values: LowRankProduct(heads: [Array(0..<M)], factors: [(values.left, values.right)]),
      keyError: missed(wk, keys.product, moments.all),
      valueError: missed(wv, values.product, moments.all))
  }

  /// Who is with whom.
  private func groups(
    _ wk: Tensor<Double>, _ scaled: Tensor<Double>, _ moments: RowMoments, heads M: Int, count: Int
  ) -> SimilarHeads {
    let reading: HeadSimilarity
    switch method.similarity {
    case .neighbours: return SimilarHeads(neighbours: M, count: count)
    case .keys: reading = .keys
    case .official: reading = .official
    }
    return SimilarHeads(
      similarity: reading(weight: wk, scaled: scaled, scatter: moments.scatter, heads: M),
      count: count)
  }

  /// ‖X (W − Ŵ)ᵀ‖ / ‖X Wᵀ‖ over the texts; 0 for W = 0.
  private func missed(
    _ weight: Tensor<Double>, _ product: Tensor<Double>, _ moments: RowMoments
  ) -> Double {
    let gram = moments.secondMoments
    func length(_ w: Tensor<Double>) -> Double {
      zip(matmul(w, gram, in: .library).elements, w.elements).reduce(0) { $0 + $1.0 * $1.1 }
    }
    let all = length(weight)
    return all > 0 ? (max(0, length(weight - product)) / all).squareRoot() : 0
  }

  private func checkRange(_ matrix: Tensor<Double>, _ layer: Int) throws(MethodError) {
    if method.precision == .float16 && matrix.firstNonFinite != nil {
      throw MethodError(
        "recalkv: layer \(layer): weights are beyond Float16, which precision=float16 rounds to; "
          + "use precision=double")
    }
  }
}
