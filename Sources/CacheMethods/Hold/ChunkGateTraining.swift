// How an LSTM gate learns which chunks later queries will want.
//
// In:  the prompts of some texts, layer after layer.
// Out: for each key/value head of each layer the rows of its chunks, and what each should get; a
//      gate whose values are near that.
//
//     target   y = S / (S + U) over all queries t >= (c + 1) C + W − 1, those after the decision:
//              S what the chunk receives from them, U what it would receive from even attention
//     loss     L = − mean over chunks of  y log g + (1 − y) log(1 − g)           (cross entropy)
//     step     G = ∂L/∂θ, shortened to length 1 where it is longer
//              v ← 0.9 v + G,   θ ← θ − rate · v
//
// Target and training are ours: the published gate is untrained (at fbff2a0), and the paper trains
// it with the whole model. The mass gate knows what a chunk has received; this one guesses what it
// will receive, from the rows alone. The gradient runs through all chunks of a text, last row
// first; with ∂h and ∂c what later rows ask of this row's h and c:
//
//     ∂o = ∂h ⊙ tanh(c),   ∂c += ∂h ⊙ σ(o) ⊙ (1 − tanh²(c))
//     ∂i = ∂c ⊙ g,   ∂g = ∂c ⊙ i,   ∂f = ∂c ⊙ c_before,   ∂c_before = ∂c ⊙ f
//     ∂z = (∂i i (1 − i), ∂f f (1 − f), ∂g (1 − g²), ∂o o (1 − o))
//     ∂W = ∂z xᵀ,   ∂W' = ∂z h_beforeᵀ,   ∂b = ∂b' = ∂z,   ∂h_before = W'ᵀ ∂z
//
// All in Double. Equal seeds and texts make equal gates.

package import Tensors
package import Transformers

/// What one head's gate learns from one text: the rows of its chunks, and a target for each chunk.
package struct ChunkLesson: Sendable {
  /// Rows x, (n C, input).
  package let input: Tensor<Double>
  /// y of each of n chunks; nil where no later query sees the chunk.
  package let targets: [Double?]
  /// Rows of a chunk, C.
  package var chunk: Int { input.rows / targets.count }

  /// As many rows for every chunk.
  package init(input: Tensor<Double>, targets: [Double?]) {
    precondition(
      !targets.isEmpty && input.rows % targets.count == 0, "as many rows for every chunk")
    self.input = input
    self.targets = targets
  }
}

/// y of every finished chunk: what queries after its decision attend to it, beside even attention.
///
/// `queries` are those of the query heads of one group, (l, d) each, `keys` theirs, (l, d).
package func chunkTargets<E: Scalar>(
  queries: [Tensor<E>], keys: Tensor<E>, plan: ChunkedRows
) -> [Double?] {
  let l = keys.rows
  var (received, even) = ([Double](repeating: 0, count: l), [Double](repeating: 0, count: l))
  let chunks = 0..<plan.chunks(of: l)
  for q in queries {
    forEachPromptRow(queries: q, keys: keys, rows: 0..<l, window: plan.sight) { t, seen, a in
      for c in 0..<plan.chunks(of: t + 1) {
        for j in plan.tokens(c).clamped(to: seen) {
          received[c] += Double(a[j - seen.lowerBound])
          even[c] += 1 / Double(seen.count)
        }
      }
    }
  }
  return chunks.map { even[$0] == 0 ? nil : received[$0] / (received[$0] + even[$0]) }
}

/// The lessons of one layer, from the prompts that it sees.
package struct ChunkLessons: RowGatherer {
  /// One for each text and key/value head.
  package private(set) var lessons: [ChunkLesson] = []
  private let layer: LayerShape
  private let plan: ChunkedRows
  private let input: GateInput

  /// Gathers for chunks of C = `chunk` behind a window of W = `window`.
  package init(_ layer: LayerShape, window: Int, chunk: Int, input: GateInput) {
    self.layer = layer
    self.input = input
    plan = ChunkedRows(window: window, chunk: chunk, sight: layer.window)
  }

  package mutating func add(_ prompt: PromptRows) throws {
    let rows = 0..<plan.exact(of: prompt.keys[0].rows).lowerBound
    if rows.isEmpty { return }
    let (layer, plan, input) = (self.layer, self.plan, self.input)
    lessons += try mapConcurrently(layer.keyValueHeads) { m in
      let heads = m * layer.groupSize..<(m + 1) * layer.groupSize
      return ChunkLesson(
        input: input.rows(keys: prompt.keys[m].rows(rows), values: prompt.values[m].rows(rows))
          .converted(),
        targets: chunkTargets(
          queries: Array(prompt.queries[heads]), keys: prompt.keys[m], plan: plan))
    }
  }
}

