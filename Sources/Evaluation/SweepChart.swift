// The picture of a sweep: mean scores against bytes held and bytes moved.
//
// In:  lines of methods, each of them joined in the picture; the report of all of them.
// Out: a chart of two panels whose title says which choice comes near full attention with the
//      fewest bytes.
//
// A method's colour is that of everything about it but r and its budget; the mark is r. Names are
// plain words. The options behind them stand in the caption, and whole under every mark.

package import CacheMethods
import Foundation
import Reports

/// Methods that a sweep joins by a line.
package typealias SweepLine = [any CacheMethod]

/// The picture of a sweep's report.
///
/// `measured` says what was asked.
package func sweepChart(_ lines: [SweepLine], _ report: RulerReport, measured: String) -> String {
  let lines = lines.map { line in line.compactMap { SweepPoint($0, report) } }
    .filter { !$0.isEmpty }
  let points = lines.flatMap(\.self)
  let names = plainNames(points.map(\.method))
  let series = lines.map { line in
    ChartSeries(
      method: names[options(of: line[0].method, without: own)] ?? "",
      mark: line[0].method.value("r").map { "r = \($0)" } ?? "without r",
      points: line.map(\.charted))
  }
  return Chart(
    title: sweepFinding(points), subtitle: measured,
    across: ["held on the device, bytes", "moved per token, bytes"], unit: .bytes,
    up: "mean score, of 100", limits: 0...100, series: series,
    caption: sweepCaption(lines, names)
  ).svg
}

/// One method of a sweep: means over tasks.
struct SweepPoint {
  let method: any CacheMethod
  let score: Double
  /// Standard error of the score.
  let error: Double?
  let held: Double
  /// A token.
  let moved: Double

  /// The rows of a method; nil where none has a score.
  init?(_ method: any CacheMethod, _ report: RulerReport) {
    let rows = report.results.filter { $0.cache == method.brief && $0.score != nil }
    if rows.isEmpty { return nil }
    let n = Double(rows.count)
    self.method = method
    score = rows.reduce(0) { $0 + ($1.score ?? 0) } / n
    held = rows.reduce(0) { $0 + Double($1.residentBytes ?? 0) } / n
    moved = rows.reduce(0) { $0 + ($1.movedBytesPerToken ?? 0) } / n
    // Tasks are independent: errors add in squares.
    let squares = rows.compactMap { $0.stderr.map { $0 * $0 } }
    error = squares.count == rows.count ? squares.reduce(0, +).squareRoot() / n : nil
  }

  /// The same for a title: for tests and for what follows from it.
  init(_ method: any CacheMethod, score: Double, held: Double) {
    (self.method, self.score, self.held, error, moved) = (method, score, held, nil, 0)
  }

  var charted: ChartSeries.Point {
    let (kept, copied) = (bytes(Int(held.rounded())), bytes(Int(moved.rounded())))
    return ChartSeries.Point(
      x: [held, moved], y: score, error: error,
      label: "\(method.brief): \(number(score, 1)), \(kept) held, \(copied) moved per token")
  }
}

/// What a sweep found: the choice with the fewest bytes on the device among those within two points
/// of full attention; where there is none, the best one.
///
/// Oracles and controls are there to compare with, not to be used: they are not named.
func sweepFinding(_ points: [SweepPoint]) -> String {
  guard let full = points.first(where: { $0.method is FullMethod }) else {
    return "Full attention has no score"
  }
  let names = plainNames(points.map(\.method))
  let usable = points.filter { point in
    let (summary, name) = (type(of: point.method).summary, plainName(point.method))
    return !name.hasPrefix("full attention")
      && !["oracle", "control"].contains { summary.hasPrefix($0) }
  }
  func words(_ point: SweepPoint) -> String {
    let name = names[options(of: point.method, without: own)] ?? ""
    let sizes = own.compactMap { size in point.method.value(size).map { "\(size) = \($0)" } }
    let share = decimal(100 * point.held / max(1, full.held), 0)
    return ([name] + sizes).joined(separator: ", ") + " with \(share) % of its bytes"
  }
  let near = usable.filter { $0.score >= full.score - 2 }
  if let least = near.min(by: { $0.held < $1.held }) {
    return "Within two points of full attention: \(words(least))"
  }
  guard let best = usable.max(by: { $0.score < $1.score }) else {
    return "Full attention finds \(decimal(full.score, 1)) of 100"
  }
  let fewer = decimal(full.score - best.score, 1)
  return "No choice comes within two points of full attention; "
    + "\(fewer) points below it: \(words(best))"
}

