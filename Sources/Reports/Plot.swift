// A picture as an SVG file: the pen that every plot draws with.
//
// In:  texts, lines, curves and marks at places of the picture, in its points.
// Out: SVG text.
//
// Plain shapes and text, no scripts and no fonts of our own: it opens in any browser, and a text
// editor shows where every shape came from. Places have one decimal.

/// A picture that grows shape by shape.
package struct Plot {
  /// A place: x from the left, y from the top.
  package typealias Point = (x: Double, y: Double)

  private var shapes: [String] = []

  /// An empty picture.
  package init() {}

  /// A line of text at a place; `anchor` says which end of the text stands there.
  package mutating func text(
    _ text: String, at place: Point, anchor: String = "start", size: Int = 12
  ) {
    shapes.append(
      "<text \(Self.attributes(place)) text-anchor=\"\(anchor)\" font-size=\"\(size)\">"
        + "\(escapedXML(text))</text>")
  }

  /// What the whole picture shows, above it.
  package mutating func heading(_ text: String, x: Double) {
    shapes.append("<text x=\"\(x)\" y=\"24\" font-size=\"15\">\(escapedXML(text))</text>")
  }

  /// A straight line.
  package mutating func line(from: Point, to: Point, colour: String) {
    shapes.append(
      "<line x1=\"\(decimals(from.x, 1))\" y1=\"\(decimals(from.y, 1))\" "
        + "x2=\"\(decimals(to.x, 1))\" y2=\"\(decimals(to.y, 1))\" stroke=\"\(colour)\"/>")
  }

  /// A filled rectangle between two corners, upper left and lower right.
  ///
  /// Browsers show `title` under the pointer.
  package mutating func bar(from: Point, to: Point, colour: String, title: String) {
    shapes.append(
      "<rect \(Self.attributes(from)) width=\"\(decimals(max(0, to.x - from.x), 1))\" "
        + "height=\"\(decimals(max(0, to.y - from.y), 1))\" fill=\"\(colour)\">"
        + "<title>\(escapedXML(title))</title></rect>")
  }

  /// A line through several places; `width` in points, SVG's own without it.
  package mutating func curve(_ places: [Point], colour: String, width: Double? = nil) {
    let stroke = width.map { " stroke-width=\"\($0)\"" } ?? ""
    shapes.append(
      "<polyline points=\"\(Self.list(places))\" fill=\"none\" stroke=\"\(colour)\"\(stroke)/>")
  }

  /// The mark of series number `series`.
  ///
  /// Browsers show `title` under the pointer.
  package mutating func mark(
    _ series: Int, at place: Point, colour: String, title: String? = nil
  ) {
    let shape = Self.mark(series, place, colour)
    shapes.append(title.map { "<g><title>\(escapedXML($0))</title>\(shape)</g>" } ?? shape)
  }

  /// The whole file.
  package func svg(width: Int, height: Int) -> String {
    "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(width)\" height=\"\(height)\" "
      + "viewBox=\"0 0 \(width) \(height)\" font-family=\"sans-serif\">\n"
      + "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      + shapes.joined(separator: "\n") + "\n</svg>\n"
  }

  /// A circle, square, triangle or diamond: series are told apart without colour, too.
  private static func mark(_ series: Int, _ place: Point, _ colour: String) -> String {
    func polygon(_ corners: [Point]) -> String {
      let points = corners.map { (place.x + $0.x, place.y + $0.y) }
      return "<polygon points=\"\(list(points))\" fill=\"\(colour)\"/>"
    }
    switch series % 4 {
    case 0:
      return "<circle cx=\"\(decimals(place.x, 1))\" cy=\"\(decimals(place.y, 1))\" r=\"4\" "
        + "fill=\"\(colour)\"/>"
    case 1: return polygon([(-4, -4), (4, -4), (4, 4), (-4, 4)])
    case 2: return polygon([(0, -5), (5, 4), (-5, 4)])
    default: return polygon([(0, -5), (5, 0), (0, 5), (-5, 0)])
    }
  }

  private static func attributes(_ place: Point) -> String {
    "x=\"\(decimals(place.x, 1))\" y=\"\(decimals(place.y, 1))\""
  }

  private static func list(_ places: [Point]) -> String {
    places.map { "\(decimals($0.x, 1)),\(decimals($0.y, 1))" }.joined(separator: " ")
  }
}

/// Text inside of XML.
func escapedXML(_ text: String) -> String {
  text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
    .replacing("\"", with: "&quot;")
}
