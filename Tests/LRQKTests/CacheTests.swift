// The cache from end to end, against full attention and plain recounts of what it chose.

import LRQK
import Tensors
import Testing
import TieredMemory

/// One combination of choices, by name in failures.
struct CacheCase: CustomTestStringConvertible, Sendable {
  let name: String
  let parameters: Parameters
  var testDescription: String { name }

  static func make(_ name: String, _ preset: Preset = .paper, _ change: (inout Parameters) -> Void)
    -> CacheCase
  {
    var parameters = Parameters(preset, .small)
    change(&parameters)
    return CacheCase(name: name, parameters: parameters)
  }

  static let all: [CacheCase] = [
    make("paper") { _ in },
    make("paper, all candidates") { $0.candidates = .all },
    make("frozen bases") { $0.codes = .alternating(Alternation(.frozen)) },
    make("damped, shared codes") {
      $0.codes = .alternating(Alternation(.damped(0.1)))
      $0.codeSharing = .perKeyValueHead
    },
    make("shared rows") { $0.rows = .perKeyValueHead(attended: .own) },
    make("no reuse") { $0.reuse = .reloadAll },
    make("shared rows, no reuse") {
      $0.rows = .perKeyValueHead(attended: .own)
      $0.reuse = .reloadAll
    },
    make("recommended", .recommended) { _ in },
    make("recommended, refreshed", .recommended) { $0.codes = .linear(refresh: .every(5)) },
    make("linear, rowwise") {
      $0.solver = .rowwise
      $0.codes = .linear(refresh: .never)
    },
  ]
}

extension Sizes {
  /// r = 3, k = 6, w = 4.
  static let small: Sizes = {
    do { return try Sizes(rank: 3, selected: 6, recent: 4) } catch {
      preconditionFailure("\(error)")
    }
  }()
}

private let prompt = 30
private let tokens = 60
private let data = Synthetic<Float>(
  tokens: tokens, width: 8, queryHeads: 4, keyValueHeads: 2, decay: 0.8, seed: 31)

