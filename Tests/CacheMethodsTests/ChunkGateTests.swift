// The LSTM gate of chunks: plain loops, targets, and its gradient.

import CacheMethods
import Foundation
import Tensors
import Testing

private let sizes = LSTMSizes(input: 6, hidden: 3)

/// A gate all of whose numbers are drawn.
private func gate(seed: UInt64 = 1) -> LSTMGate<Double> {
  var gate = LSTMGate<Double>(seed: seed, layer: 0, sizes)
  func drawn(_ count: Int, _ stream: UInt64) -> [Double] {
    Tensor<Double>.normal(shape: [count], seed: seed, stream: stream).elements
  }
  gate.inputBias = drawn(12, 60)
  gate.hiddenBias = drawn(12, 61)
  gate.outputBias = drawn(1, 62)
  return gate
}

/// g of every chunk by plain loops over PyTorch's layout, rows i, f, g, o.
private func values(_ gate: LSTMGate<Double>, _ x: Tensor<Double>, chunk C: Int) -> [Double] {
  func sigma(_ x: Double) -> Double { 1 / (1 + exp(-x)) }
  var (h, c, values) = ([0.0, 0, 0], [0.0, 0, 0], [Double]())
  for t in 0..<x.rows {
    let z: [Double] = (0..<12).map { r in
      var sum: Double = gate.inputBias[r] + gate.hiddenBias[r]
      for i in 0..<6 { sum += gate.inputWeights[r * 6 + i] * x[t, i] }
      for n in 0..<3 { sum += gate.hiddenWeights[r * 3 + n] * h[n] }
      return sum
    }
    for n in 0..<3 {
      c[n] = sigma(z[3 + n]) * c[n] + sigma(z[n]) * tanh(z[6 + n])
      h[n] = sigma(z[9 + n]) * tanh(c[n])
    }
    if (t + 1) % C == 0 {
      var logit: Double = gate.outputBias[0]
      for n in 0..<3 { logit += gate.outputWeights[n] * h[n] }
      values.append(sigma(logit))
    }
  }
  return values
}

@Suite struct ChunkGateTests {
  private let x = Tensor<Double>.normal(shape: [20, 6], seed: 3, stream: 50)

  @Test func `the LSTM is that of plain loops, its state carried from chunk to chunk`() {
    let gate = gate()
    var state = LSTMState<Double>(hidden: 3)
    let found = (0..<5).map { gate.value(x.rows($0 * 4..<$0 * 4 + 4), state: &state) }
    #expect(isNear(found, values(gate, x, chunk: 4), 1e-14))
    // A state that starts anew says something else of the second chunk.
    var fresh = LSTMState<Double>(hidden: 3)
    #expect(abs(gate.value(x.rows(4..<8), state: &fresh) - found[1]) > 1e-5)
  }

  @Test func `all zeros are undecided, and a large bias decides`() {
    var state = LSTMState<Double>(hidden: 3)
    var gate = LSTMGate<Double>(zeros: sizes)
    #expect(gate.value(x, state: &state) == 0.5)
    gate.outputBias = [800]
    #expect(gate.value(x, state: &state) == 1)
    gate.outputBias = [-800]
    #expect(gate.value(x, state: &state) == 0)
  }

  @Test func `a chunk that receives what even attention gives is at one half`() {
    #expect(massGate(received: 3.0, fairShare: 3) == 0.5)
    #expect(massGate(received: 0.0, fairShare: 3) == 0)
    #expect(massGate(received: Double.nan, fairShare: 3).isNaN)
    // Zero queries attend to all alike: targets and masses are one half.
    let keys = Tensor<Double>.normal(shape: [40, 4], seed: 1)
    let zero = Tensor<Double>(repeating: 0, shape: [40, 4])
    for sight in [nil, 17] {
      let plan = ChunkedRows(window: 5, chunk: 4, sight: sight)
      let targets = chunkTargets(queries: [zero, zero], keys: keys, plan: plan)
      #expect(targets.count == 8)
      #expect(targets.allSatisfy { abs(($0 ?? 0.5) - 0.5) < 1e-12 })
    }
  }

