// The table of lrqk bench growth: a part for each quantity, with exponents.
//
// In:  measurements.
// Out: for each quantity its values, then a line for each work and preset: times, then memory. The
//      last two columns are the exponent over all values, and between the last two: small sizes
//      have costs that do not grow, so the second shows better where the growth goes.

import LRQK
import Reports

struct GrowthTable {
  private let growth: Growth

  init(_ growth: Growth) { self.growth = growth }

  func text(isMarkdown: Bool) -> String {
    let s = growth.start
    let head =
      "\(s.tokens) tokens, r = \(s.rank), k = \(s.selected), \(s.heads) query heads unless a line "
      + "says otherwise; \(growth.processors) cores, medians of \(growth.runs)"
    let parts = GrowthQuantity.allCases.compactMap { part($0, isMarkdown: isMarkdown) }
    return ([head] + parts).joined(separator: "\n\n")
  }

  /// The part of one quantity; nil where nothing was measured.
  private func part(_ quantity: GrowthQuantity, isMarkdown: Bool) -> String? {
    let values = Set(growth.points.filter { $0.quantity == quantity }.map(\.value)).sorted()
    if values.isEmpty { return nil }
    let header = [quantity.label] + values.map { "\($0)" } + ["exponent", "at the end"]
    var rows: [[String]] = []
    for (unit, figure, text) in figures {
      for work in GrowthWork.allCases {
        for preset in Preset.allCases {
          let line = growth.line(quantity, work, preset)
          if line.isEmpty { continue }
          let cells = values.map { value in
            line.first { $0.value == value }.map { text(figure($0)) } ?? "-"
          }
          let (x, y) = (line.map { Double($0.value) }, line.map(figure))
          rows.append(
            ["\(work.rawValue), \(preset.rawValue), \(unit)"] + cells + [
              decimals(exponent(x, y), 2),
              decimals(exponent(Array(x.suffix(2)), Array(y.suffix(2))), 2),
            ])
        }
      }
    }
    let table = TextTable([header] + rows)
    return isMarkdown ? table.markdown : table.text(width: terminalWidth)
  }

  /// What is shown of a measurement: its unit, the number, its text.
  private var figures: [(String, (GrowthPoint) -> Double, (Double) -> String)] {
    [
      ("ms", { $0.secondsMedian * 1e3 }, { number($0, $0 < 100 ? 2 : 0) }),
      ("MiB", { Double($0.peakBytes) / 1_048_576 }, { number($0, 0) }),
    ]
  }
}
