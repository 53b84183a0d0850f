// Step 2, for one call: a whole prompt at once.
//
// In:  each group's stacked queries and its keys.
// Out: one `PromptCodes` a group. PromptFactorizer.swift does the work; the cache, which feeds prompts in
//      chunks, calls it directly.

public import Tensors

/// What prefill leaves for one group of heads.
public struct PromptCodes<E: Scalar>: Sendable {
  /// The factors.
  public let factorization: Factorization<E>
  /// q_hat of the newest query of each head, (G, r): it chooses the first selected set.
  public let newestQueryCodes: Tensor<E>
  /// QᵀQ, (d, d), over all queries of the group; only with a map refresh.
  public let queryGram: Tensor<Double>?
  /// KᵀK, (d, d); only with a map refresh.
  public let keyGram: Tensor<Double>?
}

/// Factorises whole prompts: each group's stacked queries (G l, d) and keys (l, d).
///
/// Heads stop together (quirk Q11). `initial` is each group's start, with `Initialization.given`.
public func factorizePrompt<E: Scalar>(
  queries: [Tensor<E>], keys: [Tensor<E>], parameters: Parameters,
  initial: [InitialCodes<E>]? = nil, queryCodes: Bool = true, layer: Int = 0, trace: Trace? = nil
) throws -> [PromptCodes<E>] {
  precondition(queries.count == keys.count, "as many queries as keys")
  guard let q = queries.first, let k = keys.first, k.axisCount == 2, q.axisCount == 2, k.rows > 0
  else {
    throw LRQKError.parameter("an empty prompt has no factors")
  }
  let groupSize = max(q.rows / k.rows, 1)
  for (g, q) in queries.enumerated() {
    try requireShape(q, "Q of head \(g)", [("token", groupSize * k.rows), ("width", k.columns)])
  }
  let heads = queries.flatMap { q in
    (0..<groupSize).map { q.rows($0 * k.rows..<($0 + 1) * k.rows) }
  }
  var factorizer = try PromptFactorizer<E>(
    keyHeads: Array(keys.indices), groupSize: groupSize, width: k.columns,
    parameters: parameters, layer: layer)
  try factorizer.add(queries: groupSize == 1 ? queries : heads, keys: keys, initial: initial)
  return try factorizer.finish(keys: keys, queries: queryCodes ? queries : nil, trace: trace)
}

func requireShape<E>(
  _ tensor: Tensor<E>, _ name: String, _ axes: [(name: String, size: Int)]
) throws(LRQKError) {
  do { try tensor.require(name, axes) } catch { throw .shape(error) }
}

/// Throws for the first NaN or infinity of a (token, column) matrix.
func requireFinite<E: Scalar>(
  _ tensor: Tensor<E>, _ name: String, _ firstToken: Int, _ place: Place
) throws(LRQKError) {
  guard let index = tensor.firstNonFinite else { return }
  throw .nonFiniteInput(
    tensor: name, token: firstToken + index / tensor.columns, column: index % tensor.columns,
    value: "\(tensor.elements[index])", place)
}