  @Test func `targets are what later queries attend to the chunk, by plain loops`() throws {
    let keys = Tensor<Double>.normal(shape: [30, 4], seed: 1)
    let queries = (0..<2).map { Tensor<Double>.normal(shape: [30, 4], seed: 2, stream: $0) }
    for sight in [nil, 12] {
      let plan = ChunkedRows(window: 5, chunk: 4, sight: sight)
      let found = chunkTargets(queries: queries, keys: keys, plan: plan)
      for c in 0..<6 {
        var (received, even) = (0.0, 0.0)
        for q in queries {
          for t in (c + 1) * 4 + 4..<30 {
            let seen = max(0, t + 1 - (sight ?? 30))...t
            let weights = softmax(
              seen.map { j in zip(q.row(t), keys.row(j)).reduce(0) { $0 + $1.0 * $1.1 } / 2 })
            for j in c * 4..<c * 4 + 4 where seen.contains(j) {
              received += weights[j - seen.lowerBound]
              even += 1 / Double(seen.count)
            }
          }
        }
        #expect(
          even > 0
            ? abs((found[c] ?? 0) - received / (received + even)) < 1e-12
            : found[c] == nil)
      }
    }
  }

  /// `gate` with number `i` of the part at `path` moved by `step`.
  private func moved(
    _ path: WritableKeyPath<LSTMGate<Double>, [Double]>, _ i: Int, _ step: Double
  ) -> LSTMGate<Double> {
    var gate = gate()
    gate[keyPath: path][i] += step
    return gate
  }

  // Central differences with a step of 1e-5: their error is of the order of 1e-10.
  @Test func `the gradient is that of finite differences, number by number`() {
    let lesson = ChunkLesson(input: x, targets: [0.9, nil, 0.2, 0.5, nil])
    let (loss, gradient) = gate().gradient(lesson)
    let g = values(gate(), x, chunk: 4)
    let expected = [(0, 0.9), (2, 0.2), (3, 0.5)].reduce(0.0) { sum, pair in
      let hit: Double = pair.1 * log(g[pair.0])
      let miss: Double = (1 - pair.1) * log(1 - g[pair.0])
      return sum - (hit + miss) / 3
    }
    #expect(abs(loss - expected) < 1e-12)
    for part in LSTMGate<Double>.parts(sizes) {
      for i in gradient[keyPath: part.path].indices {
        let up: Double = moved(part.path, i, 1e-5).gradient(lesson).loss
        let down: Double = moved(part.path, i, -1e-5).gradient(lesson).loss
        let slope: Double = (up - down) / 2e-5
        #expect(abs(slope - gradient[keyPath: part.path][i]) < 1e-8, "\(part.name) \(i)")
      }
    }
  }

  @Test func `without targets there is nothing to learn`() {
    let (loss, gradient) = gate().gradient(ChunkLesson(input: x, targets: [nil, nil]))
    #expect(loss == 0 && gradient == LSTMGate<Double>(zeros: sizes))
  }

  // The targets are what another gate says, so that they can be learnt; their own entropy is the
  // least loss there is.
  @Test func `training learns what another gate says of chunks, the same way each time`() {
    let lessons = (0..<8).map { n in
      let x = Tensor<Double>.normal(shape: [40, 6], seed: 8, stream: UInt64(n))
      return ChunkLesson(input: x, targets: values(gate(seed: 4), x, chunk: 4))
    }
    func loss(_ gate: LSTMGate<Double>) -> Double {
      lessons.reduce(0) { $0 + gate.gradient($1).loss } / 8
    }
    func trained() -> ChunkGateTrainer {
      var trainer = ChunkGateTrainer(seed: 6, layer: 1, sizes)
      for _ in 0..<400 { _ = trainer.step(lessons, rate: 0.05) }
      return trainer
    }
    let least = loss(gate(seed: 4))
    let before = loss(ChunkGateTrainer(seed: 6, layer: 1, sizes).gate) - least
    let run = trained()
    let after = loss(run.gate) - least
    #expect(after < 0.3 * before, "\(before), then \(after)")
    #expect(trained().gate == run.gate)
  }
}
