// Replaying one call: a factorisation, or one decode step of the solver.
//
// In:  a recording of kind `prefill` or `decode_step`.
// Out: everything computed, under the names and axes of the file, and its comparison.

import LRQK
package import Tensors

/// The result of replaying one call.
package struct RecordedCall<E: Scalar>: Sendable {
  /// What was computed, by base name ("A_K"), each (batch, head, ..., ...).
  package let computed: [(name: String, tensor: Tensor<E>)]
  /// The comparison of every output that the file holds.
  package let outputs: [String: Comparison]
  /// Objective after each sweep; empty for a decode step.
  package let sweeps: [SweepReport]
  /// Conditioning of the systems that were solved.
  package let conditioning: Conditioning
}

extension RecordedCall {
  /// Factorises the prompt of a `prefill` recording.
  package static func prefill(
    _ recording: Recording, _ options: ReplayOptions
  ) throws -> (replay: RecordedCall, plan: ReplayPlan) {
    let Q: Tensor<E> = try recording.tensor("Q", rank: 4)
    let K: Tensor<E> = try recording.tensor("K", rank: 4)
    let groupSize = Q.shape[1] / K.shape[1]
    if Q.shape != [K.shape[0], K.shape[1] * groupSize, K.shape[2], K.shape[3]] {
      throw ReplayError(
        "\(recording.file.path): Q \(Q.shape) and K \(K.shape) do not fit together")
    }
    try recording.checkSizes([
      ("batch", Q.shape[0]), ("heads", Q.shape[1]), ("kv_heads", K.shape[1]),
      ("length", Q.shape[2]), ("head_dim", Q.shape[3]),
    ])
    // As the released code does, every query head factorises its own copy of its group's keys.
    let keys = K.matrices().flatMap { Array(repeating: $0, count: groupSize) }
    let plan = try ReplayPlan(recording, options, width: Q.columns)
    if plan.parameters.ranks != .uniform {
      throw LRQKError.parameter(
        "a recorded call of prefill has one rank for all heads: choose ranks uniform, or replay a "
          + "recording with steps")
    }
    let initial: [InitialCodes<E>]? = try initialCodes(
      recording, plan.parameters, heads: Q.shape[0] * Q.shape[1], tokens: Q.shape[2])
    let trace = Trace()
    let prompts = try factorizePrompt(
      queries: Q.matrices(), keys: keys, parameters: plan.parameters, initial: initial,
      trace: trace)
    let factors = prompts.map(\.factorization)
    let batch = Q.shape[0]
    let computed = [
      ("A_Q", Tensor(batch: batch, heads: factors.compactMap(\.queryCodes))),
      ("B_Q", Tensor(batch: batch, heads: factors.map(\.queryBasis))),
      ("A_K", Tensor(batch: batch, heads: factors.map(\.keyCodes))),
      ("B_K", Tensor(batch: batch, heads: factors.map(\.keyBasis))),
    ]
    let conditioning = Conditioning(worstOf: factors.map(\.conditioning))
    let sweeps = try sweepReports(
      trace, queries: Q.matrices(), keys: keys, parameters: plan.parameters)
    return (
      RecordedCall(
        computed: computed,
        outputs: try compare(
          recording, computed,
          jacobi: plan.parameters.sweeps?.order == .jacobi,
          condition: conditioning.worst),
        sweeps: sweeps, conditioning: conditioning), plan
    )
  }

