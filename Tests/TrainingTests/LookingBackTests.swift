// The start that looks back: what its heads attend to, and what they copy, before any step.

import Foundation
import Tensors
import TestSupport
import Testing
import Training

@Suite struct LookingBackTests {
  private static let shape: ModelShape = {
    var shape = ModelShape(
      vocabulary: 300, layers: 3, hiddenSize: 128, queryHeads: 4, headWidth: 64,
      intermediateSize: 32, attention: .grouped(keyValueHeads: 2))
    shape.rotaryBase = 500_000
    return shape
  }()
  private static let parameters: [Parameter<Double>] = shape.lookingBackParameters(seed: 3)

  private func parameter(_ name: String) throws -> Tensor<Double> {
    try #require(Self.parameters.first { $0.name == "\(name).weight" }).tensor
  }

  /// A token's embedding behind the first norm, whose factors are 1: mean square 1.
  private func input(_ token: Int) throws -> [Double] {
    let row = try parameter("model.embed_tokens").row(token)
    let size = (row.reduce(0) { $0 + $1 * $1 } / Double(row.count)).squareRoot()
    return row.map { $0 / size }
  }

  /// Row block `head` of a projection of x, turned to its position: pairs (n, n + d/2) by p θ^(−2n/d).
  private func turned(
    _ name: String, head: Int, _ x: [Double], position p: Int
  ) throws -> [Double] {
    let (W, d) = (try parameter(name), Self.shape.headWidth)
    let y = (0..<d).map { i in zip(W.row(head * d + i), x).reduce(0) { $0 + $1.0 * $1.1 } }
    var result = y
    for n in 0..<d / 2 {
      let angle = Double(p) * pow(Self.shape.rotaryBase, -Double(2 * n) / Double(d))
      let (c, s) = (cos(angle), sin(angle))
      result[n] = y[n] * c - y[n + d / 2] * s
      result[n + d / 2] = y[n + d / 2] * c + y[n] * s
    }
    return result
  }

  /// Softmax weights of head h of layer 0 at the last of the tokens.
  private func weights(head h: Int, _ tokens: [Int]) throws -> [Double] {
    let heads = "model.layers.0.self_attn"
    let last = tokens.count - 1
    let q = try turned("\(heads).q_proj", head: h, try input(tokens[last]), position: last)
    let scores = try tokens.enumerated().map { j, token in
      let k = try turned("\(heads).k_proj", head: h / 2, try input(token), position: j)
      return zip(q, k).reduce(0) { $0 + $1.0 * $1.1 } / Double(q.count).squareRoot()
    }
    let most = scores.max() ?? 0
    let parts = scores.map { exp($0 - most) }
    return parts.map { $0 / parts.reduce(0, +) }
  }

  @Test(arguments: 0..<4)
  func `head h of the first layer attends to the token h + 1 places back`(_ h: Int) throws {
    var numbers = SeededNumbers(seed: 8)
    var sum = 0.0
    for _ in 0..<10 {
      let tokens = (0..<40).map { _ in numbers.below(300) }
      sum += try weights(head: h, tokens)[39 - h - 1]
    }
    // Uniform attention would give 1/40. The contents of tokens are noise beside the common part:
    // the rest goes to the neighbours.
    #expect(sum / 10 > 0.4, "head \(h): \(sum / 10)")
  }

  @Test func `a head writes what it reads, turned by as many places as it looks back`() throws {
    // T^−p W_O W_V of a head has a trace of about D/(4G) over the random part: D/(4 d G) tr(W_Vᵀ W_V) with
    // d rows of squared length 1. Random matrices alone have 0 ± √d / 11 (variance Σ σ² σ'²).
    let (d, D) = (Self.shape.headWidth, Self.shape.hiddenSize)
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
    // tr(W_Q W_Kᵀ) of an odd head is 0.7 d, because they share 0.7 W_K; 0 where they are independent. An
    // even head, from 0 on, shares 0.7 W_K T.
    let (q, k) = (
      try parameter("model.layers.2.self_attn.q_proj"),
      try parameter("model.layers.2.self_attn.k_proj")
    )
    let D = Self.shape.hiddenSize
    for h in 0..<4 {
      let shift = h % 2 == 0 ? D / 5 : 0
      let trace = (0..<64).reduce(0.0) { sum, i in
        let (a, b) = (q.row(h * 64 + i), k.row((h / 2) * 64 + i))
        return sum + (0..<D).reduce(0.0) { $0 + a[$1] * b[($1 + shift) % D] }
      }
      #expect(abs(trace - 0.7 * 64) < 8, "head \(h): \(trace)")
    }
  }

  @Test func `everything else begins as without it`() throws {
    let plain: [Parameter<Double>] = Self.shape.startingParameters(seed: 3)
    for (a, b) in zip(plain, Self.parameters) {
      let isChanged =
        a.name.contains("self_attn") && !a.name.contains("v_proj") || a.name.contains("embed")
      // Keys of layer 2 look nowhere: only queries and outputs follow them.
      let isKept = !isChanged || a.name.contains("layers.2.self_attn.k_proj")
      #expect(a.name == b.name && (a.values == b.values) == isKept, "\(a.name)")
    }
  }
}
