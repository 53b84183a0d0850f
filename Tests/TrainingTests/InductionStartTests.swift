// The start that looks back: what its heads attend to, and what they copy, before any step.

import Foundation
import Tensors
import TestSupport
import Testing
import Training

@Suite struct InductionStartTests {
  /// The rotated rows of a query and of a key, of head h, and their number.
  struct Turning: Sendable {
    let keys: String
    let query: @Sendable (Int) -> Int
    let key: @Sendable (Int) -> Int
    let width: Int
  }

  private static func shape(_ attention: AttentionKind) -> ModelShape {
    var shape = ModelShape(
      vocabulary: 300, layers: 3, hiddenSize: 128, queryHeads: 4, headWidth: 64,
      intermediateSize: 32, attention: attention)
    shape.rotaryBase = 500_000
    return shape
  }

  private static let kinds: [(AttentionKind, Turning)] = [
    (
      .grouped(keyValueHeads: 2),
      Turning(keys: "k_proj", query: { $0 * 64 }, key: { $0 / 2 * 64 }, width: 64)
    ),
    (
      .lowRank(rank: 8),
      Turning(keys: "k_shared_proj", query: { $0 * 64 }, key: { _ in 0 }, width: 64)
    ),
    (
      .latent(latent: 96, rotary: 32),
      Turning(keys: "kv_a_proj_with_mqa", query: { $0 * 96 + 64 }, key: { _ in 96 }, width: 32)
    ),
  ]
  private static let parameters = kinds.map { kind, _ -> [Parameter<Double>] in
    shape(kind).inductionParameters(seed: 3)
  }

  private func parameter(_ name: String, of kind: Int = 0) throws -> Tensor<Double> {
    try #require(Self.parameters[kind].first { $0.name == "\(name).weight" }).tensor
  }

  /// A token's embedding behind the first norm, whose factors are 1: mean square 1.
  private func input(_ token: Int) throws -> [Double] {
    // All kinds have the same.
    let row = try parameter("model.embed_tokens").row(token)
    let size = (row.reduce(0) { $0 + $1 * $1 } / Double(row.count)).squareRoot()
    return row.map { $0 / size }
  }

  /// d rows of W x from `first` on, rotated to their position: pairs (n, n + d/2) by p θ^(−2n/d).
  private func rotated(
    _ W: Tensor<Double>, from first: Int, width d: Int, _ x: [Double], position p: Int
  ) -> [Double] {
    let y = (0..<d).map { i in zip(W.row(first + i), x).reduce(0) { $0 + $1.0 * $1.1 } }
    var result = y
    for n in 0..<d / 2 {
      let angle = Double(p) * pow(500_000, -Double(2 * n) / Double(d))
      let (c, s) = (cos(angle), sin(angle))
      result[n] = y[n] * c - y[n + d / 2] * s
      result[n + d / 2] = y[n + d / 2] * c + y[n] * s
    }
    return result
  }

  /// Softmax weights of head h of layer 0 at the last of the tokens, by the rotated part alone.
  private func weights(kind: Int, head h: Int, _ tokens: [Int]) throws -> [Double] {
    let (heads, part) = ("model.layers.0.self_attn", Self.kinds[kind].1)
    let (Q, K) = (
      try parameter("\(heads).q_proj", of: kind),
      try parameter("\(heads).\(part.keys)", of: kind)
    )
    let (last, d) = (tokens.count - 1, part.width)
    let q = rotated(
      Q, from: part.query(h), width: d, try input(tokens[last]), position: last)
    let scores = try tokens.enumerated().map { j, token in
      let k = rotated(K, from: part.key(h), width: d, try input(token), position: j)
      return zip(q, k).reduce(0) { $0 + $1.0 * $1.1 } / Double(Q.rows / 4).squareRoot()
    }
    let most = scores.max() ?? 0
    let parts = scores.map { exp($0 - most) }
    return parts.map { $0 / parts.reduce(0, +) }
  }