@Suite struct CacheTests {
  @Test(arguments: CacheCase.all)
  func `attention is exact over the selected and the recent rows, bit for bit`(
    _ choice: CacheCase
  ) throws {
    let run = try Run(data, choice.parameters, prompt: prompt)
    for (i, step) in run.steps.enumerated() {
      let l = prompt + i + 1
      for h in 0..<4 {
        let rows = step.selected[h] + Array(l - 4..<l)
        #expect(
          step.selected[h].count == 6 && Set(rows).count == 10, "step \(step.step), head \(h)")
        let expected = fullAttention(
          query: data.queries[h].row(l - 1), keys: data.keys[h / 2].gather(rows: rows),
          values: data.values[h / 2].gather(rows: rows))
        #expect(step.attention.row(h) == expected, "step \(step.step), head \(h)")
      }
      #expect(step.step == i + 1 && !step.isDense)
    }
    #expect(run.cache.length == tokens && run.cache.step == tokens - prompt)
  }

  @Test(arguments: CacheCase.all)
  func `the selected sets are the best by the codes, ties to the older`(_ choice: CacheCase) throws
  {
    // Codes and selections of the last step, recounted from A_K and q_hat by a plain sort. (After a
    // refresh A_K is no longer what was chosen by; such a step is the 30th, so stop at the 29th.)
    let short = data.part(0..<tokens - 1)
    let run = try Run(short, choice.parameters, prompt: prompt)
    let step = try #require(run.steps.last)
    let candidates = tokens - 1 - 4 - (choice.parameters.candidates == .released ? 1 : 0)
    let shared = choice.parameters.codeSharing == .perKeyValueHead
    for h in 0..<4 {
      let codes = run.cache.keyCodes[shared ? h / 2 : h]
      #expect(codes.shape == [tokens - 1, 3])
      let q_hat = step.queryCodes[shared ? h / 2 : h].rows(
        (shared ? h % 2 : 0)..<(shared ? h % 2 : 0) + 1)
      let scores = matmul(q_hat, transposed: codes.rows(0..<candidates), in: .reference).elements
      let order = scores.indices.sorted { (-scores[$0], $0) < (-scores[$1], $1) }
      #expect(step.selected[h] == order.prefix(6).sorted(), "head \(h)")
      #expect(step.gaps[h] == Double(scores[order[5]] - scores[order[6]]))
    }
  }

  @Test func `the first sets are the best by the code of each head's newest query`() throws {
    let run = try Run(data.part(0..<prompt), Parameters(.recommended, .small), prompt: prompt)
    for h in 0..<4 {
      let newest = data.queries[h].rows(prompt - 1..<prompt)
      let q_hat = matmul(newest, run.cache.matrices[h / 2].queries, in: .reference)
      let codes = run.cache.keyCodes[h / 2].rows(0..<prompt - 4)
      let scores = matmul(q_hat, transposed: codes, in: .reference).elements
      let order = scores.indices.sorted { (-scores[$0], $0) < (-scores[$1], $1) }
      #expect(run.firstSelected[h] == order.prefix(6).sorted(), "head \(h)")
    }
  }

  @Test(arguments: CacheCase.all, [(1, 40), (5, 40), (20, 40), (39, 40)])
  func `with k at least l attention is full, bit for bit`(
    _ choice: CacheCase, _ size: (prompt: Int, selected: Int)
  ) throws {
    // Collecting all the time, or with w more tokens dense after it.
    var parameters = choice.parameters
    parameters.sizes = try Sizes(rank: 3, selected: size.selected, recent: 4)
    let short = data.part(0..<44)
    let run = try Run(short, parameters, prompt: size.prompt)
    for (i, step) in run.steps.enumerated() {
      let l = size.prompt + i + 1
      for h in 0..<4 {
        let expected = fullAttention(
          query: data.queries[h].row(l - 1), keys: data.keys[h / 2].rows(0..<l),
          values: data.values[h / 2].rows(0..<l))
        #expect(step.attention.row(h) == expected, "length \(l), head \(h)")
      }
      #expect(step.isDense && step.missedRows.allSatisfy { $0 == 0 })
    }
    #expect(run.cache.phase == .dense)
    #expect(
      run.rows(.miss) == 0 && (choice.parameters.refreshInterval != nil || run.rows(.reload) == 0))
  }

  /// Prompt lengths around every border, with k = 6 and w = 4 (and r = 3).
  @Test(arguments: CacheCase.all, [2, 3, 5, 6, 7, 9, 10, 11, 12])
  func `every length of prompt is exact from its first step to sparse ones`(
    _ choice: CacheCase, _ length: Int
  ) throws {
    let run = try Run(data.part(0..<30), choice.parameters, prompt: length)
    #expect(run.firstSelected.isEmpty == (length < 6))
    for (i, step) in run.steps.enumerated() {
      let l = length + i + 1
      #expect(step.isDense == (l <= 10), "length \(l)")
      for h in 0..<4 {
        let rows = l <= 10 ? Array(0..<l) : step.selected[h] + Array(l - 4..<l)
        let expected = fullAttention(
          query: data.queries[h].row(l - 1), keys: data.keys[h / 2].gather(rows: rows),
          values: data.values[h / 2].gather(rows: rows))
        #expect(step.attention.row(h) == expected, "length \(l), head \(h)")
      }
    }
    #expect(run.cache.length == 30)
    #expect(run.cache.keyCodes.allSatisfy { $0.rows == 30 && $0.firstNonFinite == nil })
  }

  @Test(arguments: [1, 2, 7])
  func `a ring of any size works, also one smaller than a burst of the prompt`(_ w: Int) throws {
    for choice in CacheCase.all {
      var parameters = choice.parameters
      parameters.sizes = try Sizes(rank: 3, selected: 6, recent: w)
      let run = try Run(data, parameters, prompt: prompt)
      for (i, step) in run.steps.enumerated() {
        let l = prompt + i + 1
        let rows = step.selected[3] + Array(l - w..<l)
        let expected = fullAttention(
          query: data.queries[3].row(l - 1), keys: data.keys[1].gather(rows: rows),
          values: data.values[1].gather(rows: rows))
        #expect(step.attention.row(3) == expected, "\(choice.name), step \(step.step)")
      }
    }
  }

  @Test
  func `a rank above k keeps collecting until there are r tokens`() throws {
    let parameters = try Parameters(.recommended, rank: 7, selected: 2, recent: 1)
    let run = try Run(data.part(0..<12), parameters, prompt: 4)
    #expect(run.steps.map(\.isDense) == [true, true, true, false, false, false, false, false])
    for (i, step) in run.steps.enumerated() where step.isDense {
      let l = 5 + i
      let expected = fullAttention(
        query: data.queries[0].row(l - 1), keys: data.keys[0].rows(0..<l),
        values: data.values[0].rows(0..<l))
      #expect(step.attention.row(0) == expected)
    }
  }

  @Test(arguments: CacheCase.all)
  func `chunks of the prompt change nothing`(_ choice: CacheCase) throws {
    let whole = try Run(data, choice.parameters, prompt: prompt)
    let parts = try Run(data, choice.parameters, prompt: prompt, chunks: [1, 12, 0, 17])
    #expect(whole.steps.map(\.attention) == parts.steps.map(\.attention))
    #expect(whole.steps.map(\.selected) == parts.steps.map(\.selected))
    #expect(whole.events == parts.events)
    #expect(whole.residentBytes == parts.residentBytes)
  }

  @Test(arguments: CacheCase.all)
  func `a trace changes nothing`(_ choice: CacheCase) throws {
    let plain = try Run(data, choice.parameters, prompt: prompt)
    let traced = try Run(data, choice.parameters, prompt: prompt, trace: Trace())
    #expect(plain.steps.map(\.attention) == traced.steps.map(\.attention))
    #expect(plain.steps.map(\.selected) == traced.steps.map(\.selected))
    #expect(plain.cache.keyCodes == traced.cache.keyCodes)
    #expect(plain.events == traced.events)
  }
}
