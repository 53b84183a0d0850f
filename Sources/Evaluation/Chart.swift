// A picture of points: score against bytes, as an SVG file.
//
// In:  series of points (bytes, score, standard error, what a point is), titles.
// Out: SVG text: panels side by side, a logarithmic axis of bytes, a linear axis of scores.
//
// Plain shapes and text, no scripts and no fonts of our own: it opens in any browser, and a text
// editor shows where every point came from (each has a title).

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

    /// A point.
    package init(x: Double, y: Double, error: Double?, label: String) {
      (self.x, self.y, self.error, self.label) = (x, y, error, label)
    }
  }

  /// What the legend says.
  package let name: String
  /// In the order in which a line joins them.
  package let points: [Point]

  /// A series.
  package init(name: String, points: [Point]) {
    self.name = name
    self.points = points
  }
}

/// One pair of axes.
package struct ChartPanel: Sendable {
  /// Below the axis of bytes.
  package let title: String
  /// The points.
  package let series: [ChartSeries]

  /// A panel.
  package init(title: String, series: [ChartSeries]) {
    self.title = title
    self.series = series
  }
}

/// The picture of some panels with one legend.
package func chart(title: String, panels: [ChartPanel]) -> String {
  let (width, height, left, top) = (440.0, 320.0, 64.0, 48.0)
  // Told apart without colour, too: every series has its own mark.
  let colours = ["#0b6e99", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#be123c", "#475569"]
  var shapes: [String] = []

  func text(_ x: Double, _ y: Double, _ text: String, _ anchor: String = "start", size: Int = 12) {
    shapes.append(
      "<text x=\"\(decimals(x, 1))\" y=\"\(decimals(y, 1))\" text-anchor=\"\(anchor)\" "
        + "font-size=\"\(size)\">\(escapedXML(text))</text>")
  }
  func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ colour: String) {
    shapes.append(
      "<line x1=\"\(decimals(x1, 1))\" y1=\"\(decimals(y1, 1))\" x2=\"\(decimals(x2, 1))\" "
        + "y2=\"\(decimals(y2, 1))\" stroke=\"\(colour)\"/>")
  }

  text(left, 24, title, size: 15)
  for (n, panel) in panels.enumerated() {
    let origin = left + Double(n) * (width + left)
    let axis = ByteAxis(panel.series.flatMap { $0.points.map(\.x) }, from: origin, width: width)
    func y(_ score: Double) -> Double { top + height * (1 - score / 100) }
    for score in stride(from: 0.0, through: 100, by: 20) {
      line(origin, y(score), origin + width, y(score), "#dddddd")
      text(origin - 6, y(score) + 4, String(Int(score)), "end")
    }
    for (place, label) in axis.ticks {
      line(place, top, place, top + height, "#eeeeee")
      text(place, top + height + 16, label, "middle")
    }
    line(origin, top, origin, top + height, "#333333")
    line(origin, top + height, origin + width, top + height, "#333333")
    text(origin + width / 2, top + height + 36, panel.title, "middle", size: 13)
    for (s, series) in panel.series.enumerated() {
      let colour = colours[s % colours.count]
      let places = series.points.map { (axis.place($0.x), y($0.y)) }
      if places.count > 1 {
        let path = places.map { "\(decimals($0.0, 1)),\(decimals($0.1, 1))" }
        shapes.append(
          "<polyline points=\"\(path.joined(separator: " "))\" fill=\"none\" stroke=\"\(colour)\"/>"
        )
      }
      for (point, place) in zip(series.points, places) {
        if let error = point.error, error > 0 {
          let (low, high) = (y(max(0, point.y - error)), y(min(100, point.y + error)))
          line(place.0, low, place.0, high, colour)
        }
        shapes.append(
          "<g><title>\(escapedXML(point.label))</title>\(mark(s, place.0, place.1, colour))</g>")
      }
    }
  }
  var row = top + height + 64
  for (s, series) in (panels.first?.series ?? []).enumerated() {
    shapes.append(mark(s, left + 6, row - 4, colours[s % colours.count]))
    text(left + 18, row, series.name)
    row += 18
  }
  let size = (Int(left + Double(panels.count) * (width + left)), Int(row + 8))
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(size.0)\" height=\"\(size.1)\" "
    + "viewBox=\"0 0 \(size.0) \(size.1)\" font-family=\"sans-serif\">\n"
    + "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    + shapes.joined(separator: "\n") + "\n</svg>\n"
}

/// A logarithmic axis over powers of 2; no bytes at all have a place of their own at its left end.
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

/// A circle, square, triangle or diamond.
private func mark(_ series: Int, _ x: Double, _ y: Double, _ colour: String) -> String {
  func polygon(_ corners: [(Double, Double)]) -> String {
    let points = corners.map { "\(decimals(x + $0.0, 1)),\(decimals(y + $0.1, 1))" }
    return "<polygon points=\"\(points.joined(separator: " "))\" fill=\"\(colour)\"/>"
  }
  switch series % 4 {
  case 0:
    return "<circle cx=\"\(decimals(x, 1))\" cy=\"\(decimals(y, 1))\" r=\"4\" fill=\"\(colour)\"/>"
  case 1: return polygon([(-4, -4), (4, -4), (4, 4), (-4, 4)])
  case 2: return polygon([(0, -5), (5, 4), (-5, 4)])
  default: return polygon([(0, -5), (5, 0), (0, 5), (-5, 0)])
  }
}

/// Text inside of XML.
package func escapedXML(_ text: String) -> String {
  text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
    .replacing("\"", with: "&quot;")
}
