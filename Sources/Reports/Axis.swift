// The axes of a picture: where a value stands, and which values are written beside it.
//
// In:  the values to be shown, their unit, and the two ends of the axis in points.
// Out: a place for every value, ticks with labels, and both axes drawn with titles and a grid.
//
// Values that span a factor of 10 or more stand on a logarithmic axis: bytes with ticks at powers
// of 2, other numbers at powers of 10. Zero has no logarithm, and gets a place of its own before
// the others. The outermost values keep a distance from the ends, so that no mark is cut.

import Foundation

/// One axis of a picture.
package struct Axis {
  /// What the values are.
  package enum Unit: Sendable {
    /// Bytes: 1,048,576 is 1 MiB.
    case bytes
    /// Numbers as they are.
    case number
  }

  /// Between the outermost values and the ends: room for half a mark.
  package static let inset = 12.0

  /// What the values are, with their unit, as readers see it.
  package let title: String
  /// Where the axis begins and ends, in points.
  let ends: (from: Double, to: Double)
  /// Whether equal distances are equal factors.
  package let isLogarithmic: Bool

  private let unit: Unit
  /// The outermost values other than a zero with a place of its own; logarithms on such an axis.
  private let low: Double
  private let high: Double
  private let hasZero: Bool

  /// An axis for `values`; `limits`, where given, are its outermost values, and it is linear.
  ///
  /// With `byFactors` it is logarithmic however little the values, all above 0, span.
  package init(
    _ title: String, _ values: [Double], limits: ClosedRange<Double>? = nil, unit: Unit = .number,
    byFactors: Bool = false, from: Double, to: Double
  ) {
    precondition(
      !byFactors || limits == nil && values.allSatisfy { $0 > 0 }, "a logarithm of 0 or less")
    self.title = title
    self.unit = unit
    ends = (from, to)
    let values = values.filter(\.isFinite)
    let positive = values.filter { $0 > 0 }
    let (least, most) = (positive.min() ?? 1, positive.max() ?? 1)
    isLogarithmic =
      byFactors || limits == nil && most / least >= 10 && !values.contains { $0 < 0 }
    if isLogarithmic {
      (low, high) = (log2(least), most > least ? log2(most) : log2(least) + 1)
      hasZero = positive.count < values.count
    } else {
      let range = limits ?? min(0, values.min() ?? 0)...max(0, values.max() ?? 0)
      let isPoint = range.lowerBound == range.upperBound
      (low, high) = (range.lowerBound, isPoint ? range.lowerBound + 1 : range.upperBound)
      hasZero = false
    }
  }

  /// Where `value` stands; beyond the limits, at the limit.
  package func place(_ value: Double) -> Double {
    let way = ends.to > ends.from ? 1.0 : -1
    if hasZero && value <= 0 { return ends.from + way * Self.inset }
    let first = ends.from + way * Self.inset * (hasZero ? 4 : 1)
    let last = ends.to - way * Self.inset
    let share = ((isLogarithmic ? log2(max(value, 1e-300)) : value) - low) / (high - low)
    return first + (last - first) * min(1, max(0, share))
  }

  /// The values with a label; about five.
  package var ticks: [(value: Double, label: String)] {
    let values = isLogarithmic ? (hasZero ? [0] : []) + logarithmicTicks : linearTicks
    return values.map { ($0, label($0)) }
  }

  private var logarithmicTicks: [Double] {
    switch unit {
    case .bytes:
      let step = max(1, ((high - low) / 6).rounded(.up))
      let first = (low - 1e-9).rounded(.up)
      return stride(from: first, through: high + 1e-9, by: step).map { exp2($0) }
    case .number:
      let (first, last) = (low / log2(10), high / log2(10))
      let step = max(1, ((last - first) / 6).rounded(.up))
      let factors = last - first < 2.5 ? [1.0, 2, 5] : [1]
      let limits = exp2(low) * (1 - 1e-9)...exp2(high) * (1 + 1e-9)
      var ticks: [Double] = []
      for power in stride(from: first.rounded(.down), through: last, by: step) {
        ticks += factors.map { $0 * pow(10, power) }.filter { limits.contains($0) }
      }
      return ticks
    }
  }

  /// Multiples of 1, 2 or 5 times a power of 10; of bytes, multiples of a power of 2.
  private var linearTicks: [Double] {
    let rough = (high - low) / 5
    var step = exp2(log2(rough).rounded(.up))
    if unit == .number {
      let power = pow(10, log10(rough).rounded(.down))
      step = power * ([1, 2, 5].first { $0 * power >= rough * (1 - 1e-9) } ?? 10)
    }
    let first = (low / step - 1e-9).rounded(.up)
    return stride(from: first, through: high / step + 1e-9, by: 1).map { $0 * step + 0 }  // no -0
  }

  private func label(_ value: Double) -> String {
    switch unit {
    case .number: return String(format: "%g", value)
    case .bytes:
      let units = ["B", "KiB", "MiB", "GiB", "TiB"]
      let n = value < 1024 ? 0 : min(units.count - 1, Int(log2(value) / 10))
      return String(format: "%g", value / exp2(Double(10 * n))) + " " + units[n]
    }
  }
}

/// Two axes and what lies between them.
package struct Frame {
  /// From left to right.
  package let x: Axis
  /// From the bottom up.
  package let y: Axis

  /// The frame between two axes.
  package init(x: Axis, y: Axis) { (self.x, self.y) = (x, y) }

  /// Where the values a of x and b of y meet.
  package func place(_ a: Double, _ b: Double) -> Plot.Point { (x.place(a), y.place(b)) }

  /// Draws the axes with ticks, titles and a grid.
  package func draw(on plot: inout Plot) {
    let (left, right, bottom, top) = (x.ends.from, x.ends.to, y.ends.from, y.ends.to)
    for tick in y.ticks {
      let place = y.place(tick.value)
      plot.line(from: (left, place), to: (right, place), colour: Plot.grid)
      plot.text(tick.label, at: (left - 6, place + 4), anchor: "end")
    }
    for tick in x.ticks {
      let place = x.place(tick.value)
      plot.line(from: (place, bottom), to: (place, top), colour: Plot.grid)
      plot.text(tick.label, at: (place, bottom + 16), anchor: "middle")
    }
    plot.outline(from: (left, top), to: (right, bottom))
    plot.text(x.title, at: ((left + right) / 2, bottom + 34), anchor: "middle")
    plot.text(y.title, at: (left - 44, (top + bottom) / 2), anchor: "middle", isUpright: true)
  }
}
