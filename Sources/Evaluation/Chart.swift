// A picture of points: score against bytes, as an SVG file.
//
// In:  series of points (bytes, score, standard error, what a point is), titles.
// Out: SVG text: panels side by side, a logarithmic axis of bytes, a linear axis of scores.
//
// Every point has a title that says what was measured. Plot.swift draws.

import Foundation
import Reports

/// A set of points with one name and one colour.
package struct ChartSeries: Sendable {
  /// One measured choice.
  package struct Point: Sendable {
    /// Bytes, at least 0.
    package let x: Double
    /// A score from 0 to 100.
    package let y: Double
    /// Standard error of the score.
    package let error: Double?
    /// What it is.
    package let label: String

    /// A measured choice.
    package init(x: Double, y: Double, error: Double?, label: String) {
      (self.x, self.y, self.error, self.label) = (x, y, error, label)
    }
  }

  /// What the legend says.
  package let name: String
  /// In the order in which a line joins them.
  package let points: [Point]

  /// Points of one name.
  package init(name: String, points: [Point]) {
    self.name = name
    self.points = points
  }
}

/// One pair of axes.
package struct ChartPanel: Sendable {
  /// Below the axis of bytes.
  package let title: String
  /// The points, series by series.
  package let series: [ChartSeries]

  /// A panel of these series.
  package init(title: String, series: [ChartSeries]) {
    self.title = title
    self.series = series
  }
}

/// The picture of some panels with one legend.
package func chart(title: String, panels: [ChartPanel]) -> String {
  let (width, height, left, top) = (440.0, 320.0, 64.0, 48.0)
  let colours = ["#0b6e99", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#be123c", "#475569"]
  var plot = Plot()
  plot.text(title, at: (left, 24), size: 15)
  for (n, panel) in panels.enumerated() {
    let origin = left + Double(n) * (width + left)
    let axis = ByteAxis(panel.series.flatMap { $0.points.map(\.x) }, from: origin, width: width)
    func y(_ score: Double) -> Double { top + height * (1 - score / 100) }
    for score in stride(from: 0.0, through: 100, by: 20) {
      plot.line(from: (origin, y(score)), to: (origin + width, y(score)), colour: "#dddddd")
      plot.text(String(Int(score)), at: (origin - 6, y(score) + 4), anchor: "end")
    }
    for (place, label) in axis.ticks {
      plot.line(from: (place, top), to: (place, top + height), colour: "#eeeeee")
      plot.text(label, at: (place, top + height + 16), anchor: "middle")
    }
    let corner = (x: origin, y: top + height)
    plot.line(from: (origin, top), to: corner, colour: "#333333")
    plot.line(from: corner, to: (origin + width, corner.y), colour: "#333333")
    plot.text(panel.title, at: (origin + width / 2, corner.y + 36), anchor: "middle", size: 13)
    for (s, series) in panel.series.enumerated() {
      let colour = colours[s % colours.count]
      let places = series.points.map { (x: axis.place($0.x), y: y($0.y)) }
      if places.count > 1 { plot.curve(places, colour: colour) }
      for (point, place) in zip(series.points, places) {
        if let error = point.error, error > 0 {
          let (low, high) = (y(max(0, point.y - error)), y(min(100, point.y + error)))
          plot.line(from: (place.x, low), to: (place.x, high), colour: colour)
        }
        plot.mark(s, at: place, colour: colour, title: point.label)
      }
    }
  }
  var row = top + height + 64
  for (s, series) in (panels.first?.series ?? []).enumerated() {
    plot.mark(s, at: (left + 6, row - 4), colour: colours[s % colours.count])
    plot.text(series.name, at: (left + 18, row))
    row += 18
  }
  return plot.svg(
    width: Int(left + Double(panels.count) * (width + left)), height: Int(row + 8))
}

/// A logarithmic axis over powers of 2; 0 bytes stand at a place of their own at its left end.
private struct ByteAxis {
  private let low: Double
  private let high: Double
  private let hasZero: Bool
  private let start: Double
  private let width: Double

  init(_ values: [Double], from start: Double, width: Double) {
    let positive = values.filter { $0 > 0 }
    hasZero = positive.count < values.count
    low = floor(log2(max(1, positive.min() ?? 1)))
    high = max(low + 1, ceil(log2(max(1, positive.max() ?? 2))))
    let gap = hasZero ? 48.0 : 0
    self.start = start + gap
    self.width = width - gap
  }

  func place(_ bytes: Double) -> Double {
    bytes <= 0 ? start - 32 : start + width * (log2(max(1, bytes)) - low) / (high - low)
  }

  /// Places and labels: about six powers of 2.
  var ticks: [(Double, String)] {
    let step = max(1, ((high - low) / 6).rounded(.up))
    let powers = stride(from: low, through: high, by: step).map { power in
      (place(exp2(power)), Self.label(Int(power)))
    }
    return (hasZero ? [(place(0), "0")] : []) + powers
  }

  private static func label(_ power: Int) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"]
    let unit = min(power / 10, units.count - 1)
    return "\(1 << (power - 10 * unit)) \(units[unit])"
  }
}
