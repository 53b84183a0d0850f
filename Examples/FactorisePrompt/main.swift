// Example: short codes for a prompt's queries and keys.
//
// In:  random Q and K (256 tokens of width 32) whose directions lose strength one after another.
// Out: a table: how well codes of rank 8 keep QKᵀ, after 1, 2, 4, 8 sweeps and in closed form.
//
//   swift run factorise-prompt

import LRQK
import Tensors

let (tokens, width, rank) = (256, 32, 8)

// 1. Q and K: direction j has strength 0.8^j; a random matrix then mixes the directions, so that
//    every column carries something of each of them, as in a real head.
func rows(stream: UInt64) -> Tensor<Double> {
  var directions = Tensor<Double>.normal(shape: [tokens, width], seed: 1, stream: stream)
  var strength = 1.0
  for j in 0..<width {
    for t in 0..<tokens { directions[t, j] *= strength }
    strength *= 0.8
  }
  let mixing = Tensor<Double>.normal(shape: [width, width], seed: 1, stream: stream + 1)
  return matmul(directions, mixing, in: .reference)
}
let queries = rows(stream: 0)
let keys = rows(stream: 2)

// 2. What no codes of this rank can beat: the truncated SVD of QKᵀ.
let objective = PrefillObjective(queries: queries, keys: keys)
func relative(_ squared: Double) -> Double { (squared / objective.productNorm).squareRoot() }
let optimum = relative(try objective.optimalProduct(rank: rank))

// 3. Factorise, and compare.
func error(_ parameters: Parameters) throws -> Double {
  let prompt = try factorizePrompt(queries: [queries], keys: [keys], parameters: parameters)[0]
  let f = prompt.factorization
  guard let queryCodes = f.queryCodes else { return .nan }
  return relative(objective.value(queryCodes, f.queryBasis, f.keyCodes, f.keyBasis).product)
}

var parameters = try Parameters(.paper, rank: rank, selected: 32, recent: 8)

print("Q and K: \(tokens) tokens of width \(width), codes of rank \(rank)")
print("relative error of QKᵀ (optimum: \(percent(optimum)))")
for sweeps in [1, 2, 4, 8] {
  parameters.sweeps?.iterations = try SweepIterations(sweeps, tolerance: 0)
  print("  sweeps: \(sweeps)      \(percent(try error(parameters)))")
}
parameters.solver = .spectral
print("  closed form    \(percent(try error(parameters)))")

func percent(_ x: Double) -> String {
  let tenths = Int((1000 * x).rounded())
  return "\(tenths / 10).\(tenths % 10) %"
}