extension LSTMGate<Double> {
  /// The gate that training starts with; equal seeds and layers make equal gates.
  package init(seed: UInt64, layer: Int, _ sizes: LSTMSizes) {
    self.init(zeros: sizes)
    func normal(_ count: Int, _ stream: Int, of fan: Int) -> [Double] {
      Tensor<Double>.normal(shape: [count], seed: seed, stream: UInt64(layer * 8 + stream))
        .elements.map { $0 / Double(fan).squareRoot() }
    }
    inputWeights = normal(inputWeights.count, 0, of: sizes.input)
    hiddenWeights = normal(hiddenWeights.count, 1, of: sizes.hidden)
    outputWeights = normal(outputWeights.count, 2, of: sizes.hidden)
  }

  /// L and its gradient, one number for each of the gate's; both 0 without targets.
  package func gradient(_ lesson: ChunkLesson) -> (loss: Double, gradient: LSTMGate<Double>) {
    var gradient = LSTMGate(zeros: sizes)
    let targets = lesson.targets.count { $0 != nil }
    if targets == 0 { return (0, gradient) }
    let start = LSTMState<Double>(hidden: sizes.hidden)
    var steps: [LSTMStep<Double>] = []
    for t in 0..<lesson.input.rows {
      steps.append(step(lesson.input.row(t), after: steps.last?.state ?? start))
    }
    var loss = 0.0
    var (perH, perC) = (start.h, start.c)
    for t in steps.indices.reversed() {
      let now = steps[t]
      if (t + 1) % lesson.chunk == 0, let y = lesson.targets[t / lesson.chunk] {
        let g = value(of: now.state)
        let safe = min(max(g, 1e-12), 1 - 1e-12)
        loss -= y * naturalLogarithm(safe) + (1 - y) * naturalLogarithm(1 - safe)
        // ∂L/∂(w · h + β) of cross entropy behind σ is g − y.
        let perLogit = (g - y) / Double(targets)
        gradient.outputBias[0] += perLogit
        for n in perH.indices {
          gradient.outputWeights[n] += perLogit * now.state.h[n]
          perH[n] += perLogit * outputWeights[n]
        }
      }
      let before = t == 0 ? start : steps[t - 1].state
      add(now, after: before, x: lesson.input.row(t), &perH, &perC, to: &gradient)
    }
    return (loss / Double(targets), gradient)
  }

  /// The gradient of one row; `perH` and `perC` become what the row asks of the state before it.
  private func add(
    _ now: LSTMStep<Double>, after before: LSTMState<Double>, x: [Double],
    _ perH: inout [Double], _ perC: inout [Double], to gradient: inout LSTMGate<Double>
  ) {
    let hidden = sizes.hidden
    var perZ: [Double] = zeros(4 * hidden)
    for n in 0..<hidden {
      let (i, f, g, o) = (now.i[n], now.f[n], now.g[n], now.o[n])
      let tanhCell = now.tanhCell[n]
      perC[n] += perH[n] * o * (1 - tanhCell * tanhCell)
      perZ[n] = perC[n] * g * i * (1 - i)
      perZ[hidden + n] = perC[n] * before.c[n] * f * (1 - f)
      perZ[2 * hidden + n] = perC[n] * i * (1 - g * g)
      perZ[3 * hidden + n] = perH[n] * tanhCell * o * (1 - o)
      perC[n] *= f
    }
    perH = zeros(hidden)
    for r in perZ.indices {
      let d = perZ[r]
      gradient.inputBias[r] += d
      gradient.hiddenBias[r] += d
      for c in x.indices { gradient.inputWeights[r * x.count + c] += d * x[c] }
      for n in 0..<hidden {
        gradient.hiddenWeights[r * hidden + n] += d * before.h[n]
        perH[n] += d * hiddenWeights[r * hidden + n]
      }
    }
  }
}

/// SGD with momentum on one layer's gate.
package struct ChunkGateTrainer: Sendable {
  /// The gate so far.
  package private(set) var gate: LSTMGate<Double>
  private var velocity: LSTMGate<Double>
  private let numbers: RandomNumbers
  private var drawn = 0

  /// Starts from the gate of `seed`.
  package init(seed: UInt64, layer: Int, _ sizes: LSTMSizes) {
    gate = LSTMGate(seed: seed, layer: layer, sizes)
    velocity = LSTMGate(zeros: sizes)
    numbers = RandomNumbers(seed: seed, stream: UInt64(layer * 8 + 7))
  }

  /// One step on one of `lessons`, drawn at random; its loss before the step.
  package mutating func step(
    _ lessons: [ChunkLesson], rate: Double, momentum: Double = 0.9
  ) -> Double {
    precondition(!lessons.isEmpty, "a gate learns from something")
    let (loss, gradient) = gate.gradient(lessons[numbers.integer(below: lessons.count, drawn)])
    drawn += 1
    let length = gradient.numbers.reduce(0) { $0 + $1 * $1 }.squareRoot()
    for part in LSTMGate<Double>.parts(gate.sizes) {
      let v = zip(velocity[keyPath: part.path], gradient[keyPath: part.path]).map {
        momentum * $0 + $1 / max(1, length)
      }
      velocity[keyPath: part.path] = v
      gate[keyPath: part.path] = zip(gate[keyPath: part.path], v).map { $0 - rate * $1 }
    }
    return loss
  }
}
