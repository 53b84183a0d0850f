// The picture of a training run: loss and accuracy over steps, as an SVG file.
//
// In:  the rows of log.csv.
// Out: SVG text: a panel each, means over as many steps as make 240 points, a grey line and a name
//      where a stage begins.

import Evaluation
import Foundation
import Reports

/// A step as the log has it.
struct LoggedStep {
  let stage: String
  /// nil where the step was skipped.
  let loss: Double?
  let accuracy: Double?

  /// A row of a log; nil where it is none.
  init?(_ row: Substring) {
    let cells = row.split(separator: ",", omittingEmptySubsequences: false)
    guard cells.count == 10, Int(cells[0]) != nil, cells[4].isEmpty || Double(cells[4]) != nil
    else { return nil }
    (stage, loss, accuracy) = (String(cells[1]), Double(cells[4]), Double(cells[5]))
  }

  /// The rows of a log, without its head; a row that is cut short ends it.
  static func rows(_ csv: String) -> [LoggedStep] {
    var steps: [LoggedStep] = []
    for line in csv.split(separator: "\n").dropFirst() {
      guard let step = LoggedStep(line) else { break }
      steps.append(step)
    }
    return steps
  }
}

/// The picture of a run; empty panels where there are no steps.
func trainingCurve(_ steps: [LoggedStep], title: String) -> String {
  let (width, height, left, top) = (720.0, 180.0, 56.0, 56.0)
  let bucket = max(1, steps.count / 240)
  var shapes = [
    "<text x=\"\(left)\" y=\"24\" font-size=\"15\">\(escapedXML(title))</text>"
  ]
  func place(_ step: Int) -> Double { left + width * Double(step) / Double(max(1, steps.count)) }
  func text(_ x: Double, _ y: Double, _ text: String, anchor: String = "start") {
    shapes.append(
      "<text x=\"\(decimal(x, 1))\" y=\"\(decimal(y, 1))\" text-anchor=\"\(anchor)\" "
        + "font-size=\"11\">\(escapedXML(text))</text>")
  }
  func line(_ from: (Double, Double), _ to: (Double, Double), _ colour: String) {
    shapes.append(
      "<line x1=\"\(decimal(from.0, 1))\" y1=\"\(decimal(from.1, 1))\" x2=\"\(decimal(to.0, 1))\" "
        + "y2=\"\(decimal(to.1, 1))\" stroke=\"\(colour)\"/>")
  }
  let panels: [(name: String, colour: String, most: Double, value: (LoggedStep) -> Double?)] = [
    (
      "loss, nats", "#c2410c", max(1, (steps.compactMap(\.loss).max() ?? 1).rounded(.up)),
      { $0.loss }
    ),
    ("accuracy", "#0b6e99", 1, { $0.accuracy }),
  ]
  for (n, panel) in panels.enumerated() {
    let bottom = top + height + Double(n) * (height + 40)
    for quarter in 0...4 {
      let y = bottom - height * Double(quarter) / 4
      line((left, y), (left + width, y), "#dddddd")
      text(left - 6, y + 4, number(panel.most * Double(quarter) / 4, 2), anchor: "end")
    }
    text(left, bottom - height - 8, panel.name)
    var points: [String] = []
    for first in stride(from: 0, to: steps.count, by: bucket) {
      let part = steps[first..<min(first + bucket, steps.count)].compactMap(panel.value)
      if part.isEmpty { continue }
      let mean = part.reduce(0, +) / Double(part.count)
      let y = bottom - height * min(1, mean / panel.most)
      points.append("\(decimal(place(first), 1)),\(decimal(y, 1))")
    }
    for first in steps.indices where first > 0 && steps[first].stage != steps[first - 1].stage {
      line((place(first), bottom - height), (place(first), bottom), "#999999")
      if n == 0 {
        text(place(first) + 3, top + 12 + Double(first % 3) * 12, steps[first].stage)
      }
    }
    shapes.append(
      "<polyline points=\"\(points.joined(separator: " "))\" fill=\"none\" "
        + "stroke=\"\(panel.colour)\" stroke-width=\"1.5\"/>")
  }
  let bottom = top + 2 * height + 40
  text(left, bottom + 16, "0")
  text(left + width, bottom + 16, "\(steps.count) steps", anchor: "end")
  let size = (Int(left + width + 24), Int(bottom + 28))
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(size.0)\" height=\"\(size.1)\" "
    + "viewBox=\"0 0 \(size.0) \(size.1)\" font-family=\"sans-serif\">\n"
    + "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    + shapes.joined(separator: "\n") + "\n</svg>\n"
}
