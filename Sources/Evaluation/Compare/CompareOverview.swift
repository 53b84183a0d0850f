// Finished comparisons in short: a line a method, the best on top.
//
// In:  files table.csv of lrqk compare, of one model or of several.
// Out: for every model and length a table of equal device bytes and one of equal moved bytes: mean
//      scores at every budget, KiB held, KiB moved a token; and the picture of all of it.
//
// Methods stand in the order of the sum of their scores over budgets; one that is the same at every
// budget counts as often as there are budgets, and no score counts as 0.

import CacheMethods
import Reports

/// The means of finished comparisons.
package struct CompareOverview {
  /// All rows of the files, in their order.
  private(set) var rows: [ComparedRow] = []

  /// The rows of some files; one that is the same in two files is there once.
  ///
  /// - Throws: `EvaluationError`, one line with the file and its row, where a file is not a
  ///   table.csv, or where two rows of one name are of different runs.
  package init(_ files: [(path: String, bytes: [UInt8])]) throws {
    var known: [String: (place: String, row: ComparedRow)] = [:]
    for (path, bytes) in files {
      for (place, row) in try comparedRows(path, bytes) {
        let cell = "\(row.model), \(row.length) tokens, equal \(row.table.rawValue) bytes"
        let key = "\(cell), \(row.budget), \(row.method), \(row.task)"
        if let other = known[key], other.row != row {
          throw EvaluationError("\(place): \(key): \(other.place) has other numbers for it")
        }
        if known.updateValue((place, row), forKey: key) == nil { rows.append(row) }
      }
    }
  }

  /// Leaves the rows of `methods` and of full attention.
  ///
  /// A name stands for all methods that begin with it as a word: "lrqk" for "lrqk paper" and "lrqk
  /// recommended".
  ///
  /// - Throws: `EvaluationError` where no row has such a name.
  package mutating func choose(_ methods: [String]) throws {
    func has(_ name: String, _ row: ComparedRow) -> Bool {
      row.method == name || row.method.hasPrefix(name + " ")
    }
    for name in methods where !rows.contains(where: { has(name, $0) }) {
      let all = rows.each(\.method)
      throw EvaluationError(
        "no row is of '\(visible(name))'; there are \(all.joined(separator: ", "))")
    }
    rows.removeAll { row in row.method != "full" && !methods.contains { has($0, row) } }
  }

  /// The picture of the rows.
  package var picture: String { comparePicture(rows) }

  /// The tables, without a line break at the end.
  package var markdown: String {
    rows.filter { $0.tasks != nil }.inOrder { "\($0.model) \($0.length)" }.flatMap { means in
      ["## \(means[0].model), \(means[0].length) tokens"]
        + ComparedTable.allCases.compactMap { Self.table(means, $0) }
    }.joined(separator: "\n\n")
  }

  /// One table of a model at a length; nil where it has no rows.
  private static func table(_ means: [ComparedRow], _ table: ComparedTable) -> String? {
    let isMoved = table == .moved
    let all = means.filter { $0.table == table }
    let hasBudgets = all.contains { $0.budget != "all" }
    let rows = all.filter { !(isMoved && hasBudgets && $0.budget == "all") }
    if rows.isEmpty { return nil }
    var budgets = largestFirst(rows.each(\.budget))
    if budgets != ["all"] { budgets.removeAll { $0 == "all" } }
    let lines = rows.inOrder(by: \.method).map { Line($0, budgets) }
    // A sort that keeps the order of equals.
    let sorted = lines.enumerated().sorted {
      ($0.element.sum, $1.offset) > ($1.element.sum, $0.offset)
    }.map(\.element)
    let header =
      ["equal \(table.rawValue) bytes"] + budgets + ["held, KiB"]
      + (isMoved ? [] : ["moved a token, KiB"])
    return TextTable(
      [header]
        + sorted.map { line in
          ["`\(line.method)`"] + line.scores + [line.held] + (isMoved ? [] : [line.moved])
        }
    ).markdown
  }

  /// A method under all budgets.
  private struct Line {
    let method: String
    /// Sum of the scores, by which methods are sorted.
    let sum: Double
    /// A cell a budget; one that is the same at every budget stands in the first alone.
    let scores: [String]
    /// KiB on the device at an answer's end, and KiB that a step moved, in the order of budgets.
    let (held, moved): (String, String)

    init(_ rows: [ComparedRow], _ budgets: [String]) {
      method = rows[0].method
      // The same at every budget, and at none else.
      let reference = rows.allSatisfy { $0.budget == "all" } ? rows.first : nil
      let cells = reference.map { [$0] } ?? budgets.map { b in rows.first { $0.budget == b } }
      sum =
        cells.reduce(0) { $0 + ($1?.score ?? 0) }
        * (reference == nil ? 1 : Double(budgets.count))
      scores = budgets.indices.map { n in
        if n >= cells.count { return "" }
        guard let row = cells[n], let score = row.score else { return "-" }
        return decimal(score, 0) + (row.stderr.map { " ± \(decimals($0, 0))" } ?? "")
      }
      let scored = cells.map { $0?.score == nil ? nil : $0 }
      func kibibytes(_ bytes: (ComparedRow) -> Double?) -> String {
        scored.allSatisfy { $0 == nil }
          ? "-"
          : scored.map { decimals($0.flatMap(bytes).map { $0 / 1024 }, 0) }
            .joined(separator: ", ")
      }
      held = kibibytes(\.residentBytes)
      moved = kibibytes(\.movedBytesPerToken)
    }
  }
}
