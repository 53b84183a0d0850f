// A start from which a model finds things sooner: heads that look back, heads that copy.
//
// In:  parameters of a model of grouped heads (MHA, GQA, MQA) before the first step.
// Out: the same parameters, rearranged: nothing is added that a step could not change.
//
//   embedding     E + 0.15 c                  c: the first 16 columns, the same in every row
//   all layers    W_O = W_O + (D/4d) W_Vᵀ / G      what a head reads, it writes: it copies; a head
//                                                  reads d of D directions, so W_O W_V ~ I / 4G
//   layers > 0    W_Q = 0.7 W_Q + 0.7 W_K T   every other head, from the first on: a query matches
//                                             what stands behind the same content;
//                 W_Q = 0.7 W_Q + 0.7 W_K     the rest: the same content
//   layer 0       head h looks h tokens back: on the N fastest of RoPE's frequencies θ_n, the part of
//   and group 0   W_K that reads c gets  a (1, 0)  and that of W_Q  a (cos h θ_n, −sin h θ_n), so
//   of layer 1    that the scores hold Σ_n a² cos((i − j − h) θ_n), largest for j = i − h;
//                 it writes Tʰ of what it reads:  W_O + (D/4d) Tʰ W_Vᵀ / G
//
// T turns a vector's components in a circle, by D/(H + 1) places. So a place holds its own token x_j
// and those before it as x_j + T x_{j−1} + T² x_{j−2} + ..., each where it can be told from the others,
// and T of what a query holds is what stands at the place behind an earlier occurrence of it. Without T
// they are all added up alike: the model finds a place by the bag of the four tokens before it, and one
// token alone finds nothing (Docs/training.md).
//
// Why: to repeat what came before, one layer has to look one token back, the next has to match what it
// finds with the current token, and both have to copy. Random matrices learn the three only together,
// so that for hundreds of steps nothing helps.
//
// Source: ours; that products of an attention's matrices begin near the identity is the mimetic
// initialisation of Trockman and Kolter, arXiv 2305.09828, which has no heads that look back.

import RealModule
public import Tensors

/// Sizes of the start.
struct LookingBack {
  /// Columns of the embedding that have a common part, and its size.
  static let common = (columns: 16, size: 0.15)
  /// Deviation of the embedding.
  static let embeddingDeviation = 0.06
  /// The score that a head of layer 0 gives to the token that it looks for.
  static let score = 60.0
  /// N.
  static let frequencies = 10
}

extension ModelShape {
  /// Parameters before the first step whose heads look back; parameter n is drawn from stream n.
  ///
  /// Only for grouped heads.
  public func lookingBackParameters<E: Scalar>(seed: UInt64) -> [Parameter<E>] {
    guard case .grouped(let M) = attention else {
      preconditionFailure("only heads of grouped attention look back")
    }
    let (D, H, d, G) = (hiddenSize, queryHeads, headWidth, queryHeads / M)
    var parameters: [Parameter<E>] = startingParameters(seed: seed)
    let places = Dictionary(uniqueKeysWithValues: parameters.enumerated().map { ($1.name, $0) })
    /// Where T^power puts component x.
    func turned(_ x: Int, _ power: Int) -> Int { (x + power * (D / (H + 1))) % D }
    /// Changes the matrix `name`.
    func change(_ name: String, _ body: (inout [E]) -> Void) {
      guard let place = places[name] else { preconditionFailure("no parameter \(name)") }
      body(&parameters[place].values)
    }
    func values(_ name: String) -> [E] {
      guard let place = places[name] else { preconditionFailure("no parameter \(name)") }
      return parameters[place].values
    }

    let (columns, size) = (min(LookingBack.common.columns, D), LookingBack.common.size)
    change("model.embed_tokens.weight") { E_ in
      let scale = E(LookingBack.embeddingDeviation / 0.02)
      for i in E_.indices { E_[i] = scale * E_[i] + (i % D < columns ? E(size) : 0) }
    }
    // What the norm of layer 0 leaves of the common part, along its direction: a row has about the
    // squared length D σ² + 16 · 0.15², and the norm makes it D.
    let shared = Double(columns) * size * size
    let spread = Double(D) * LookingBack.embeddingDeviation * LookingBack.embeddingDeviation
    let common = (shared * Double(D) / (shared + spread)).squareRoot()
    let direction = 1 / Double(columns).squareRoot()

    for layer in 0..<layers {
      let heads = "model.layers.\(layer).self_attn"
      let (keys, reads) = (values("\(heads).k_proj.weight"), values("\(heads).v_proj.weight"))
      // Heads that look back.
      let backward = layer == 0 ? H : layer == 1 ? G : 0
      change("\(heads).o_proj.weight") { W in
        for h in 0..<H {
          let power = h < backward ? h + 1 : 0
          for i in 0..<d {
            for x in 0..<D {
              W[turned(x, power) * H * d + h * d + i] +=
                reads[((h / G) * d + i) * D + x] * E(D) / E(4 * d * G)
            }
          }
        }
      }
      if layer > 0 {
        change("\(heads).q_proj.weight") { W in
          for h in 0..<H {
            for i in 0..<d {
              for x in 0..<D {
                let k = keys[((h / G) * d + i) * D + turned(x, h % 2 == 0 ? 1 : 0)]
                W[(h * d + i) * D + x] = E(0.7) * (W[(h * d + i) * D + x] + k)
              }
            }
          }
        }
      }
      if backward == 0 { continue }
      // The amplitude a of each frequency: N a² common² / √d = score.
      let N = min(LookingBack.frequencies, d / 2)
      let a =
        (LookingBack.score * Double(d).squareRoot() / Double(N)).squareRoot() / common
      let groups = backward / G
      change("\(heads).k_proj.weight") { W in
        for i in 0..<groups * d * D { W[i] /= 2 }
        for g in 0..<groups {
          for n in 0..<N {
            for x in 0..<columns { W[(g * d + n) * D + x] += E(a * direction) }
          }
        }
      }
      change("\(heads).q_proj.weight") { W in
        for i in 0..<groups * G * d * D { W[i] /= 2 }
        for h in 0..<groups * G {
          for n in 0..<N {
            let angle = Double(h + 1) * Double.pow(rotaryBase, -Double(2 * n) / Double(d))
            for x in 0..<columns {
              W[(h * d + n) * D + x] += E(a * direction * Double.cos(angle))
              W[(h * d + d / 2 + n) * D + x] -= E(a * direction * Double.sin(angle))
            }
          }
        }
      }
    }
    return parameters
  }
}
