// The chapters of `lrqk explain`.
//
// In:  a run with its trace.
// Out: the list of chapters, each with the stages that it tells; the page with all of them, or with
//      some.
//
// A stage of the method can have several chapters: rows are chosen at the end of the prompt and
// again for the new token. The other way about, one chapter tells stages 5 and 6.

import LRQK

/// What a heading says, and what stands below it.
struct Chapter {
  /// 0 for the prompt, 1 for the new token, as in the ledger.
  let step: Int
  /// The stages that it tells; none for what comes in.
  let stages: [Int]
  /// The whole of the heading: "Stage 2, sweep 1  Each factor in closed form".
  let heading: String
  /// The files that hold these stages.
  let files: String
  private let body: (inout Page) throws -> Void

  /// `part` says which part of a stage it is, where it has several.
  init(
    step: Int, stages: [Int], part: String = "", _ title: String, in files: String,
    _ body: @escaping (inout Page) throws -> Void
  ) {
    self.step = step
    self.stages = stages
    self.files = files
    self.body = body
    let numbers = stages.map(String.init).joined(separator: ", ")
    let number = stages.isEmpty ? "Input" : "Stage\(stages.count > 1 ? "s" : "") \(numbers)"
    heading = number + (part.isEmpty ? "" : ", \(part)") + "  " + title
  }

  /// The chapter at the end of a page.
  func tell(on page: inout Page) throws {
    page.heading(heading, files)
    try body(&page)
  }
}

extension ExplainRun {
  /// What the two steps are.
  static let stepTitles = [
    "Prefill: find short codes for queries and keys", "Decode: one new token",
  ]

  /// All chapters, in reading order.
  var chapters: [Chapter] { promptChapters + tokenChapters }

  /// The whole page: what it comes to, then every chapter.
  func tell(_ example: ExplainExample, seed: UInt64, on page: inout Page) throws {
    try tellSummary(example, seed: seed, on: &page)
    for (step, title) in Self.stepTitles.enumerated() {
      page.part(title)
      for chapter in chapters where chapter.step == step { try chapter.tell(on: &page) }
    }
  }

  private var promptChapters: [Chapter] {
    [
      Chapter(step: 0, stages: [], "The prompt", in: "LRQKCache+Prompt.swift", tellPrompt),
      Chapter(
        step: 0, stages: [0], "The objective: every query times every key", in: "Objective.swift",
        tellProduct),
    ] + factorChapters + [
      Chapter(
        step: 0, stages: [2], part: "end", "Codes and bases of the prompt",
        in: "PromptFactorizer+Finish.swift", tellFactors),
      Chapter(
        step: 0, stages: [5, 6], "The first selected set", in: "ProxyScores.swift, Selection.swift",
        tellFirstSet),
      Chapter(
        step: 0, stages: [7], "What stays on the device",
        in: "ResidentRows.swift, RecentRing.swift", tellOffload),
    ]
  }

  private var factorChapters: [Chapter] {
    if parameters.solver == .spectral {
      return [
        Chapter(
          step: 0, stages: [1, 2], "The closed form: no start, no sweeps", in: "ClosedForm.swift",
          tellSpectral)
      ]
    }
    let side = parameters.solver == .gram ? "GramSide.swift" : "RowwiseSide.swift"
    let start = Chapter(
      step: 0, stages: [1], "A start for the sweeps", in: "InitialCodes.swift", tellStart)
    return [start]
      + (1..<factors.count).map { sweep in
        Chapter(
          step: 0, stages: [2], part: "sweep \(sweep)", "Each factor in closed form",
          in: "Sweep.swift, \(side)"
        ) { tellSweep(sweep, on: &$0) }
      }
  }

  private var tokenChapters: [Chapter] {
    [
      Chapter(
        step: 1, stages: [], "Token \(l) arrives", in: "ResidentRows.swift, RecentRing.swift",
        tellToken)
    ] + codeChapters + [
      Chapter(
        step: 1, stages: [5, 6], "Proxy scores choose rows",
        in: "ProxyScores.swift, Selection.swift", tellScores),
      Chapter(
        step: 1, stages: [7], "Hit and miss", in: "ResidentRows.swift, SlotPool.swift", tellMisses),
      Chapter(
        step: 1, stages: [8], "Exact attention over selected and recent rows",
        in: "RowAttention.swift", tellAttention),
    ]
  }

  private var codeChapters: [Chapter] {
    if parameters.hasLinearCodes {
      return [
        Chapter(
          step: 1, stages: [3], "Codes by the maps of the prompt", in: "GroupState.swift",
          tellLinearCodes)
      ]
    }
    return [
      Chapter(
        step: 1, stages: [3], "Omega: exact rows that are at hand", in: "LRQKCache+Codes.swift",
        tellOmega),
      Chapter(
        step: 1, stages: [3], "Codes for the new token: two systems in turn",
        in: "DecodeSolver.swift", tellAlternations),
      Chapter(
        step: 1, stages: [4], "The bases follow the new token", in: "BasisUpdate.swift", tellBases),
    ]
  }
}
