// A frontier as tables and as a picture.
//
// In:  what every code finds in every layer (CodeFrontier.swift).
// Out: Markdown for people, CSV and JSON for scripts; a picture whose title is the finding.
//
// The picture has means over the layers: recall above, attention mass below, both against bytes of
// a token. A colour is a map, a shape its rank, and a line joins the bits.

import Reports

/// The forms of a frontier.
package enum FrontierFormat: String, Sendable, CaseIterable {
  /// Markdown tables, for people.
  case md
  /// Comma-separated values with a head line.
  case csv
  /// One JSON object.
  case json
}

extension CodeFrontier {
  /// The report as text, without a line break at its end.
  package func text(_ format: FrontierFormat) throws -> String {
    switch format {
    case .md: markdown
    case .csv: csv
    case .json: try jsonText(self)
    }
  }

  private var markdown: String {
    var lines = [
      "\(finding).", "",
      "k = \(selected), w = \(recent); prompt \(promptTokens) tokens, \(steps) decode steps; "
        + "\(queryHeads) query heads, \(keyValueHeads) key/value heads of width \(width). Four "
        + "figures are the quarters of the answer; bytes are those of a token and key/value head.",
    ]
    lines += notes.flatMap { ["", "Note: \(visible($0))."] }
    lines += ["", "Recall: of the k best rows, how many were chosen", "", table(\.recallByQuarter)]
    lines += ["", "Mass: the attention that the attended rows have", "", table(\.massByQuarter)]
    return lines.joined(separator: "\n")
  }

  /// A line for every code, a column for every recording.
  private func table(_ figures: (FrontierRow) -> [Double]) -> String {
    let names = files.map { $0.split(separator: "/").last.map(String.init) ?? $0 }
    var cells = [["codes", "bytes"] + names]
    for start in stride(from: 0, to: rows.count, by: files.count) {
      let same = rows[start..<start + files.count]
      cells.append(
        [rows[start].code, shortest(rows[start].tokenBytes)]
          + same.map { row in figures(row).map { number($0, 2) }.joined(separator: " ") })
    }
    return TextTable(cells, alignments: [.left]).markdown
  }

  private var csv: String {
    let columns =
      ["code", "family", "rank", "bits", "cache", "file", "token_bytes", "recall", "mass"]
      + ["recall", "mass"].flatMap { name in (1...4).map { "\(name)_quarter_\($0)" } }
    let lines = rows.map { row in
      let figures =
        [row.tokenBytes, row.recall, row.mass] + row.recallByQuarter + row.massByQuarter
      return [row.code, row.family, "\(row.rank)", "\(row.bits)", row.cache, row.file]
        + figures.map { "\($0)" }
    }
    return csvText([columns] + lines)
  }

  // MARK: The picture

  /// A code's means over the recordings.
  struct Mean {
    let row: FrontierRow
    let recall: Double
    let mass: Double
  }

  /// A mean for every code, in order.
  var means: [Mean] {
    stride(from: 0, to: rows.count, by: files.count).map { start in
      let same = rows[start..<start + files.count]
      func mean(_ figure: (FrontierRow) -> Double) -> Double {
        same.reduce(0) { $0 + figure($1) } / Double(files.count)
      }
      return Mean(row: rows[start], recall: mean(\.recall), mass: mean(\.mass))
    }
  }

  /// What was found: the best code whose bytes are at most 2/7 of the released codes', beside them.
  ///
  /// A quarter of the bits, with the scale of a token.
  var finding: String {
    let means = means
    guard let released = means.first(where: { $0.row.family == CodeFamily.released.rawValue })
    else { return "Nothing was compared" }
    let small = means.filter { 3.5 * $0.row.tokenBytes <= released.row.tokenBytes }
    let best = small.max { $0.recall < $1.recall }
    let theirs =
      "Of the best rows the released codes find \(number(released.recall, 2)) "
      + "(\(shortest(released.row.tokenBytes)) bytes a token)"
    guard let best else { return "\(theirs), and no other code is so much smaller" }
    return "\(theirs), and \(best.row.code), \(number(best.recall, 2)) "
      + "(\(shortest(best.row.tokenBytes)) bytes)"
  }

  /// The picture of the means; its subtitle begins with `name`.
  package func picture(name: String?) -> String {
    var lines: [String: [Mean]] = [:]
    var order: [String] = []
    for mean in means {
      let key = "\(mean.row.family) \(mean.row.rank)"
      if lines[key] == nil { order.append(key) }
      lines[key, default: []].append(mean)
    }
    let series = order.compactMap { key -> ChartSeries? in
      guard let line = lines[key], let first = line.first else { return nil }
      return ChartSeries(
        method: first.row.family, mark: mark(first.row.rank),
        points: line.map { mean in
          ChartSeries.Point(
            x: Array(repeating: mean.row.tokenBytes, count: 2), y: [mean.recall, mean.mass],
            label: "\(mean.row.code): \(shortest(mean.row.tokenBytes)) bytes a token, recall "
              + "\(number(mean.recall, 3)), mass \(number(mean.mass, 3))")
        })
    }
    return Chart(
      title: finding,
      subtitle:
        "\(name.map { "\($0): " } ?? "")\(files.count) layer\(files.count == 1 ? "" : "s"), "
        + "d = \(width), G = \(queryHeads / keyValueHeads); k = \(selected), w = \(recent), "
        + "\(promptTokens) tokens of prompt, \(steps) steps",
      across: Array(
        repeating: "codes on the device, bytes of a token and key/value head", count: 2),
      unit: .bytes, up: ["recall of the best rows", "attention mass"], limits: 0...1,
      series: series,
      caption: [
        "A line joins the bits of one map and rank, from 1 to 32. Means over the layers and over all "
          + "steps."
      ]
    ).svg
  }

  private func mark(_ rank: Int) -> String {
    switch rank {
    case width: "rank d"
    case width / 2: "rank d/2"
    default: "rank d/4"
    }
  }
}

/// A number of bytes without zeros at its end.
private func shortest(_ bytes: Double) -> String {
  bytes == bytes.rounded() ? "\(Int(bytes))" : number(bytes, 1)
}
