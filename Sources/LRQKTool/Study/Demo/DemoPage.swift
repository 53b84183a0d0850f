// lrqk demo, how it is drawn as text: what was asked, who was right, bytes as bars.
//
// In:  what was run (DemoRun.swift) and what was found in its traces (DemoFinding).
// Out: parts of a page; no line is longer than the page is wide.
//
// Methods have names in plain words and a number; the numbers' footnotes have the options, as
// --cache takes them. The picture of an answer is in DemoStrips.swift.

import CacheMethods
import Evaluation
import Foundation
import Reports
import Tasks
import Transformers

/// What a question's traces say.
struct DemoFinding {
  /// Written tokens that are drawn of an answer; a wrong one can be long.
  static let mostRows = 8

  let text: Int
  let question: Int
  /// The head that copies, found with full attention; nil where none does.
  let place: HeadPlace?
  /// The strips of the methods that are drawn, by the method's place in the run.
  let pictures: [(method: Int, picture: CopyPicture)]
  /// By method, the mean share of exact attention that its heads attended to.
  let masses: [Double?]

  /// The first step that wrote a token of the answer takes the question's last token.
  init(
    _ run: DemoRun, _ traces: [GenerationTrace], text t: Int, question q: Int, ending: Set<Int>,
    columns: Int
  ) {
    let (text, question) = (run.texts[t], run.texts[t].questions[q])
    let first = question.given.count
    let place = traces[0].copyingHead(from: first)
    (self.text, self.question, self.place) = (t, q, place)
    masses = traces.map { $0.meanMass(from: first) }
    // LRQK's strips, and those of what answered wrong: enough to see a difference.
    let drawn = run.methods.indices.dropFirst().filter { m in
      m == 1 || !run.answers[t][q][m].isRight
    }
    pictures = (place.map { [$0] } ?? []).flatMap { place in
      drawn.map { m -> (method: Int, picture: CopyPicture) in
        let picture = CopyPicture(
          traces[m], place, from: first, ending: ending, asked: question.needle,
          needles: text.needles, columns: columns)
        return (method: m, picture: picture)
      }
    }
  }
}

extension Page {
  /// What is asked.
  mutating func asked(_ run: DemoRun, _ folder: String, _ c: ModelConfiguration) {
    let (first, count) = (run.texts[0], run.texts[0].questions.count)
    part("Needles in a long text")
    text(
      "\(folder): a model of \(c.layers) layers with \(c.queryHeads) query and "
        + "\(c.keyValueHeads) key/value heads each. It reads a text of "
        + "\(first.context.count) tokens (\(first.sample.task.rawValue), seed \(first.seed)). "
        + "Hidden in it:")
    blank()
    for needle in first.placedNeedles.prefix(6) {
      add(aligned("\(needle.percent) %", 6) + "  " + styled(fitted(needle.words, 8), "1;33"))
    }
    let more = first.sample.needles.count - 6
    if more > 0 { add("        and \(more) more") }
    blank()
    let texts = run.texts.count == 1 ? "1 such text" : "\(run.texts.count) such texts"
    text(
      "\(texts), \(count == 1 ? "1 question" : "\(count) questions") each; every method answers "
        + "all of them.")
  }

  /// Who was right: a mark for each question, a group for each text.
  mutating func scores(_ run: DemoRun) {
    part("Answers")
    let names = numberedNames(run.methods)
    let side = names.map(\.count).max() ?? 0
    let group =
      zip(run.answers, run.texts).map { max($0.count, "seed \($1.seed)".count) }.max() ?? 1
    // As many texts as fit; the sums count all of them.
    let room = max(1, (width - Page.indent - side - 2 - 8) / (group + 2))
    let shown = run.texts.indices.prefix(room)
    add(
      padded("", side + 2)
        + shown.map { padded("seed \(run.texts[$0].seed)", group) + "  " }.joined() + "right")
    for (m, name) in names.enumerated() {
      let marks = shown.map { t in
        let text = run.answers[t].map { $0[m].isRight ? "✓" : "✗" }.joined()
        let isAllRight = run.answers[t].allSatisfy { $0[m].isRight }
        return styled(text, isAllRight ? "32" : "31")
          + String(repeating: " ", count: max(0, group - text.count) + 2)
      }
      let score = run.score(m)
      add(padded(name, side + 2) + marks.joined() + "\(score.right) of \(score.of)")
    }
    if shown.count < run.texts.count {
      text("Marks of the first \(shown.count) texts; the sums count all \(run.texts.count).")
    }
    for (m, method) in run.methods.enumerated() {
      if let note = run.answers[0][0][m].note { text("\(method.name): \(note).") }
    }
  }

