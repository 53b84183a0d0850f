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
  let budgets = largestFirst(rows.each(\.budget).filter { $0 != "all" })
  var caption = ["Upright bars are one standard error."]
  if !budgets.isEmpty {
    caption.insert(
      "A line joins the budgets of one method, \(budgets.joined(separator: ", ")) of full "
        + "attention's bytes.", at: 0)
  }
  for (method, meaning) in [
    ("topk", "topk reads every key for free."), ("random", "random chooses without looking."),
  ] where means.contains(where: { $0.method == method }) { caption.append(meaning) }
  return Chart(
    title: compareFinding(rows),
    subtitle: tasks.isEmpty
      ? "means over tasks" : "\(tasks.joined(separator: ", ")), \(sampleCount(rows)) samples each",
    across: ["held on the device, bytes", "moved per token, bytes"], unit: .bytes,
    up: "mean score, of 100", limits: 0...100,
    series: lines.map { line in
      ChartSeries(
        method: line[0].method, mark: mark(line[0]),
        points: line.sorted { part($0) > part($1) }.map(point))
    },
    caption: [caption.joined(separator: " ")]
  ).svg
}

/// "60", or "5 to 60": the samples of a method on a task.
private func sampleCount(_ rows: [ComparedRow]) -> String {
  let counts = rows.filter { $0.tasks == nil && $0.score != nil }.map(\.samples)
  guard let least = counts.min(), let most = counts.max() else { return "0" }
  return least == most ? "\(least)" : "\(least) to \(most)"
}

/// Budgets by size; "all" comes first.
func largestFirst(_ budgets: [String]) -> [String] {
  budgets.sorted { part($0) > part($1) }
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

/// What a comparison found: the best method at the smallest budget of device bytes, or of moved
/// bytes where that is all, on the first model at its last length.
///
/// Oracles, controls and references are there to compare with: they are not named.
func compareFinding(_ rows: [ComparedRow]) -> String {
  guard let last = rows.last(where: { $0.model == rows.first?.model }) else {
    return "Nothing was compared"
  }
  let place =
    (rows.contains { $0.model != last.model } ? "\(last.model), " : "")
    + (rows.contains { $0.length != last.length } ? "\(last.length) tokens, " : "")
  let table: ComparedTable = rows.contains { $0.table == .device } ? .device : .moved
  let means = rows.filter {
    $0.tasks != nil && $0.model == last.model && $0.length == last.length && $0.table == table
  }
  let full = means.first { $0.method == "full" }?.score.map { decimal($0, 1) }
  let methods = means.filter { row in
    !(ComparedMethod.always + ["top-p"]).contains(row.method) && row.budget != "all"
  }
  let scored = methods.filter { $0.score != nil }
  let smallest = scored.map(part).min()
  let best = scored.filter { part($0) == smallest }.max { ($0.score ?? 0) < ($1.score ?? 0) }
  guard let best, let score = best.score else {
    let found = full.map { "full attention finds \($0) of 100" } ?? "full attention has no score"
    return opened(place, found + (methods.isEmpty ? "" : ", and no method fits"))
  }
  let moved = table == .moved ? " moved" : ""
  return opened(
    place,
    "with \(best.budget) of the bytes\(moved) \(best.method) finds \(decimal(score, 1)) of 100"
      + (full.map { ", full attention \($0)" } ?? ""))
}

/// A sentence that begins with a place, or with a capital letter where there is none.
private func opened(_ place: String, _ text: String) -> String {
  place.isEmpty ? text.prefix(1).uppercased() + text.dropFirst() : place + text
}

/// A budget as a number; "all" is no part, and larger than any.
private func part(_ budget: String) -> Double { ByteBudget(budget)?.part(of: 1) ?? 2 }

private func part(_ row: ComparedRow) -> Double { part(row.budget) }