/// What the picture cannot say: what lines and bars are, and the options behind each name.
private func sweepCaption(_ lines: [[SweepPoint]], _ names: [String: String]) -> [String] {
  var caption: [String] = []
  let joined = lines.filter { $0.count > 1 }
  if !joined.isEmpty {
    let budgets = Set(joined.map { $0.map { $0.method.value("k") ?? "" } })
    let same = budgets.count == 1 ? budgets.first ?? [] : []
    let values = same.contains("") || same.isEmpty ? "" : ", k = \(same.joined(separator: ", "))"
    caption.append(
      "A line joins the budgets of one method\(values). Upright bars are one standard error.")
  }
  var shown: Set<String> = []
  for point in lines.joined() {
    let key = options(of: point.method, without: own)
    guard shown.insert(key).inserted, let name = names[key] else { continue }
    let brief = options(of: point.method, without: own, isBrief: true)
    if !brief.contains(":") { continue }  // no options to explain
    caption.append("\(name.prefix(1).uppercased() + name.dropFirst()): \(brief)")
  }
  return caption
}

// MARK: Names

/// The options that a colour does not stand for.
private let own = ["r", "k", "budget"]

extension CacheMethod {
  /// The value of an option.
  fileprivate func value(_ name: String) -> String? { options.first { $0.name == name }?.value }
}

/// The text of a method without some of its options.
private func options(
  of method: any CacheMethod, without left: [String], isBrief: Bool = false
) -> String {
  let parts = (isBrief ? method.brief : method.description).split(separator: ":", maxSplits: 1)
  let kept = parts.dropFirst().flatMap { $0.split(separator: ",") }.filter { option in
    !left.contains { option.hasPrefix("\($0)=") }
  }
  return kept.isEmpty ? String(parts[0]) : "\(parts[0]):\(kept.joined(separator: ","))"
}

/// A name in plain words for every method, by its text without r and budget; no name twice.
///
/// Where two methods would have one name, the options that tell them apart follow it.
func plainNames(_ methods: [any CacheMethod]) -> [String: String] {
  var groups: [String: [String: any CacheMethod]] = [:]
  for method in methods {
    groups[plainName(method), default: [:]][options(of: method, without: own)] = method
  }
  var names: [String: String] = [:]
  for (name, group) in groups {
    let all = Array(group.values)
    for (text, method) in group {
      let telling = method.options.filter { option in
        !own.contains(option.name) && all.contains { $0.value(option.name) != option.value }
      }
      let words = telling.map { option in
        let label = option.name.replacing("-", with: " ")
        return option.name.count == 1 ? "\(label) = \(option.value)" : "\(label) \(option.value)"
      }
      names[text] = ([name] + words).joined(separator: ", ")
    }
  }
  return names
}

/// What a method is called in a legend: the name before the colon of its summary, and for those
/// whose summary has none, words of our own.
func plainName(_ method: any CacheMethod) -> String {
  let variants = [
    "lrqk": "", "lrqk-no-hit-miss": ", no reuse", "lrqk-prefill-offload": ", prompt offloaded",
  ]
  let others = [
    "full": "full attention", "offload": "full attention, offloaded", "topk": "exact top k",
    "top-p": "exact top p", "random": "random rows", "factored": "full attention over factors",
    "key-bits": "keys in few bits", "compact": "compact",
  ]
  let (name, summary) = (type(of: method).name, type(of: method).summary)
  if let variant = variants[name] {
    let kind = method.value("preset") == "paper" ? "as released" : method.value("preset") ?? ""
    return "LRQK \(kind)\(variant)"
  }
  return others[name] ?? summary.split(separator: ":").first.map(String.init) ?? name
}
