// The examples of `lrqk explain`: numbers that a person can calculate with.
//
// In:  which example, a seed and sizes.
// Out: Q, K and V of a prompt of l tokens and of one more, and a start for the sweeps, all of them
//      multiples of 0.1.
//
// Attention has structure: keys and queries lie near a few directions. Here these are the "topics"
// t_0, t_1, ...; every key and query is a mixture of them, plus noise:
//
//   x = 0.7 (a_0 t_0 + a_1 t_1 + ...) + noise · e      a, e standard normal
//
// So QKᵀ is near the rank that the topics have, but not of it. Whether codes of r numbers can rank
// the tokens depends on how many topics there are, and on the noise: that is what the examples
// differ in. Their seeds are chosen, as one chooses an example; everything else is computed.

import ArgumentParser
import LRQK
import Tensors

/// Which of the examples, and how its numbers are made.
enum ExplainExample: String, CaseIterable, ExpressibleByArgument {
  case near, good, bad

  /// How many directions keys and queries have in common.
  var topics: Int { self == .bad ? 3 : 2 }

  /// How much of a row is noise.
  var noise: Double { self == .near ? 0.5 : 0.1 }

  /// The seed of its numbers, unless another is asked for.
  var seed: UInt64 {
    switch self {
    case .near: 973
    case .good: 721
    case .bad: 2597
    }
  }

  /// What it is made of, in words.
  var making: String {
    switch self {
    case .near:
      "Keys and queries are mixtures of 2 directions, with much noise: QKᵀ is only near rank 2."
    case .good:
      "Keys and queries are mixtures of 2 directions, with little noise: QKᵀ is almost of rank 2."
    case .bad:
      "Keys and queries are mixtures of 3 directions, with little noise: QKᵀ is almost of rank 3."
    }
  }
}

/// One head's prompt, its next token, and where the sweeps start.
struct ExplainData {
  /// Q, K and V of the prompt, (l, d).
  let queries: Tensor<Double>
  let keys: Tensor<Double>
  let values: Tensor<Double>
  /// q, k and v of the next token, (1, d).
  let query: Tensor<Double>
  let key: Tensor<Double>
  let value: Tensor<Double>
  /// A_Q and A_K to start from, (l, r).
  let start: InitialCodes<Double>

  init(_ example: ExplainExample, seed: UInt64, tokens: Int, width: Int, rank: Int) {
    func normal(_ stream: UInt64, _ rows: Int, _ columns: Int) -> Tensor<Double> {
      Tensor.normal(shape: [rows, columns], seed: seed, stream: stream)
    }
    func tenths(_ t: Tensor<Double>) -> Tensor<Double> { t.map { ($0 * 10).rounded() / 10 } }

    let topics = normal(0, example.topics, width)
    func rows(_ stream: UInt64) -> Tensor<Double> {
      let mixture = matmul(normal(stream, tokens + 1, example.topics), topics, in: .reference)
      let noise = normal(stream + 1, tokens + 1, width)
      return tenths(mixture.map { 0.7 * $0 }.adding(noise, times: example.noise))
    }
    let q = rows(1)
    let k = rows(3)
    let v = tenths(normal(5, tokens + 1, width))
    let (old, new) = (0..<tokens, tokens..<tokens + 1)
    (queries, query) = (q.rows(old), q.rows(new))
    (keys, key) = (k.rows(old), k.rows(new))
    (values, value) = (v.rows(old), v.rows(new))
    start = InitialCodes(
      queries: tenths(normal(6, tokens, rank)), keys: tenths(normal(7, tokens, rank)))
  }
}
