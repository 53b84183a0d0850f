// Where the sweeps start: each choice against the same start handed in.

import LRQK
import Tensors
import Testing

private let data = Synthetic<Double>(tokens: 50, width: 7, decay: 0.8, seed: 21)
// Columns turned round, so that Q and K have different heavy columns.
private let Q = data.queries[0].gather(columns: Array((0..<7).reversed()))
private let K = data.keys[0]

private func keyCodes(
  _ start: Initialization, _ initial: InitialCodes<Double>? = nil, solver: PrefillSolver = .rowwise
) throws -> Tensor<Double> {
  var parameters = try Parameters(.paper, rank: 3, selected: 4, recent: 2)
  parameters.solver = solver
  parameters.arithmetic = .reference
  parameters.sweeps?.start = start
  return try factorizePrompt(
    queries: [Q], keys: [K], parameters: parameters, initial: initial.map { [$0] })[0]
    .factorization.keyCodes
}

/// Columns by falling sum of magnitudes, the plain way.
private func best(_ tensors: Tensor<Double>..., count: Int) -> [Int] {
  let sums = (0..<7).map { j in
    tensors.reduce(0) { sum, x in sum + (0..<x.rows).reduce(0) { $0 + abs(x[$1, j]) } }
  }
  return Array(sums.indices.sorted { sums[$0] > sums[$1] }.prefix(count))
}

@Suite struct InitializationTests {
  @Test
  func `the top columns are those of the largest magnitudes of each side`() throws {
    let (q, k) = (best(Q, count: 3), best(K, count: 3))
    let given = InitialCodes(queries: Q.gather(columns: q), keys: K.gather(columns: k))
    #expect(try keyCodes(.topColumns) == keyCodes(.given, given))
    let common = best(Q, K, count: 3)
    let shared = InitialCodes(queries: Q.gather(columns: common), keys: K.gather(columns: common))
    #expect(try keyCodes(.sharedTopColumns) == keyCodes(.given, shared))
    // The two rules differ on this data, so neither can pass for the other.
    #expect(q != common || k != common)
  }

  @Test
  func `a spectral start is the spectral solution, swept`() throws {
    var parameters = try Parameters(.paper, rank: 3, selected: 4, recent: 2)
    parameters.solver = .spectral
    parameters.arithmetic = .reference
    let optimum = try factorizePrompt(queries: [Q], keys: [K], parameters: parameters)[0]
      .factorization
    let given = InitialCodes(
      queries: try #require(optimum.queryCodes), keys: optimum.keyCodes)
    #expect(relativeError(try keyCodes(.spectral), try keyCodes(.given, given)) <= 1e-12)
  }

  @Test
  func `Gaussian starts depend on the seed, the head and nothing else`() throws {
    #expect(try keyCodes(.gaussian(seed: 1)) == keyCodes(.gaussian(seed: 1)))
    #expect(try keyCodes(.gaussian(seed: 1)) != keyCodes(.gaussian(seed: 2)))
    // Two heads with the same rows start from different numbers, each its own stream.
    var parameters = try Parameters(.paper, rank: 3, selected: 4, recent: 2)
    parameters.arithmetic = .reference
    let both = try factorizePrompt(queries: [Q, Q], keys: [K, K], parameters: parameters)
    #expect(both[0].factorization.keyCodes != both[1].factorization.keyCodes)
    let alone = try factorizePrompt(queries: [Q], keys: [K], parameters: parameters)
    #expect(both[0].factorization.keyCodes == alone[0].factorization.keyCodes)
  }

  @Test
  func `Gaussian starts are standard normal`() throws {
    // No sweep: the codes are the start. 50 · 3 · 2 numbers, mean 0 ± 1/√300 and mean square
    // 1 ± √(2/300): five of those deviations each.
    var parameters = try Parameters(.paper, rank: 3, selected: 4, recent: 2)
    parameters.solver = .rowwise
    parameters.sweeps?.iterations = try SweepIterations(0, tolerance: 0)
    let f = try factorizePrompt(queries: [Q], keys: [K], parameters: parameters)[0].factorization
    let all = try #require(f.queryCodes).elements + f.keyCodes.elements
    let n = Double(all.count)
    #expect(abs(all.reduce(0, +) / n) <= 5 / n.squareRoot())
    #expect(abs(all.reduce(0) { $0 + $1 * $1 } / n - 1) <= 5 * (2 / n).squareRoot())
    #expect(f.sweeps == 0 && f.queryMap == nil && f.keyMap == nil)
  }

  @Test(arguments: [PrefillSolver.rowwise, .gram])
  func `groups of heads start from all their own heads' rows`(_ solver: PrefillSolver) throws {
    let data = Synthetic<Double>(
      tokens: 50, width: 7, queryHeads: 4, keyValueHeads: 2, decay: 0.8, seed: 22)
    // Heads with heavy columns of their own; the second head of a group is the heavier one.
    let heads = data.queries.enumerated().map { h, q in
      q.gather(columns: (0..<7).map { ($0 + 2 * h) % 7 }).map { $0 * (h % 2 == 0 ? 1 : 4) }
    }
    let keys = [data.keys[0], data.keys[1].gather(columns: (0..<7).reversed())]
    let queries = [0, 2].map { Tensor(joiningRows: [heads[$0], heads[$0 + 1]]) }
    func codes(
      _ start: Initialization, _ initial: [InitialCodes<Double>]? = nil
    ) throws -> [PromptCodes<Double>] {
      var parameters = try Parameters(.paper, rank: 3, selected: 4, recent: 2)
      parameters.solver = solver
      parameters.arithmetic = .reference
      parameters.sweeps?.start = start
      return try factorizePrompt(
        queries: queries, keys: keys, parameters: parameters, initial: initial)
    }
    let columns = (0..<2).map { g in
      InitialCodes(
        queries: queries[g].gather(columns: best(queries[g], count: 3)),
        keys: keys[g].gather(columns: best(keys[g], count: 3)))
    }
    let normals = (0..<2).map { g in
      InitialCodes<Double>.gaussian(
        seed: 5, queryHeads: 2 * g..<2 * g + 2, group: g, tokens: 0..<50, rank: 3)
    }
    for (start, initial) in [
      (Initialization.topColumns, columns), (.gaussian(seed: 5), normals),
    ] {
      for (found, same) in zip(try codes(start), try codes(.given, initial)) {
        // Maps and sums of the same start: equal rows, but for the products' order in `gram`.
        let error = relativeError(found.factorization.keyCodes, same.factorization.keyCodes)
        #expect(solver == .rowwise ? error == 0 : error <= 1e-10, "\(start)")
        let A_Q = try #require(found.factorization.queryCodes)
        #expect(found.newestQueryCodes == A_Q.gather(rows: [49, 99]), "each head's newest")
      }
    }
  }
}
