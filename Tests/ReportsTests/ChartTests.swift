// What every chart must be, whatever its data are: charts of random series, read back as SVG.

import Foundation
import Testing

@testable import Reports

@Suite struct ChartTests {
  @Test func `names stay text, whatever combines with their markup`() {
    #expect(escapedXML("a<b & \"c\">") == "a&lt;b &amp; &quot;c&quot;&gt;")
    #expect(escapedXML("<\u{301}script&\u{200D}") == "&lt;\u{301}script&amp;\u{200D}")
    #expect(escapedXML("\u{0}\u{1B}\u{FFFE}") == "\\u{0}\\u{1B}\u{FFFD}")
  }

  @Test(arguments: 0..<40)
  func `every mark, bar and line lies inside a frame`(_ seed: Int) {
    let chart = randomChart(seed)
    let picture = Picture(chart.svg)
    #expect(picture.frames.count == chart.across.count)
    #expect(
      picture.marks.count
        == chart.across.count * chart.series.reduce(0) { $0 + $1.points.count })
    for mark in picture.marks {
      #expect(picture.frames.contains { $0.contains(mark.box) }, "\(mark)")
    }
    for box in picture.lines {
      #expect(picture.frames.contains { $0.contains(box) }, "\(box)")
    }
  }

  @Test(arguments: 0..<40)
  func `a method is a colour, what a mark means is a shape, and none has two`(_ seed: Int) {
    let chart = randomChart(seed)
    let marks = Picture(chart.svg).marks
    // A label is "method, mark, ...": what the point belongs to.
    func words(_ mark: Picture.Mark) -> [String] { mark.title.components(separatedBy: ", ") }
    let methods = Dictionary(grouping: marks) { words($0)[0] }
    for (method, marks) in methods {
      #expect(Set(marks.map(\.colour)).count == 1, "\(method)")
    }
    #expect(Set(marks.map(\.colour)).count == methods.count)
    let shapes = Dictionary(grouping: marks) { words($0)[1] }
    for (meaning, marks) in shapes {
      #expect(marks.allSatisfy { $0.hasShape(of: marks[0]) }, "\(meaning)")
      for (other, others) in shapes where other != meaning {
        #expect(!others[0].hasShape(of: marks[0]), "\(meaning), \(other)")
      }
    }
    // The legend says so: a line of the method's colour stands before its name.
    let rows = chart.svg.split(separator: "\n")
    for (method, marks) in methods {
      let place = rows.firstIndex { $0.hasSuffix(">\(method)</text>") }
      let swatch = place.map { rows[$0 - 1] } ?? ""
      #expect(swatch.contains("stroke=\"\(marks[0].colour)\" stroke-width=\"4.0\""), "\(method)")
    }
  }

  @Test(arguments: 0..<40)
  func `all text lies inside the picture, titles and units among it`(_ seed: Int) {
    let chart = randomChart(seed)
    let picture = Picture(chart.svg)
    for text in picture.texts {
      let width = text.isUpright ? 0 : Plot.width(of: text.text, size: text.size)
      let left = text.x - (text.anchor == "end" ? width : text.anchor == "middle" ? width / 2 : 0)
      #expect(left >= 0 && left + width <= picture.width, "\(text)")
      #expect(text.y >= 0 && text.y <= picture.height, "\(text)")
    }
    let shown = picture.texts.map(\.text).joined(separator: " ")
    for title in [chart.title, chart.subtitle] + chart.up + chart.across + chart.caption {
      #expect(shown.contains(title), "\(title)")
    }
  }

  @Test(arguments: 0..<40)
  func `every colour has a twin for dark paper that can be read as well`(_ seed: Int) throws {
    let svg = randomChart(seed).svg
    let start = try #require(svg.range(of: "<style>")?.upperBound)
    let end = try #require(svg.range(of: "</style>")?.lowerBound)
    let (style, shapes) = (svg[start..<end], svg[end...])
    #expect(style.contains("prefers-color-scheme: dark"))
    for match in shapes.matches(of: #/(fill|stroke)="(#[0-9a-f]{6})"/#) {
      let colour = try #require(Colour(hex: String(match.2)))
      let rule = "[\(match.1)=\"\(match.2)\"] { \(match.1): \(colour.onDark.hex) }"
      #expect(style.contains(rule), "\(rule)")
    }
  }

  @Test func `whatever the pen draws has a twin`() {
    var plot = Plot()
    plot.text("t", at: (1, 1), colour: "#000001")
    plot.line(from: (1, 1), to: (2, 2), colour: "#000002")
    plot.curve([(1, 1), (2, 2)], colour: "#000003")
    plot.bar(from: (1, 1), to: (2, 2), colour: "#000004", title: "")
    plot.mark(0, at: (1, 1), colour: "#000005")
    let svg = plot.svg(width: 9, height: 9)
    for n in 1...5 { #expect(svg.contains("[fill=\"#00000\(n)\"] { fill: "), "\(n)") }
  }

  @Test func `series differ in colour, and stand out on both papers`() throws {
    let colours = (0..<64).map { Colour.series($0) }
    #expect(Set(colours.map(\.hex)).count == colours.count)
    for colour in colours {
      let twin = colour.onDark
      #expect(colour.contrast(with: .white) > 3.5, "\(colour.hex)")
      #expect(twin.contrast(with: .dark) > 3.5, "\(colour.hex) \(twin.hex)")
    }
    #expect(Set(colours.map(\.onDark.hex)).count == colours.count)
    let (ink, grid) = (try #require(Colour(hex: Plot.ink)), try #require(Colour(hex: Plot.grid)))
    #expect(ink.onDark.contrast(with: .dark) > 7 && grid.onDark.contrast(with: .dark) < 1.5)
    #expect(Colour.white.onDark == .dark && Colour(hex: "red") == nil)
    // The extremes of the definition.
    #expect(abs(try #require(Colour(hex: "#000000")).contrast(with: .white) - 21) < 1e-9)
  }

  @Test(arguments: 0..<200)
  func `an axis is logarithmic exactly where values span a factor of 10`(_ seed: Int) {
    var random = Generator(seed: seed)
    let span = pow(10, Double.random(in: 0...9, using: &random))
    let least = pow(10, Double.random(in: -3...3, using: &random))
    var values = [least, least * span]
    if Bool.random(using: &random) { values.append(0) }
    let unit: Axis.Unit = Bool.random(using: &random) ? .bytes : .number
    let axis = Axis("", values, unit: unit, from: 50, to: 400)
    #expect(axis.isLogarithmic == (span >= 10))
    let places = values.sorted().map { axis.place($0) }
    #expect(places == places.sorted() && Set(places).count == Set(values).count)
    #expect(places.allSatisfy { $0 >= 50 + Axis.inset - 1e-9 && $0 <= 400 - Axis.inset + 1e-9 })
    let ticks = axis.ticks.map { axis.place($0.value) }
    #expect((2...10).contains(ticks.count), "\(values) \(axis.ticks)")
    #expect(ticks == ticks.sorted() && Set(ticks).count == ticks.count)
    #expect(Set(axis.ticks.map(\.label)).count == ticks.count, "\(axis.ticks)")
    #expect(!axis.ticks.contains { $0.label.contains("-0") && $0.value == 0 })
  }

  @Test func `labels of an axis are round, in their unit`() {
    let mega = 1_048_576.0
    let held = Axis("", [0.5 * mega, 8 * mega], unit: .bytes, from: 0, to: 100)
    #expect(held.ticks.map(\.label) == ["512 KiB", "1 MiB", "2 MiB", "4 MiB", "8 MiB"])
    let few = Axis("", [3 * mega, 4 * mega], unit: .bytes, from: 0, to: 100)
    #expect(few.ticks.map(\.label) == ["0 B", "1 MiB", "2 MiB", "3 MiB", "4 MiB"])
    let score = Axis("", [], limits: 0...100, from: 0, to: 100)
    #expect(score.ticks.map(\.label) == ["0", "20", "40", "60", "80", "100"])
    let loss = Axis("", [0.05, 5], from: 0, to: 100)
    #expect(loss.ticks.map(\.label) == ["0.05", "0.1", "0.2", "0.5", "1", "2", "5"])
    let near = Axis("", [4, 16], byFactors: true, from: 0, to: 100)
    #expect(near.isLogarithmic && !Axis("", [4, 16], from: 0, to: 100).isLogarithmic)
    #expect(abs(near.place(8) - 50) < 1e-9, "half way by factors")
    let wide = Axis("", [0.004, 5], from: 0, to: 100)
    #expect(wide.ticks.map(\.label) == ["0.01", "0.1", "1"])
    let moved = Axis("", [0, 1024, 65536], unit: .bytes, from: 0, to: 100)
    #expect(moved.ticks.first?.label == "0 B" && moved.isLogarithmic)
    // An axis that runs upwards: the larger value has the smaller y.
    let up = Axis("", [], limits: 0...100, from: 300, to: 100)
    #expect(up.place(0) == 300 - Axis.inset && up.place(100) == 100 + Axis.inset)
  }

  @Test func `a chart without points, or with equal ones, is a chart`() {
    for values in [[], [0.0], [7.0, 7], [.infinity, 1]] {
      let points = values.map {
        ChartSeries.Point(x: [$0], y: 50, error: nil, label: "m, r")
      }
      let svg = Chart(
        title: "t", subtitle: "", across: ["x"], unit: .bytes, up: "y", limits: 0...100,
        series: points.isEmpty ? [] : [ChartSeries(method: "m", mark: "r", points: points)],
        caption: []
      ).svg
      #expect(!svg.contains("nan") && !svg.contains("inf"), "\(values)")
    }
  }

  @Test func `a chart is well-formed, and its text is escaped`() {
    let point = ChartSeries.Point(x: [0, 4096], y: 50, error: 5, label: "<all>")
    let svg = Chart(
      title: "t & u", subtitle: "s", across: ["held", "moved"], unit: .bytes, up: "y",
      limits: 0...100,
      series: [ChartSeries(method: "a < b & \"c\"", mark: "r", points: [point, point])],
      caption: ["c"]
    ).svg
    // Tags close in the order in which they opened, and no text holds a bare < or &.
    var open: [Substring] = []
    var count: [Substring: Int] = [:]
    for tag in svg.matches(of: #/<(\/?)([a-z]+)((?: [A-Za-z0-9-]+="[^"<]*")*)(\/?)>/#) {
      count[tag.2, default: 0] += tag.1.isEmpty ? 1 : 0
      if !tag.1.isEmpty {
        #expect(open.popLast() == tag.2)
      } else if tag.4.isEmpty {
        open.append(tag.2)
      }
    }
    #expect(open.isEmpty && count["svg"] == 1)
    let tags = count.values.reduce(0, +) + svg.ranges(of: "</").count
    #expect(tags == svg.utf8.filter { $0 == UInt8(ascii: "<") }.count)
    #expect(count["title"] == 4)  // two points in each of two panels
    for text in ["a &lt; b &amp; &quot;c&quot;", "t &amp; u", "&lt;all&gt;", "held", "moved"] {
      #expect(svg.contains(text), "\(text)")
    }
  }
}

/// A chart of up to 12 methods and 10 meanings of marks, some values 0, others far apart.
private func randomChart(_ seed: Int) -> Chart {
  var random = Generator(seed: seed)
  let panels = Int.random(in: 1...3, using: &random)
  let methods = Int.random(in: 1...12, using: &random)
  let marks = Int.random(in: 1...10, using: &random)
  let span = Double.random(in: 0.1...8, using: &random)
  var series: [ChartSeries] = []
  for method in 0..<methods {
    for mark in 0..<Int.random(in: 1...marks, using: &random) {
      let points = (0..<Int.random(in: 1...4, using: &random)).map { n in
        ChartSeries.Point(
          x: (0..<panels).map { _ in
            Int.random(in: 0...9, using: &random) == 0
              ? 0 : pow(10, Double.random(in: 0...span, using: &random))
          },
          y: Double.random(in: 0...100, using: &random),
          error: Bool.random(using: &random) ? Double.random(in: 0...30, using: &random) : nil,
          label: "method \(method), r = \(mark), point \(n)")
      }
      series.append(ChartSeries(method: "method \(method)", mark: "r = \(mark)", points: points))
    }
  }
  return Chart(
    title: "What was found", subtitle: "what was measured",
    across: (0..<panels).map { "axis \($0), bytes" }, unit: .bytes, up: "score, of 100",
    limits: 0...100, series: series, caption: ["Bars are one standard error."])
}

/// A small generator of Steele, Lea and Flood, "Fast splittable pseudorandom number generators":
/// the same numbers from a seed everywhere.
private struct Generator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: Int) { state = UInt64(seed) &* 0x9E37_79B9 &+ 1 }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

