// A report as JSON.
//
// In:  any encodable value.
// Out: its JSON with snake_case names in alphabetical order: one object, or one a line.

import Foundation

/// `report` as one JSON object with snake_case names in alphabetical order.
///
/// Pretty text has many lines, for a person's eyes; the other form is one line. Infinity and NaN,
/// for which JSON has no number, are written as strings.
package func jsonText(_ report: some Encodable, isPretty: Bool = true) throws -> String {
  let encoder = JSONEncoder()
  encoder.keyEncodingStrategy = .convertToSnakeCase
  encoder.nonConformingFloatEncodingStrategy = .convertToString(
    positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
  encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
  if isPretty { encoder.outputFormatting.insert(.prettyPrinted) }
  return String(decoding: try encoder.encode(report), as: UTF8.self)
}

/// One object a line.
package func jsonLines(_ rows: [some Encodable]) throws -> String {
  try rows.map { try jsonText($0, isPretty: false) }.joined(separator: "\n")
}
