// KV-Efficient VLA's gate: does a chunk that leaves the window stay as one row?
//
// In:  the chunk's keys and values, or what its rows have received; a state carried from chunk to
//      chunk.
// Out: g from 0 to 1. The chunk stays where g >= α. One decision, for its keys and its values.
//
//     keep-all   g = 1
//     mass       g = S / (S + U)                                                             ours
//                S = Σ_t Σ_j A[t, j]       what the chunk's rows j received, mean over the group
//                U = Σ_t |chunk seen by t| / |tokens seen by t|    the same from even attention
//                t: the queries of the chunk's own tokens and of the W − 1 tokens after it
//                so g >= 1/2 where the chunk received at least its share
//     FILE       an LSTM, trained (ChunkGateTraining.swift):
//                for each row x of the chunk, x the key, or key and value side by side:
//                    z = W x + b + W' h + b',    z = (i, f, g, o), each (hidden)
//                    c ← σ(f) ⊙ c + σ(i) ⊙ tanh(g),    h ← σ(o) ⊙ tanh(c)
//                g = σ(w · h + β) after the chunk's last row; c and h go on to the next chunk
//
// The mass gate needs nothing beforehand. The LSTM sees a chunk once, when it leaves the window, so
// that its state after a stream is that of one pass over all chunks. Each key/value head has a
// state of its own; the weights are the layer's.
//
// Source: the LSTM and the threshold are arXiv 2509.21354's; l-zhuang/KV-Efficient-VLA at fbff2a0,
// models/vlms/kv_cache_manager.py: one layer, a linear map of the last output, σ, α = 0.5, and
// weights as they were drawn. Names and layout of the weights are PyTorch's (rows i, f, g, o).
// σ and tanh x = 2 σ(2x) − 1 are made of this package's exp.

package import Tensors

/// g of the mass gate; NaN where it received NaN.
package func massGate<E: Scalar>(received: E, fairShare: E) -> E {
  received / (received + fairShare)
}

/// The sizes of an LSTM gate.
package struct LSTMSizes: Sendable, Equatable {
  /// Numbers of a row: d, or 2 d.
  package let input: Int
  /// Numbers of h, and of c.
  package let hidden: Int

  /// Sizes, both at least 1.
  package init(input: Int, hidden: Int) {
    precondition(input >= 1 && hidden >= 1, "an LSTM of \(input) by \(hidden)")
    self.input = input
    self.hidden = hidden
  }

  /// Numbers of a gate: 4 hidden (input + hidden + 2) + hidden + 1.
  package var numbers: Int { 4 * hidden * (input + hidden + 2) + hidden + 1 }
}

/// The LSTM gate of one layer.
package struct LSTMGate<E: Scalar>: Sendable, Equatable {
  /// Sizes of all that follows.
  package let sizes: LSTMSizes
  /// W, (4 hidden, input).
  package var inputWeights: [E]
  /// W', (4 hidden, hidden).
  package var hiddenWeights: [E]
  /// b, (4 hidden).
  package var inputBias: [E]
  /// b', (4 hidden).
  package var hiddenBias: [E]
  /// Weights of the output, w, (hidden).
  package var outputWeights: [E]
  /// β, one number.
  package var outputBias: [E]

  /// A gate whose numbers are all 0.
  package init(zeros sizes: LSTMSizes) {
    self.sizes = sizes
    inputWeights = Tensors.zeros(4 * sizes.hidden * sizes.input)
    hiddenWeights = Tensors.zeros(4 * sizes.hidden * sizes.hidden)
    inputBias = Tensors.zeros(4 * sizes.hidden)
    hiddenBias = Tensors.zeros(4 * sizes.hidden)
    outputWeights = Tensors.zeros(sizes.hidden)
    outputBias = [0]
  }

  /// The arrays under their names in a file, with their shapes.
  package static func parts(_ s: LSTMSizes) -> [(
    name: String, path: WritableKeyPath<LSTMGate, [E]>, shape: [Int]
  )] {
    [
      ("lstm.weight_ih", \.inputWeights, [4 * s.hidden, s.input]),
      ("lstm.weight_hh", \.hiddenWeights, [4 * s.hidden, s.hidden]),
      ("lstm.bias_ih", \.inputBias, [4 * s.hidden]),
      ("lstm.bias_hh", \.hiddenBias, [4 * s.hidden]),
      ("gate.weight", \.outputWeights, [1, s.hidden]),
      ("gate.bias", \.outputBias, [1]),
    ]
  }

  /// All numbers, part after part.
  var numbers: [E] { Self.parts(sizes).flatMap { self[keyPath: $0.path] } }
}

