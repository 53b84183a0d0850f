// What an answer is worth.
//
// In:  a prediction and the references.
// Out: from 0 to 1 for one sample; a task's score is the mean times 100, with two decimals.
//
//   1. clean up   strip; control characters U+0000 ... U+001F become line breaks; strip
//   2. ALL        the share of references that occur in the prediction, whatever their case
//      PART       1 if any of them does, else 0
//   3. nulls      predictions that are empty after line 1
//   4. stderr     s / sqrt(n) · 100, s² = Σ (x - mean)² / (n - 1); none for one sample
//
// A reference counts wherever it occurs, inside a longer word as well: short ones can be found by
// accident, which is why the log has every prediction. Source: RULER's eval/evaluate.py and
// eval/synthetic/constants.py.

/// The prediction after the clean-up, line 1 of the head.
package func cleaned(_ prediction: String) -> String {
  func stripped(_ scalars: Substring.UnicodeScalarView) -> Substring.UnicodeScalarView {
    func isSpace(_ scalar: Unicode.Scalar) -> Bool {
      scalar.properties.isWhitespace || (0x1C...0x1F).contains(scalar.value)
    }
    let head = scalars.drop(while: isSpace)
    let end = head.lastIndex { !isSpace($0) }.map { head.index(after: $0) } ?? head.startIndex
    return head[..<end]
  }
  var text = String.UnicodeScalarView()
  for scalar in stripped(prediction.unicodeScalars[...]) {
    text.append(scalar.value < 0x20 ? "\n" : scalar)
  }
  return String(stripped(text[...]))
}

/// The score of one answer, line 2 of the head, from 0 to 1.
package func score(_ prediction: String, _ references: [String], _ metric: RulerMetric) -> Double {
  precondition(!references.isEmpty, "an answer is compared with something")
  let text = Array(cleaned(prediction).lowercased().utf8)
  let found = references.count { firstOccurrence(of: Array($0.lowercased().utf8), in: text) != nil }
  switch metric {
  case .all: return Double(found) / Double(references.count)
  case .part: return found > 0 ? 1 : 0
  }
}

/// The mean of samples' scores, and its standard error.
package struct ScoreSummary: Sendable, Equatable {
  /// The mean, 0 to 100, with two decimals.
  package let score: Double
  /// The mean's standard error on the same scale, with two decimals; nil for one sample.
  package let standardError: Double?

  /// The mean and line 4 of the head, for at least one score from 0 to 1.
  package init(_ scores: [Double]) {
    precondition(!scores.isEmpty, "a mean of something")
    let n = Double(scores.count)
    let mean = scores.reduce(0, +) / n
    score = Self.rounded(100 * mean)
    if scores.count == 1 {
      standardError = nil
    } else {
      let variance = scores.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (n - 1)
      standardError = Self.rounded(100 * (variance / n).squareRoot())
    }
  }

  private static func rounded(_ x: Double) -> Double { (x * 100).rounded() / 100 }
}