/// A chart's SVG, as far as the tests look at it.
private struct Picture {
  struct Box: CustomStringConvertible {
    var (left, top, right, bottom) = (0.0, 0.0, 0.0, 0.0)

    init(_ places: [(x: Double, y: Double)]) {
      (left, right) = (places.map(\.x).min() ?? 0, places.map(\.x).max() ?? 0)
      (top, bottom) = (places.map(\.y).min() ?? 0, places.map(\.y).max() ?? 0)
    }

    func contains(_ other: Box) -> Bool {
      other.left >= left && other.right <= right && other.top >= top && other.bottom <= bottom
    }

    var description: String { "\(left)...\(right), \(top)...\(bottom)" }
  }

  struct Mark {
    let title: String
    let colour: String
    /// Corners around the middle of the box; a circle has none.
    let corners: [(x: Double, y: Double)]
    let box: Box

    /// The same corners, but for the rounding of places to one decimal.
    func hasShape(of other: Mark) -> Bool {
      corners.count == other.corners.count
        && zip(corners, other.corners).allSatisfy {
          abs($0.x - $1.x) < 0.3 && abs($0.y - $1.y) < 0.3
        }
    }
  }

  struct Text {
    let text: String
    let x: Double
    let y: Double
    let anchor: String
    let size: Int
    let isUpright: Bool
  }

