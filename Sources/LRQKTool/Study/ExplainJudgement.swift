// What the method does not see: exact scores, exact choices, full attention, and distances to them.
//
// In:  a run with its trace.
// Out: the numbers that the page sets beside those of the method, to judge them.
//
// The method forms none of them. Here they are formed naively, from all exact keys and values.

import LRQK
import Tensors
import TieredMemory

extension ExplainRun {
  /// K with the new row, (l + 1, d).
  var knownKeys: Tensor<Double> { Tensor(joiningRows: [data.keys, data.key]) }
  /// V with the new row, (l + 1, d).
  var knownValues: Tensor<Double> { Tensor(joiningRows: [data.values, data.value]) }

  // MARK: The choices

  /// What the prompt's last query selected, by codes.
  var firstSet: [Int] { tokens("prefill/head0/selected") }

  /// What it would have selected by exact scores.
  var firstBest: [Int] {
    let query = data.queries.rows(l - 1..<l)
    let exact = matmul(query, transposed: data.keys, in: .reference).elements
    return exactBest(Array(exact.prefix(prefill("scores").count)))
  }

  /// q · K[t] of the new token's candidates.
  var exactScores: [Double] {
    let exact = matmul(data.query, transposed: knownKeys, in: .reference).elements
    return Array(exact.prefix(decode("scores").count))
  }

  /// What the new token would have selected by exact scores.
  var best: [Int] { exactBest(exactScores) }

  /// Rows of the new token's choice that were on the device.
  var hits: [Int] { step.selected[0].filter(before.selected[0].contains) }
  /// Rows of the new token's choice that were not.
  var misses: [Int] { step.selected[0].filter { !before.selected[0].contains($0) } }

  /// The k best of exact scores, by the rule of the method.
  private func exactBest(_ scores: [Double]) -> [Int] {
    (try? topK(scores, count: k))?.indices ?? []
  }

  // MARK: The codes

  /// Relative error of QKᵀ that no codes of width r can go below.
  var optimum: Double {
    get throws { relative(try objective.optimalProduct(rank: parameters.rank)) }
  }

  /// The singular values of QKᵀ, all d of them.
  ///
  /// What the best codes of width r leave is the sum of the squares beyond r. So their differences
  /// are the squares.
  var singularValues: [Double] {
    get throws {
      let left = try (0...d).map { try objective.optimalProduct(rank: $0) }
      return (0..<d).map { max(left[$0] - left[$0 + 1], 0).squareRoot() }
    }
  }

  /// ‖K[t] − A_K[t] B_K‖ / ‖K[t]‖ of a token of the prompt: what its code does not hold of its key.
  func keyLost(_ t: Int) -> Double {
    let last = factors[factors.count - 1]
    let row = t..<t + 1
    return lost(of: data.keys.rows(row), last.keyCodes.rows(row), last.keyBasis)
  }

  /// ‖q − q_hat B_Q‖ / ‖q‖ with the prompt's B_Q: what q_hat does not hold of the new query.
  var queryLost: Double {
    lost(of: data.query, decode("q_hat"), factors[factors.count - 1].queryBasis)
  }

  private func lost(
    of row: Tensor<Double>, _ code: Tensor<Double>, _ basis: Tensor<Double>
  ) -> Double {
    let missing = norm(row - matmul(code, basis, in: .reference))
    return missing == 0 ? 0 : missing / norm(row)
  }

  // MARK: Attention

  /// The weights of full attention over all l + 1 tokens.
  var fullWeights: [Double] {
    let scale = 1 / Double(d).squareRoot()
    return softmax(
      matmul(data.query, transposed: knownKeys, in: .reference).map { scale * $0 }.elements)
  }

  /// ‖o_S − o‖ / ‖o‖: attention over the tokens S = `support`, and full attention.
  func attentionError(_ support: [Int]) -> Double {
    let query = data.query.row(0)
    let full = fullAttention(query: query, keys: knownKeys, values: knownValues)
    let rows = attention(
      query: query, keys: knownKeys.elements, values: knownValues.elements,
      slots: support.map(Int32.init))
    let exact = Tensor(shape: [1, d], elements: full)
    return norm(Tensor(shape: [1, d], elements: rows) - exact) / norm(exact)
  }
}

/// The place of every score, from 1: the largest first, of equal ones the older token.
func places(_ scores: [Double]) -> [Int] {
  let order = scores.indices.sorted { a, b in
    scores[a] == scores[b] ? a < b : scores[a] > scores[b]
  }
  var places = Array(repeating: 0, count: scores.count)
  for (place, token) in order.enumerated() { places[token] = place + 1 }
  return places
}
