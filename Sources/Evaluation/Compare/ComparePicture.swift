// The picture of a comparison: mean scores against bytes held and bytes moved.
//
// In:  a comparison's rows.
// Out: a chart of two panels; a line joins the budgets of a method, a colour is a method, a shape
//      tells models, lengths and tables apart; the title says which method is best at the smallest
//      budget.

import CacheMethods
import Foundation
import Reports

/// The picture of a comparison.
package func comparePicture(_ rows: [ComparedRow]) -> String {
  // A reference stands in both tables, with the same numbers.
  let hasDevice = rows.contains { $0.table == .device }
  let means = rows.filter {
    $0.tasks != nil && $0.score != nil
      && !(hasDevice && $0.table == .moved && $0.budget == "all")
  }
  let models = Set(means.map(\.model)).count
  let lengths = Set(means.map(\.length)).count
  /// What a mark's shape stands for: all that differs but the method.
  func mark(_ row: ComparedRow) -> String {
    ((models > 1 ? [row.model] : []) + (lengths > 1 ? ["\(row.length) tokens"] : [])
      + ["equal \(row.table.rawValue) bytes"]).joined(separator: ", ")
  }
  let lines = means.inOrder { "\(mark($0)) \($0.method)" }
  let tasks = rows.filter { $0.tasks == nil }.each(\.task)
  let samples = rows.filter { $0.tasks == nil }.map(\.samples).max()
  let budgets = rows.filter { $0.budget != "all" }.each(\.budget)
  return Chart(
    title: compareFinding(rows),
    subtitle: samples.map { "\(tasks.joined(separator: ", ")), \($0) samples each" }
      ?? "means over tasks",
    across: ["held on the device, bytes", "moved per token, bytes"], unit: .bytes,
    up: "mean score, of 100", limits: 0...100,
    series: lines.map {
      ChartSeries(method: $0[0].method, mark: mark($0[0]), points: $0.map(point))
    },
    caption: [
      "A line joins the budgets of one method, "
        + "\(budgets.joined(separator: ", ")) of full attention's bytes. Upright bars "
        + "are one standard error. topk reads every key for free; random chooses without looking."
    ]
  ).svg
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
  let place = rows.contains { $0.model != last.model } ? "\(last.model): with" : "With"
  return "\(place) \(best.budget) of the bytes \(best.method) finds \(decimal(score, 1)) of 100, "
    + "full attention \(decimal(full, 1))"
}

/// A budget as a number.
private func part(_ row: ComparedRow) -> Double { ByteBudget(row.budget)?.part(of: 1) ?? 1 }
