// lrqk demo, the picture as SVG: the rows of DemoStrips.swift, and bytes as bars.
//
// In:  what was run, what was found in the traces.
// Out: SVG text, 720 points wide. Every shape has a title with its number.
//
//   a column's height       20 points · the share of its tokens that the head attended to
//   the mark                circle: row on the device; diamond: fetched; square: left out
//   ticks under a strip     needles, the one asked for longer

import CacheMethods
import Evaluation
import Foundation
import Reports

/// The picture of a demo.
struct DemoDrawing {
  /// Columns of a strip.
  static let columns = 70

  private let width = 720.0
  private let left = 96.0
  private let strip = 420.0
  private let dark = "#334155"
  private let pale = "#cbd5e1"
  private let needle = "#a16207"
  private var plot = Plot()
  private var y = 24.0

  init() {}

  /// The whole file.
  static func svg(_ run: DemoRun, _ finding: DemoFinding) -> String {
    var drawing = DemoDrawing()
    drawing.head(run, finding)
    let names = numberedNames(run.methods)
    for (method, picture) in finding.pictures {
      let answer = run.answers[finding.text][finding.question][method]
      drawing.answer(names[method], answer, picture)
    }
    if !finding.pictures.isEmpty { drawing.legend() }
    drawing.memory(run, names)
    return drawing.plot.svg(width: Int(drawing.width), height: Int(drawing.y.rounded(.up)) + 12)
  }

  private mutating func head(_ run: DemoRun, _ finding: DemoFinding) {
    let question = run.texts[finding.text].questions[finding.question]
    let asked = question.key.map { "Asked about \($0)." } ?? "The question."
    plot.heading(Self.title(run), x: 16)
    y += 22
    line("\(asked) Right: \(question.references.joined(separator: ", ")).")
    let place = finding.place.map { "Query head \($0.head) of layer \($0.layer), which copies" }
    line(
      place.map { "\($0): where it looked in the text, token by token of the answer" }
        ?? "No head copied this answer.")
  }

  /// What was found: right answers and bytes of the first two methods that are not full attention.
  private static func title(_ run: DemoRun) -> String {
    let parts = run.methods.indices.dropFirst().prefix(2).map { m in
      let score = run.score(m)
      return "\(run.methods[m].name): \(score.right) of \(score.of) right in "
        + bytes(run.memory(m).device)
    }
    return parts.joined(separator: "; ")
  }

  private mutating func line(_ text: String) {
    plot.text(text, at: (16, y))
    y += 18
  }

  private mutating func answer(_ name: String, _ answer: DemoAnswer, _ picture: CopyPicture) {
    y += 10
    plot.text("\(name) answers \(clipped(answer.text, 60))", at: (16, y), size: 13)
    y += 18
    plot.text("wrote", at: (left - 8, y), anchor: "end", size: 11)
    plot.text("the text, from start to end", at: (left, y), size: 11)
    plot.text("looked at", at: (left + strip + 12, y), size: 11)
    y += 2
    let step = strip / Double(picture.columns)
    for row in picture.rows.prefix(DemoFinding.mostRows) {
      let bottom = y + 22
      plot.text(clipped(shownPiece(row.written), 10), at: (left - 8, bottom), anchor: "end")
      for (column, height) in row.heights.enumerated() where height > 0 {
        plot.bar(
          from: (left + Double(column) * step, bottom - 20 * height),
          to: (left + Double(column + 1) * step, bottom), colour: pale,
          title: "\(decimal(100 * height, 1)) % attended to")
      }
      plot.line(from: (left, bottom), to: (left + strip, bottom), colour: pale)
      let (look, fate) = (row.look, row.look.fate)
      let share = "\(decimal(100 * look.share, 0)) %"
      if look.isSure {
        plot.mark(
          fate.series, at: (left + (Double(row.column) + 0.5) * step, bottom - 10),
          colour: fate.colour, title: "\(shownPiece(row.landed)), \(share), \(fate.words)")
      }
      let words =
        look.isSure
        ? "\(clipped(shownPiece(row.landed), 8)), \(share), \(fate.words)"
        : "spread: \(share) at most"
      plot.text(words, at: (left + strip + 12, bottom))
      y = bottom + 2
    }
    for column in 0..<picture.columns {
      let isAsked = picture.asked.contains(column)
      if !isAsked && !picture.others.contains(column) { continue }
      let x = left + (Double(column) + 0.5) * step
      plot.line(from: (x, y), to: (x, y + (isAsked ? 12 : 6)), colour: isAsked ? needle : dark)
      if column == picture.asked.max() { plot.text("needle", at: (x + 4, y + 13), size: 11) }
    }
    y += 22
  }

  private mutating func legend() {
    y += 12
    plot.text(
      "Grey: how many of a stretch's tokens the head attended to. A mark: the token that had most "
        + "of its exact attention.", at: (16, y), size: 11)
    y += 18
    var x = 22.0
    for fate in [CopyLook.Fate.hit, .fetched, .leftOut] {
      plot.mark(fate.series, at: (x, y - 4), colour: fate.colour)
      let words =
        switch fate {
        case .fetched: "fetched from the host in this step"
        case .leftOut: "left out"
        case .hit, .kept, .recent: "its row was on the device"
        }
      plot.text(words, at: (x + 10, y), size: 11)
      x += 30 + 6.2 * Double(words.count)
    }
    y += 24
  }

  private mutating func memory(_ run: DemoRun, _ names: [String]) {
    plot.text("Bytes on the device, and right answers", at: (16, y), size: 13)
    y += 8
    let uses = run.methods.indices.map { run.memory($0).device }
    let (start, room) = (190.0, 330.0)
    for (m, name) in names.enumerated() {
      let score = run.score(m)
      let end = start + room * Double(uses[m]) / Double(max(1, uses.max() ?? 1))
      plot.text(name, at: (16, y + 12))
      plot.bar(from: (start, y + 2), to: (end, y + 14), colour: dark, title: "\(uses[m]) B")
      plot.text(
        "\(bytes(uses[m])), \(score.right) of \(score.of) right", at: (end + 8, y + 12))
      y += 18
    }
    for (n, one) in run.methods.enumerated().dropFirst() {
      y += 14
      plot.text("(\(n)) \(one.method.brief)", at: (16, y), size: 11)
    }
  }
}

extension CopyLook.Fate {
  /// The mark's shape in a picture: circle, diamond, square.
  fileprivate var series: Int {
    switch self {
    case .recent, .hit, .kept: 0
    case .fetched: 3
    case .leftOut: 1
    }
  }

  fileprivate var colour: String {
    switch self {
    case .recent, .hit, .kept: "#15803d"
    case .fetched: "#c2410c"
    case .leftOut: "#be123c"
    }
  }
}
