// `lrqk explain`: every number of a small example, beside its formula.
//
// In:  an example, sizes and choices; which stages are wanted.
// Out: a page to read from top to bottom: what came of the example and why, then stages 0 to 8, a
//      prompt first, then one decode step.
//
// This file reads the options. ExplainRun.swift runs the library and keeps what it traced;
// ExplainJudgement.swift forms what is exact, to judge it; ExplainSummary.swift,
// ExplainPrefill.swift, ExplainDecode.swift and ExplainAttention.swift tell the story, in the order
// of ExplainChapters.swift. Arithmetic is in reference order, so the same options print the same
// page on every machine.

import ArgumentParser
import Foundation
import LRQK
import Replay
import Tensors

struct ExplainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "explain",
    abstract: "Print every number of a small example beside its formula.",
    discussion: """
      A prompt of 8 tokens is factorised and offloaded, then one token is decoded: codes, proxy \
      scores, hits and misses, attention, each with its formula and its exact counterpart. A \
      summary comes first: what was chosen, how near attention is to full attention, and why.

      There are three examples. near: the choice by codes misses one of the three best rows. good: \
      it is the exact one. bad: codes of two numbers cannot rank these tokens, and the choice \
      misses those that matter; with --rank 3 it does not.

        lrqk explain --example bad
        lrqk explain --stage 5 --step 1   one stage of one step (0: the prompt)
        lrqk explain --colour always | less -R

      A page is 80 columns wide. Compare two choices:

        lrqk explain > a.txt
        lrqk explain --code-map linear > b.txt
        diff a.txt b.txt

      Numbers are Double, in reference order: one input, one page, on every machine (but for \
      --solver spectral, whose SVD is LAPACK's). One head, all weights lambda 1.
      """)

  @Option(help: "Which example.")
  var example = ExplainExample.near

  @Option(
    help: "Other numbers, made in the same way (default: the example's own seed).",
    transform: seedNumber)
  var seed: UInt64?

  @Option(help: "Print this stage alone, 0 to 8; may be given again.")
  var stage: [Int] = []

  @Option(help: "Print the prompt (0) or the new token (1) alone.")
  var step: Int?

  @Option(
    name: [.long, .customLong("color")],
    help: "Colour. With auto on a terminal, unless NO_COLOR is set.")
  var colour = ColourChoice.auto

  @Option(help: "l, tokens of the prompt, up to 32; more than k + w.")
  var tokens = 8

  @Option(help: "d, the width of the head, up to 8.")
  var width = 4

  @Option(help: "r, the rank of the codes, at most d.")
  var rank = 2

  @Option(help: "k, how many older tokens are selected.")
  var selected = 3

  @Option(help: "w, how many of the newest tokens are always attended to.")
  var recent = 2

  @OptionGroup var choices: ExplainChoices

  func validate() throws {
    func require(_ holds: Bool, _ sentence: @autoclosure () -> String) throws {
      if !holds { throw ValidationError(sentence()) }
    }
    for number in stage {
      try require((0...8).contains(number), "--stage \(number): the stages are numbered 0 to 8")
    }
    if let step {
      try require(
        (0...1).contains(step), "--step \(step): 0 is the prompt and 1 the new token, no others")
    }
    try require(
      (1...32).contains(tokens), "--tokens \(tokens): 1 to 32 tokens can be printed")
    try require((1...8).contains(width), "--width \(width): widths of 1 to 8 can be printed")
    try require((1...8).contains(rank), "--rank \(rank): ranks of 1 to 8 can be printed")
    try require(rank <= width, "--rank \(rank) exceeds the width of the head, \(width)")
    try require(selected >= 1, "--selected \(selected): at least 1")
    try require(recent >= 1, "--recent \(recent): at least 1")
    try require(
      selected < tokens && recent < tokens && tokens > selected + recent,
      "--tokens \(tokens): there is nothing to select unless tokens exceed "
        + "selected \(selected) + recent \(recent)")
    try require(
      rank <= tokens, "--rank \(rank): \(tokens) tokens cannot be factorised at that rank")
    let parameters = try self.parameters
    if let sweeps = parameters.sweeps?.iterations.limit {
      try require((1...8).contains(sweeps), "--sweeps \(sweeps): 1 to 8 sweeps can be printed")
    }
    do { try parameters.check(width: width) } catch { throw ValidationError("\(error)") }
  }

  /// The choices, with the defaults of this command.
  var parameters: Parameters {
    get throws {
      var p = ExplainChoices.defaults(
        try Sizes(rank: rank, selected: selected, recent: recent))
      try choices.read(into: &p)
      return p
    }
  }

  func run() throws {
    let seed = seed ?? example.seed
    let data = ExplainData(example, seed: seed, tokens: tokens, width: width, rank: rank)
    let run = try ExplainRun(data, try parameters)
    var page = Page(colour: colour.isWanted)
    if stage.isEmpty && step == nil {
      try run.tell(example, seed: seed, on: &page)
    } else {
      for chapter in try chosen(of: run.chapters) { try chapter.tell(on: &page) }
    }
    show(page)
  }

  /// The chapters of the stages and the step that were asked for.
  private func chosen(of chapters: [Chapter]) throws -> [Chapter] {
    let inStep = chapters.filter { step == nil || $0.step == step }
    for number in stage where !inStep.contains(where: { $0.stages.contains(number) }) {
      let others = chapters.first { $0.stages.contains(number) }
      throw ValidationError(
        others.map { "--stage \(number): that is a stage of --step \($0.step)" }
          ?? "--stage \(number): with these choices there is no such stage")
    }
    return stage.isEmpty
      ? inStep : inStep.filter { !Set(stage).isDisjoint(with: $0.stages) }
  }
}

/// Whether a page has colour.
enum ColourChoice: String, CaseIterable, ExpressibleByArgument {
  case auto, always, never

  var isWanted: Bool {
    switch self {
    case .auto: isColourWanted
    case .always: true
    case .never: false
    }
  }
}

/// The choices of the table that change the page.
struct ExplainChoices: TableOptions {
  static var choices: [Choice] {
    ["solver", "sweeps", "code-map", "basis-update", "candidates"].compactMap(Choice.named)
  }
  static var base: Parameters? { defaults(.released) }
  var texts: [String: String] = [:]

  /// Two literal sweeps from codes that are printed, and two alternations: all of them run.
  static func defaults(_ sizes: Sizes) -> Parameters {
    var p = Parameters(.paper, sizes)
    p.solver = .rowwise
    p.sweeps?.start = .given
    p.sweeps?.iterations = SweepIterations().untilLimit
    p.alternation?.iterations = AlternationIterations().untilLimit
    p.candidates = .all
    return p
  }
}
