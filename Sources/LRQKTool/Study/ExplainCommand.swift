// `lrqk explain`: every number of a small example, beside its formula.
//
// In:  sizes and choices.
// Out: a page to read from top to bottom: the factorisation of a prompt, then one decode step.
//
// This file reads the options. ExplainRun.swift runs the library and keeps what it traced,
// ExplainPrefill.swift and ExplainDecode.swift tell the story. Arithmetic is in reference order, so
// the same options print the same page on every machine.

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
      scores, hits and misses, attention, each with its formula and its exact counterpart. Turn \
      one knob and compare:

        lrqk explain > a.txt
        lrqk explain --code-map linear > b.txt
        diff a.txt b.txt

      Numbers are Double, in reference order: one input, one page, on every machine (but for \
      --solver spectral, whose SVD is LAPACK's). One head, all weights lambda 1. Colour is used \
      on a terminal, unless NO_COLOR is set.
      """)

  // With this seed the proxy scores miss one of the three best tokens: something to look at.
  @Option(help: "Which example: another seed, other numbers.", transform: seedNumber)
  var seed: UInt64 = 973

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
    let data = ExplainData(seed: seed, tokens: tokens, width: width, rank: rank)
    let example = try ExplainRun(data, try parameters)
    var page = Page(colour: isColourWanted)
    example.tellTitle(on: &page, seed: seed)
    try example.tellPrefill(on: &page)
    try example.tellDecode(on: &page)
    show(page)
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
