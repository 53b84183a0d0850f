// The optimisers and the schedule, against their formulas.

import TestSupport
import Tensors
import Testing
import Training

@Suite struct OptimizerTests {
  private func parameter(_ shape: [Int], _ seed: UInt64, name: String = "w") -> Parameter<Float> {
    var numbers = SeededNumbers(seed: seed)
    return Parameter(
      name: name, shape: shape, values: random(shape, &numbers).elements.map { Float($0) })
  }

  @Test func `two steps of AdamW are the formula in Double`() throws {
    var parameters = [parameter([2, 3], 1), parameter([3], 2)]
    let start = parameters.map { $0.values.map(Double.init) }
    let gradients = [parameter([2, 3], 3).values, parameter([3], 4).values]
    var optimizer = Optimizer()
    optimizer.clip = 0.5
    let norm = gradients.joined().reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
    #expect(norm > 0.5, "the case must be clipped")
    for t in 1...2 {
      let found = try optimizer.step(&parameters, gradients, t: t, rate: 0.01)
      #expect(abs(found - norm) < 1e-12)
    }
    for (n, parameter) in parameters.enumerated() {
      for i in parameter.values.indices {
        var (theta, m, v) = (start[n][i], 0.0, 0.0)
        let g = Double(gradients[n][i]) * 0.5 / norm
        for t in 1...2 {
          m = 0.9 * m + 0.1 * g
          v = 0.95 * v + 0.05 * g * g
          let (mean, square) = (m / (1 - power(0.9, t)), v / (1 - power(0.95, t)))
          let decay = n == 0 ? 0.1 : 0  // the factors of a norm do not decay
          theta -= 0.01 * (mean / (square.squareRoot() + 1e-8) + decay * theta)
        }
        // Float arithmetic on numbers of size 1, a dozen operations.
        #expect(abs(Double(parameter.values[i]) - theta) < 2e-6)
      }
    }
  }

  @Test(arguments: [[12, 5], [5, 12], [7, 7]])
  func `Muon's direction has singular values near 1 and the gradient's sides`(_ shape: [Int]) {
    var numbers = SeededNumbers(seed: 6)
    let G = Tensor(
      shape: shape, elements: random(shape, &numbers).elements.map { Float($0) })
    let X = Muon().orthogonal(G)
    // X = P(G): the singular vectors stay, so Xᵀ X and Gᵀ G commute, and ⟨X, G⟩ > 0.
    let (a, b) = (X.gram(in: .library), G.gram(in: .library))
    let (ab, ba) = (matmul(a, b, in: .library), matmul(b, a, in: .library))
    for (x, y) in zip(ab.elements, ba.elements) { #expect(abs(x - y) < 1e-4) }
    #expect(zip(X.elements, G.elements).reduce(0) { $0 + $1.0 * $1.1 } > 0)
    // Five rounds take singular values of 0.01 ... 1 to 0.68 ... 1.21 (computed from the
    // polynomial); their squares' sum is the trace.
    let rank = Float(min(shape[0], shape[1]))
    let trace = (0..<a.rows).reduce(Float(0)) { $0 + a[$1, $1] }
    #expect(trace > 0.46 * rank && trace < 1.47 * rank)
  }

  @Test func `Muon moves hidden matrices, AdamW the rest`() throws {
    var parameters = [
      parameter([4, 3], 1, name: "model.layers.0.mlp.up_proj.weight"),
      parameter([4, 3], 2, name: "model.embed_tokens.weight"), parameter([3], 3, name: "norm"),
    ]
    let start = parameters
    let gradients = parameters.map { $0.values.map { $0 * 0.1 } }
    var optimizer = Optimizer()
    optimizer.muon = Muon()
    try optimizer.step(&parameters, gradients, t: 1, rate: 0.01)
    for (before, after) in zip(start, parameters) { #expect(before.values != after.values) }
    #expect(parameters[0].square.allSatisfy { $0 == 0 })
    #expect(parameters[1].square.allSatisfy { $0 > 0 })
    // Muon's step has the norm 0.2 √4 η √3 √(mean square of singular values), whatever the
    // gradient's size: between 0.68 and 1.21 of 0.2 · 2 · 0.01 · √3, but for the decay of 0.05 η.
    let moved = zip(start[0].values, parameters[0].values).map { $0 * (1 - 0.0005) - $1 }
    let size = moved.reduce(0) { $0 + $1 * $1 }.squareRoot() / (0.004 * Float(3).squareRoot())
    #expect(size > 0.67 && size < 1.22)
  }

  @Test func `the rate rises, falls as half a cosine, and stays`() {
    let schedule = Schedule(rate: 1, lastRate: 0.1, warmUp: 10, steps: 110)
    #expect(schedule.rate(at: 1) == 0.1 && schedule.rate(at: 5) == 0.5)
    #expect(schedule.rate(at: 10) == 1)
    #expect(abs(schedule.rate(at: 60) - 0.55) < 1e-12)
    #expect(abs(schedule.rate(at: 110) - 0.1) < 1e-12 && abs(schedule.rate(at: 999) - 0.1) < 1e-12)
  }

  private func power(_ x: Double, _ n: Int) -> Double { (0..<n).reduce(1) { y, _ in y * x } }
}
