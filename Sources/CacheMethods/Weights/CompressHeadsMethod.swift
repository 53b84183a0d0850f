// Compressed heads: several key/value heads become one, by SVD of what their caches held.
//
// Kept:   of each group of t = M / heads key/value heads one key k' and one value v' of r numbers
//         each, r = d unless `width` says otherwise.
// A step: rope=after: all keys of the new token are computed and rotated, and joined into k'; the
//         layer is then grouped-query attention with fewer heads, under any cache method
//         (SharedHeads.swift). rope=before: latents, under `factored` (LowRankFactors.swift).
// Bytes:  l · 4 · 2 · heads · r a layer; under `full` that is 1/t of what it was for r = d.
//
// The heads of a group lie side by side, K = [K_1 ... K_t] (N, t d). Ψ (t d, r) are the first right
// singular vectors of K, and those of the values Ψ_V (SharedBasis.swift):
//
//   keys     k' = k Ψ,  q' = q_i Ψ_i                      at run time, after RoPE
//   values   W_V' = Ψ_Vᵀ [W_V,1; ...; W_V,t],  W_O,i' = W_O,i Ψ_V,i       in the weights
//
// svd=calibration (the paper's SVD-a) takes K of texts, biases included; svd=weights (SVD-w) takes
// the weights in the place of K. Query heads keep their number; a query head goes with the basis
// rows of the key/value head that it had, so grouped sources work as others do. Groups are
// neighbours: heads 0 to t − 1, and so on.
//
// Source: Effectively Compress KV Heads for LLM, arXiv 2406.07056; no code was published, and the
// formulas of Ψ are as digests have them. What the paper does about RoPE ("specialized strategies")
// was not found, so both readings are here:
//
//   rope=after    Ψ is of rotated keys and applied to them, as it does not commute with RoPE. One
//                 product a step; SVD-w says nothing of rotated keys, and is refused
//   rope=before   Ψ is of keys before RoPE; a cache holds k' before RoPE, and k_i = Ψ_i k' is built
//                 and rotated when it is compared, as with LoRC
//
// The paper trains for a short while afterwards, by LoRA; `lrqk train --from` does it with whole
// matrices.

import Tensors
package import Transformers

/// One key/value head for several, by SVD of their caches.
package struct CompressHeadsMethod: WeightMethod {
  package static let name = "compress-heads"
  package static let summary =
    "compressed heads: one key/value head for several, by SVD of their caches"
  package static let paper = "arXiv 2406.07056"
  package static let optionList = [
    MethodOption(
      "heads", "key/value heads that are left: half, quarter, or a divisor of their number",
      defaultValue: "half"),
    MethodOption("width", "numbers of a joined key or value: d, or a number", defaultValue: "d"),
    MethodOption(
      "svd", "of what: calibration (SVD-a: caches of texts), weights (SVD-w)",
      defaultValue: "calibration"),
    MethodOption(
      "rope", "where keys are joined: after RoPE, before (built and rotated when compared)",
      defaultValue: "after"),
  ]

  /// How many heads are left.
  package enum Heads: Sendable, Equatable, CustomStringConvertible {
    /// One for so many.
    case part(Int, word: String)
    /// This number of heads.
    case number(Int)

    package var description: String {
      switch self {
      case .part(_, let word): word
      case .number(let heads): "\(heads)"
      }
    }
  }
  /// What Ψ is computed of.
  package enum Decomposed: String, Sendable, CaseIterable { case calibration, weights }
  /// Where keys are joined.
  package enum Place: String, Sendable, CaseIterable { case after, before }

  package let heads: Heads
  /// r; nil: d.
  package let width: Int?
  package let svd: Decomposed
  package let rope: Place

  package init(_ given: MethodOptions) throws(MethodError) {
    switch given.text("heads") {
    case nil, "half": heads = .part(2, word: "half")
    case "quarter": heads = .part(4, word: "quarter")
    default: heads = .number(try given.integer("heads", in: 1...4096) ?? 1)
    }
    width = given.text("width") == "d" ? nil : try given.integer("width", in: 1...Size.most)
    svd = try given.choice("svd", of: Decomposed.self) ?? .calibration
    rope = try given.choice("rope", of: Place.self) ?? .after
    if svd == .weights && rope == .after {
      throw given.error(
        "svd=weights says nothing of rotated keys; give svd=calibration, or rope=before where the "
          + "model has no norms of keys")
    }
  }

  package var options: [(name: String, value: String)] {
    [
      ("heads", "\(heads)"), ("width", width.map { "\($0)" } ?? "d"), ("svd", svd.rawValue),
      ("rope", rope.rawValue),
    ]
  }

  /// Groups of neighbouring heads, and r.
  package func sizes(of shape: LayerShape) throws(MethodError) -> (groups: [[Int]], width: Int) {
    let (M, d) = (shape.keyValueHeads, shape.width)
    let left: Int
    switch heads {
    case .part(let t, let word):
      if M % t != 0 {
        throw MethodError(
          "compress-heads: heads=\(word) of \(M) key/value heads is no whole number; give a divisor"
        )
      }
      left = M / t
    case .number(let number):
      if M % number != 0 {
        throw MethodError(
          "compress-heads: heads=\(number) does not divide the model's \(M) key/value heads")
      }
      left = number
    }
    let t = M / left
    let r = width ?? d
    if r > t * d {
      throw MethodError(
        "compress-heads: width=\(r) is more than the \(t * d) numbers of \(t) heads side by side")
    }
    return ((0..<left).map { Array($0 * t..<($0 + 1) * t) }, r)
  }

  package func gatherer(of layer: AttentionWeights) throws(MethodError) -> (any RowGatherer)? {
    let groups = try sizes(of: layer.shape).groups
    if rope == .before && layer.keyNorm != nil {
      throw MethodError(
        "compress-heads: rope=before joins keys before their norm, which is not linear, and this "
          + "model has norms of keys; use rope=after"
          + (svd == .weights ? ", which needs svd=calibration" : ""))
    }
    if svd == .weights { return nil }
    // After RoPE a cache's rows count as they are; before RoPE a bias is added to what Ψ restores.
    return GroupMoments(
      of: rope == .after ? .afterRotary : .beforeRotary, groups: groups, width: layer.shape.width,
      keyBias: rope == .after ? nil : layer.key.bias,
      valueBias: rope == .after ? nil : layer.value.bias)
  }

  package func prepare(_ source: ConversionSource) throws -> any LayerConversion {
    for layer in source.layers { _ = try gatherer(of: layer) }
    let (groups, width) = try sizes(of: source.layers[0].shape)
    return HeadCompression(source: source, method: self, groups: groups, width: width)
  }
}

