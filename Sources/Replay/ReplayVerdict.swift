// The verdict on a replay, in its first line.
//
// In:  what was compared with the file, and what came of it.
// Out: "agrees" or "does not agree", with how many outputs, and which of them came nearest to its
//      limit or went furthest beyond it; or, where nothing was compared, how good the run was.
//
// The word is that of the exit status: 1 for "does not agree", otherwise 0.

import Reports

/// One line that says how a replay ended, and what else there is to say of it.
package struct ReplayVerdict: Sendable {
  private let word: String
  private let findings: [String]

  /// The verdict of a comparison, whose `findings` begin with the gravest.
  init(isWithin: Bool, findings: [String]) {
    precondition(!findings.isEmpty, "a verdict on nothing")
    word = isWithin ? "agrees" : "does not agree"
    self.findings = findings
  }

  /// What is said of a run that nothing was compared with: how good it was.
  init(nothingCompared measure: String) {
    word = "nothing compared"
    findings = [measure]
  }

  /// The verdict line, and lines below it for findings that do not fit.
  package func lines(width: Int) -> [String] {
    var lines = [""]
    for (n, finding) in findings.enumerated() {
      let last = lines[lines.count - 1]
      let longer = n == 0 ? "\(word): \(finding)" : "\(last), \(finding)"
      if n > 0 && longer.count > width {
        lines.append("  " + finding)
      } else {
        lines[lines.count - 1] = longer
      }
    }
    return lines.flatMap { filled($0, width: width, indent: $0.hasPrefix(" ") ? 2 : 0, hanging: 2) }
  }
}

/// "7 of 7 outputs within their limits (k_hat nearest: 9.69e-05 of 0.002000)".
func finding(_ outputs: [(name: String, error: Double, limit: Double, isWithin: Bool)]) -> String? {
  // How much of its limit an output has used; a limit of 0 is all used by any difference.
  func use(_ error: Double, _ limit: Double) -> Double {
    limit > 0 ? error / limit : error > 0 ? .infinity : 0
  }
  let outside = outputs.filter { !$0.isWithin }
  let worst = (outside.isEmpty ? outputs : outside).max {
    use($0.error, $0.limit) < use($1.error, $1.limit)
  }
  guard let worst else { return nil }
  let place =
    worst.limit > 0
    ? "\(number(worst.error, 6)) of \(number(worst.limit, 6))"
    : worst.error == 0 ? "equal" : "not equal"
  return outside.isEmpty
    ? "\(outputs.count) of \(outputs.count) outputs within their limits "
      + "(nearest: \(worst.name), \(place))"
    : "\(outside.count) of \(outputs.count) outputs outside their limits "
      + "(furthest: \(worst.name), \(place))"
}

/// A finding for every comparison of a recorded call.
func verdict(_ outputs: [String: Comparison]) -> ReplayVerdict {
  let compared = outputs.sorted { $0.key < $1.key }.map {
    (name: $0.key, error: $0.value.relative, limit: $0.value.limit, isWithin: $0.value.within)
  }
  guard let finding = finding(compared) else {
    return ReplayVerdict(nothingCompared: "the file expects no outputs")
  }
  return ReplayVerdict(isWithin: compared.allSatisfy(\.isWithin), findings: [finding])
}

extension TrajectoryComparison {
  /// The verdict; `measure` says how good the run was where the file expects nothing.
  func verdict(otherwise measure: String) -> ReplayVerdict {
    let numbers = outputs.sorted { $0.key < $1.key }.map {
      (name: $0.key, error: $0.value.relative, limit: $0.value.limit, isWithin: $0.value.within)
    }
    var findings: [(isMet: Bool, text: String)] = []
    if let text = finding(numbers) { findings.append((numbers.allSatisfy(\.isWithin), text)) }
    if selectedCompared > 0 {
      findings.append(
        (
          selectedCompared == selectedEqual,
          "\(selectedEqual) of \(selectedCompared) selected sets equal"
        ))
    }
    for (equal, name) in [
      (promptSelectedEqual, "the prompt's sets"), (missedRowsEqual, "missed rows"),
      (attendedEqual, "attended tokens"),
    ] {
      if let equal { findings.append((equal, "\(name) \(equal ? "equal" : "differ")")) }
    }
    if shapesDiffer { findings.append((false, "shapes differ")) }
    if findings.isEmpty { return ReplayVerdict(nothingCompared: measure) }
    let failed = findings.filter { !$0.isMet }
    return ReplayVerdict(
      isWithin: isWithin, findings: (failed + findings.filter(\.isMet)).map(\.text))
  }
}
