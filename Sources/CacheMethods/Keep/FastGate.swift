// Fast KVzip's gate: what KVzip would score a row, guessed from the layer's input alone.
//
// In:  x (n, D), what the layer's projections are applied to; the weights of a small gate.
// Out: for each key/value head m a score between 0 and 1 for every row:
//
//     q_g    = RMSNorm(W_Q x + b_Q)         a vector of width d' for each query head g of the group
//     k      = RMSNorm(W_K x)               one for the key/value head
//     a_g    = k · q_g / √d' + b_g          as if the row attended to itself
//     e_gj   = c_j · q_g / √d'              and to S learned sinks c_j
//     score  = mean over g of  1 / (1 + Σ_j exp(e_gj − a_g))
//
// So a score is the weight that a row would get beside S sinks. RMSNorm divides by
// √(mean of squares + 1e-6) and multiplies by a weight.
//
// Source: Kim et al., arXiv 2601.17668; Janghyun1230/FastKVzip at 7d78b34,
// prefill/attention/gate.py, Weight.forward. Tensors of layer X in a file, named as there:
//
//     X.q_proj.weight (M G d', D)    X.q_proj.bias (M G d')     X.k_proj.weight (M d', D)
//     X.q_norm.weight (d')           X.k_norm.weight (d')
//     X.k_base (M, 1, S, d')         X.b (M, 1, G)
//
// Reference order: a score is the same on every machine. The next file, FastKVzipMethod.swift, is
// the method; FastGateTraining.swift makes the weights.

package import Tensors

/// The gate of one layer.
package struct FastGate<E: Scalar>: Sendable, Equatable {
  /// W_Q (M G d', D), key/value head by key/value head.
  package var queryWeights: [E]
  /// b_Q (M G d').
  package var queryBias: [E]
  /// W_K (M d', D).
  package var keyWeights: [E]
  /// Weights of the queries' norm, (d').
  package var queryNorm: [E]
  /// Weights of the keys' norm, (d').
  package var keyNorm: [E]
  /// The sinks c, (M, S, d').
  package var sinks: [E]
  /// b (M, G).
  package var bias: [E]
  /// Sizes of all of them.
  package let sizes: FastGateSizes
}

/// The sizes of a gate.
package struct FastGateSizes: Sendable, Equatable {
  /// D, width of the layer's input.
  package let input: Int
  /// M, key/value heads.
  package let heads: Int
  /// G, query heads of each.
  package let group: Int
  /// d', width of the gate's vectors.
  package let width: Int
  /// S, learned sinks of each key/value head.
  package let sinks: Int

  /// Sizes, all at least 1, but for the sinks.
  package init(input: Int, heads: Int, group: Int, width: Int, sinks: Int) {
    precondition(input >= 1 && heads >= 1 && group >= 1 && width >= 1 && sinks >= 0, "gate sizes")
    self.input = input
    self.heads = heads
    self.group = group
    self.width = width
    self.sinks = sinks
  }

  /// Numbers in a gate: M d' ((G + 1) D + G + S) + M G + 2 d'.
  package var numbers: Int {
    heads * width * ((group + 1) * input + group + sinks) + heads * group + 2 * width
  }
}

extension FastGate {
  /// A gate whose numbers are all 0.
  package init(zeros sizes: FastGateSizes) {
    let (M, G, width) = (sizes.heads, sizes.group, sizes.width)
    queryWeights = Tensors.zeros(M * G * width * sizes.input)
    queryBias = Tensors.zeros(M * G * width)
    keyWeights = Tensors.zeros(M * width * sizes.input)
    queryNorm = Tensors.zeros(width)
    keyNorm = Tensors.zeros(width)
    self.sinks = Tensors.zeros(M * sizes.sinks * width)
    bias = Tensors.zeros(M * G)
    self.sizes = sizes
  }

  /// The arrays of numbers under their names in a file, with their shapes.
  static func parts(_ s: FastGateSizes) -> [(
    name: String, path: WritableKeyPath<FastGate, [E]>, shape: [Int]
  )] {
    [
      ("q_proj.weight", \.queryWeights, [s.heads * s.group * s.width, s.input]),
      ("q_proj.bias", \.queryBias, [s.heads * s.group * s.width]),
      ("k_proj.weight", \.keyWeights, [s.heads * s.width, s.input]),
      ("q_norm.weight", \.queryNorm, [s.width]),
      ("k_norm.weight", \.keyNorm, [s.width]),
      ("k_base", \.sinks, [s.heads, 1, s.sinks, s.width]),
      ("b", \.bias, [s.heads, 1, s.group]),
    ]
  }

  /// The same gate in another precision.
  package func converted<F: Scalar>(to: F.Type) -> FastGate<F> {
    var gate = FastGate<F>(zeros: sizes)
    for (own, other) in zip(Self.parts(sizes), FastGate<F>.parts(sizes)) {
      gate[keyPath: other.path] = self[keyPath: own.path].map { F($0) }
    }
    return gate
  }