  var frames: [Box] = []
  var marks: [Mark] = []
  /// Everything that joins points or stands for an error; no line of a grid, no legend.
  var lines: [Box] = []
  var texts: [Text] = []
  var width = 0.0
  var height = 0.0

  init(_ svg: String) {
    for line in svg.split(separator: "\n") {
      let text = String(line)
      func value(_ name: String) -> String {
        guard let start = text.range(of: " \(name)=\"")?.upperBound else { return "" }
        return String(text[start...].prefix { $0 != "\"" })
      }
      func number(_ name: String) -> Double { Double(value(name)) ?? .nan }
      func places(_ list: String) -> [(x: Double, y: Double)] {
        list.split(separator: " ").map { pair in
          let sides = pair.split(separator: ",").map { Double($0) ?? .nan }
          return (sides[0], sides[1])
        }
      }
      if text.hasPrefix("<svg") {
        (width, height) = (number("width"), number("height"))
      } else if text.hasPrefix("<rect"), value("fill") == "none" {
        frames.append(
          Box([
            (number("x"), number("y")),
            (number("x") + number("width"), number("y") + number("height")),
          ]))
      } else if text.hasPrefix("<g><title>") {
        let title = text.dropFirst(10).prefix { $0 != "<" }
        var corners: [(x: Double, y: Double)] = []
        var box = Box([])
        if text.contains("<circle") {
          let (x, y, r) = (number("cx"), number("cy"), number("r"))
          box = Box([(x - r, y - r), (x + r, y + r)])
        } else {
          let all = places(value("points"))
          box = Box(all)
          let middle = (x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2)
          corners = all.map { ($0.x - middle.x, $0.y - middle.y) }
        }
        marks.append(
          Mark(title: String(title), colour: value("fill"), corners: corners, box: box))
      } else if text.hasPrefix("<polyline"), value("stroke-width") == "1.5" {
        lines.append(Box(places(value("points"))))
      } else if text.hasPrefix("<line"), value("stroke") != Plot.grid {
        lines.append(Box([(number("x1"), number("y1")), (number("x2"), number("y2"))]))
      } else if text.hasPrefix("<text") {
        let shown = text.drop { $0 != ">" }.dropFirst().prefix { $0 != "<" }
        texts.append(
          Text(
            text: String(shown), x: number("x"), y: number("y"), anchor: value("text-anchor"),
            size: Int(value("font-size")) ?? 0, isUpright: text.contains("rotate(")))
      }
    }
  }
}
