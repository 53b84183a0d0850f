// Fast KVzip's gate: closed forms, invariances, files, and its gradient.

import CacheMethods
import Foundation
import Tensors
import Testing

private let sizes = FastGateSizes(input: 7, heads: 2, group: 3, width: 4, sinks: 5)
private let rows = Tensor<Double>.normal(shape: [6, 7], seed: 3, stream: 50)

/// A gate all of whose numbers are drawn.
private func gate(seed: UInt64 = 1) -> FastGate<Double> {
  var gate = FastGate<Double>(seed: seed, layer: 0, sizes)
  func drawn(_ count: Int, _ stream: UInt64) -> [Double] {
    Tensor<Double>.normal(shape: [count], seed: seed, stream: stream).elements
  }
  gate.queryBias = drawn(gate.queryBias.count, 60)
  gate.bias = drawn(gate.bias.count, 61)
  gate.queryNorm = drawn(4, 62)
  gate.keyNorm = drawn(4, 63)
  return gate
}

@Suite struct FastGateTests {
  @Test func `without queries a score is 1 over 1 plus S times the exponential of minus b`()
    throws
  {
    var gate = gate()
    gate.queryWeights = gate.queryWeights.map { _ in 0 }
    gate.queryBias = gate.queryBias.map { _ in 0 }
    for (m, scores) in try gate.scores(rows).enumerated() {
      let expected = (0..<3).reduce(0.0) { $0 + 1 / (1 + 5 * exp(-gate.bias[m * 3 + $1])) } / 3
      #expect(scores.allSatisfy { abs($0 - expected) < 1e-14 })
    }
  }

  @Test func `without sinks every score is 1`() throws {
    let gate = FastGate<Double>(
      seed: 1, layer: 0, FastGateSizes(input: 7, heads: 2, group: 3, width: 4, sinks: 0))
    #expect(try gate.scores(rows) == [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
  }

  @Test func `scores lie between 0 and 1 and grow with b`() throws {
    var gate = gate()
    var last = try gate.scores(rows)
    #expect(last.joined().allSatisfy { $0 > 0 && $0 < 1 })
    for _ in 0..<3 {
      gate.bias = gate.bias.map { $0 + 0.5 }
      let next = try gate.scores(rows)
      #expect(zip(next.joined(), last.joined()).allSatisfy { $0 > $1 })
      last = next
    }
  }

  // RMSNorm's 1e-6 is what remains of the scale; at 1000 times the input it is 1e-12 of it.
  @Test func `without b_Q the length of x does not matter`() throws {
    var gate = gate()
    let long = Tensor(shape: rows.shape, elements: rows.elements.map { $0 * 1000 })
    let longer = Tensor(shape: rows.shape, elements: rows.elements.map { $0 * 5000 })
    func distance() throws -> Double {
      zip(try gate.scores(long).joined(), try gate.scores(longer).joined())
        .map { abs($0 - $1) }.max() ?? 0
    }
    #expect(try distance() > 1e-6, "with it, it does")
    gate.queryBias = gate.queryBias.map { _ in 0 }
    #expect(try distance() < 1e-10)
  }

  @Test func `the order of a group's heads does not matter`() throws {
    let gate = gate()
    var other = gate
    let order = [2, 0, 1]
    for m in 0..<2 {
      for (g, from) in order.enumerated() {
        let (to, from) = (m * 3 + g, m * 3 + from)
        other.bias[to] = gate.bias[from]
        for i in 0..<4 {
          other.queryBias[to * 4 + i] = gate.queryBias[from * 4 + i]
          for j in 0..<7 {
            other.queryWeights[(to * 4 + i) * 7 + j] = gate.queryWeights[(from * 4 + i) * 7 + j]
          }
        }
      }
    }
    let (a, b) = (try gate.scores(rows), try other.scores(rows))
    #expect(zip(a.joined(), b.joined()).allSatisfy { abs($0 - $1) < 1e-15 })
  }

  @Test func `a row's score does not depend on the other rows`() throws {
    let gate = gate()
    let all = try gate.scores(rows)
    for t in 0..<6 {
      #expect(try gate.scores(rows.rows(t..<t + 1)).map { $0[0] } == all.map { $0[t] })
    }
  }

