// How a gate learns KVzip's scores of a model.
//
// In:  for one layer rows x (n, D) and what KVzip scored each of them, y (M, n), from 0 to 1.
// Out: a gate whose scores s are near y.
//
//     loss   L = − mean over rows and heads of  y log s + (1 − y) log(1 − s)      (cross entropy)
//     step   v ← 0.9 v + ∂L/∂θ,   θ ← θ − 0.2 v                                   (SGD, momentum)
//
// The gradient by hand, for one row and head; s = mean over g of p_g, p_g = 1 / (1 + Σ_j n_gj),
// n_gj = exp(e_gj − a_g):
//
//     ∂L/∂s      = (s − y) / (s (1 − s))             ∂s/∂p_g   = 1 / G
//     ∂p_g/∂a_g  = p_g² Σ_j n_gj                      ∂p_g/∂e_gj = − p_g² n_gj
//     a_g = k · q_g / √d' + b_g,  e_gj = c_j · q_g / √d'
//     q = w ⊙ u / r with r = √(mean u² + 1e-6):   ∂u = (∂û − û · mean(∂û ⊙ û)) / r,  û = u / r,
//                                                 ∂û = w ⊙ ∂q,  ∂w = û ⊙ ∂q
//
// Source: arXiv 2601.17668 and FastKVzip at 7d78b34, optim.py: this loss, rate 0.2, momentum 0.9,
// 5000 steps of 1000 rows a layer. Its training adds the bias b twice and its inference once
// (optim.py beside gate.py); we add it once in both. The start is ours: normal projections of
// variance 1/D, normal sinks, norms of 1, biases of 0. All in Double.

package import Tensors

/// What one layer's gate learns from: rows, and KVzip's scores of them.
package struct FastGateLesson: Sendable {
  /// x, (n, D).
  package let input: Tensor<Double>
  /// y of each key/value head, n each.
  package let scores: [[Double]]

  /// Rows and their scores, as many for each head.
  package init(input: Tensor<Double>, scores: [[Double]]) {
    precondition(scores.allSatisfy { $0.count == input.rows }, "a score for every row")
    self.input = input
    self.scores = scores
  }

  /// The rows `places`.
  func rows(_ places: [Int]) -> FastGateLesson {
    FastGateLesson(
      input: input.gather(rows: places), scores: scores.map { head in places.map { head[$0] } })
  }
}

extension FastGate<Double> {
  /// The gate that training starts with; equal seeds and layers make equal gates.
  package init(seed: UInt64, layer: Int, _ sizes: FastGateSizes) {
    self.init(zeros: sizes)
    func normal(_ count: Int, _ stream: Int, _ scale: Double) -> [Double] {
      Tensor<Double>.normal(shape: [count], seed: seed, stream: UInt64(layer * 8 + stream))
        .elements.map { $0 * scale }
    }
    let scale = 1 / Double(sizes.input).squareRoot()
    queryWeights = normal(queryWeights.count, 0, scale)
    keyWeights = normal(keyWeights.count, 1, scale)
    sinks = normal(sinks.count, 2, 1)
    queryNorm = queryNorm.map { _ in 1 }
    keyNorm = keyNorm.map { _ in 1 }
  }

  /// L and its gradient, one number for each of the gate's.
  package func gradient(_ lesson: FastGateLesson) -> (loss: Double, gradient: FastGate<Double>) {
    let s = sizes
    let weight = 1 / Double(lesson.input.rows * s.heads)
    var gradient = FastGate(zeros: s)
    var loss = 0.0
    let q = matmul(
      lesson.input,
      transposed: Tensor(shape: [queryBias.count, s.input], elements: queryWeights),
      in: .library)
    let k = matmul(
      lesson.input,
      transposed: Tensor(shape: [s.heads * s.width, s.input], elements: keyWeights), in: .library)
    for t in 0..<lesson.input.rows {
      let (x, queries, keys) = (lesson.input.row(t), q.row(t), k.row(t))
      for m in 0..<s.heads {
        let row = row(queries, keys, head: m)
        let y = lesson.scores[m][t]
        let score = row.weights.reduce(0, +) / Double(s.group)
        let safe = min(max(score, 1e-12), 1 - 1e-12)
        loss -= weight * (y * naturalLogarithm(safe) + (1 - y) * naturalLogarithm(1 - safe))
        let perScore = weight * (safe - y) / (safe * (1 - safe)) / Double(s.group)
        add(row, head: m, x: x, perWeight: perScore, to: &gradient)
      }
    }
    return (loss, gradient)
  }