  /// The gate whose tensors are named `prefix` and a part's name; nil where there is none.
  ///
  /// Throws a SafetensorsError, or a MethodError where shapes contradict each other.
  package init?(_ file: SafetensorsFile, prefix: String) throws {
    let names = ["q_proj.weight", "k_proj.weight", "k_base", "b"].map { prefix + $0 }
    guard file.contains(names[0]) else { return nil }
    let shapes = try names.map { try file.shape(of: $0) }
    let (base, b) = (shapes[2], shapes[3])
    guard shapes[0].count == 2, base.count == 4, b.count == 3, base[1] == 1,
      !(shapes[0] + base[..<2] + base[3...] + b).contains(0)
    else { throw MethodError("\(file.path): \(prefix)k_base, b or q_proj are not those of a gate") }
    let sizes = FastGateSizes(
      input: shapes[0][1], heads: base[0], group: b[2], width: base[3], sinks: base[2])
    self.init(zeros: sizes)
    for part in Self.parts(sizes) {
      let tensor: Tensor<E> = try file.tensor(prefix + part.name)
      if tensor.firstNonFinite != nil {
        throw MethodError("\(file.path): \(prefix)\(part.name) has numbers that are not finite")
      }
      guard tensor.shape == part.shape else {
        throw MethodError(
          "\(file.path): \(prefix)\(part.name) has shape \(tensor.shape), not \(part.shape)")
      }
      self[keyPath: part.path] = tensor.elements
    }
  }

  /// Adds the gate's tensors to a file, their names behind `prefix`.
  package func write(to writer: inout SafetensorsWriter, prefix: String) throws {
    for part in Self.parts(sizes) {
      try writer.add(
        prefix + part.name, Tensor(shape: part.shape, elements: self[keyPath: part.path]),
        as: E.self == Double.self ? .float64 : .float32)
    }
  }

  /// The scores of rows x (n, D), one list for each key/value head.
  package func scores(_ x: Tensor<E>) throws -> [[E]] {
    let s = sizes
    precondition(x.columns == s.input, "a gate for rows of width \(s.input), not \(x.columns)")
    let q = matmul(
      x, transposed: Tensor(shape: [queryBias.count, s.input], elements: queryWeights),
      in: .reference)
    let k = matmul(
      x, transposed: Tensor(shape: [s.heads * s.width, s.input], elements: keyWeights),
      in: .reference)
    return try mapConcurrently(s.heads) { m in
      (0..<x.rows).map { t in
        let head = row(q.row(t), k.row(t), head: m)
        return head.weights.reduce(0, +) / E(s.group)
      }
    }
  }

  /// The group's weights of one row, and the vectors that they come from.
  func row(_ q: [E], _ k: [E], head m: Int) -> FastGateRow<E> {
    let (G, width, S) = (sizes.group, sizes.width, sizes.sinks)
    let scale = 1 / E(width).squareRoot()
    let key = FastGateVector(Array(k[m * width..<(m + 1) * width]), norm: keyNorm)
    var result = FastGateRow<E>(key: key)
    for g in 0..<G {
      let place = (m * G + g) * width..<(m * G + g + 1) * width
      let query = FastGateVector(
        zip(q[place], queryBias[place]).map { $0 + $1 }, norm: queryNorm)
      let own = dot(key.value, query.value) * scale + bias[m * G + g]
      var others: [E] = zeros(S)
      for j in 0..<S {
        let first = (m * S + j) * width
        others[j] = dot(Array(sinks[first..<first + width]), query.value) * scale - own
      }
      var out = others.mutableSpan
      E.chainExponentials(&out)
      result.queries.append(query)
      result.others.append(others)
      result.weights.append(1 / (1 + others.reduce(0, +)))
    }
    return result
  }
}

/// What one row is to one key/value head's gate.
struct FastGateRow<E: Scalar> {
  /// k.
  let key: FastGateVector<E>
  /// q of each query head of the group.
  var queries: [FastGateVector<E>] = []
  /// exp(e − a) of each query head and sink.
  var others: [[E]] = []
  /// 1 / (1 + sum of those), of each query head.
  var weights: [E] = []

  init(key: FastGateVector<E>) { self.key = key }
}

/// A vector after its norm, and what the gradient needs of it.
struct FastGateVector<E: Scalar> {
  /// v / √(mean of squares + 1e-6).
  let normed: [E]
  /// That, times the norm's weights.
  let value: [E]
  /// √(mean of squares + 1e-6).
  let root: E

  init(_ v: [E], norm: [E]) {
    let root = (dot(v, v) / E(v.count) + 1e-6).squareRoot()
    self.root = root
    normed = v.map { $0 / root }
    value = zip(normed, norm).map { $0 * $1 }
  }
}
