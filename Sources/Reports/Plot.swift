// A picture as an SVG file: the pen that every plot draws with.
//
// In:  texts, lines, curves and marks at places of the picture, in its points.
// Out: SVG text.
//
// Plain shapes and text, no scripts and no fonts of our own: it opens in any browser, and a text
// editor shows where every shape came from. Places have one decimal. Colours are written for white
// paper; in a dark browser a style sheet replaces each of them by its twin (Palette.swift).

import Foundation

/// A picture that grows shape by shape.
package struct Plot {
  /// A place: x from the left, y from the top.
  package typealias Point = (x: Double, y: Double)

  /// Text and lines that are to be read.
  package static let ink = "#1f2937"
  /// Text that explains.
  package static let muted = "#5b6472"
  /// Lines behind everything.
  package static let grid = "#e2e5e9"

  private var shapes: [String] = []
  /// The colours in use, in the order of their first use.
  private var colours = [ink, "#ffffff"]

  /// An empty picture.
  package init() {}

  /// A line of text at a place; `anchor` says which end of the text stands there.
  ///
  /// Upright text is read from the bottom up.
  package mutating func text(
    _ text: String, at place: Point, anchor: String = "start", size: Int = 12,
    colour: String = ink, isUpright: Bool = false
  ) {
    use(colour)
    let fill = colour == Self.ink ? "" : " fill=\"\(colour)\""
    let turn =
      isUpright
      ? " transform=\"rotate(-90 \(decimals(place.x, 1)) \(decimals(place.y, 1)))\"" : ""
    shapes.append(
      "<text \(Self.attributes(place)) text-anchor=\"\(anchor)\" font-size=\"\(size)\""
        + "\(fill)\(turn)>\(escapedXML(text))</text>")
  }

  /// Lines of text at most `width` points wide, below each other; returns the place below them.
  package mutating func lines(
    _ text: String, at place: Point, width: Double, size: Int = 12, colour: String = ink
  ) -> Double {
    var y = place.y
    for line in Self.wrapped(text, width: width, size: size) {
      self.text(line, at: (place.x, y), size: size, colour: colour)
      y += (1.4 * Double(size)).rounded()
    }
    return y
  }

  /// About how wide a text is: in wide sans-serif fonts letters take .62 of their size.
  package static func width(of text: String, size: Int) -> Double {
    0.62 * Double(size) * Double(text.count)
  }

  /// A text in lines that fit, broken at blanks.
  static func wrapped(_ text: String, width: Double, size: Int) -> [String] {
    var lines: [String] = []
    for word in text.split(separator: " ") {
      let longer = lines.last.map { $0 + " " + word }
      if let longer, Self.width(of: longer, size: size) <= width {
        lines[lines.count - 1] = longer
      } else {
        lines.append(String(word))
      }
    }
    return lines
  }

  /// What the whole picture shows, above it.
  package mutating func heading(_ text: String, x: Double) {
    shapes.append("<text x=\"\(x)\" y=\"24\" font-size=\"15\">\(escapedXML(text))</text>")
  }

  /// A straight line.
  package mutating func line(from: Point, to: Point, colour: String) {
    use(colour)
    shapes.append(
      "<line x1=\"\(decimals(from.x, 1))\" y1=\"\(decimals(from.y, 1))\" "
        + "x2=\"\(decimals(to.x, 1))\" y2=\"\(decimals(to.y, 1))\" stroke=\"\(colour)\"/>")
  }

  /// A filled rectangle between two corners, upper left and lower right.
  ///
  /// Browsers show `title` under the pointer.
  package mutating func bar(from: Point, to: Point, colour: String, title: String) {
    use(colour)
    shapes.append(
      "<rect \(Self.attributes(from)) width=\"\(decimals(max(0, to.x - from.x), 1))\" "
        + "height=\"\(decimals(max(0, to.y - from.y), 1))\" fill=\"\(colour)\">"
        + "<title>\(escapedXML(title))</title></rect>")
  }

  /// A line through several places; `width` in points, SVG's own without it.
  package mutating func curve(_ places: [Point], colour: String, width: Double? = nil) {
    use(colour)
    let stroke = width.map { " stroke-width=\"\($0)\"" } ?? ""
    shapes.append(
      "<polyline points=\"\(Self.list(places))\" fill=\"none\" stroke=\"\(colour)\"\(stroke)/>")
  }

  /// The outline of a rectangle between two corners, upper left and lower right.
  package mutating func outline(from: Point, to: Point) {
    use(Self.muted)
    shapes.append(
      "<rect \(Self.attributes(from)) width=\"\(decimals(to.x - from.x, 1))\" "
        + "height=\"\(decimals(to.y - from.y, 1))\" fill=\"none\" stroke=\"\(Self.muted)\"/>")
  }

  /// Mark number `series`: each number has a shape of its own.
  ///
  /// Browsers show `title` under the pointer.
  package mutating func mark(
    _ series: Int, at place: Point, colour: String, title: String? = nil
  ) {
    use(colour)
    let shape = Self.mark(series, place, colour)
    shapes.append(title.map { "<g><title>\(escapedXML($0))</title>\(shape)</g>" } ?? shape)
  }

  private mutating func use(_ colour: String) {
    if !colours.contains(colour) { colours.append(colour) }
  }

  /// The whole file.
  package func svg(width: Int, height: Int) -> String {
    "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(width)\" height=\"\(height)\" "
      + "viewBox=\"0 0 \(width) \(height)\" font-family=\"sans-serif\" fill=\"\(Self.ink)\">\n"
      + style + "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
      + shapes.joined(separator: "\n") + "\n</svg>\n"
  }

  /// The twin of every colour, for browsers whose reader has chosen dark; narrow windows shrink the
  /// picture.
  private var style: String {
    let twins = colours.compactMap { colour in
      Colour(hex: colour).map { light in
        "[fill=\"\(colour)\"] { fill: \(light.onDark.hex) } "
          + "[stroke=\"\(colour)\"] { stroke: \(light.onDark.hex) }\n"
      }
    }
    return "<style>\nsvg { max-width: 100%; height: auto }\n@media (prefers-color-scheme: dark) {\n"
      + twins.joined() + "}\n</style>\n"
  }

  /// A circle, square, triangle, diamond, triangle on its head, plus, cross; then stars.
  ///
  /// Each star has a point more than the one before. A rim of the paper's colour keeps marks apart
  /// that overlap.
  private static func mark(_ series: Int, _ place: Point, _ colour: String) -> String {
    let paint = "fill=\"\(colour)\" stroke=\"#ffffff\""
    let corners: [Point]
    switch series {
    case 0:
      return "<circle cx=\"\(decimals(place.x, 1))\" cy=\"\(decimals(place.y, 1))\" r=\"4.5\" "
        + "\(paint)/>"
    case 1: corners = [(-4, -4), (4, -4), (4, 4), (-4, 4)]
    case 2: corners = [(0, -5), (5, 4), (-5, 4)]
    case 3: corners = [(0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)]
    case 4: corners = [(-5, -4), (5, -4), (0, 5)]
    case 5:
      corners = [
        (-2, -5), (2, -5), (2, -2), (5, -2), (5, 2), (2, 2), (2, 5), (-2, 5), (-2, 2), (-5, 2),
        (-5, -2), (-2, -2),
      ]
    case 6:
      corners = [
        (0, -2.5), (3, -5.5), (5.5, -3), (2.5, 0), (5.5, 3), (3, 5.5), (0, 2.5), (-3, 5.5),
        (-5.5, 3), (-2.5, 0), (-5.5, -3), (-3, -5.5),
      ]
    default: corners = star(points: series - 2)
    }
    let points = corners.map { (place.x + $0.x, place.y + $0.y) }
    return "<polygon points=\"\(list(points))\" \(paint)/>"
  }

  private static func star(points: Int) -> [Point] {
    (0..<2 * points).map { n in
      let (radius, angle) = (n % 2 == 0 ? 6.0 : 2.8, Double.pi * Double(n) / Double(points))
      return (radius * sin(angle), -radius * cos(angle))
    }
  }

  private static func attributes(_ place: Point) -> String {
    "x=\"\(decimals(place.x, 1))\" y=\"\(decimals(place.y, 1))\""
  }

  private static func list(_ places: [Point]) -> String {
    places.map { "\(decimals($0.x, 1)),\(decimals($0.y, 1))" }.joined(separator: " ")
  }
}

/// Text inside of XML or HTML; what steers a line stands as \u{...}, what no XML may hold as
/// U+FFFD.
package func escapedXML(_ text: String) -> String {
  // By scalars: "<" and a mark that combines with it are one character, and still markup.
  var escaped = ""
  for scalar in visible(text).unicodeScalars {
    switch scalar {
    case "&": escaped += "&amp;"
    case "<": escaped += "&lt;"
    case ">": escaped += "&gt;"
    case "\"": escaped += "&quot;"
    case "\u{FFFE}", "\u{FFFF}": escaped += "\u{FFFD}"
    default: escaped.unicodeScalars.append(scalar)
    }
  }
  return escaped
}
