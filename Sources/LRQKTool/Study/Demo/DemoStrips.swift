// lrqk demo, the picture as text: for each written token, where the head that copies looked.
//
// In:  what was found in the traces (DemoFinding), the answers.
// Out: lines such as
//
//        552      ▁▁▁▁▁▃▁●▁▂▁▁▃▁▂▂▂▁▂▁▂▁▁▁▂▂▂▁▂▂▁▂▁▁▁▁▁▁▃▁  552      100 %  hit
//
//      what was written; a column for each stretch of the text, as tall as the share of its tokens
//      that the head attended to; the token that it looked at most, with its share of exact
//      attention, and where its row was.
//
// DemoDrawing.swift draws the same rows as SVG.

import Evaluation
import Foundation
import Reports

extension CopyLook.Fate {
  /// The mark in a strip; without colour, too, one differs from the others.
  var mark: Character {
    switch self {
    case .recent, .hit, .kept: "●"
    case .fetched: "○"
    case .leftOut: "×"
    }
  }

  /// What the page says of the row.
  var words: String {
    switch self {
    case .recent: "in ring"
    case .hit: "hit"
    case .fetched: "fetched"
    case .kept: "kept"
    case .leftOut: "left out"
    }
  }

  /// A terminal's style.
  var style: String {
    switch self {
    case .recent, .hit, .kept: "1;32"
    case .fetched: "1;33"
    case .leftOut: "1;31"
    }
  }
}

extension Page {
  /// Columns that stand beside a strip: what was written, where the head looked, its row.
  private static let beside = (written: 9, landed: 9, share: 7, fate: 10)

  /// Columns of a strip on a page of this width.
  static func stripColumns(width: Int) -> Int {
    max(8, width - indent - beside.written - 2 - beside.landed - beside.share - beside.fate)
  }

  /// The picture, or a sentence where there is none.
  mutating func strips(_ run: DemoRun, _ finding: DemoFinding) {
    part("Where an answer came from")
    let (place, shown) = (run.texts[finding.text], finding.question)
    let (question, answers) = (place.questions[shown], run.answers[finding.text][shown])
    text(
      "Seed \(place.seed), " + (question.key.map { "the question about \($0)" } ?? "the question")
        + ". Right: \(question.references.joined(separator: ", ")).")
    guard let head = finding.place else {
      text(
        "With full attention no head had a written token among the 8 tokens of the text that it "
          + "attended to most: this answer was not copied, and there is no picture of it.")
      return
    }
    text(
      "With full attention, query head \(head.head) of layer \(head.layer) copies: of all heads it "
        + "gave most exact attention to the very tokens that were then written. Here it is under "
        + "other caches; a strip is the text from its start to its end, up to the question.")
    let names = numberedNames(run.methods)
    for (method, picture) in finding.pictures {
      blank()
      marked("", names[method], " answers " + fitted(answers[method].text, names[method].count + 9))
      if picture.rows.isEmpty { text("It wrote nothing that could be drawn.") }
      for row in picture.rows.prefix(DemoFinding.mostRows) { strip(row) }
      let more = picture.rows.count - DemoFinding.mostRows
      if more > 0 { add("and \(more) more \(more == 1 ? "token" : "tokens")") }
      needles(picture)
    }
    legend()
  }

  private mutating func strip(_ row: CopyPicture.Row) {
    let (look, fate) = (row.look, row.look.fate)
    let written = padded(
      clipped(shownPiece(row.written), Self.beside.written - 1), Self.beside.written)
    let share = "\(decimal(100 * look.share, 0)) %"
    if !look.isSure {
      add(written + Self.bars(row.heights[...]) + "  " + styled("spread: \(share) at most", "2"))
      return
    }
    // The mark takes the place of its column; styles change no width.
    let left = Self.bars(row.heights[..<row.column])
    let right = Self.bars(row.heights[(row.column + 1)...])
    add(
      written + left + styled(String(fate.mark), fate.style) + right + "  "
        + padded(clipped(shownPiece(row.landed), Self.beside.landed - 1), Self.beside.landed)
        + aligned(share, Self.beside.share - 2) + "  " + styled(fate.words, fate.style))
  }

  /// The line under the strips that says where the needles are.
  private mutating func needles(_ picture: CopyPicture) {
    let marks = (0..<picture.columns).map { column -> String in
      picture.asked.contains(column) ? "▲" : picture.others.contains(column) ? "△" : " "
    }
    let last = marks.lastIndex { $0 != " " } ?? 0
    add(padded("needles", Self.beside.written) + marks[...last].joined())
  }

  private mutating func legend() {
    blank()
    text(
      "Left what was written, right the token of the text that had most of the head's exact "
        + "attention, its share, and its row: ● on the device, ○ fetched from the host in that "
        + "step, × left out, so that the head could not see it. Spread: no token of the text had "
        + "half of the attention, so there is no mark. The taller a column, the more of its tokens "
        + "the head attended to. ▲ the needle asked for, △ the others.")
  }

  /// The sentence at the end: what LRQK lost, and why as far as the trace says it.
  mutating func verdict(_ run: DemoRun, _ finding: DemoFinding) {
    let names = numberedNames(run.methods)
    for (m, method) in run.methods.enumerated() where method.isJudged {
      let lost = run.losses.filter { $0.method == m }
      let found = run.score(0).right
      blank()
      if lost.isEmpty {
        text("\(names[m]) answers right wherever full attention does: \(found) times.")
        continue
      }
      text(
        "\(names[m]) lost \(lost.count) of the \(found) answers that full attention had right "
          + "(exit status 1). The picture shows the first.")
      text(Self.reason(run, finding, m))
    }
  }

  /// Why an answer was lost: what the copying head could not see, else the attention that was left.
  private static func reason(_ run: DemoRun, _ finding: DemoFinding, _ m: Int) -> String {
    let name = numberedNames(run.methods)[m]
    let rows = finding.pictures.first { $0.method == m }?.picture.rows ?? []
    let mass = finding.masses[m].map { "\(decimal(100 * $0, 1)) %" } ?? "none"
    let covered = "Over all heads, its rows had \(mass) of exact attention while it answered."
    let missed = rows.filter { $0.look.fate == .leftOut }
    if let row = missed.max(by: { $0.look.share < $1.look.share }) {
      return "Why: when '\(shownPiece(row.written))' was written, "
        + "\(decimal(100 * row.look.share, 0)) % of the head's exact attention was on "
        + "'\(shownPiece(row.landed))', and \(name) had left that token out. \(covered)"
    }
    let head =
      rows.isEmpty
      ? "Why: no head copied this answer, so there is none to blame."
      : "Why: the copying head always had the token of the text that it looked at most, so other "
        + "heads missed what they needed."
    return "\(head) \(covered) More rows (k) or longer codes (r) raise that; --trace and lrqk "
      + "view show every head."
  }

  /// A line whose middle stands out.
  private mutating func marked(_ before: String, _ text: String, _ after: String) {
    add(before + styled(text, "1") + after)
  }

  /// A block of one to eight eighths for every share; nothing where no token was attended to.
  static func bars(_ shares: ArraySlice<Double>) -> String {
    let blocks = Array("▁▂▃▄▅▆▇█")
    return String(
      shares.map { share in
        share == 0 ? " " : blocks[min(7, max(0, Int((8 * share).rounded(.up)) - 1))]
      })
  }
}

/// A token's text without the spaces around it; a line break is written as one.
func shownPiece(_ piece: String) -> String {
  visible(piece.replacing("\n", with: "⏎").trimmingCharacters(in: .whitespaces))
}
