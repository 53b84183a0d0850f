// A prompt in chunks against the same prompt whole, and what a factorizer hands out.

import LRQK
import Tensors
import Testing

private let l = 1100
private let data = Synthetic<Double>(
  tokens: l, width: 6, queryHeads: 4, keyValueHeads: 2, decay: 0.8, seed: 12)

private let chunkings: [[Int]] = [
  [1100], [1, 1099], [550, 550], [3, 0, 509, 512, 76], [1099, 1],
  Array(repeating: 100, count: 11),
]

private func choices(_ solver: PrefillSolver, _ arithmetic: Arithmetic) throws -> Parameters {
  var parameters = try Parameters(.paper, rank: 3, selected: 16, recent: 4)
  parameters.solver = solver
  parameters.arithmetic = arithmetic
  parameters.sweeps?.iterations = try SweepIterations(2, tolerance: 0)
  return parameters
}

/// Two groups of two heads, in chunks.
private func factorised<E: Scalar>(
  _ data: Synthetic<E>, _ parameters: Parameters, _ chunks: [Int], initial: [InitialCodes<E>]? = nil
) throws -> [PromptCodes<E>] {
  var factorizer = try PromptFactorizer<E>(
    keyHeads: [0, 1], groupSize: 2, width: data.width, parameters: parameters)
  var first = 0
  for n in chunks {
    let part = data.part(first..<first + n)
    let start = initial.map { groups in
      groups.map { whole in
        // Stacked: head 0's rows of this chunk, then head 1's.
        let queries = [0, 1].map { whole.queries.rows($0 * l + first..<$0 * l + first + n) }
        return InitialCodes(
          queries: Tensor(joiningRows: queries), keys: whole.keys.rows(first..<first + n))
      }
    }
    try factorizer.add(queries: part.queries, keys: part.keys, initial: start)
    first += n
  }
  #expect(factorizer.tokens == first)
  return try factorizer.finish(keys: data.keys, queries: data.stackedQueries)
}

/// Everything that must agree, as one list of numbers.
private func numbers<E: Scalar>(_ codes: [PromptCodes<E>]) throws -> [E] {
  try codes.flatMap { codes in
    let f = codes.factorization
    return [
      try #require(f.queryCodes), f.queryBasis, f.keyCodes, f.keyBasis, try #require(f.queryMap),
      try #require(f.keyMap), codes.newestQueryCodes,
    ].flatMap(\.elements)
  }
}

@Suite struct PrefillTests {
  @Test(
    arguments: PrefillSolver.allCases,
    [Initialization.gaussian(seed: 2), .topColumns, .sharedTopColumns, .spectral, .given])
  func `in reference order a prompt in chunks has the bits of the whole one`(
    _ solver: PrefillSolver, _ start: Initialization
  ) throws {
    if solver == .spectral && start == .given { return }  // refused: no sweep would use it
    var parameters = try choices(solver, .reference)
    parameters.sweeps?.start = start
    var initial: [InitialCodes<Double>]?
    if start == .given {
      initial = (0..<2).map { g in
        let queries = Tensor<Double>.normal(
          shape: [2 * l, 3], seed: 4, stream: UInt64(2 * g))
        let keys = Tensor<Double>.normal(shape: [l, 3], seed: 4, stream: UInt64(2 * g + 1))
        return InitialCodes(queries: queries, keys: keys)
      }
    }
    let whole = try numbers(factorised(data, parameters, [l], initial: initial))
    for chunks in chunkings.dropFirst() {
      let found = try numbers(factorised(data, parameters, chunks, initial: initial))
      let same = found == whole  // apart, or a failure would print thousands of numbers
      #expect(same, "\(chunks)")
    }
  }

  @Test
  func `rowwise prefill has the same bits in chunks in library order as well`() throws {
    // All rows are kept until the end, so the products never see the chunks.
    let parameters = try choices(.rowwise, .library)
    let whole = try numbers(factorised(data, parameters, [l]))
    for chunks in chunkings.dropFirst() {
      let same = try numbers(factorised(data, parameters, chunks)) == whole
      #expect(same, "\(chunks)")
    }
  }

  @Test(arguments: [PrefillSolver.gram, .spectral])
  func `in library order chunks move the result by rounding only`(_ solver: PrefillSolver) throws {
    // Sums in another order: in Double l ulp of their size, in Float 512 (its blocks). The fit
    // A_Q A_Kᵀ does not depend on the gauge of the codes, so the condition of the systems, some
    // hundred, does not enter in full; 10 for what does.
    func check<E: Scalar>(_ data: Synthetic<E>, terms: Double) throws {
      let parameters = try choices(solver, .library)
      let whole = try factorised(data, parameters, [l])
      for chunks in chunkings.dropFirst() {
        for (a, b) in zip(try factorised(data, parameters, chunks), whole) {
          let tolerance = 10 * terms * Double(E.ulpOfOne)
          let error = relativeError(fitted(a.factorization), fitted(b.factorization))
          #expect(error <= tolerance, "\(E.self), \(chunks): \(error) of \(tolerance)")
        }
      }
    }
    try check(data, terms: Double(l))
    try check(
      Synthetic<Float>(
        tokens: l, width: 6, queryHeads: 4, keyValueHeads: 2, decay: 0.8, seed: 12), terms: 512)
  }

  @Test(arguments: PrefillSolver.allCases)
  func `library order is reference order but for rounding`(_ solver: PrefillSolver) throws {
    // Sums of l terms in another order: l ulp of their size, times the condition of the systems
    // (some hundred) once for each sweep.
    let (library, reference) = (
      try factorised(data, choices(solver, .library), [l]),
      try factorised(data, choices(solver, .reference), [l])
    )
    for (a, b) in zip(library, reference) {
      let condition = max(100, b.factorization.conditioning.worst)
      let error = relativeError(fitted(a.factorization), fitted(b.factorization))
      #expect(error <= 2 * Double(l) * condition * Double.ulpOfOne, "\(error)")
    }
  }

  @Test(arguments: PrefillSolver.allCases)
  func `the newest queries' codes are the last rows of their heads' codes`(
    _ solver: PrefillSolver
  ) throws {
    for codes in try factorised(data, choices(solver, .reference), [700, 400]) {
      let A_Q = try #require(codes.factorization.queryCodes)
      #expect(A_Q.shape == [2 * l, 3])
      let same = codes.newestQueryCodes == A_Q.gather(rows: [l - 1, 2 * l - 1])
      #expect(same)
    }
  }

  @Test
  func `query codes come only when asked for`() throws {
    var factorizer = try PromptFactorizer<Double>(
      keyHeads: [0, 1], groupSize: 2, width: data.width, parameters: choices(.gram, .reference))
    try factorizer.add(queries: data.queries, keys: data.keys)
    #expect(try factorizer.finish(keys: data.keys)[0].factorization.queryCodes == nil)
    // With them or without, the rest is the same.
    let with = try factorizer.finish(keys: data.keys, queries: data.stackedQueries)
    let without = try factorizer.finish(keys: data.keys)
    let same =
      with[1].factorization.keyCodes == without[1].factorization.keyCodes
      && with[1].newestQueryCodes == without[1].newestQueryCodes
    #expect(same)
  }

  @Test
  func `stacked and separate ways of handing in a group agree`() throws {
    let parameters = try choices(.gram, .reference)
    let stacked = try factorizePrompt(
      queries: data.stackedQueries, keys: data.keys, parameters: parameters)
    let same = try numbers(stacked) == numbers(factorised(data, parameters, [l]))
    #expect(same)
  }
}
