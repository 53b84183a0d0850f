// The picture of a sweep: mean scores against bytes held and bytes moved.
//
// In:  lines, each a name and the methods that it joins; the report of all of them.
// Out: a chart of two panels.

package import CacheMethods
import Reports

/// Methods that a sweep joins by a line.
package typealias SweepLine = (name: String, methods: [any CacheMethod])

/// The picture of a sweep's report.
package func sweepChart(title: String, _ lines: [SweepLine], _ report: RulerReport) -> String {
  chart(
    title: title,
    panels: [
      ChartPanel(
        title: "bytes held on the device",
        series: lines.map { series($0, report) { $0.residentBytes.map(Double.init) } }),
      ChartPanel(
        title: "bytes moved per token",
        series: lines.map { series($0, report) { $0.movedBytesPerToken } }),
    ])
}

/// The mean over tasks of score and bytes, for every method of a line.
private func series(
  _ line: SweepLine, _ report: RulerReport, _ bytes: (RulerRow) -> Double?
) -> ChartSeries {
  let points = line.methods.compactMap { method -> ChartSeries.Point? in
    let rows = report.results.filter { $0.cache == method.brief && $0.score != nil }
    if rows.isEmpty { return nil }
    let n = Double(rows.count)
    let x = rows.reduce(0) { $0 + (bytes($1) ?? 0) } / n
    let y = rows.reduce(0) { $0 + ($1.score ?? 0) } / n
    // Tasks are independent: errors add in squares.
    let squares = rows.compactMap { $0.stderr.map { $0 * $0 } }
    let error = squares.count == rows.count ? squares.reduce(0, +).squareRoot() / n : nil
    let label = "\(method.brief): \(number(y, 1)) at \(Reports.bytes(Int(x.rounded())))"
    return ChartSeries.Point(x: x, y: y, error: error, label: label)
  }
  return ChartSeries(name: line.name, points: points)
}
