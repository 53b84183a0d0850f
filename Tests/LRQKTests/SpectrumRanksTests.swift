// Ranks by the spectrum: who gets the columns, that no other ranks keep more, and what does not
// change.

import LRQK
import TestSupport
import Tensors
import Testing
import TieredMemory

private let (prompt, tokens, d) = (30, 50, 8)
/// Two key/value heads; the keys of the second weigh `weight` times as much.
private func layer(weight: Float = 1, seed: UInt64 = 41) -> Synthetic<Float> {
  let data = Synthetic<Float>(
    tokens: tokens, width: d, queryHeads: 4, keyValueHeads: 2, decay: 0.7, seed: seed)
  return Synthetic(
    queries: data.queries, keys: [data.keys[0], data.keys[1].map { $0 * weight }],
    values: data.values)
}

/// Descending values, some of them equal.
private func spectra(_ groups: Int, _ width: Int, _ numbers: inout SeededNumbers) -> [[Double]] {
  (0..<groups).map { _ in
    (0..<width).map { _ in Double(numbers.below(6)) }.sorted(by: >)
  }
}

/// All lists of ranks from 1 to `width` for so many groups that add up to `sum`.
private func allRanks(_ groups: Int, sum: Int, width: Int) -> [[Int]] {
  if groups == 0 { return sum == 0 ? [[]] : [] }
  return (1...width).flatMap { first in
    first > sum ? [] : allRanks(groups - 1, sum: sum - first, width: width).map { [first] + $0 }
  }
}

/// The energy that codes of these ranks keep, or the sum of shares of it.
private func kept(_ spectra: [[Double]], _ ranks: [Int], _ energy: RankEnergy) -> Double {
  zip(spectra, ranks).reduce(0) { sum, group in
    let squares = group.0.map { $0 * $0 }
    let all = squares.reduce(0, +)
    let own = squares.prefix(group.1).reduce(0, +)
    return sum + (energy == .absolute ? own : all > 0 ? own / all : 0)
  }
}

private func parameters(_ energy: RankEnergy?, rank: Int = 3) throws -> Parameters {
  var p = try Parameters(.recommended, rank: rank, selected: 6, recent: 4)
  if let energy { p.ranks = .spectrum(.byLayer, energy: energy) }
  return p
}

@Suite struct SpectrumRanksTests {
  @Test(arguments: RankEnergy.allCases)
  func `no other ranks of the same sum keep more, and those chosen are 1 at least`(
    _ energy: RankEnergy
  ) throws {
    var numbers = SeededNumbers(seed: 3)
    for (groups, width) in [(1, 4), (2, 4), (3, 3), (4, 2)] {
      for rank in 1...width {
        for _ in 0..<20 {
          let spectra = spectra(groups, width, &numbers)
          let ranks = try spectrumRanks(spectra, rank: rank, energy: energy)
          #expect(ranks.reduce(0, +) == rank * groups && ranks.allSatisfy((1...width).contains))
          let best = allRanks(groups, sum: rank * groups, width: width).map {
            kept(spectra, $0, energy)
          }.max()
          // Energies are whole numbers; shares are added in the same order on both sides, at most
          // 4 of at most 1, each sum off by 4 roundings of 4.
          #expect(kept(spectra, ranks, energy) >= (best ?? .infinity) - 0x1p-48)
        }
      }
    }
  }

  @Test(arguments: RankEnergy.allCases)
  func `equal spectra have equal ranks, and one group has r`(_ energy: RankEnergy) throws {
    for rank in 1...4 {
      // No two values of a group are equal, so no tie is inside one.
      let equal = Array(repeating: [9.0, 5, 2, 1], count: 3)
      #expect(try spectrumRanks(equal, rank: rank, energy: energy) == [rank, rank, rank])
      #expect(try spectrumRanks([[3, 3, 0, 0]], rank: rank, energy: energy) == [rank])
    }
    // A group of zeros has the rank that it must have.
    #expect(try spectrumRanks([[0, 0, 0], [4, 2, 1]], rank: 2, energy: energy) == [1, 3])
  }

  @Test func `more energy never means a lower rank, and shares know no energy`() throws {
    var numbers = SeededNumbers(seed: 4)
    for _ in 0..<100 {
      let base = spectra(3, 4, &numbers)
      let relative = try spectrumRanks(base, rank: 2, energy: .relative)
      var before = 0
      for exponent in -3...3 {
        // Powers of two, so that shares have the same bits.
        var scaled = base
        scaled[1] = base[1].map { $0 * Double(sign: .plus, exponent: exponent, significand: 1) }
        let ranks = try spectrumRanks(scaled, rank: 2, energy: .absolute)
        #expect(ranks[1] >= before)
        before = ranks[1]
        #expect(try spectrumRanks(scaled, rank: 2, energy: .relative) == relative)
      }
    }
  }

