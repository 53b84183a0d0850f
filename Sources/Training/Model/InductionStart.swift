// A start with induction heads, from which a model finds things sooner: heads that look back, heads
// that copy.
//
// In:  parameters of a model before the first step.
// Out: the same parameters, rearranged: nothing is added that a step could not change.
//
//   embedding     E + 0.15 c                  c: the first 16 columns, the same in every row
//   all layers    W_O = W_O + (D/4d) W_Vᵀ / G      what a head reads, it writes: it copies; a head
//                                                  reads d of D directions, so W_O W_V ~ I / 4G
//   layers > 0    W_Q = 0.7 W_Q + 0.7 W_K T   every other head, from the first on: a query matches
//                                             what stands behind the same content;
//                 W_Q = 0.7 W_Q + 0.7 W_K     the rest: the same content
//   layer 0       head h looks h tokens back: on the N fastest of RoPE's frequencies θ_n, the part
//   and group 0   of W_K that reads c gets  a (1, 0)  and that of W_Q  a (cos h θ_n, −sin h θ_n),
//   of layer 1    so that the scores hold Σ_n a² cos((i − j − h) θ_n), largest for j = i − h;
//                 it writes Tʰ of what it reads:  W_O + (D/4d) Tʰ W_Vᵀ / G. (Where a layer is one
//                 group, as in MQA, LRKV and MLA, layer 1 looks for contents alone.)
//
// T shifts a vector's components in a circle, by D/(H + 1) places. So a place holds its own token
// x_j and those before it as x_j + T x_{j−1} + T² x_{j−2} + ..., each where it can be told from the
// others. T of what a query holds is then what stands at the place behind an earlier occurrence of
// it. Without T they are all added up alike: the model finds a place by the bag of the four tokens
// before it, and one token alone finds nothing (Docs/training.md).
//
// W_K and W_V are those of a head, G heads share one W_V. Of LRKV they are the shared ones of all
// heads. Of MLA they are products, W_h^UK W^DKV and W_h^UV W^DKV (W^DKV makes the latent, whose
// norm is near 1 at the start); the part that looks back is the rotated one, k^R of all heads.
//
// Why: to repeat what came before, one layer has to look one token back, the next has to match what
// it finds with the current token, and both have to copy. Random matrices learn the three only
// together, so that for hundreds of steps nothing helps.
//
// Source: ours; that products of an attention's matrices begin near the identity is the mimetic
// initialisation of Trockman and Kolter, arXiv 2305.09828, which has no heads that look back.

import RealModule
package import Tensors

/// Sizes of the start.
enum InductionSizes {
  /// Columns of the embedding that have a common part, and its size.
  static let common = (columns: 16, size: 0.15)
  /// Deviation of the embedding.
  static let embeddingDeviation = 0.06
  /// The score that a head of layer 0 gives to the token that it looks for.
  static let score = 60.0
  /// N, frequencies of RoPE that a head looks back by.
  static let frequencies = 10
}

extension ModelShape {
  /// Parameters before the first step whose heads look back; parameter n is drawn from stream n.
  package func inductionParameters<E: Scalar>(seed: UInt64) -> [Parameter<E>] {
    var start = InductionStart<E>(self, startingParameters(seed: seed))
    start.giveCommonPart()
    for layer in 0..<layers {
      let heads = start.heads(of: layer)
      // A group of layer 1, where there is another one.
      let group = start.places.keyGroup
      let backward = layer == 0 ? queryHeads : layer == 1 && group < queryHeads ? group : 0
      start.copy(heads, looking: backward)
      if layer > 0 { start.match(heads) }
      start.lookBack(heads, count: backward)
    }
    return start.parameters
  }