  /// The gradient of one row and head, given ∂L/∂p_g.
  private func add(
    _ row: FastGateRow<Double>, head m: Int, x: [Double], perWeight: Double,
    to gradient: inout FastGate<Double>
  ) {
    let (G, width, S) = (sizes.group, sizes.width, sizes.sinks)
    let scale = 1 / Double(width).squareRoot()
    var perKey = [Double](repeating: 0, count: width)
    for g in 0..<G {
      let (query, p) = (row.queries[g], row.weights[g])
      let perOwn = perWeight * p * p * row.others[g].reduce(0, +)
      gradient.bias[m * G + g] += perOwn
      var perQuery = row.key.value.map { $0 * perOwn * scale }
      for i in 0..<width { perKey[i] += query.value[i] * perOwn * scale }
      for j in 0..<S {
        let perSink = -perWeight * p * p * row.others[g][j] * scale
        for i in 0..<width {
          perQuery[i] += perSink * sinks[(m * S + j) * width + i]
          gradient.sinks[(m * S + j) * width + i] += perSink * query.value[i]
        }
      }
      let before = query.backward(perQuery, norm: queryNorm, into: &gradient.queryNorm)
      for i in 0..<width {
        let place = (m * G + g) * width + i
        gradient.queryBias[place] += before[i]
        addProduct(before[i], x, to: &gradient.queryWeights, at: place * sizes.input)
      }
    }
    let before = row.key.backward(perKey, norm: keyNorm, into: &gradient.keyNorm)
    for i in 0..<width {
      addProduct(
        before[i], x, to: &gradient.keyWeights, at: (m * width + i) * sizes.input)
    }
  }
}

extension FastGateVector<Double> {
  /// ∂L/∂v of the vector before its norm, given ∂L/∂value; adds to the gradient of the weights.
  fileprivate func backward(
    _ perValue: [Double], norm: [Double], into perNorm: inout [Double]
  ) -> [Double] {
    for i in perValue.indices { perNorm[i] += perValue[i] * normed[i] }
    let perNormed = zip(perValue, norm).map { $0 * $1 }
    let mean = zip(perNormed, normed).reduce(0) { $0 + $1.0 * $1.1 } / Double(normed.count)
    return zip(perNormed, normed).map { ($0 - $1 * mean) / root }
  }
}

private func addProduct(_ a: Double, _ x: [Double], to sum: inout [Double], at first: Int) {
  for i in x.indices { sum[first + i] += a * x[i] }
}

/// SGD with momentum on one layer's gate.
package struct FastGateTrainer: Sendable {
  /// The gate so far.
  package private(set) var gate: FastGate<Double>
  private var velocity: FastGate<Double>
  private let numbers: RandomNumbers
  private let batch: Int
  private var drawn = 0

  /// Starts from the gate of `seed`; each step looks at `batch` rows.
  package init(seed: UInt64, layer: Int, batch: Int = 1000, _ sizes: FastGateSizes) {
    precondition(batch >= 1, "a batch of \(batch) rows")
    gate = FastGate(seed: seed, layer: layer, sizes)
    velocity = FastGate(zeros: sizes)
    numbers = RandomNumbers(seed: seed, stream: UInt64(layer * 8 + 7))
    self.batch = batch
  }

  /// One step on rows of `lesson` drawn at random; its loss before the step.
  package mutating func step(
    _ lesson: FastGateLesson, rate: Double = 0.2, momentum: Double = 0.9
  ) -> Double {
    let n = lesson.input.rows
    let places =
      n <= batch ? Array(0..<n) : (0..<batch).map { numbers.integer(below: n, drawn + $0) }
    drawn += batch
    let (loss, gradient) = gate.gradient(lesson.rows(places))
    for part in FastGate<Double>.parts(gate.sizes) {
      let v = zip(velocity[keyPath: part.path], gradient[keyPath: part.path]).map {
        momentum * $0 + $1
      }
      velocity[keyPath: part.path] = v
      gate[keyPath: part.path] = zip(gate[keyPath: part.path], v).map { $0 - rate * $1 }
    }
    return loss
  }
}
