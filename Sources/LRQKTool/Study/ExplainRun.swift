// One run of the library on the example, with everything it traced.
//
// In:  the example's numbers and the choices.
// Out: what the page needs: factors after every sweep, and the cache before and after the step.
//
// Nothing of the method is calculated here. Codes after sweep s are the library's answer when it
// is asked for s sweeps; everything else is in the trace.

import LRQK
import Tensors
import TieredMemory

struct ExplainRun {
  let data: ExplainData
  let parameters: Parameters
  let trace: Trace
  /// Factors of the start (0 sweeps), after 1 sweep, after 2; a single entry without sweeps.
  let factors: [Factorization<Double>]
  /// The objective, which judges them.
  let objective: PrefillObjective
  /// The cache after the prompt, and after the step.
  let before: LRQKCache<Double>
  let after: LRQKCache<Double>
  let step: DecodeStep<Double>
  let events: [TransferEvent]
  /// Bytes that the device's buffers hold after the step.
  let deviceBytes: Int

  init(_ data: ExplainData, _ parameters: Parameters) throws {
    self.data = data
    self.parameters = parameters
    trace = Trace()
    objective = PrefillObjective(queries: data.queries, keys: data.keys)
    let initial = parameters.solver == .spectral ? nil : [data.start]

    // The factors, sweep by sweep. The start is everybody's: rowwise with no sweep at all.
    let limits = initial == nil ? [0] : Array(0...(parameters.sweeps?.iterations.limit ?? 0))
    factors = try limits.map { sweeps in
      var choice = parameters
      choice.sweeps?.iterations = try SweepIterations(sweeps, tolerance: 0)
      if sweeps == 0 && initial != nil {
        choice.solver = .rowwise
        choice.codes = .alternating(Alternation(.frozen))
      }
      return try factorizePrompt(
        queries: [data.queries], keys: [data.keys], parameters: choice, initial: initial
      )[0].factorization
    }

    // The prompt and one step through the cache.
    var tiers = Tiers()
    var cache = try LRQKCache<Double>(
      queryHeads: 1, keyValueHeads: 1, width: data.keys.columns, parameters: parameters)
    try cache.prefill(
      queries: [data.queries], keys: [data.keys], values: [data.values], initial: initial,
      tiers: &tiers, trace: trace)
    before = cache
    step = try cache.decode(
      queries: data.query, keys: data.key, values: data.value, tiers: &tiers, trace: trace)
    after = cache
    events = tiers.ledger.events
    deviceBytes = tiers.device.residentBytes
  }

  // Sizes, by their letters.
  var l: Int { data.keys.rows }
  var d: Int { data.keys.columns }
  var k: Int { parameters.selected }
  var w: Int { parameters.recent }

  /// A traced tensor of the prompt.
  func prefill(_ name: String) -> Tensor<Double> { traced("prefill/head0/\(name)") }
  /// A traced tensor of the step.
  func decode(_ name: String) -> Tensor<Double> { traced("step1/head0/\(name)") }
  /// The tokens traced under this name.
  func tokens(_ name: String) -> [Int] { traced(name).elements.map { Int($0) } }

  private func traced(_ name: String) -> Tensor<Double> {
    guard let tensor = trace[name] else {
      preconditionFailure("the library did not trace \(name); it traced \(trace.names)")
    }
    return tensor
  }

  /// ‖QKᵀ − A_Q A_Kᵀ‖ / ‖QKᵀ‖ and F.
  func judge(_ f: Factorization<Double>) -> (relative: Double, total: Double) {
    let A_Q = f.queryCodes ?? Tensor(repeating: 0, shape: [l, parameters.rank])
    let value = objective.value(A_Q, f.queryBasis, f.keyCodes, f.keyBasis)
    return (relative(value.product), value.total)
  }

  /// √(x / ‖QKᵀ‖²).
  func relative(_ product: Double) -> Double {
    (max(product, 0) / objective.productNorm).squareRoot()
  }
}

/// ‖x‖, the Frobenius norm.
func norm(_ x: Tensor<Double>) -> Double { x.squaredNorm.squareRoot() }

/// "0 3 4", or "none".
func list(_ tokens: some Sequence<Int>) -> String {
  let text = tokens.map(String.init).joined(separator: " ")
  return text.isEmpty ? "none" : text
}

/// The same, or only how many they are where they would not fit into a table.
func short(_ tokens: [Int]) -> String {
  let text = list(tokens)
  return text.count <= 27 ? text : "\(tokens.count) tokens"
}
