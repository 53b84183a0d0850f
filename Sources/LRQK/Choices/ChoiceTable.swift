// The table of choices. Its order is the order in which they are printed and listed.
//
// In:  a text, or `Parameters`.
// Out: see Choice.swift.

import TieredMemory
import Tensors

/// The most tokens, and the most repetitions, that a method's text may ask for.
private let (mostTokens, mostIterations) = (1 << 20, 1000)

extension Choice {
  static let table: [Choice] = [
    Choice(
      "rank", letter: "r", "width of a code, 1 to the head width", .count(1...mostTokens),
      parts: [],
      read: { text, p in
        p.sizes = try Sizes(rank: whole(text), selected: p.selected, recent: p.recent)
      }, write: { p, _ in "\(p.rank)" }),
    Choice(
      "selected", letter: "k", "older tokens that are attended to", .count(1...mostTokens),
      parts: .all,
      read: { text, p in
        p.sizes = try Sizes(rank: p.rank, selected: whole(text), recent: p.recent)
      }, write: { p, _ in "\(p.selected)" }),
    Choice(
      "recent", letter: "w", "recent tokens that are attended to", .count(1...mostTokens),
      parts: .all,
      read: { text, p in
        p.sizes = try Sizes(rank: p.rank, selected: p.selected, recent: whole(text))
      }, write: { p, _ in "\(p.recent)" }),

    // The prompt.
    .word(
      "solver", "how the prompt is factorised: rowwise, gram, spectral", parts: .prompt,
      decides: true, read: { $1.solver = $0 }, write: { $0.solver }),
    .word(
      "arithmetic", "arithmetic of prefill's products: library, reference", parts: .prompt,
      read: { $1.arithmetic = $0 }, write: { $0.arithmetic }),
    Choice(
      "initialization", "start of the sweeps: randn:SEED, top, topcol, spectral",
      .words(["randn:SEED", "top", "topcol", "spectral", "given"]), parts: .prompt,
      read: { text, p in
        guard let start = Initialization(word: text) else { throw ChoiceError.unknownWord }
        try change(&p.sweeps) { $0.start = start }
      }, write: { p, _ in p.sweeps?.start.word }),
    Choice(
      "ranks",
      "numbers of a group's codes: uniform (r); by-layer, by-model (r on average)",
      .words(["uniform", "by-layer", "by-model"]), parts: .prompt, silent: "uniform",
      decides: true,
      read: { text, p in
        let level = RankLevel.allCases.first { optionWord($0.rawValue) == text }
        if level == nil && text != "uniform" { throw ChoiceError.unknownWord }
        if p.sweeps != nil { throw ChoiceError.noEffect }
        p.ranks = level.map { .spectrum($0, energy: p.rankEnergy ?? .absolute) } ?? .uniform
      }, write: { p, _ in p.sweeps == nil ? p.rankWord : nil }),
    .word(
      "rank-energy", "what ranks by the spectrum compare: absolute, relative (to a group's own)",
      parts: .prompt, silent: "absolute",
      read: { (energy: RankEnergy, p) in
        guard case .spectrum(let level, _) = p.ranks else { throw ChoiceError.noEffect }
        p.ranks = .spectrum(level, energy: energy)
      }, write: { $0.rankEnergy }),
    Choice(
      "sweeps", "sweeps in prefill", .count(0...mostIterations), parts: .prompt,
      read: { text, p in
        let limit = try whole(text)
        try change(&p.sweeps) {
          $0.iterations = try SweepIterations(limit, tolerance: $0.iterations.tolerance)
        }
      }, write: { p, _ in p.sweeps.map { "\($0.iterations.limit)" } }),
    Choice(
      "sweep-tolerance", "mean squared change that ends the sweeps", .number, parts: .prompt,
      read: { text, p in
        let tolerance = try number(text)
        try change(&p.sweeps) {
          $0.iterations = try SweepIterations($0.iterations.limit, tolerance: tolerance)
        }
      }, write: { p, _ in p.sweeps.map { "\($0.iterations.tolerance)" } }),
    .word(
      "weighted-update", "order of the sweeps' updates: gauss-seidel, jacobi", parts: .prompt,
      read: { order, p in try change(&p.sweeps) { $0.order = order } },
      write: { $0.sweeps?.order }),

    // The terms of both objectives: a pair for the sweeps, a pair for the alternations.
    Choice(
      "weights", "lambda_Q/lambda_K/lambda_1/lambda_2 of the terms", .weights, parts: [],
      read: { text, p in
        let n = try fourNumbers(text)
        let sweepWeights = try SweepWeights(queries: n[0], keys: n[1])
        let stepWeights = try AlternationWeights(selfProduct: n[2], selectedProducts: n[3])
        try requireSystems(p)
        p.sweeps?.weights = sweepWeights
        p.alternation?.weights = stepWeights
        let idle = p.idleWeights(n)
        if !idle.isEmpty {
          throw ChoiceError.partWithoutEffect(idle.joined(separator: " and "))
        }
      },
      write: { p, parts in
        let sweeps = parts.contains(.prompt) ? p.sweeps?.weights : nil
        let steps = parts.contains(.steps) ? p.alternation?.weights : nil
        if sweeps == nil && steps == nil { return nil }
        let (a, b) = (sweeps ?? SweepWeights(), steps ?? AlternationWeights())
        return "\(a.queries),\(a.keys),\(b.selfProduct),\(b.selectedProducts)"
      }),

    // Decode steps.
    .word(
      "code-map", "codes of new tokens: alternating, linear", parts: .steps, decides: true,
      read: { (map: CodeMapName, p) in
        switch map {
        case .linear where !p.hasLinearCodes: p.codes = .linear(refresh: .never)
        case .alternating where p.hasLinearCodes: p.codes = .alternating(Alternation())
        default: break
        }
      }, write: { $0.hasLinearCodes ? .linear : .alternating }),
    Choice(
      "basis-update", "basis update of alternating codes: projection, damped:FACTOR, frozen",
      .words(["projection", "damped:FACTOR", "frozen"]), parts: .steps,
      read: { text, p in
        guard let update = try BasisUpdate(word: text) else { throw ChoiceError.unknownWord }
        try change(&p.alternation) { $0.basisUpdate = update }
      }, write: { p, _ in p.alternation?.basisUpdate.word }),
    Choice(
      "alternations", "alternations of a decode step, with alternating codes",
      .count(1...mostIterations),
      parts: .steps,
      read: { text, p in
        let limit = try whole(text)
        try change(&p.alternation) {
          $0.iterations = try AlternationIterations(limit, tolerance: $0.iterations.tolerance)
        }
      }, write: { p, _ in p.alternation.map { "\($0.iterations.limit)" } }),
    Choice(
      "alternation-tolerance", "mean squared change that ends the alternations", .number,
      parts: .steps,
      read: { text, p in
        let tolerance = try number(text)
        try change(&p.alternation) {
          $0.iterations = try AlternationIterations($0.iterations.limit, tolerance: tolerance)
        }
      }, write: { p, _ in p.alternation.map { "\($0.iterations.tolerance)" } }),
    Choice(
      "map-refresh", "new maps every so many steps, with linear codes: N, never",
      .count(1...mostTokens), parts: .steps, silent: "never",
      read: { text, p in
        let refresh = text == "never" ? MapRefresh.never : .every(try RefreshSteps(whole(text)))
        guard p.hasLinearCodes else { throw ChoiceError.noEffect }
        p.codes = .linear(refresh: refresh)
      },
      write: { p, _ in
        p.hasLinearCodes ? p.refreshInterval.map { "\($0)" } ?? "never" : nil
      }),

    // Who has what.
    .word(
      "code-sharing", "who has codes: per-query-head, per-key-value-head", parts: .all,
      read: { $1.codeSharing = $0 }, write: { $0.codeSharing }),
    Choice(
      "counts",
      "tokens a head selects: fixed (k), pooled, pooled:PART (k on average, a part of it sure)",
      .words(["fixed", "pooled", "pooled:PART"]), parts: .all, silent: "fixed",
      read: { text, p in
        guard let counts = try Counts(word: text) else { throw ChoiceError.unknownWord }
        p.counts = counts
      }, write: { p, _ in p.counts.word }),
    .word(
      "candidates", "tokens to choose from: all, released (one short of all)", parts: .all,
      read: { $1.candidates = $0 }, write: { $0.candidates }),
    .word(
      "transfers", "who holds and moves rows: per-query-head, per-key-value-head", parts: .all,
      decides: true,
      read: { holders, p in
        if p.rows.holders != holders { p.rows = RowSharing(holders) }
      }, write: { $0.rows.holders }),
    .word(
      "support",
      "selected rows a head attends to: own, group (with transfers per-key-value-head)",
      parts: .all,
      read: { (attended: Attended, p) in
        if p.rows.holders == .perKeyValueHead {
          p.rows = .perKeyValueHead(attended: attended)
        } else if attended == .group {
          throw LRQKError.parameter(
            "a head attends to its group's rows only where the group holds them: "
              + "transfers per key/value head")
        }
      }, write: { $0.rows.attended }),
    .word(
      "reuse", "rows that are on the device: hit-miss (they stay), none (all move at every step)",
      parts: .all, read: { $1.reuse = $0 }, write: { $0.reuse }),

    // Systems.
    Choice(
      "ridge", "added to systems, a multiple of the mean diagonal", .number, parts: [],
      silent: "0.0",
      read: { text, p in
        let ridge = try Ridge(number(text))
        try requireSystems(p)
        p.sweeps?.ridge = ridge
        p.alternation?.ridge = ridge
      },
      write: { p, parts in
        let ridge =
          (parts.contains(.prompt) ? p.sweeps?.ridge : nil)
          ?? (parts.contains(.steps) ? p.alternation?.ridge : nil)
        return ridge.map { "\($0.value)" }
      }),
    .word(
      "on-breakdown", "at vanishing pivots, NaN and infinity: stop, proceed", parts: [],
      silent: "stop", read: { $1.breakdown = $0 }, write: { $0.breakdown }),
  ]

