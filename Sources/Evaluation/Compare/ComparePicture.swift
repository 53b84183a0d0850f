// The picture of a comparison: mean scores against bytes held and bytes moved.
//
// In:  a comparison's report.
// Out: a chart of two panels; a line joins the budgets of a method, a colour is a method, a shape
//      tells models, lengths and tables apart; the title says which method is best at the smallest
//      budget.

import CacheMethods
import Foundation
import Reports

/// The picture of a comparison.
package func comparePicture(_ report: CompareReport) -> String {
  let means = report.rows.filter { $0.tasks != nil && $0.score != nil }
  var lines: [String: [ComparedRow]] = [:]
  var order: [String] = []
  for row in means {
    let key = "\(mark(row, report)) \(row.method)"
    if lines[key] == nil { order.append(key) }
    lines[key, default: []].append(row)
  }
  let series = order.compactMap { key -> ChartSeries? in
    guard let rows = lines[key], let first = rows.first else { return nil }
    return ChartSeries(
      method: first.method, mark: mark(first, report), points: rows.map(point))
  }
  return Chart(
    title: compareFinding(report.rows),
    subtitle: "\(report.head.tasks.joined(separator: ", ")), \(report.head.samples) samples each",
    across: ["held on the device, bytes", "moved per token, bytes"], unit: .bytes,
    up: "mean score, of 100", limits: 0...100, series: series,
    caption: [
      "A line joins the budgets of one method, "
        + "\(report.head.budgets.joined(separator: ", ")) of full attention's bytes. Upright bars "
        + "are one standard error. topk reads every key for free; random chooses without looking."
    ]
  ).svg
}

/// What a mark's shape stands for: all that differs but the method.
private func mark(_ row: ComparedRow, _ report: CompareReport) -> String {
  let table = row.table == .device ? "equal device bytes" : "equal moved bytes"
  return
    ((report.head.models.count > 1 ? [row.model] : [])
    + (report.head.lengths.count > 1 ? ["\(row.length) tokens"] : []) + [table])
    .joined(separator: ", ")
}

private func point(_ row: ComparedRow) -> ChartSeries.Point {
  let (held, moved) = (row.residentBytes ?? 0, row.movedBytesPerToken ?? 0)
  let score = row.score ?? 0
  return ChartSeries.Point(
    x: [held, moved], y: score, error: row.stderr,
    label:
      "\(row.model), \(row.length) tokens, \(row.method), \(row.budget): \(decimal(score, 1)), "
      + "\(bytes(Int(held.rounded()))) held, \(bytes(Int(moved.rounded()))) moved per token")
}

/// What a comparison found: the best method at the smallest budget of device bytes, on the first
/// model at its last length.
///
/// Oracles, controls and references are there to compare with: they are not named.
func compareFinding(_ rows: [ComparedRow]) -> String {
  guard let last = rows.last(where: { $0.model == rows.first?.model }) else {
    return "Nothing was compared"
  }
  let means = rows.filter {
    $0.tasks != nil && $0.model == last.model && $0.length == last.length && $0.table == .device
      && $0.score != nil
  }
  guard let full = means.first(where: { $0.method == "full" })?.score else {
    return "Full attention has no score"
  }
  let usable = means.filter { row in
    !(ComparedMethod.always + ["top-p"]).contains(row.method) && ByteBudget(row.budget) != nil
  }
  let smallest = usable.min { part($0) < part($1) }.map(part)
  let best = usable.filter { part($0) == smallest }.max { ($0.score ?? 0) < ($1.score ?? 0) }
  guard let best, let score = best.score else {
    return "Full attention finds \(decimal(full, 1)) of 100, and no method fits"
  }
  return "With \(best.budget) of the bytes \(best.method) finds \(decimal(score, 1)) of 100, full "
    + "attention \(decimal(full, 1))"
}

/// A budget as a number.
private func part(_ row: ComparedRow) -> Double { ByteBudget(row.budget)?.part(of: 1) ?? 1 }
