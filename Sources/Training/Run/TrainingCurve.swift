// The picture of a training run: loss and accuracy over steps, as an SVG file.
//
// In:  the rows of log.csv.
// Out: SVG text: a panel each, means over as many steps as make 240 points, a grey line and a name
//      where a stage begins.

import Reports

/// A step as the log has it.
package struct LoggedStep {
  /// The stage's name.
  let stage: String
  /// Nats per weighted token; nil where the step was skipped.
  let loss: Double?
  /// Share of the tokens asked for that were right; nil where none was.
  let accuracy: Double?

  /// A row of a log; nil where it is not one.
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
package func trainingCurve(_ steps: [LoggedStep], title: String) -> String {
  let (width, height, left, top) = (720.0, 180.0, 56.0, 56.0)
  let bucket = max(1, steps.count / 240)
  var plot = Plot()
  plot.heading(title, x: left)
  func place(_ step: Int) -> Double { left + width * Double(step) / Double(max(1, steps.count)) }
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
      plot.line(from: (left, y), to: (left + width, y), colour: "#dddddd")
      let label = number(panel.most * Double(quarter) / 4, 2)
      plot.text(label, at: (left - 6, y + 4), anchor: "end", size: 11)
    }
    plot.text(panel.name, at: (left, bottom - height - 8), size: 11)
    var points: [Plot.Point] = []
    for first in stride(from: 0, to: steps.count, by: bucket) {
      let part = steps[first..<min(first + bucket, steps.count)].compactMap(panel.value)
      if part.isEmpty { continue }
      let mean = part.reduce(0, +) / Double(part.count)
      points.append((place(first), bottom - height * min(1, mean / panel.most)))
    }
    for first in steps.indices where first > 0 && steps[first].stage != steps[first - 1].stage {
      plot.line(
        from: (place(first), bottom - height), to: (place(first), bottom), colour: "#999999")
      if n == 0 {
        let y = top + 12 + Double(first % 3) * 12
        plot.text(steps[first].stage, at: (place(first) + 3, y), size: 11)
      }
    }
    plot.curve(points, colour: panel.colour, width: 1.5)
  }
  let bottom = top + 2 * height + 40
  plot.text("0", at: (left, bottom + 16), size: 11)
  plot.text("\(steps.count) steps", at: (left + width, bottom + 16), anchor: "end", size: 11)
  return plot.svg(width: Int(left + width + 24), height: Int(bottom + 28))
}