  /// Bytes on the device as bars, beside those on the host and those that moved.
  mutating func memory(_ run: DemoRun) {
    part("Bytes")
    let names = numberedNames(run.methods)
    let side = names.map(\.count).max() ?? 0
    let uses = run.methods.indices.map { run.memory($0) }
    let cells = uses.map {
      [bytes($0.device), bytes($0.host), bytes(Int($0.moved.rounded()))]
    }
    let heads = ["on the device", "on the host", "moved/token"]
    let widths = heads.indices.map { c in max(heads[c].count, cells.map { $0[c].count }.max() ?? 0)
    }
    let bar = max(2, min(24, width - Page.indent - side - 2 - widths.reduce(0) { $0 + $1 + 2 }))
    let most = max(1, uses.map(\.device).max() ?? 1)
    func row(_ cells: [String]) -> String {
      zip(cells, widths).map { "  " + aligned($0, $1) }.joined()
    }
    add(padded("", side + 2 + bar) + styled(row(heads), "36"))
    for (m, name) in names.enumerated() {
      add(
        padded(name, side + 2) + padded(Self.bar(uses[m].device, of: most, width: bar), bar)
          + row(cells[m]))
    }
    blank()
    text(
      "Counted, not estimated: float32 rows and codes of all layers, the largest figures of all "
        + "answers. Moved/token: both directions, the mean over decode steps; the question's tokens "
        + "are decode steps, too.")
  }

  /// The options behind the names, as --cache takes them.
  mutating func footnotes(_ methods: [DemoMethod]) {
    blank()
    for (n, one) in methods.enumerated().dropFirst() {
      var line = "(\(n)) "
      let parts = visible(one.method.brief).split(separator: ",")
      for (p, part) in parts.enumerated() {
        let piece = String(part) + (p == parts.count - 1 ? "" : ",")
        if line.count + piece.count > width - Page.indent && line.count > 4 {
          add(line)
          line = "    "
        }
        line += piece
      }
      add(line)
      if let remark = one.remark { add("    " + remark) }
    }
  }

  /// A command, broken with a backslash where the page ends.
  mutating func command(_ words: [String]) {
    var line = ""
    for word in words {
      // Two columns for the backslash.
      if !line.isEmpty && Page.indent + line.count + 1 + word.count + 2 > width {
        add(line + " \\")
        line = "  " + word
      } else {
        line += (line.isEmpty ? "" : " ") + word
      }
    }
    add(line)
  }

  /// `text` on one line behind `used` columns, cut where the page ends.
  func fitted(_ text: String, _ used: Int) -> String {
    clipped(visible(text), max(1, width - Page.indent - used))
  }

  /// A bar in eighths of a column; anything above 0 shows.
  static func bar(_ value: Int, of most: Int, width: Int) -> String {
    let eighths = value == 0 ? 0 : max(1, (8 * width * value + most / 2) / most)
    let blocks = Array(" ▏▎▍▌▋▊▉")
    let rest = eighths % 8
    return String(repeating: "█", count: eighths / 8) + (rest == 0 ? "" : String(blocks[rest]))
  }
}

/// "LRQK (1)": full attention, the first, has no options.
func numberedNames(_ methods: [DemoMethod]) -> [String] {
  methods.enumerated().map { n, one in n == 0 ? one.name : "\(one.name) (\(n))" }
}

/// At most `width` characters of a text, the last one a mark where some are left out.
func clipped(_ text: String, _ width: Int) -> String {
  text.count <= width ? text : String(text.prefix(max(0, width - 1))) + "…"
}