  /// Runs the decode solver of a `decode_step` recording.
  package static func decodeStep(
    _ recording: Recording, _ options: ReplayOptions
  ) throws -> (replay: RecordedCall, plan: ReplayPlan) {
    func heads(_ name: String) throws -> [Tensor<E>] {
      try recording.tensor(name, rank: 4).matrices()
    }
    let whole: Tensor<E> = try recording.tensor("K_selected", rank: 4)
    let (B_Q, B_K) = (try heads("B_Q"), try heads("B_K"))
    let (A, K, q, k) = (try heads("A_K"), whole.matrices(), try heads("q"), try heads("k"))
    let (n, r, d) = (whole.rows, A.first?.columns ?? 0, whole.columns)
    for (name, list, shape) in [
      ("B_Q", B_Q, [r, d]), ("B_K", B_K, [r, d]), ("A_K", A, [n, r]), ("q", q, [1, d]),
      ("k", k, [1, d]),
    ] where list.count != K.count || list.contains(where: { $0.shape != shape }) {
      throw ReplayError(
        "\(recording.file.path): \(name) should be (\(whole.shape[0]), \(whole.shape[1]), "
          + "\(shape[0]), \(shape[1])) to fit K_selected \(whole.shape)")
    }
    try recording.checkSizes([
      ("batch", whole.shape[0]), ("heads", whole.shape[1]), ("kv_heads", whole.shape[1]),
      ("selected", n), ("head_dim", d),
    ])
    let plan = try ReplayPlan(recording, options, width: d)
    let p = plan.parameters
    if p.rank != r {
      let sentence = "rank r = \(p.rank): the recorded A_K has \(r) columns"
      if options["rank"] != nil { throw LRQKError.parameter(sentence) }
      throw ReplayError("\(recording.file.path): \(sentence)")
    }
    guard let alternation = p.alternation else {
      throw LRQKError.parameter("a recorded decode step has no maps: linear codes cannot replay it")
    }
    var solvers = try (0..<K.count).map { h in
      let exact = matmul(q[h], transposed: K[h], in: .reference)
      return try DecodeSolver(
        query: q[h], key: k[h], queryBasis: B_Q[h], keyBasis: B_K[h],
        selected: [SelectedProducts(codes: A[h], exactScores: exact)], weights: alternation.weights,
        rule: p.stepRule, location: Location(layer: 0, head: h, step: 1))
    }
    try alternateAll(&solvers, alternation.iterations)
    let factor = alternation.basisUpdate.factor
    func basis(_ old: [Tensor<E>], _ codes: (DecodeSolver<E>) -> Tensor<E>, _ rows: [Tensor<E>])
      -> [Tensor<E>]
    {
      factor == 0
        ? old
        : old.indices.map { h in
          updatedBasis(old[h], codes: codes(solvers[h]), rows: rows[h], factor: factor)
        }
    }
    let batch = whole.shape[0]
    let computed = [
      ("q_hat", Tensor(batch: batch, heads: solvers.map(\.queryCodes))),
      ("k_hat", Tensor(batch: batch, heads: solvers.map(\.keyCode))),
      ("B_Q_new", Tensor(batch: batch, heads: basis(B_Q, \.queryCodes, q))),
      ("B_K_new", Tensor(batch: batch, heads: basis(B_K, \.keyCode, k))),
    ]
    let conditioning = Conditioning(worstOf: solvers.map(\.conditioning))
    return (
      RecordedCall(
        computed: computed,
        outputs: try compare(
          recording, computed, jacobi: false,
          condition: conditioning.worst),
        sweeps: [], conditioning: conditioning), plan
    )
  }

  /// Compares every computed tensor that stands in the file, as `.f64`, as `.f32` or as both.
  private static func compare(
    _ recording: Recording, _ computed: [(name: String, tensor: Tensor<E>)], jacobi: Bool,
    condition: Double
  ) throws -> [String: Comparison] {
    func expected(_ name: String, _ shape: [Int]) throws -> Tensor<Double>? {
      guard recording.file.contains(name) else { return nil }
      let tensor: Tensor<Double> = try recording.file.tensor(name)
      if tensor.shape != shape {
        throw ReplayError(
          "\(recording.file.path): \(name) has shape \(tensor.shape), computed \(shape)")
      }
      return tensor
    }
    var outputs: [String: Comparison] = [:]
    for (name, tensor) in computed {
      let single = try expected("\(name).f32", tensor.shape)
      let double = try expected("\(name).f64", tensor.shape)
      if let comparison = singleCallComparison(
        tensor, single: single, double: double, jacobi: jacobi, condition: condition)
      {
        outputs[name] = comparison
      }
    }
    return outputs
  }
}

/// A_Q_init and A_K_init of a recording, by group of heads; nil when the choice does not use them.
func initialCodes<E: Scalar>(
  _ recording: Recording, _ parameters: Parameters, heads: Int, tokens: Int, groupSize: Int = 1
) throws -> [InitialCodes<E>]? {
  if parameters.sweeps?.start != .given { return nil }
  let A_Q: Tensor<E> = try recording.tensor("A_Q_init", rank: 4)
  let A_K: Tensor<E> = try recording.tensor("A_K_init", rank: 4)
  for (name, tensor) in [("A_Q_init", A_Q), ("A_K_init", A_K)]
  where tensor.shape[0] * tensor.shape[1] != heads
    || tensor.rows != tokens || tensor.columns != parameters.rank
  {
    throw ReplayError(
      "\(recording.file.path): \(name) has shape \(tensor.shape); \(heads) heads of (\(tokens), "
        + "\(parameters.rank)) are needed")
  }
  let (queries, keys) = (A_Q.matrices(), A_K.matrices())
  // Stacked queries keep each head's start; of the group's starts for A_K the first is taken.
  return stride(from: 0, to: heads, by: groupSize).map { h in
    InitialCodes(queries: Tensor(joiningRows: Array(queries[h..<h + groupSize])), keys: keys[h])
  }
}