  @Test func `a file gives the gate back, and a damaged one says so`() throws {
    let path = FileManager.default.temporaryDirectory
      .appendingPathComponent("gate-\(UUID().uuidString).safetensors").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    var writer = SafetensorsWriter()
    try gate().write(to: &writer, prefix: "0.")
    try gate(seed: 2).write(to: &writer, prefix: "1.")
    try writer.write(to: path)
    let file = try SafetensorsFile(path: path)
    #expect(try FastGate<Double>(file, prefix: "1.") == gate(seed: 2))
    #expect(try fastGates(file).count == 2)

    var damaged = SafetensorsWriter()
    let narrow = FastGate<Double>(
      seed: 1, layer: 0, FastGateSizes(input: 7, heads: 2, group: 3, width: 3, sinks: 5))
    for name in ["q_proj.weight", "q_proj.bias", "k_proj.weight", "q_norm.weight", "b"] {
      let tensor: Tensor<Double> = try file.tensor("0.\(name)")
      try damaged.add("0.\(name)", tensor, as: .float64)
    }
    try damaged.add("0.k_norm.weight", Tensor(shape: [3], elements: narrow.keyNorm), as: .float64)
    try damaged.add(
      "0.k_base", Tensor(shape: [2, 1, 5, 3], elements: narrow.sinks), as: .float64)
    try damaged.write(to: path)
    #expect(throws: MethodError.self) { _ = try fastGates(SafetensorsFile(path: path)) }
  }
}

/// Some score of row t and head m, from 0.05 to 0.95.
private func wanted(_ t: Int, _ m: Int) -> Double {
  let place = Double((t * 5 + m * 3) % 7)
  return 0.05 + 0.9 * place / 7
}

@Suite struct FastGateTrainingTests {
  private let lesson = FastGateLesson(
    input: rows,
    scores: (0..<2).map { m in (0..<6).map { t in wanted(t, m) } })

  /// `gate` with number `i` of the part at `path` moved by `step`.
  private func moved(
    _ path: WritableKeyPath<FastGate<Double>, [Double]>, _ i: Int, _ step: Double
  ) -> FastGate<Double> {
    var gate = gate()
    gate[keyPath: path][i] += step
    return gate
  }

  // Central differences with a step of 1e-5: their error is of the order of 1e-10.
  @Test func `the gradient is that of finite differences, number by number`() throws {
    let gradient = gate().gradient(lesson).gradient
    let paths: [WritableKeyPath<FastGate<Double>, [Double]>] = [
      \.queryWeights, \.queryBias, \.keyWeights, \.queryNorm, \.keyNorm, \.sinks, \.bias,
    ]
    for path in paths {
      for i in gradient[keyPath: path].indices {
        let up: Double = moved(path, i, 1e-5).gradient(lesson).loss
        let down: Double = moved(path, i, -1e-5).gradient(lesson).loss
        let slope: Double = (up - down) / 2e-5
        let error: Double = abs(slope - gradient[keyPath: path][i])
        #expect(error < 1e-8, "\(path) \(i)")
      }
    }
  }

  @Test func `the loss is the cross entropy of the scores`() throws {
    let scores = try gate().scores(rows)
    var expected = 0.0
    for (found, wanted) in zip(scores.joined(), lesson.scores.joined()) {
      let hit: Double = wanted * log(found)
      let miss: Double = (1 - wanted) * log(1 - found)
      expected -= (hit + miss) / 12
    }
    #expect(abs(gate().gradient(lesson).loss - expected) < 1e-12)
  }

  // A gate with other numbers has made the scores, so that they can be learned. Their own entropy
  // is the least loss there is.
  @Test func `training learns what another gate says of rows, the same way each time`() throws {
    let many = Tensor<Double>.normal(shape: [300, 7], seed: 8, stream: 5)
    let taught = FastGateLesson(input: many, scores: try gate(seed: 4).scores(many))
    let least = gate(seed: 4).gradient(taught).loss
    func trained() -> (first: Double, last: Double, gate: FastGate<Double>) {
      var trainer = FastGateTrainer(seed: 6, layer: 1, batch: 100, sizes)
      let first = trainer.gate.gradient(taught).loss
      for _ in 0..<400 { _ = trainer.step(taught) }
      return (first, trainer.gate.gradient(taught).loss, trainer.gate)
    }
    let run = trained()
    let (before, after): (Double, Double) = (run.first - least, run.last - least)
    #expect(after < 0.25 * before, "\(before), then \(after)")
    #expect(trained().gate == run.gate)
  }
}
