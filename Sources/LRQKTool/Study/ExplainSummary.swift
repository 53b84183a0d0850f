// The first page of `lrqk explain`: what the example is, what came of it, and why.
//
// In:  a run with its trace.
// Out: sizes and choices; the sets that codes chose, beside those of exact scores; hits and misses;
//      how near attention is to full attention; why the choice is as good as it is; the chapters.
//
// Exact scores are formed only to judge. A choice by codes is right for certain where every proxy
// score is off by less than half of the gap that the choice has to see:
//
//   max_t |s_t − q · K[t]| < (exact score of place k − exact score of place k + 1) / 2

import LRQK
import Reports
import Tensors

extension ExplainRun {
  func tellSummary(_ example: ExplainExample, seed: UInt64, on page: inout Page) throws {
    page.part("LRQK by hand: a prompt of \(l) tokens, then one more")
    tellExample(example, seed: seed, on: &page)
    tellOutcome(on: &page)
    try tellReason(on: &page)
    tellContents(on: &page)
  }

  /// What the example is made of, sizes and choices.
  private func tellExample(_ example: ExplainExample, seed: UInt64, on page: inout Page) {
    let p = parameters
    page.text("Example \(example.rawValue), seed \(seed). \(example.making)")
    page.text(
      "Sizes: l = \(l) tokens, d = \(d) width, r = \(p.rank) rank, k = \(k) selected, "
        + "w = \(w) recent.")
    let sweeps = p.sweeps.map { ", \($0.iterations.limit) sweeps" } ?? ""
    let codes =
      switch p.alternation?.basisUpdate {
      case nil: "linear codes"
      case .frozen: "alternating codes, frozen bases"
      case let update?: "alternating codes, basis update \(update.word)"
      }
    page.text(
      "Choices: solver \(p.solver.rawValue)\(sweeps); \(codes); candidates "
        + "\(p.candidates.rawValue).")
    page.text(
      "One head. Queries and keys are those after the rotary embedding. All weights lambda are 1. "
        + "Numbers are Double and printed rounded.")
  }

  /// What was chosen, what moved, and how far attention is off.
  private func tellOutcome(on page: inout Page) {
    page.subtitle("What came of it")
    let (old, new) = (firstSet, step.selected[0])
    func common(_ chosen: [Int], _ best: [Int]) -> String {
      "\(chosen.filter(best.contains).count) of \(best.count)"
    }
    page.table(
      ["rows chosen", "by the prompt's last query", "by token \(l)"],
      [
        ["LRQK, by codes", short(old), short(new)],
        ["by exact scores", short(firstBest), short(best)],
        ["in common", common(old, firstBest), common(new, best)],
        ["hits", "", short(hits)],
        ["misses, copied", "", short(misses)],
      ], left: [0, 1, 2])
    let ring = Array(after.recentTokens)
    page.table(
      ["attention over", "tokens", "error"],
      [
        ("all", Array(0...l)), ("LRQK's choice and the ring", new + ring),
        ("the exact choice and the ring", best + ring), ("the ring alone", ring),
      ].map { name, support in
        [name, name == "all" ? "0 to \(l)" : short(support), percent(attentionError(support))]
      }, left: [0, 1])
    page.text(
      "On the device: \(k + w) exact rows and \(l + 1) codes of \(parameters.rank) numbers; "
        + "\(deviceBytes) bytes in all buffers. (At this size the codes' buffer, with room for 256 "
        + "more tokens, is larger than the rows.)")
  }

  /// Why the codes chose well or badly.
  private func tellReason(on page: inout Page) throws {
    page.subtitle("Why")
    let r = parameters.rank
    let last = factors[factors.count - 1]
    page.text(
      "The singular values of QKᵀ are "
        + (try singularValues).map { decimal($0, 2) }.joined(separator: ", ")
        + ". Codes of r = \(r) number\(r == 1 ? "" : "s") hold at best the \(r) largest and leave "
        + "\(percent(try optimum)) of ‖QKᵀ‖; those of the prompt leave "
        + "\(percent(judge(last).relative)).")
    let (scores, exact) = (decode("scores").elements, exactScores)
    let (proxyPlaces, exactPlaces) = (places(scores), places(exact))
    let shown = Set(best + step.selected[0]).sorted { exactPlaces[$0] < exactPlaces[$1] }
    page.table(
      ["token", "q · K[t]", "place", "s_t", "place", "key lost", "weight", "chosen"],
      shown.map { t in
        [
          "\(t)", decimal(exact[t], 3), "\(exactPlaces[t])", decimal(scores[t], 3),
          "\(proxyPlaces[t])", percent(keyLost(t)), decimal(fullWeights[t], 4),
          step.selected[0].contains(t) ? "yes" : "",
        ]
      }, left: [7])
    page.text(
      "Lost is what a code does not hold of its row, with the bases of the prompt: of a key "
        + "‖K[t] − A_K[t] B_K‖ / ‖K[t]‖, of the new query ‖q − q_hat B_Q‖ / ‖q‖ = "
        + "\(percent(queryLost)). Weight is the token's in full attention.")
    tellMargin(scores, exact, on: &page)
    if let worst = best.filter({ !step.selected[0].contains($0) })
      .max(by: { fullWeights[$0] < fullWeights[$1] })
    {
      page.text(
        "The heaviest token that is missed is \(worst): place \(exactPlaces[worst]) by its exact "
          + "score, \(decimal(exact[worst], 3)), and place \(proxyPlaces[worst]) by its codes', "
          + "\(decimal(scores[worst], 3)).")
    }
  }

  /// The gap that the choice had to see, beside the largest error of a proxy score.
  private func tellMargin(_ scores: [Double], _ exact: [Double], on page: inout Page) {
    let order = places(exact)
    let edge = (k...k + 1).map { place in exact.indices.first { order[$0] == place } ?? 0 }
    let gap = exact[edge[0]] - exact[edge[1]]
    let errors = scores.indices.map { abs(scores[$0] - exact[$0]) }
    let worst = errors.indices.max { errors[$0] < errors[$1] } ?? 0
    let isSame = step.selected[0] == best
    let verdict =
      errors[worst] < gap / 2
      ? "less than half of that, so the choice has to be the exact one."
      : "not less than half of that, so the choice may differ from the exact one, and it "
        + (isSame ? "does not." : "does.")
    page.text(
      "The exact scores of places \(k) and \(k + 1) are \(decimal(gap, 3)) apart. The proxy scores "
        + "are off by up to \(decimal(errors[worst], 3)) (token \(worst)): " + verdict)
  }

  private func tellContents(on page: inout Page) {
    page.subtitle("Chapters")
    page.text(
      "The stages are numbered 0 to 8, as in the files' heads and in the guides; the files on the "
        + "right hold the stage. One stage: lrqk explain --stage 3. The prompt is --step 0, the new "
        + "token --step 1.")
    for (step, title) in Self.stepTitles.enumerated() {
      page.blank()
      page.add("--step \(step)  \(title)")
      for chapter in chapters where chapter.step == step {
        page.entry(chapter.heading, chapter.files)
      }
    }
  }
}