  @Test(arguments: kinds.indices, 0..<4)
  func `head h of the first layer attends to the token h + 1 places back`(_ kind: Int, _ h: Int)
    throws
  {
    var numbers = SeededNumbers(seed: 8)
    var sum = 0.0
    for _ in 0..<10 {
      let tokens = (0..<40).map { _ in numbers.below(300) }
      sum += try weights(kind: kind, head: h, tokens)[39 - h - 1]
    }
    // Uniform attention would give 1/40. The contents of tokens are noise beside the common part:
    // the rest goes to the neighbours.
    #expect(sum / 10 > 0.4, "\(Self.kinds[kind].0), head \(h): \(sum / 10)")
  }

  @Test func `a head writes what it reads, shifted by as many places as it looks back`() throws {
    // T^−p W_O W_V of a head has a trace of about D/(4G) over the random part: D/(4 d G) tr(W_Vᵀ
    // W_V) with d rows of squared length 1. Random matrices alone have 0 ± √d / 11 (variance Σ σ²
    // σ'²).
    let (d, D) = (64, 128)
    for layer in 0..<3 {
      let (o, v) = (
        try parameter("model.layers.\(layer).self_attn.o_proj"),
        try parameter("model.layers.\(layer).self_attn.v_proj")
      )
      for h in 0..<4 {
        var trace = 0.0
        let power = layer == 0 || layer == 1 && h < 2 ? h + 1 : 0
        for x in 0..<D {
          let place = (x + power * (D / 5)) % D
          for i in 0..<d { trace += o.row(place)[h * d + i] * v.row((h / 2) * d + i)[x] }
        }
        #expect(abs(trace - Double(D) / 8) < 4, "layer \(layer), head \(h): \(trace)")
      }
    }
  }

  @Test func `queries of later layers match the same content, or what stands behind it`() throws {
    // tr(W_Q W_Kᵀ) of an odd head is 0.7 d, because they share 0.7 W_K; 0 where they are
    // independent. An even head, from 0 on, shares 0.7 W_K T.
    let (q, k) = (
      try parameter("model.layers.2.self_attn.q_proj"),
      try parameter("model.layers.2.self_attn.k_proj")
    )
    let D = 128
    for h in 0..<4 {
      let shift = h % 2 == 0 ? D / 5 : 0
      let trace = (0..<64).reduce(0.0) { sum, i in
        let (a, b) = (q.row(h * 64 + i), k.row((h / 2) * 64 + i))
        return sum + (0..<D).reduce(0.0) { $0 + a[$1] * b[($1 + shift) % D] }
      }
      #expect(abs(trace - 0.7 * 64) < 8, "head \(h): \(trace)")
    }
  }

  @Test func `values of all kinds are written as they are read`() throws {
    // W_O W_V of a head of layer 2, tr = D/(4 d G) · d: LRKV's value is shared by four heads, MLA's
    // is a product of two matrices. Random matrices alone have 0 ± √d / 11.
    let (o, v) = (
      try parameter("model.layers.2.self_attn.o_proj", of: 1),
      try parameter("model.layers.2.self_attn.v_shared_proj", of: 1)
    )
    let (p, up, down) = (
      try parameter("model.layers.2.self_attn.o_proj", of: 2),
      try parameter("model.layers.2.self_attn.kv_b_proj", of: 2),
      try parameter("model.layers.2.self_attn.kv_a_proj_with_mqa", of: 2)
    )
    for h in 0..<4 {
      var (shared, latent) = (0.0, 0.0)
      for i in 0..<64 {
        for x in 0..<128 {
          let made = (0..<96).reduce(0.0) { $0 + up.row(h * 128 + 64 + i)[$1] * down.row($1)[x] }
          shared += o.row(x)[h * 64 + i] * v.row(i)[x]
          latent += p.row(x)[h * 64 + i] * made
        }
      }
      #expect(abs(shared - 8) < 4 && abs(latent - 32) < 8, "head \(h): \(shared), \(latent)")
    }
  }

  @Test func `everything else begins as without it`() throws {
    let plain: [Parameter<Double>] = Self.shape(Self.kinds[0].0).startingParameters(seed: 3)
    for (a, b) in zip(plain, Self.parameters[0]) {
      let isChanged =
        a.name.contains("self_attn") && !a.name.contains("v_proj") || a.name.contains("embed")
      // Keys of layer 2 look nowhere: only queries and outputs follow them.
      let isKept = !isChanged || a.name.contains("layers.2.self_attn.k_proj")
      #expect(a.name == b.name && (a.values == b.values) == isKept, "\(a.name)")
    }
  }
}