  /// A choice between the cases of an enum, which are written in kebab case.
  private static func word<C: CaseIterable & RawRepresentable<String> & Sendable>(
    _ name: String, _ meaning: String, parts: Parts, silent: String? = nil,
    decides: Bool = false, read: @escaping @Sendable (C, inout Parameters) throws -> Void,
    write: @escaping @Sendable (Parameters) -> C?
  ) -> Choice {
    let values = Array(C.allCases)
    return Choice(
      name, meaning, .words(values.map { optionWord($0.rawValue) }), parts: parts, silent: silent,
      decides: decides,
      read: { text, p in
        guard let value = values.first(where: { optionWord($0.rawValue) == text }) else {
          throw ChoiceError.unknownWord
        }
        try read(value, &p)
      }, write: { p, _ in write(p).map { optionWord($0.rawValue) } })
  }
}

extension Choice {
  /// The rows of the table, in its order.
  public static var all: [Choice] { table + added }

  /// The same choices as they have to be read: those first that decide which others exist.
  public static func inReadingOrder(_ choices: [Choice] = all) -> [Choice] {
    choices.filter(\.decides) + choices.filter { !$0.decides }
  }

  /// The row with this name.
  public static func named(_ name: String) -> Choice? { all.first { $0.name == name } }
}

extension Parameters {
  /// The choices that have an effect on these parts, by name, in the table's order.
  public func effective(_ parts: Choice.Parts = .all) -> [(name: String, value: String)] {
    Choice.all.compactMap { choice in
      choice.write(self, parts: parts).map { (choice.name, $0) }
    }
  }

