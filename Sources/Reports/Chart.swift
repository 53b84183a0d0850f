// A chart: measured points in panels below each other, joined by lines, as an SVG file.
//
// In:  series of points, each with the method that it belongs to and what its mark stands for; the
//      axes; a title that says what was found.
// Out: SVG text, 720 points wide.
//
//   title, subtitle      what was found, and what was measured
//   panels               one below the other; their vertical axes have the same ends
//   legend               a colour for every method, a shape for what the marks stand for
//   caption              what does not belong into a legend: options, what the bars are
//
// No two methods have one colour, and no two meanings one shape. Plot.swift draws, Axis.swift says
// where.

/// Points that a line joins.
package struct ChartSeries: Sendable {
  /// One measured choice.
  package struct Point: Sendable {
    /// Where it stands in each panel, from left to right.
    package let x: [Double]
    /// Where it stands on each panel's vertical axis.
    package let y: [Double]
    /// Standard error of y.
    package let error: Double?
    /// What it is, in full: browsers show it under the pointer.
    package let label: String

    /// A measured choice that stands equally high in all panels.
    package init(x: [Double], y: Double, error: Double?, label: String) {
      (self.x, self.error, self.label) = (x, error, label)
      self.y = Array(repeating: y, count: x.count)
    }

    /// A measured choice of several heights, one for each panel.
    package init(x: [Double], y: [Double], label: String) {
      (self.x, self.y, self.label, error) = (x, y, label, nil)
    }
  }

  /// The method, in plain words: the colour's meaning.
  package let method: String
  /// What else sets this series apart ("r = 8"): the shape's meaning.
  package let mark: String
  /// In the order in which the line joins them.
  package let points: [Point]

  /// A series of points.
  package init(method: String, mark: String, points: [Point]) {
    (self.method, self.mark, self.points) = (method, mark, points)
  }
}

/// A chart of some series.
package struct Chart: Sendable {
  /// What was found.
  package let title: String
  /// What was measured.
  package let subtitle: String
  /// The titles of the panels' horizontal axes, with units.
  package let across: [String]
  /// What the horizontal axes show.
  package let unit: Axis.Unit
  /// The titles of the panels' vertical axes, with units.
  package let up: [String]
  /// The ends of the vertical axes.
  package let limits: ClosedRange<Double>
  /// All points, by series.
  package let series: [ChartSeries]
  /// Below the legend, a paragraph each.
  package let caption: [String]

  /// A chart whose series have a place in each of the panels `across`, which share what is `up`.
  package init(
    title: String, subtitle: String, across: [String], unit: Axis.Unit, up: String,
    limits: ClosedRange<Double>, series: [ChartSeries], caption: [String]
  ) {
    self.init(
      title: title, subtitle: subtitle, across: across, unit: unit,
      up: Array(repeating: up, count: across.count), limits: limits, series: series,
      caption: caption)
  }

  /// A chart of panels with `across` and `up` of their own.
  package init(
    title: String, subtitle: String, across: [String], unit: Axis.Unit, up: [String],
    limits: ClosedRange<Double>, series: [ChartSeries], caption: [String]
  ) {
    let panels = across.count
    precondition(
      up.count == panels
        && series.allSatisfy {
          $0.points.allSatisfy { $0.x.count == panels && $0.y.count == panels }
        },
      "a point has a place in each of \(panels) panels")
    (self.title, self.subtitle, self.across, self.unit) = (title, subtitle, across, unit)
    (self.up, self.limits, self.series, self.caption) = (up, limits, series, caption)
  }

  private static let (width, left, right, height) = (720.0, 68.0, 704.0, 220.0)

  /// The methods, in the order of their first series: number n has colour n.
  private var methods: [String] { Self.inOrder(series.map(\.method)) }
  /// The meanings of shapes, likewise.
  private var marks: [String] { Self.inOrder(series.map(\.mark)) }

  private static func inOrder(_ words: [String]) -> [String] {
    words.enumerated().filter { words.firstIndex(of: $0.element) == $0.offset }.map(\.element)
  }

  private func colour(_ series: ChartSeries) -> String {
    Colour.series(methods.firstIndex(of: series.method) ?? 0).hex
  }

  /// The whole file.
  package var svg: String {
    var plot = Plot()
    let (start, text) = (16.0, Self.width - 32)
    var y = plot.lines(title, at: (start, 26), width: text, size: 15)
    y = plot.lines(subtitle, at: (start, y), width: text, colour: Plot.muted)
    for n in across.indices { y = panel(n, below: y, on: &plot) }
    y = legend(at: (start, y), on: &plot)
    for paragraph in caption {
      y = plot.lines(paragraph, at: (start, y), width: text, size: 11, colour: Plot.muted)
    }
    return plot.svg(width: Int(Self.width), height: Int(y))
  }

  /// Draws panel number `n`; returns the place below it.
  private func panel(_ n: Int, below top: Double, on plot: inout Plot) -> Double {
    let bottom = top + Self.height
    let frame = Frame(
      x: Axis(
        across[n], series.flatMap { $0.points.map { $0.x[n] } }, unit: unit, from: Self.left,
        to: Self.right),
      y: Axis(up[n], [], limits: limits, from: bottom, to: top))
    frame.draw(on: &plot)
    // All lines first: no line crosses a mark.
    for line in series {
      let places = line.points.map { frame.place($0.x[n], $0.y[n]) }
      if places.count > 1 { plot.curve(places, colour: colour(line), width: 1.5) }
      for (point, place) in zip(line.points, places) {
        guard let error = point.error, error > 0 else { continue }
        plot.line(
          from: (place.x, frame.y.place(point.y[n] - error)),
          to: (place.x, frame.y.place(point.y[n] + error)), colour: colour(line))
      }
    }
    for line in series {
      let shape = marks.firstIndex(of: line.mark) ?? 0
      for point in line.points {
        plot.mark(
          shape, at: frame.place(point.x[n], point.y[n]), colour: colour(line), title: point.label)
      }
    }
    return bottom + 60
  }

  /// Draws both legends; returns the place below them.
  private func legend(at start: Plot.Point, on plot: inout Plot) -> Double {
    var (x, y) = start
    func next(_ word: String) -> Plot.Point {
      let room = 40 + Plot.width(of: word, size: 12)
      if x > start.x && x + room > Self.width { (x, y) = (start.x, y + 20) }
      defer { x += room }
      return (x, y)
    }
    for (n, method) in methods.enumerated() {
      let place = next(method)
      plot.curve(
        [(place.x, place.y - 4), (place.x + 16, place.y - 4)], colour: Colour.series(n).hex,
        width: 4)
      plot.text(method, at: (place.x + 22, place.y))
    }
    if marks.count > 1 {
      (x, y) = (start.x, y + 20)
      for (n, mark) in marks.enumerated() {
        let place = next(mark)
        plot.mark(n, at: (place.x + 8, place.y - 4), colour: Plot.ink)
        plot.text(mark, at: (place.x + 22, place.y))
      }
    }
    return y + 24
  }
}
