// The picture of lrqk bench growth: time and peak memory against each of the four quantities.
//
// In:  measurements.
// Out: SVG text, 720 points wide: a row of two panels for each quantity, time on the left, memory
//      on the right. All axes are logarithmic, so that growth as nᵖ is a straight line of slope p.
//
// A colour stands for prefill or decode and for a preset; the marks differ likewise.

import LRQK
import Reports

struct GrowthChart {
  private let growth: Growth

  init(_ growth: Growth) { self.growth = growth }

  private static let lines: [(work: GrowthWork, preset: Preset)] = GrowthWork.allCases.flatMap {
    work in Preset.allCases.map { (work, $0) }
  }

  var svg: String {
    let s = growth.start
    var plot = Plot()
    var y = plot.lines("Time and memory by size", at: (16, 26), width: 688, size: 15)
    y = plot.lines(
      "One quantity varies, the others stay at l = \(s.tokens), r = \(s.rank), k = \(s.selected), "
        + "\(s.heads) query heads, four of them for each key/value head; d = \(GrowthSizes.width). "
        + "\(growth.processors) cores. Logarithmic axes.",
      at: (16, y), width: 688, colour: Plot.muted)
    y = legend(at: y + 8, on: &plot) + 4
    for quantity in GrowthQuantity.allCases {
      let isMeasured = growth.points.contains { $0.quantity == quantity }
      if !isMeasured { continue }
      panel(quantity, "time, ms", .number, from: 84, below: y, on: &plot) {
        $0.secondsMedian * 1e3
      }
      panel(quantity, "peak memory", .bytes, from: 448, below: y, on: &plot) {
        Double($0.peakBytes)
      }
      y += 200
    }
    return plot.svg(width: 720, height: Int(y))
  }

  private func legend(at y: Double, on plot: inout Plot) -> Double {
    for (n, line) in Self.lines.enumerated() {
      let x = 24 + 172 * Double(n)
      plot.mark(n, at: (x, y - 4), colour: Colour.series(n).hex)
      plot.text("\(line.work.rawValue), \(line.preset.rawValue)", at: (x + 12, y))
    }
    return y + 16
  }

  /// One panel, 256 by 140 points.
  private func panel(
    _ quantity: GrowthQuantity, _ title: String, _ unit: Axis.Unit, from x: Double,
    below top: Double, on plot: inout Plot, _ figure: (GrowthPoint) -> Double
  ) {
    let points = growth.points.filter { $0.quantity == quantity }
    let frame = Frame(
      x: Axis(
        quantity.label, points.map { Double($0.value) }, byFactors: true, from: x, to: x + 256),
      y: Axis(title, points.map(figure), unit: unit, byFactors: true, from: top + 140, to: top))
    draw(
      frame, labels: Set(points.map(\.value)).sorted(), (x, top), (x + 256, top + 140), on: &plot)
    for (n, line) in Self.lines.enumerated() {
      let measured = growth.line(quantity, line.work, line.preset)
      let places = measured.map { frame.place(Double($0.value), figure($0)) }
      let colour = Colour.series(n).hex
      if places.count > 1 { plot.curve(places, colour: colour, width: 1.5) }
      for (point, place) in zip(measured, places) {
        let seconds = number(point.secondsMedian * 1e3, 2)
        plot.mark(
          n, at: place, colour: colour,
          title: "\(line.work.rawValue), \(line.preset.rawValue), \(quantity.label) "
            + "\(point.value): \(seconds) ms, \(bytes(point.peakBytes))")
      }
    }
  }

  /// The axes with a grid: the measured values across, the axis's own ticks upwards.
  private func draw(
    _ frame: Frame, labels: [Int], _ corner: Plot.Point, _ opposite: Plot.Point,
    on plot: inout Plot
  ) {
    let ((left, top), (right, bottom)) = (corner, opposite)
    for tick in frame.y.ticks {
      let y = frame.y.place(tick.value)
      plot.line(from: (left, y), to: (right, y), colour: Plot.grid)
      plot.text(tick.label, at: (left - 6, y + 4), anchor: "end")
    }
    for value in labels {
      let x = frame.x.place(Double(value))
      plot.line(from: (x, bottom), to: (x, top), colour: Plot.grid)
      plot.text(Self.label(value), at: (x, bottom + 16), anchor: "middle")
    }
    plot.outline(from: (left, top), to: (right, bottom))
    plot.text(frame.x.title, at: ((left + right) / 2, bottom + 34), anchor: "middle")
    plot.text(
      frame.y.title, at: (left - 64, (top + bottom) / 2), anchor: "middle", isUpright: true)
  }

  /// 4K for 4096, 1M for 1048576; other numbers as they are.
  private static func label(_ value: Int) -> String {
    for (unit, size) in [("M", 1 << 20), ("K", 1 << 10)] where value % size == 0 {
      return "\(value / size)\(unit)"
    }
    return "\(value)"
  }
}
