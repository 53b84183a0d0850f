// Numbers as reports show them.
//
// In:  a number, and how many decimals it gets.
// Out: its text.

import Foundation

/// `value` with `digits` decimals, or in scientific form where it is tiny or huge.
package func number(_ value: Double, _ digits: Int = 3) -> String {
  let size = abs(value)
  if value == 0 || (size >= 0.001 && size < 1e6) { return String(format: "%.\(digits)f", value) }
  return String(format: "%.2e", value)
}

/// `value` with `places` decimals; a dash where there is none.
package func decimals(_ value: Double?, _ places: Int) -> String {
  value.map { String(format: "%.\(places)f", $0) } ?? "-"
}

/// `value` with `places` decimals; never "-0.00".
package func decimal(_ value: Double, _ places: Int) -> String {
  let text = String(format: "%.\(places)f", value)
  return text.hasPrefix("-") && text.allSatisfy({ "-0.".contains($0) })
    ? String(text.dropFirst()) : text
}

/// Bytes as people read them: 1,234,567 B is 1.18 MiB.
package func bytes(_ count: Int) -> String {
  let units = ["B", "KiB", "MiB", "GiB", "TiB"]
  var value = Double(count)
  var unit = 0
  while value >= 1024 && unit < units.count - 1 {
    value /= 1024
    unit += 1
  }
  return unit == 0 ? "\(count) B" : String(format: "%.2f %@", value, units[unit])
}
