// How good is the factorisation, sweep by sweep, beside the best there is?
//
// In:  the maps that each sweep ended in (from the trace), Q and K.
// Out: the objective and the relative error of QKᵀ after each sweep, over all heads together, and
//      the optimum that no rank-r factorisation can beat.

import LRQK
import Tensors

/// The fit after one sweep, over all heads.
package struct SweepReport: Sendable, Equatable, Codable {
  /// From 1; 0 stands for the spectral solver, which does not sweep.
  package let sweep: Int
  /// F, the sum over heads.
  package let objective: Double
  /// ‖QKᵀ − A_Q A_Kᵀ‖ / ‖QKᵀ‖ over all heads.
  package let relativeError: Double
  /// The least that a rank-r factorisation can have.
  package let optimum: Double

  enum CodingKeys: String, CodingKey {
    case sweep, objective, optimum
    case relativeError = "relative_error"
  }
}

/// One report a sweep, from a trace of `prefill` with groups of stacked queries.
func sweepReports<E: Scalar>(
  _ trace: Trace, queries: [Tensor<E>], keys: [Tensor<E>], parameters: Parameters
) throws -> [SweepReport] {
  let objectives = try mapConcurrently(queries.count) { h in
    PrefillObjective(
      queries: queries[h], keys: keys[h], weights: parameters.sweeps?.weights ?? SweepWeights())
  }
  let norm = objectives.reduce(0) { $0 + $1.productNorm }
  // Ranks by the spectrum are those of the maps that came out.
  let ranks = queries.indices.map { h in
    trace["prefill/head\(h)/W_Q"]?.columns ?? parameters.rank
  }
  let best = try zip(objectives, ranks).reduce(0) { try $0 + $1.0.optimalProduct(rank: $1.1) }
  func share(_ squared: Double) -> Double { (max(squared, 0) / norm).squareRoot() }

  var reports: [SweepReport] = []
  let isSpectral = parameters.solver == .spectral
  for sweep in isSpectral ? 0...0 : 1...max(parameters.sweeps?.iterations.limit ?? 1, 1) {
    let values = try mapConcurrently(queries.count) { h -> PrefillObjective.Value? in
      let prefix = isSpectral ? "prefill/head\(h)" : "prefill/head\(h)/sweep\(sweep)"
      guard let W_Q = trace["\(prefix)/W_Q"], let W_K = trace["\(prefix)/W_K"],
        let B_Q = trace["\(prefix)/B_Q"], let B_K = trace["\(prefix)/B_K"]
      else { return nil }
      let objective = objectives[h]
      return objective.value(
        matmul(objective.queries, W_Q, in: .library), B_Q,
        matmul(objective.keys, W_K, in: .library), B_K)
    }
    // A sweep that did not run (the tolerance stopped before) has no trace.
    let found = values.compactMap { $0 }
    if found.isEmpty { break }
    reports.append(
      SweepReport(
        sweep: sweep, objective: found.reduce(0) { $0 + $1.total },
        relativeError: share(found.reduce(0) { $0 + $1.product }), optimum: share(best)))
  }
  return reports
}
