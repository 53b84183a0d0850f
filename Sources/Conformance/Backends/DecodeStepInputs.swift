// The inputs of a decode-step case as a cache takes them, for backends that call a cache.
//
// In:  the case: a prompt's Q, K, V, codes to start from, the new tokens, and the choices.
// Out: heads of the prompt, `Parameters`, and the loop over the new tokens that writes the outputs.

package import LRQK
package import Tensors

/// The inputs of a decode-step case.
package struct DecodeStepInputs {
  /// The prompt's Q (l, d) of every query head.
  package let queries: [Tensor<Float>]
  /// The prompt's K (l, d) of every key/value head.
  package let keys: [Tensor<Float>]
  /// The prompt's V (l, d) of every key/value head.
  package let values: [Tensor<Float>]
  /// What the one sweep starts from, by holder of codes.
  package let initial: [InitialCodes<Float>]
  /// The choices that the case stands for; the solver is the backend's.
  package var parameters: Parameters
  /// The head width d.
  package var width: Int { queries[0].columns }
  /// q (H, d), k and v (M, d) of every new token.
  private let tokens: [(q: Tensor<Float>, k: Tensor<Float>, v: Tensor<Float>)]

  /// The inputs in `x`.
  package init(_ x: Inputs<Float>) throws {
    let (Q, K, V, steps) = (x.matrices("Q"), x.matrices("K"), x.matrices("V"), x.matrices("q"))
    let (A_Q, A_K) = (x.matrices("A_Q"), x.matrices("A_K"))
    let l = Q[0].rows
    queries = Q
    keys = K.map { $0.rows(0..<l) }
    values = V.map { $0.rows(0..<l) }
    initial = zip(A_Q, A_K).map { InitialCodes(queries: $0, keys: $1) }
    tokens = steps.enumerated().map { t, q in
      func newest(_ rows: [Tensor<Float>]) -> Tensor<Float> {
        Tensor(joiningRows: rows.map { $0.rows(l + t..<l + t + 1) })
      }
      return (q, newest(K), newest(V))
    }
    parameters = try Parameters(
      .paper, rank: A_K[0].columns, selected: x.count("k"), recent: x.count("w"))
    parameters.sweeps?.start = .given
    parameters.sweeps?.iterations = try SweepIterations(1, tolerance: 0)
    let alternations = x.count("alternations")
    if alternations > 0 {
      parameters.alternation?.iterations = try AlternationIterations(alternations, tolerance: 0)
    } else {
      parameters.codes = .linear(refresh: .never)
    }
    parameters.codeSharing = A_K.count == Q.count ? .perQueryHead : .perKeyValueHead
    parameters.rows = .perQueryHead
    parameters.candidates = x.count("candidates_hole") == 1 ? .released : .all
  }

  /// Writes the outputs of all steps, each done by `step`.
  ///
  /// It takes q (H, d), k and v (M, d) of a token, and returns the selected tokens and the missed
  /// rows of every query head, and attention (H, d).
  package func decode(
    into outputs: inout Outputs,
    _ step: (_ q: Tensor<Float>, _ k: Tensor<Float>, _ v: Tensor<Float>) throws -> (
      selected: [[Int]], missed: [Int], out: Tensor<Float>
    )
  ) rethrows {
    var (selected, missed, out): ([Int], [Int], [Float]) = ([], [], [])
    for token in tokens {
      let done = try step(token.q, token.k, token.v)
      selected += done.selected.joined()
      missed += done.missed
      out += done.out.elements
    }
    let (T, H) = (tokens.count, queries.count)
    outputs.write("selected", integers: Grid([T, H, parameters.selected], selected))
    outputs.write("missed", integers: Grid([T, H], missed))
    outputs.write("out", Tensor(shape: [T, H, width], elements: out))
  }
}