  @Test func `ties go to the lower group, then to the lower index`() throws {
    #expect(
      try spectrumRanks([[5, 1, 1], [5, 1, 1], [5, 1, 1]], rank: 2, energy: .absolute) == [3, 2, 1])
  }

  @Test func `the codes are the first columns of codes of full rank`() throws {
    let data = layer(weight: 4).part(0..<prompt)
    let full = try Run(data, parameters(nil, rank: d), prompt: prompt)
    let run = try Run(data, parameters(.absolute), prompt: prompt)
    let ranks = run.cache.keyCodes.map(\.columns)
    #expect(ranks.reduce(0, +) == 6 && ranks[1] > ranks[0])
    for g in 0..<2 {
      let columns = Array(0..<ranks[g])
      #expect(run.cache.keyCodes[g] == full.cache.keyCodes[g].gather(columns: columns))
      #expect(
        run.cache.matrices[g].queries == full.cache.matrices[g].queries.gather(columns: columns))
    }
  }

  @Test(arguments: [0.25, 1, 4] as [Float])
  func `the fit of all groups together is as good as with r everywhere, or better`(
    _ weight: Float
  ) throws {
    let data = layer(weight: weight)
    func error(_ parameters: Parameters) throws -> Double {
      let factors = try factorizePrompt(
        queries: data.stackedQueries, keys: data.keys, parameters: parameters)
      return zip(zip(data.stackedQueries, data.keys), factors).reduce(0) { sum, group in
        let ((Q, K), codes) = group
        let product = matmul(
          Q.converted(to: Double.self), transposed: K.converted(to: Double.self), in: .reference)
        return sum + (product - fitted(codes.factorization)).squaredNorm
      }
    }
    let (uniform, spectrum) = (try error(parameters(nil)), try error(parameters(.absolute)))
    // Codes in Float: each is off by some 2^-24 of its size, so an error of a hundredth of the
    // product is off by far less than a thousandth of itself.
    #expect(spectrum <= uniform * 1.001, "\(spectrum), \(uniform)")
  }

  @Test func `one group has the bits of uniform ranks`() throws {
    let single = Synthetic<Float>(
      tokens: tokens, width: d, queryHeads: 2, keyValueHeads: 1, decay: 0.8, seed: 42)
    let uniform = try Run(single, parameters(nil), prompt: prompt)
    for energy in RankEnergy.allCases {
      let run = try Run(single, parameters(energy), prompt: prompt)
      #expect(run.steps.map(\.attention) == uniform.steps.map(\.attention))
      #expect(run.steps.map(\.selected) == uniform.steps.map(\.selected))
      #expect(run.events == uniform.events && run.residentBytes == uniform.residentBytes)
    }
  }

  @Test func `a layer holds as many bytes of codes as with r everywhere, also refreshed`() throws {
    let data = layer(weight: 4)
    for refresh in [MapRefresh.never, .every(5)] {
      var (plain, spectrum) = (try parameters(nil), try parameters(.absolute))
      (plain.codes, spectrum.codes) = (.linear(refresh: refresh), .linear(refresh: refresh))
      let runs = [try Run(data, plain, prompt: prompt), try Run(data, spectrum, prompt: prompt)]
      func codeBytes(_ run: Run<Float>) -> Int {
        run.liveBuffers.filter { !$0.label.contains("rows of") }.reduce(0) { $0 + $1.bytes }
      }
      #expect(codeBytes(runs[0]) == codeBytes(runs[1]))
      let ranks = runs[1].cache.keyCodes.map(\.columns)
      #expect(ranks.reduce(0, +) == 6 && ranks != [3, 3])
      // New maps have the ranks of the first ones.
      #expect(runs[1].cache.matrices.map(\.keys.columns) == ranks)
    }
  }

  @Test func `ranks from elsewhere are taken as they are`() throws {
    let data = layer().part(0..<prompt)
    var tiers = Tiers()
    var cache = try LRQKCache<Float>(
      queryHeads: 4, keyValueHeads: 2, width: d, parameters: parameters(.absolute))
    cache.waitsForRanks = true
    try cache.extendPrompt(
      queries: data.queries, keys: data.keys, values: data.values, tiers: &tiers)
    let spectra = try #require(try cache.promptSpectra())
    #expect(spectra.count == 2 && spectra.allSatisfy { $0 == $0.sorted(by: >) && $0.count == d })
    try cache.completePrompt(ranks: [1, 5], tiers: &tiers)
    #expect(cache.keyCodes.map(\.columns) == [1, 5] && !cache.hasWholePrompt)
    #expect(try cache.promptSpectra() == nil)
  }

  @Test func `ranks by the spectrum without linear codes are one clear line`() throws {
    var p = try parameters(.relative)
    p.codes = .alternating(Alternation(.frozen))
    let error = lrqkError {
      _ = try LRQKCache<Float>(queryHeads: 4, keyValueHeads: 2, width: d, parameters: p)
    }
    #expect(
      "\(error.map(String.init(describing:)) ?? "")"
        == "ranks by spectrum are for linear codes, whose maps stay as the prompt made them: use "
        + "code-map linear, or ranks uniform")
  }
}
