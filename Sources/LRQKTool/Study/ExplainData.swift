// The example of `lrqk explain`: numbers that a person can calculate with.
//
// In:  a seed and sizes.
// Out: Q, K and V of a prompt of l tokens and of one more, and a start for the sweeps, all of them
//      multiples of 0.1.
//
// Attention has structure: keys and queries lie near a few directions. Here there are two "topics"
// t_0 and t_1; every key and query is a mixture of both, plus noise. So QKᵀ is near rank 2, but not
// of rank 2, and a code of width r = 2 has something to find and something to lose.

import LRQK
import Tensors

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

  init(seed: UInt64, tokens: Int, width: Int, rank: Int) {
    func normal(_ stream: UInt64, _ rows: Int, _ columns: Int) -> Tensor<Double> {
      Tensor.normal(shape: [rows, columns], seed: seed, stream: stream)
    }
    func tenths(_ t: Tensor<Double>) -> Tensor<Double> { t.map { ($0 * 10).rounded() / 10 } }

    let topics = normal(0, 2, width)
    func rows(_ stream: UInt64) -> Tensor<Double> {
      let mixture = matmul(normal(stream, tokens + 1, 2), topics, in: .reference)
      let noise = normal(stream + 1, tokens + 1, width)
      return tenths(mixture.map { 0.7 * $0 }.adding(noise, times: 0.5))
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
