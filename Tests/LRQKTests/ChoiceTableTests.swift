// The table of choices: what it writes it reads, and what does not exist stays away.

import LRQK
import Tensors
import Testing

private func parameters(_ preset: Preset = .paper) -> Parameters { Parameters(preset, .released) }

private func parameters(
  _ preset: Preset = .paper, _ change: (inout Parameters) throws -> Void
) rethrows -> Parameters {
  var parameters = Parameters(preset, .released)
  try change(&parameters)
  return parameters
}

@Suite struct ChoiceTableTests {
  @Test func `what the table writes makes the same parameters again`() throws {
    for wanted in [
      parameters(), parameters(.recommended),
      try parameters {
        $0.solver = .rowwise
        $0.sweeps?.start = .gaussian(seed: .max)
        $0.sweeps?.iterations = try SweepIterations(7, tolerance: 1e-8)
        $0.sweeps?.weights = try SweepWeights(queries: 0.1, keys: 3)
        $0.sweeps?.order = .jacobi
        $0.alternation?.basisUpdate = .damped(0.05)
        $0.alternation?.iterations = try AlternationIterations(9, tolerance: 0)
        $0.alternation?.weights = try AlternationWeights(selfProduct: 2, selectedProducts: 1e-3)
        $0.sweeps?.ridge = 1e-4
        $0.alternation?.ridge = 1e-4
        $0.sizes = try Sizes(rank: 3, selected: 5, recent: 7)
      },
      parameters(.recommended) {
        $0.codes = .linear(refresh: .every(12))
        $0.rows = .perKeyValueHead(attended: .group)
        $0.reuse = .reloadAll
        $0.candidates = .released
        $0.breakdown = .proceed
        $0.arithmetic = .library
      },
      parameters(.recommended) { $0.codes = .alternating(Alternation(.frozen)) },
      parameters(.recommended) {
        $0.ranks = .spectrum(.byModel, energy: .relative)
        $0.counts = .shared(sure: 0.25)
      },
      parameters { $0.counts = .pooled },
    ] {
      for start in Preset.allCases {
        var made = Parameters(start, .released)
        for choice in Choice.inReadingOrder() {
          if let text = choice.write(wanted) { try choice.read(text, into: &made) }
        }
        #expect(made == wanted)
      }
    }
  }

  @Test func `a part that does not exist stays away, and its neighbours stay`() {
    let refreshed = parameters(.recommended) { $0.codes = .linear(refresh: .every(5)) }
    var changed = refreshed
    changed.alternation?.ridge = 0.5
    changed.sweeps?.start = .topColumns
    #expect(changed == refreshed && changed.refreshInterval == 5)
    var spectrum = parameters(.recommended) { $0.ranks = .spectrum(.byLayer, energy: .relative) }
    let before = spectrum
    spectrum.sweeps?.start = .topColumns
    spectrum.solver = .spectral
    #expect(spectrum == before && spectrum.ranks == .spectrum(.byLayer, energy: .relative))
    var swept = parameters()
    swept.ranks = .spectrum(.byLayer, energy: .absolute)
    #expect(swept == parameters() && swept.ranks == .uniform)
  }

  @Test func `a choice without effect says so and changes nothing`() {
    let texts = [
      ("initialization", "top"), ("sweeps", "3"), ("sweep-tolerance", "0"),
      ("weighted-update", "jacobi"), ("weights", "1,1,1,1"), ("basis-update", "frozen"),
      ("alternations", "3"), ("alternation-tolerance", "0"), ("ridge", "0.5"),
    ]
    for (name, text) in texts {
      var changed = parameters(.recommended)
      #expect(throws: ChoiceError.noEffect, "\(name)") {
        try Choice.named(name)?.read(text, into: &changed)
      }
      #expect(changed == parameters(.recommended))
      #expect(Choice.named(name)?.write(changed) == nil)
    }
    for (name, text) in [
      ("map-refresh", "5"), ("ranks", "by-layer"), ("ranks", "uniform"),
      ("rank-energy", "relative"),
    ] {
      var paper = parameters()
      #expect(throws: ChoiceError.noEffect, "\(name)") {
        try Choice.named(name)?.read(text, into: &paper)
      }
      #expect(paper == parameters() && Choice.named("ranks")?.write(paper) == nil)
    }
    var uniform = parameters(.recommended)
    #expect(throws: ChoiceError.noEffect) {
      try Choice.named("rank-energy")?.read("relative", into: &uniform)
    }
    var spectral = parameters { $0.solver = .spectral }
    #expect(throws: ChoiceError.partWithoutEffect("lambda_Q and lambda_K")) {
      try Choice.named("weights")?.read("2/1/1/1", into: &spectral)
    }
  }

  @Test func `a text that cannot be read is told from one that makes no sense`() {
    for choice in Choice.all {
      #expect(choice.misreading("?") != nil, "\(choice.name)")
      if let text = choice.write(parameters()) ?? choice.write(parameters(.recommended)) {
        #expect(choice.misreading(text) == nil, "\(choice.name)")
      }
    }
    #expect(Choice.named("weights")?.misreading("1/2/3") == .noNumber)
    #expect(Choice.named("weights")?.misreading("1,2,3,-4") == nil)
    #expect(Set(Choice.all.map(\.name)).count == Choice.all.count)
  }
}