  /// Where attention's matrices have what the start changes.
  var attentionPlaces: AttentionPlaces {
    let (H, d) = (queryHeads, headWidth)
    switch attention {
    case .narrow, .joined: preconditionFailure("a converted model starts from its own weights")
    case .grouped(let M):
      return AttentionPlaces(
        keys: "k_proj", values: "v_proj", keyGroup: H / M, valueGroup: H / M, queryRows: d,
        rotated: 0, rotatedKeys: 0, rotatedWidth: d)
    case .lowRank:
      return AttentionPlaces(
        keys: "k_shared_proj", values: "v_shared_proj", keyGroup: H, valueGroup: H, queryRows: d,
        rotated: 0, rotatedKeys: 0, rotatedWidth: d)
    case .latent(let latent, let rotary):
      return AttentionPlaces(
        keys: "kv_a_proj_with_mqa", values: nil, keyGroup: H, valueGroup: 1,
        queryRows: d + rotary, rotated: d, rotatedKeys: latent, rotatedWidth: rotary)
    }
  }
}

/// Names and rows of attention's matrices.
struct AttentionPlaces {
  /// The matrix whose rows make the rotated part of a key.
  let keys: String
  /// The matrix that makes values; nil for MLA, whose values come from the latent.
  let values: String?
  /// G: heads that share the rotated part of a key, and heads that share a value.
  let keyGroup: Int, valueGroup: Int
  /// Rows of a head's query; the first rotated one; the first rotated row of `keys`; how many are
  /// rotated.
  let queryRows: Int, rotated: Int, rotatedKeys: Int, rotatedWidth: Int
}

/// A layer's heads as the start finds them.
struct LayerHeads<E: Scalar> {
  /// The attention's name in the checkpoint, such as "model.layers.0.self_attn".
  let name: String
  /// W_K and W_V of every head, (d, D) each.
  let keys: [[E]], values: [[E]]
}

/// Parameters that are being rearranged.
private struct InductionStart<E: Scalar> {
  let shape: ModelShape
  let places: AttentionPlaces
  var parameters: [Parameter<E>]
  let indices: [String: Int]

  init(_ shape: ModelShape, _ parameters: [Parameter<E>]) {
    self.shape = shape
    self.parameters = parameters
    places = shape.attentionPlaces
    indices = Dictionary(uniqueKeysWithValues: parameters.enumerated().map { ($1.name, $0) })
  }

  private func index(_ name: String) -> Int {
    guard let index = indices["\(name).weight"] else {
      preconditionFailure("no parameter \(name)")
    }
    return index
  }

  /// The matrix `name`, row after row.
  private subscript(_ name: String) -> [E] {
    get { parameters[index(name)].values }
    set { parameters[index(name)].values = newValue }
  }

  /// Where T^power puts component x.
  private func shifted(_ x: Int, _ power: Int) -> Int {
    (x + power * (shape.hiddenSize / (shape.queryHeads + 1))) % shape.hiddenSize
  }

  /// E + 0.15 c.
  mutating func giveCommonPart() {
    let D = shape.hiddenSize
    let (columns, size) = (min(InductionSizes.common.columns, D), InductionSizes.common.size)
    var E_ = self["model.embed_tokens"]
    let scale = E(InductionSizes.embeddingDeviation / 0.02)
    for i in E_.indices { E_[i] = scale * E_[i] + (i % D < columns ? E(size) : 0) }
    self["model.embed_tokens"] = E_
  }

  /// What layer number `layer` begins with.
  func heads(of layer: Int) -> LayerHeads<E> {
    let (H, d, D) = (shape.queryHeads, shape.headWidth, shape.hiddenSize)
    let name = "model.layers.\(layer).self_attn"
    func matrix(_ part: String) -> [E] { self["\(name).\(part)"] }
    func block(_ matrix: [E], _ n: Int) -> [E] { Array(matrix[n * d * D..<(n + 1) * d * D]) }
    if let values = places.values {
      let (k, v) = (matrix(places.keys), matrix(values))
      return LayerHeads(
        name: name, keys: (0..<H).map { block(k, $0 / places.keyGroup) },
        values: (0..<H).map { block(v, $0 / places.valueGroup) })
    }
    // MLA: rows of W^UK and W^UV, d of each for every head, times W^DKV.
    let latent = places.rotatedKeys
    let up = Tensor(shape: [2 * H * d, latent], elements: matrix("kv_b_proj"))
    let down = Tensor(
      shape: [latent, D], elements: Array(matrix(places.keys).prefix(latent * D)))
    let both = matmul(up, down, in: .reference).elements
    return LayerHeads(
      name: name, keys: (0..<H).map { block(both, 2 * $0) },
      values: (0..<H).map { block(both, 2 * $0 + 1) })
  }