/// h and c of one LSTM.
package struct LSTMState<E: Scalar>: Sendable, Equatable {
  /// h, the output.
  package var h: [E]
  /// c, the cell.
  package var c: [E]

  /// Zeros, as at the beginning of a sequence.
  package init(hidden: Int) {
    h = zeros(hidden)
    c = zeros(hidden)
  }
}

/// What one row did to a state, as the gradient needs it.
struct LSTMStep<E: Scalar> {
  /// σ(i), (hidden), as the next three.
  let i: [E]
  /// σ(f).
  let f: [E]
  /// tanh(g).
  let g: [E]
  /// σ(o).
  let o: [E]
  /// tanh(c) after the row.
  let tanhCell: [E]
  /// The state after the row.
  let state: LSTMState<E>
}

extension LSTMGate {
  /// One row x (input) after `state`.
  func step(_ x: [E], after state: LSTMState<E>) -> LSTMStep<E> {
    precondition(x.count == sizes.input, "a gate for rows of \(sizes.input), not \(x.count)")
    var (z, more): ([E], [E]) = (zeros(4 * sizes.hidden), zeros(4 * sizes.hidden))
    do {
      var out = z.mutableSpan
      E.chainRowScores(rows: inputWeights.span, width: sizes.input, q: x.span, into: &out)
    }
    do {
      var out = more.mutableSpan
      E.chainRowScores(rows: hiddenWeights.span, width: sizes.hidden, q: state.h.span, into: &out)
    }
    for r in z.indices { z[r] = (z[r] + inputBias[r]) + (more[r] + hiddenBias[r]) }
    func quarter(_ n: Int) -> [E] { Array(z[n * sizes.hidden..<(n + 1) * sizes.hidden]) }
    let (i, f, o) = (sigmoid(quarter(0)), sigmoid(quarter(1)), sigmoid(quarter(3)))
    let g = hyperbolicTangent(quarter(2))
    var next = state
    for n in g.indices { next.c[n] = f[n] * state.c[n] + i[n] * g[n] }
    let tanhCell = hyperbolicTangent(next.c)
    for n in g.indices { next.h[n] = o[n] * tanhCell[n] }
    return LSTMStep(i: i, f: f, g: g, o: o, tanhCell: tanhCell, state: next)
  }

  /// g of a chunk of rows (C, input); `state` goes on behind it.
  package func value(_ chunk: Tensor<E>, state: inout LSTMState<E>) -> E {
    for t in 0..<chunk.rows { state = step(chunk.row(t), after: state).state }
    return value(of: state)
  }

  /// σ(w · h + β).
  func value(of state: LSTMState<E>) -> E {
    sigmoid([dot(outputWeights, state.h) + outputBias[0]])[0]
  }
}

/// σ(x) = 1 / (1 + exp(−x)).
func sigmoid<E: Scalar>(_ x: [E]) -> [E] {
  var y = x.map { -$0 }
  do {
    var out = y.mutableSpan
    E.chainExponentials(&out)
  }
  return y.map { 1 / (1 + $0) }
}

/// tanh x = 2 σ(2x) − 1.
func hyperbolicTangent<E: Scalar>(_ x: [E]) -> [E] {
  sigmoid(x.map { 2 * $0 }).map { 2 * $0 - 1 }
}

/// What a gate reads of a row.
package enum GateInput: String, Sendable, CaseIterable {
  /// The key of a row alone.
  case keys
  /// Key and value side by side.
  case keysAndValues

  /// Numbers of a row, given the head's width d.
  package func width(_ d: Int) -> Int { self == .keys ? d : 2 * d }

  /// The rows of a chunk, (C, `width`), of keys and values (C, d).
  package func rows<E: Scalar>(keys: Tensor<E>, values: Tensor<E>) -> Tensor<E> {
    self == .keys
      ? keys : Tensor(rows: (0..<keys.rows).map { keys.row($0) + values.row($0) })
  }
}