  /// The same as reports print them: what was not chosen is left out.
  public func words(_ parts: Choice.Parts = .all) -> [(name: String, value: String)] {
    effective(parts).filter { word in Choice.named(word.name)?.silent != word.value }
  }
}

/// The two kinds of `CodeMap`, by name.
enum CodeMapName: String, CaseIterable {
  case alternating
  case linear
}

/// Changes a part of the parameters, if it exists.
private func change<Part>(_ part: inout Part?, _ body: (inout Part) throws -> Void) throws {
  guard var value = part else { throw ChoiceError.noEffect }
  try body(&value)
  part = value
}

/// Throws unless some system is solved: what weights and ridge act on.
private func requireSystems(_ p: Parameters) throws(ChoiceError) {
  if p.sweeps == nil && p.hasLinearCodes { throw .noEffect }
}

private func whole(_ text: String) throws(ChoiceError) -> Int {
  guard let number = Int(text) else { throw .noNumber }
  return number
}

private func number(_ text: String) throws(ChoiceError) -> Double {
  guard let number = Double(text) else { throw .noNumber }
  return number
}

/// Four numbers, with commas between them, or with slashes where commas separate options.
package func fourNumbers(_ text: String) throws(ChoiceError) -> [Double] {
  let parts = text.split(
    separator: text.contains("/") ? "/" : ",", omittingEmptySubsequences: false)
  let numbers = parts.compactMap { Double($0) }
  guard parts.count == 4, numbers.count == 4 else { throw .noNumber }
  return numbers
}
