// Refreshed maps: the closed form of all tokens so far, every token coded anew, and its price.

import LRQK
import Tensors
import Testing
import TieredMemory

private let (prompt, tokens) = (30, 45)
private let data = Synthetic<Double>(
  tokens: tokens, width: 8, queryHeads: 4, keyValueHeads: 2, decay: 0.8, seed: 111)

@Suite struct MapRefreshTests {
  @Test(arguments: CodeSharing.allCases, [5, 15])
  func `after a refresh the codes are those of a prompt of all tokens`(
    _ sharing: CodeSharing, _ every: Int
  ) throws {
    var parameters = try Parameters(.recommended, rank: 3, selected: 6, recent: 4)
    parameters.codeSharing = sharing
    parameters.codes = .linear(refresh: .every(try RefreshSteps(every)))
    let run = try Run(data, parameters, prompt: prompt)  // 15 steps: the last one refreshes
    let whole = try Run(data, parameters, prompt: tokens)
    for (a, b) in zip(run.cache.keyCodes, whole.cache.keyCodes) {
      // Columns have a free sign; A_K A_Kᵀ does not. Grams of the same rows in another order:
      // l ulp, times the gap of the singular values (below 10) and the rows' condition (below 100).
      let (x, y) = (
        matmul(a, transposed: a, in: .reference), matmul(b, transposed: b, in: .reference)
      )
      let error = relativeError(x, y)
      #expect(error <= 1000 * Double(tokens) * Double.ulpOfOne, "\(error)")
    }
    // And A_K is K W_K of the maps that the cache shows, bit for bit.
    for (g, codes) in run.cache.keyCodes.enumerated() {
      let head = sharing == .perKeyValueHead ? g : g / 2
      #expect(
        codes == matmul(data.keys[head], run.cache.matrices[g].keys, in: .reference), "group \(g)")
    }
    // Without a refresh the maps are the prompt's, and different.
    parameters.codes = .linear(refresh: .never)
    let never = try Run(data, parameters, prompt: prompt)
    #expect(relativeError(never.cache.matrices[0].keys, run.cache.matrices[0].keys) > 1e-3)
  }

  @Test
  func `a refresh takes effect after the step that it belongs to`() throws {
    var parameters = try Parameters(.recommended, rank: 3, selected: 6, recent: 4)
    let never = try Run(data, parameters, prompt: prompt)
    parameters.codes = .linear(refresh: .every(5))
    let five = try Run(data, parameters, prompt: prompt)
    for i in 0..<5 {
      #expect(five.steps[i].attention == never.steps[i].attention)
      #expect(five.steps[i].selected == never.steps[i].selected)
    }
    #expect(five.steps[5].keyCodes != never.steps[5].keyCodes)
  }

  @Test
  func `a prompt that sweeps over its rows is refreshed from all tokens as well`() throws {
    var parameters = try Parameters(.recommended, rank: 3, selected: 6, recent: 4)
    parameters.codes = .linear(refresh: .every(15))
    let spectral = try Run(data, parameters, prompt: prompt)
    parameters.solver = .rowwise
    parameters.sweeps?.start = .topColumns
    let rowwise = try Run(data, parameters, prompt: prompt)
    #expect(rowwise.cache.prompt[0].sweeps > 0)
    // The refresh at step 15 reads Gram matrices alone, and both runs have summed the same rows.
    #expect(rowwise.cache.matrices.map(\.keys) == spectral.cache.matrices.map(\.keys))
    #expect(rowwise.cache.keyCodes == spectral.cache.keyCodes)
  }

  @Test(arguments: [MapRefresh.never, .every(15), .every(10)])
  func `the largest code is that of the codes as they are`(_ refresh: MapRefresh) throws {
    var parameters = try Parameters(.recommended, rank: 3, selected: 6, recent: 4)
    parameters.codes = .linear(refresh: refresh)
    let run = try Run(data, parameters, prompt: prompt)
    let largest = run.cache.keyCodes.map { $0.elements.reduce(0) { max($0, abs($1)) } }
    #expect(run.cache.largestCodes == largest)
  }

  @Test
  func `its transfers are the keys that the host holds, once a key head`() throws {
    for transfers in RowHolders.allCases {
      var parameters = try Parameters(.recommended, rank: 3, selected: 6, recent: 4)
      parameters.rows = RowSharing(transfers)
      parameters.codes = .linear(refresh: .every(5))
      let run = try Run(data, parameters, prompt: prompt)
      // The host gets 4 tokens at steps 4, 8 and 12; at steps 5, 10, 15 it holds 34, 38 and 42.
      let expected = [(5, 34), (10, 38), (15, 42)].flatMap { step, rows in
        (0..<2).map { head in
          TransferEvent(
            step: step, layer: 0, head: head, direction: .hostToDevice, rows: rows,
            bytes: rows * 8 * 8, reason: .reload)
        }
      }
      #expect(run.events.filter { $0.reason == .reload } == expected)
    }
  }

  @Test
  func `Gram matrices are handed out only for a refresh`() throws {
    var parameters = try Parameters(.recommended, rank: 3, selected: 6, recent: 4)
    func codes() throws -> PromptCodes<Double> {
      try factorizePrompt(
        queries: data.stackedQueries, keys: data.keys, parameters: parameters)[1]
    }
    #expect(try codes().grams == nil)
    parameters.codes = .linear(refresh: .every(2))
    let found = try codes()
    let (Q, K) = (data.stackedQueries[1], data.keys[1])
    // Sums of up to 90 products in two orders.
    #expect(
      relativeError(try #require(found.grams?.queries), Q.gram(in: .reference))
        <= 90 * Double.ulpOfOne)
    #expect(
      relativeError(try #require(found.grams?.keys), K.gram(in: .reference)) <= 45 * Double.ulpOfOne
    )
  }
}