/// The layers of a model, their groups and r.
private struct HeadCompression: LayerConversion {
  let source: ConversionSource
  let method: CompressHeadsMethod
  let groups: [[Int]]
  let width: Int

  func convert(_ layer: Int) throws -> ConvertedLayer {
    let weights = source.layers[layer]
    let keys = try bases(weights.key, layer) { $0.keys }
    let values = try bases(weights.value, layer) { $0.values }
    return method.rope == .after
      ? joined(weights, keys, values) : lowRank(weights, keys, values)
  }

  /// Ψ of every group: of what was gathered, or of the weights.
  private func bases(
    _ part: AttentionWeights.Part, _ layer: Int, _ side: (GroupMoments) -> [RowMoments]
  ) throws -> [SharedBasis] {
    try groups.indices.map { g in
      let moments: Tensor<Double>
      switch method.svd {
      case .calibration:
        moments = side(source.gathered(layer, as: GroupMoments.self))[g].secondMoments
      case .weights:
        let W = part.heads(groups[g], width: source.layers[layer].shape.width)
        moments = matmul(W, transposed: W, in: .library)
      }
      return try SharedBasis(moments: moments, width: width)
    }
  }

  /// rope=before: L = Ψ, R = Ψᵀ W for keys and values.
  private func lowRank(
    _ weights: AttentionWeights, _ keys: [SharedBasis], _ values: [SharedBasis]
  ) -> ConvertedLayer {
    func product(_ part: AttentionWeights.Part, _ bases: [SharedBasis]) -> LowRankProduct {
      LowRankProduct(
        heads: groups,
        factors: zip(groups, bases).map { heads, Ψ in
          (
            Ψ.basis,
            matmul(
              transposed: Ψ.basis, part.heads(heads, width: weights.shape.width), in: .library)
          )
        })
    }
    return ConvertedLayer(
      weights, keys: product(weights.key, keys), values: product(weights.value, values),
      keyError: meanError(keys), valueError: meanError(values))
  }

  /// rope=after: Ψ beside W_K, Ψ_V in W_V and W_O.
  private func joined(
    _ weights: AttentionWeights, _ keys: [SharedBasis], _ values: [SharedBasis]
  ) -> ConvertedLayer {
    let d = weights.shape.width
    let own = zip(groups, values).map { heads, Ψ in
      matmul(transposed: Ψ.basis, weights.value.heads(heads, width: d), in: .library)
    }
    var tensors: [(name: String, tensor: Tensor<Double>)] = [
      ("k_basis", Tensor(stacking: keys.map(\.basis))),
      ("v_proj.weight", Tensor(joiningRows: own)),
      ("o_proj.weight", absorbed(weights.output.widened, values, weights.shape)),
    ]
    if let bias = weights.value.bias {
      let joined = zip(groups, values).flatMap { heads, Ψ in
        let b = heads.flatMap { bias[$0 * d..<($0 + 1) * d] }.map(Double.init)
        return matmul(Tensor(shape: [1, b.count], elements: b), Ψ.basis, in: .library).elements
      }
      tensors.append(("v_proj.bias", Tensor(shape: [joined.count], elements: joined)))
    }
    if let bias = weights.output.bias {
      let b = Tensor(shape: [bias.count], elements: bias)
      tensors.append(("o_proj.bias", b.converted()))
    }
    let sizes = SharedHeadSizes(heads: groups.count, keyWidth: width, valueWidth: width)
    return ConvertedLayer(
      .joinedHeads(sizes), kept: [.query, .key], tensors: tensors, keyError: meanError(keys),
      valueError: meanError(values))
  }

  /// W_O,i Ψ_V,i of every query head side by side, (D, H r), of W_O (D, H d).
  private func absorbed(
    _ W: Tensor<Double>, _ values: [SharedBasis], _ shape: LayerShape
  ) -> Tensor<Double> {
    let (d, t) = (shape.width, groups[0].count)
    let parts = (0..<shape.queryHeads).map { h in
      let m = h / shape.groupSize
      let own = W.gather(columns: Array(h * d..<(h + 1) * d))
      return matmul(own, values[m / t].part(m % t, width: d), in: .library).transposed()
    }
    return Tensor(joiningRows: parts).transposed()
  }

  /// The root of the mean square over groups.
  private func meanError(_ bases: [SharedBasis]) -> Double {
    (bases.reduce(0) { $0 + $1.relativeError * $1.relativeError } / Double(bases.count))
      .squareRoot()
  }
}
