// Sweeps in d by d space against the literal sweeps over l rows: same start, same codes.

import LRQK
import Tensors
import Testing

private let starts: [Initialization] = [
  .gaussian(seed: 7), .topColumns, .sharedTopColumns, .spectral, .given,
]

private func pair<E: Scalar>(
  _ data: Synthetic<E>, _ parameters: Parameters
) throws -> (rowwise: [PromptCodes<E>], gram: [PromptCodes<E>]) {
  var (rowwise, gram) = (parameters, parameters)
  rowwise.solver = .rowwise
  gram.solver = .gram
  let shared = parameters.codeSharing == .perKeyValueHead
  let G = data.queries.count / data.keys.count
  let queries = shared ? data.stackedQueries : data.queries
  let keys = shared ? data.keys : data.queries.indices.map { data.keys[$0 / G] }
  let initial =
    parameters.sweeps?.start != .given
    ? nil
    : queries.indices.map { g in
      InitialCodes<E>(
        queries: .normal(
          shape: [queries[g].rows, parameters.rank], seed: 11, stream: UInt64(2 * g)),
        keys: .normal(
          shape: [keys[g].rows, parameters.rank], seed: 11, stream: UInt64(2 * g + 1)))
    }
  func run(_ choice: Parameters) throws -> [PromptCodes<E>] {
    try factorizePrompt(queries: queries, keys: keys, parameters: choice, initial: initial)
  }
  return (try run(rowwise), try run(gram))
}

/// Largest relative difference of any factor of any group.
private func difference<E: Scalar>(_ a: [PromptCodes<E>], _ b: [PromptCodes<E>]) throws -> Double {
  var worst = 0.0
  for (a, b) in zip(a, b) {
    let (x, y) = (a.factorization, b.factorization)
    worst = max(
      worst, relativeError(try #require(x.queryCodes), try #require(y.queryCodes)),
      relativeError(x.keyCodes, y.keyCodes), relativeError(x.queryBasis, y.queryBasis),
      relativeError(x.keyBasis, y.keyBasis),
      relativeError(a.newestQueryCodes, b.newestQueryCodes),
      relativeError(try #require(x.queryMap), try #require(y.queryMap)),
      relativeError(try #require(x.keyMap), try #require(y.keyMap)))
  }
  return worst
}

@Suite struct GramPrefillTests {
  private func choices(
    _ start: Initialization, _ update: UpdateOrder, _ sharing: CodeSharing,
    _ arithmetic: Arithmetic
  ) throws -> Parameters {
    var parameters = try Parameters(.paper, rank: 4, selected: 16, recent: 4)
    parameters.sweeps?.start = start
    parameters.sweeps?.order = update
    parameters.sweeps?.weights = try SweepWeights(queries: 0.5, keys: 2)
    parameters.codeSharing = sharing
    parameters.arithmetic = arithmetic
    parameters.sweeps?.iterations = try SweepIterations(3, tolerance: 0)
    return parameters
  }

  @Test(arguments: starts, UpdateOrder.allCases)
  func `both ways agree in Double to what their condition allows`(
    _ start: Initialization, _ update: UpdateOrder
  ) throws {
    for sharing in CodeSharing.allCases {
      for arithmetic in [Arithmetic.reference, .library] {
        let data = Synthetic<Double>(
          tokens: 80, width: 10, queryHeads: 4, keyValueHeads: 2, decay: 0.85, seed: 6)
        let (rowwise, gram) = try pair(data, choices(start, update, sharing, arithmetic))
        #expect(rowwise.count == (sharing == .perQueryHead ? 4 : 2))
        // Each solve loses the condition of its system; a sweep's loss is passed on to the next.
        // Three sweeps, conditions of some hundred each here: 1e-9 as the package claims.
        let error = try difference(rowwise, gram)
        #expect(error <= 1e-9, "\(sharing), \(arithmetic): \(error)")
        for (a, b) in zip(rowwise, gram) {
          #expect(a.factorization.sweeps == 3 && b.factorization.sweeps == 3)
          #expect(!a.factorization.pivoted && !b.factorization.pivoted)
          // Condition estimates are the same number, up to rounding.
          let (x, y) = (a.factorization.condition, b.factorization.condition)
          #expect(abs(x - y) <= 1e-6 * x, "\(x), \(y)")
        }
      }
    }
  }

  @Test(arguments: starts)
  func `both ways agree in Float to what rowwise Float can promise`(_ start: Initialization) throws
  {
    let data = Synthetic<Float>(
      tokens: 80, width: 10, queryHeads: 4, keyValueHeads: 2, decay: 0.85, seed: 6)
    var parameters = try choices(start, .gaussSeidel, .perQueryHead, .reference)
    parameters.sweeps?.weights = SweepWeights()
    let (rowwise, gram) = try pair(data, parameters)
    let worst = rowwise.reduce(0) { max($0, $1.factorization.condition) }
    // The Gram sweeps run in Double, the rowwise ones in Float: the difference is rowwise rounding,
    // condition times Float's ulp, over three sweeps and with chains of 80 terms (√80 ≈ 9).
    let tolerance = 3 * 9 * worst * Double(Float.ulpOfOne)
    let error = try difference(rowwise, gram)
    #expect(error <= tolerance, "\(error) of \(tolerance)")
    #expect(tolerance < 0.05, "condition \(worst): this case can show nothing")
  }

  @Test(arguments: [1.0, 1e-1, 1e-2, 1e-3, 1e-4])
  func `a tolerance stops both ways at the same sweep`(_ tolerance: Double) throws {
    let data = Synthetic<Double>(
      tokens: 80, width: 10, queryHeads: 4, keyValueHeads: 2, decay: 0.85, seed: 6)
    for start in starts {
      var parameters = try choices(start, .gaussSeidel, .perQueryHead, .reference)
      parameters.sweeps?.iterations = try SweepIterations(50, tolerance: tolerance)
      let (rowwise, gram) = try pair(data, parameters)
      let sweeps = Set((rowwise + gram).map(\.factorization.sweeps))
      #expect(sweeps.count == 1, "\(start): \(sweeps)")
      #expect((sweeps.first ?? 0) < 50, "\(start): the tolerance never stopped it")
    }
  }

  @Test
  func `the change that stops is the mean squared change of the codes`() throws {
    let data = Synthetic<Double>(tokens: 60, width: 8, decay: 0.85, seed: 9)
    for solver in [PrefillSolver.rowwise, .gram] {
      func run(_ limit: Int, _ tolerance: Double) throws -> Factorization<Double> {
        var parameters = try choices(.gaussian(seed: 3), .gaussSeidel, .perQueryHead, .reference)
        parameters.solver = solver
        parameters.sweeps?.iterations = try SweepIterations(limit, tolerance: tolerance)
        return try factorizePrompt(queries: data.queries, keys: data.keys, parameters: parameters)[
          0
        ]
        .factorization
      }
      let (third, fourth) = (
        try run(3, 0), try run(4, 0)
      )
      func mean(_ a: Tensor<Double>, _ b: Tensor<Double>) -> Double {
        (a - b).squaredNorm / Double(a.count)
      }
      let delta = max(
        mean(try #require(third.queryCodes), try #require(fourth.queryCodes)),
        mean(third.keyCodes, fourth.keyCodes))
      // Just above it the fourth sweep is the last; just below, it is not.
      #expect(try run(50, delta * 1.000001).sweeps == 4, "\(solver)")
      #expect(try run(50, delta * 0.999999).sweeps > 4, "\(solver)")
    }
  }
}
