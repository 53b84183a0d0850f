// A page of text with matrices on it, for `lrqk explain` and `lrqk demo`.
//
// In:  headings, sentences, formulas, matrices, in reading order.
// Out: lines of at most 80 columns, or of as many as the page was given. Colour is the caller's
//      choice and changes no letter.
//
// Matrices are blocks; blocks stand side by side as long as they fit, then below each other. A
// matrix that is too wide by itself is printed in panels of columns.

import Reports
import Tensors

func padded(_ text: String, _ width: Int) -> String {
  text + String(repeating: " ", count: max(0, width - text.count))
}

func aligned(_ text: String, _ width: Int) -> String {
  String(repeating: " ", count: max(0, width - text.count)) + text
}

/// A titled piece of text of some width.
struct Block {
  var title: String
  var lines: [String]
  var width: Int { max(title.count, lines.map(\.count).max() ?? 0) }
}

/// A matrix with a label before each row: 0, 1, 2 unless given, none for a single row.
func matrix(
  _ title: String, _ m: Tensor<Double>, _ places: Int = 3, labels: [String]? = nil
) -> Block {
  let labels = labels ?? (m.rows == 1 ? [""] : (0..<m.rows).map(String.init))
  let side = labels.map(\.count).max() ?? 0
  let cells = m.elements.map { decimal($0, places) }
  let cell = (cells.map(\.count).max() ?? 0) + 1
  let across = max(1, (Page.width - Page.indent - side - 2) / cell)
  let bar = side == 0 ? "" : " │"
  var lines: [String] = []
  for first in stride(from: 0, to: m.columns, by: across) {
    let columns = first..<min(first + across, m.columns)
    if m.columns > across { lines.append("columns \(first) to \(columns.upperBound - 1)") }
    for i in 0..<m.rows {
      let row = columns.map { aligned(cells[i * m.columns + $0], cell) }.joined()
      lines.append(aligned(labels[i], side) + bar + (side == 0 ? String(row.dropFirst()) : row))
    }
  }
  return Block(title: title, lines: lines)
}

/// Text that grows line by line.
struct Page {
  static let width = 80
  static let indent = 4

  private(set) var lines: [String] = []
  /// Columns of this page.
  let width: Int
  private let colour: Bool

  /// An empty page; with `colour`, headings and formulas are marked for a terminal.
  init(colour: Bool, width: Int = Page.width) { (self.colour, self.width) = (colour, width) }

  /// `text` in a terminal's style where the page has colour; `text` itself cannot steer a terminal.
  func styled(_ text: String, _ code: String) -> String {
    let text = visible(text)
    return colour && !text.isEmpty ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text
  }

  /// A part of the story.
  mutating func part(_ title: String) {
    blank()
    lines.append(styled(title.uppercased(), "1"))
    lines.append(styled(String(repeating: "=", count: width), "2"))
  }

  /// The heading of a chapter, and the files that hold its stage.
  mutating func heading(_ title: String, _ files: String) {
    blank()
    lines.append(
      styled(title, "1") + gap(between: title, and: files, 0) + styled(files, "2"))
    lines.append(styled(String(repeating: "-", count: width), "2"))
  }

  /// A chapter in a list of chapters.
  mutating func entry(_ title: String, _ files: String) {
    add(title + gap(between: title, and: files, Self.indent) + styled(files, "2"))
  }

  /// A few words above what they announce.
  mutating func subtitle(_ words: String) {
    blank()
    add(styled(words, "1"))
  }

  private func gap(between left: String, and right: String, _ indent: Int) -> String {
    let room = width - indent - left.count - right.count
    precondition(room >= 2, "too long for a line: \(left) \(right)")
    return String(repeating: " ", count: room)
  }

  /// Sentences, filled to the width of the page.
  mutating func text(_ sentences: String) {
    for line in filled(visible(sentences), width: max(1, width - Self.indent)) { add(line) }
  }

  /// A label, and what belongs to it in a column of its own.
  mutating func item(_ label: String, _ words: String) {
    let column = 17
    let room = max(1, width - Self.indent - column)
    for (n, line) in filled(visible(words), width: room).enumerated() {
      add(padded(n == 0 ? label : "", column) + line)
    }
  }

  /// A line as it is.
  mutating func add(_ line: String) {
    lines.append(line.isEmpty ? "" : String(repeating: " ", count: Self.indent) + line)
  }

  /// Formulas side by side as long as they fit, then below each other.
  mutating func formula(_ formulas: String...) {
    let indent = Self.indent + 2
    let between = String(repeating: " ", count: 6)
    var line = ""
    for formula in formulas {
      let longer = line.isEmpty ? formula : line + between + formula
      if !line.isEmpty && indent + longer.count > width {
        lines.append(String(repeating: " ", count: indent) + styled(line, "36"))
        line = formula
      } else {
        line = longer
      }
    }
    lines.append(String(repeating: " ", count: indent) + styled(line, "36"))
  }

  /// An empty line, unless there is one already.
  mutating func blank() {
    if let last = lines.last, !last.isEmpty { lines.append("") }
  }

  /// Blocks side by side as long as they fit.
  mutating func blocks(_ blocks: [Block], gap: Int = 4) {
    blank()
    var rest = blocks[...]
    while !rest.isEmpty {
      var row = [rest.removeFirst()]
      var used = Self.indent + row[0].width
      while let next = rest.first, used + gap + next.width <= width {
        used += gap + next.width
        row.append(rest.removeFirst())
      }
      let height = row.map(\.lines.count).max() ?? 0
      var titles = String(repeating: " ", count: Self.indent)
      for (i, block) in row.enumerated() {
        let isLast = i == row.count - 1
        titles += styled(block.title, "36")
        if !isLast {
          titles += String(repeating: " ", count: block.width - block.title.count + gap)
        }
      }
      lines.append(titles)
      for n in 0..<height {
        let line = row.map { padded(n < $0.lines.count ? $0.lines[n] : "", $0.width + gap) }
        add(trimmed(line.joined()))
      }
      blank()
    }
  }

  /// A table: columns as wide as their longest cell; text left, the rest right.
  mutating func table(_ head: [String], _ rows: [[String]], left: Set<Int> = []) {
    let table = TextTable(
      [head] + rows, alignments: head.indices.map { left.contains($0) ? .left : .right },
      indent: "", gap: "   ")
    let text = table.text().split(separator: "\n", omittingEmptySubsequences: false)
    blank()
    lines.append(String(repeating: " ", count: Self.indent) + styled(String(text[0]), "36"))
    for row in text.dropFirst() { add(String(row)) }
    blank()
  }

  private func trimmed(_ line: String) -> String {
    var line = line[...]
    while line.last == " " { line.removeLast() }
    return String(line)
  }
}