  /// W_O + (D/4d) Tᵖ W_Vᵀ / G: p = h + 1 of the first `count` heads, which look back, else 0.
  mutating func copy(_ heads: LayerHeads<E>, looking count: Int) {
    let (H, d, D, G) = (shape.queryHeads, shape.headWidth, shape.hiddenSize, places.valueGroup)
    var W = self["\(heads.name).o_proj"]
    for h in 0..<H {
      let power = h < count ? h + 1 : 0
      for i in 0..<d {
        for x in 0..<D {
          W[shifted(x, power) * H * d + h * d + i] +=
            heads.values[h][i * D + x] * E(D) / E(4 * d * G)
        }
      }
    }
    self["\(heads.name).o_proj"] = W
  }

  /// 0.7 W_Q + 0.7 W_K T of every other head, 0.7 W_Q + 0.7 W_K of the rest.
  mutating func match(_ heads: LayerHeads<E>) {
    let (d, D) = (shape.headWidth, shape.hiddenSize)
    var W = self["\(heads.name).q_proj"]
    for h in 0..<shape.queryHeads {
      for i in 0..<d {
        let row = (h * places.queryRows + i) * D
        for x in 0..<D {
          let k = heads.keys[h][i * D + shifted(x, h % 2 == 0 ? 1 : 0)]
          W[row + x] = E(0.7) * (W[row + x] + k)
        }
      }
    }
    self["\(heads.name).q_proj"] = W
  }

  /// Lets the first `count` heads look back, head h by h + 1 tokens.
  mutating func lookBack(_ heads: LayerHeads<E>, count: Int) {
    if count == 0 { return }
    let (d, D) = (shape.headWidth, shape.hiddenSize)
    let (rows, width) = (places.queryRows, places.rotatedWidth)
    // What the norm of layer 0 leaves of the common part, along its direction: a row has about the
    // squared length D σ² + 16 · 0.15², and the norm makes it D.
    let columns = min(InductionSizes.common.columns, D)
    let shared = Double(columns) * InductionSizes.common.size * InductionSizes.common.size
    let spread = Double(D) * InductionSizes.embeddingDeviation * InductionSizes.embeddingDeviation
    let common = (shared * Double(D) / (shared + spread)).squareRoot()
    let direction = 1 / Double(columns).squareRoot()
    // The amplitude a of each frequency: N a² common² / √(width of a query) = score.
    let N = min(InductionSizes.frequencies, width / 2)
    let a = (InductionSizes.score * Double(rows).squareRoot() / Double(N)).squareRoot() / common
    var K = self["\(heads.name).\(places.keys)"]
    for g in 0..<count / places.keyGroup {
      let first = places.rotatedKeys + g * d
      for i in first * D..<(first + width) * D { K[i] /= 2 }
      for n in 0..<N {
        for x in 0..<columns { K[(first + n) * D + x] += E(a * direction) }
      }
    }
    self["\(heads.name).\(places.keys)"] = K
    var Q = self["\(heads.name).q_proj"]
    for i in 0..<count * rows * D { Q[i] /= 2 }
    for h in 0..<count {
      let first = h * rows + places.rotated
      for n in 0..<N {
        let angle =
          Double(h + 1) * Double.pow(shape.rotaryBase, -Double(2 * n) / Double(width))
        for x in 0..<columns {
          Q[(first + n) * D + x] += E(a * direction * Double.cos(angle))
          Q[(first + width / 2 + n) * D + x] -= E(a * direction * Double.sin(angle))
        }
      }
    }
    self["\(heads.name).q_proj"] = Q
  }
}
