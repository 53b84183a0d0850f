// The picture of a training run: loss and accuracy over steps, as an SVG file.
//
// In:  the rows of log.csv.
// Out: SVG text: a panel each, means over as many steps as make 240 points, a line and a name where
//      a stage begins; the title says where loss and accuracy began and ended.
//
// A loss that falls by a factor of 10 or more stands on a logarithmic axis (Reports' Axis.swift).

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
  let (width, left, right, height) = (720.0, 68.0, 704.0, 180.0)
  let losses = means(of: steps) { $0.loss }
  let shares = means(of: steps) { $0.accuracy.map { 100 * $0 } }
  var plot = Plot()
  var y = plot.lines(
    "\(title): \(trainingFinding(losses, shares))", at: (16, 26), width: width - 32, size: 15)
  // Names of stages stand in three rows, so that short stages do not hide each other's.
  let starts = steps.indices.filter { $0 > 0 && steps[$0].stage != steps[$0 - 1].stage }
  let across = Axis(
    "training step", [], limits: 0...Double(max(1, steps.count)), from: left, to: right)
  for (n, start) in starts.enumerated() {
    let place = across.place(Double(start))
    let isLate = place > (left + right) / 2
    plot.text(
      steps[start].stage, at: (place, y + 12 * Double(n % 3)), anchor: isLate ? "end" : "start",
      size: 11, colour: Plot.muted)
  }
  y += starts.isEmpty ? 0 : 12 * Double(min(3, starts.count)) - 8
  let panels: [(name: String, points: [Mean], limits: ClosedRange<Double>?)] = [
    ("loss, nats per token", losses, nil), ("right tokens, %", shares, 0...100),
  ]
  for (n, panel) in panels.enumerated() {
    let frame = Frame(
      x: across,
      y: Axis(
        panel.name, panel.points.map(\.value), limits: panel.limits, from: y + height, to: y))
    frame.draw(on: &plot)
    for start in starts {
      let x = frame.x.place(Double(start))
      plot.line(from: (x, y), to: (x, y + height), colour: Plot.muted)
    }
    plot.curve(
      panel.points.map { frame.place($0.step, $0.value) }, colour: Colour.series(n).hex,
      width: 1.5)
    y += height + 56
  }
  return plot.svg(width: Int(width), height: Int(y - 12))
}

/// A mean over some steps, which begin at `step`.
private typealias Mean = (step: Double, value: Double)

/// Means over as many steps as make about 240 points; the last one has what is left over, too.
private func means(of steps: [LoggedStep], _ value: (LoggedStep) -> Double?) -> [Mean] {
  let bucket = max(1, steps.count / 240)
  return stride(from: 0, through: steps.count - bucket, by: bucket).compactMap { first in
    let end = first + 2 * bucket > steps.count ? steps.count : first + bucket
    let part = steps[first..<end].compactMap(value).filter(\.isFinite)
    return part.isEmpty ? nil : (Double(first), part.reduce(0, +) / Double(part.count))
  }
}

/// "loss 5.31 to 0.12 nats, right tokens 3 to 97 %", from the first and the last point.
private func trainingFinding(_ losses: [Mean], _ shares: [Mean]) -> String {
  func change(_ name: String, _ points: [Mean], _ unit: String) -> String? {
    guard let first = points.first, let last = points.last else { return nil }
    let digits = unit == "%" ? 0 : 2
    return "\(name) \(decimal(first.value, digits)) to \(decimal(last.value, digits)) \(unit)"
  }
  let parts = [change("loss", losses, "nats"), change("right tokens", shares, "%")]
  let known = parts.compactMap(\.self)
  return known.isEmpty ? "no steps yet" : known.joined(separator: ", ")
}
