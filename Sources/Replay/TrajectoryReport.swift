// A trajectory's replay as people and scripts read it.
//
// In:  a replay and its recording.
// Out: comparisons with the expected outputs; totals; the JSON object of `lrqk replay --json`; the
//      tensors of `--output`.

import LRQK
package import Tensors
package import TieredMemory

/// The comparison of a trajectory with the outputs in its file.
package struct TrajectoryComparison: Sendable {
  /// By tensor name.
  package var outputs: [String: Comparison] = [:]
  /// Selected sets compared: steps x batch x heads.
  package var selectedCompared = 0
  /// How many of them were equal.
  package var selectedEqual = 0
  /// Whether all missed-row counts were equal; nil when the file has none, or counts by other
  /// holders.
  package var missedRowsEqual: Bool?
  /// Whether the sets that the prompt chose were equal; nil when they were not compared.
  package var promptSelectedEqual: Bool?
  /// Whether the tokens that were attended to were equal; nil when the file has none.
  package var attendedEqual: Bool?
  /// Tensors of the file whose shape is not the computed one: expected, and not met.
  package var shapesDiffer = false
  /// What could not be compared, and why.
  package var skipped: [String] = []

  /// True when nothing that was compared lay outside its limit.
  package var isWithin: Bool {
    outputs.values.allSatisfy(\.within) && selectedCompared == selectedEqual
      && missedRowsEqual != false && promptSelectedEqual != false
      && attendedEqual != false && !shapesDiffer
  }
}

extension TrajectoryReplay {
  /// Compares with everything that the recording expects.
  package func compare(with recording: Recording) throws -> TrajectoryComparison {
    var result = TrajectoryComparison()
    let file = recording.file
    let tensors = self.tensors
    let perStep = ["k_hat", "attention", "selected", "missed_rows"]
    let recordedSteps = try perStep.first(where: file.contains).flatMap { name in
      try file.shape(of: name).first
    }
    let isPart = recordedSteps.map { steps.count < $0 } ?? false
    if isPart, let recordedSteps {
      result.skipped.append(
        "steps \(steps.count + 1) to \(recordedSteps) of the file, which did not run here")
    }
    for (name, tensor) in tensors where file.contains(name) {
      if isPart && name.hasPrefix("final.") {
        result.skipped.append("\(name): the file's stands after more steps")
        continue
      }
      var expected: Tensor<Double> = try file.tensor(name)
      if isPart && perStep.contains(name) { expected = expected.first(steps.count) }
      if expected.shape != tensor.shape {
        result.shapesDiffer = true
        result.skipped.append("\(name): computed \(tensor.shape), the file has \(expected.shape)")
        continue
      }
      let (limit, reason) = limit(name)
      result.outputs[name] = Comparison(
        tensor.converted(), expected, limit: limit, reason: reason)
    }
    for name in [
      "k_hat", "prefill.A_K", "final.B_Q", "final.B_K", "prefill.B_Q", "prefill.B_K", "attention",
    ]
    where file.contains(name) && !tensors.contains(where: { $0.name == name }) && !steps.isEmpty {
      result.skipped.append("\(name): these choices have none")
    }

    for (name, own) in integers where file.contains(name) {
      var expected = try file.integers(name)
      if isPart && perStep.contains(name) { expected = expected.first(steps.count) }
      if name == "missed_rows" {
        if expected.shape == own.shape {
          result.missedRowsEqual = expected == own
        } else if plan.parameters.rows.holders == .perKeyValueHead {
          result.skipped.append(
            "missed_rows: \(own.shape) by key/value head here, the file has \(expected.shape)")
        } else {
          result.shapesDiffer = true
          result.skipped.append("missed_rows: computed \(own.shape), the file \(expected.shape)")
        }
        continue
      }
      if expected.shape != own.shape {
        result.shapesDiffer = true
        result.skipped.append("\(name): computed \(own.shape), the file has \(expected.shape)")
        continue
      }
      if name.hasPrefix("attended") {
        result.attendedEqual = (result.attendedEqual ?? true) && expected == own
        continue
      }
      let k = own.columns
      for first in stride(from: 0, to: own.count, by: k) {
        let set = first..<first + k
        result.selectedCompared += name == "selected" ? 1 : 0
        let isEqual = own.elements[set] == expected.elements[set]
        result.selectedEqual += name == "selected" && isEqual ? 1 : 0
        if name == "prefill.selected" {
          result.promptSelectedEqual = (result.promptSelectedEqual ?? true) && isEqual
        }
      }
    }
    return result
  }

  /// The largest relative distance that passes, and why.
  ///
  /// The golden files hold float32 runs, and their README gives attention 1e-5 and k_hat 2e-3 in
  /// either precision. The factors of the prompt and the bases have no limit there.
  private func limit(_ name: String) -> (limit: Double, reason: String) {
    switch name {
    case "attention": (1e-5, "exact rows, float32 storage")
    case "k_hat": (2e-3, "float32 solvers")
    default: float32Limit(condition: conditioning.worst)
    }
  }

  /// Every float output, in the axis order of the golden files.
  package var tensors: [(name: String, tensor: Tensor<E>)] {
    var all = prompt
    let codes = steps.map { padded($0.keyCodes) }
    if let groups = codes.first?.count, groups > 0, codes.allSatisfy({ $0.count == groups }) {
      let r = codes[0][0].columns
      all.append(
        (
          "k_hat",
          Tensor(
            shape: [steps.count, batch, groups / batch, r],
            elements: codes.flatMap { $0.flatMap(\.elements) })
        ))
    }
    if let first = steps.first {
      all.append(
        (
          "attention",
          Tensor(
            shape: [steps.count, batch, heads.query, first.attention.columns],
            elements: steps.flatMap(\.attention.elements))
        ))
    }
    return all + final
  }

  /// Every integer output.
  ///
  /// A set is padded with -1 behind its tokens.
  /// `selected` is what each head chose itself, k wide (wider only where r exceeds k and more rows
  /// are kept before the first choice); `attended` is every token that the head attended to, recent
  /// ones included, as wide as the longest of them, with the lengths in `attended_count`.
  package var integers: [(name: String, tensor: Tensor<Int>)] {
    func sets(_ sets: [[Int]], _ axes: [Int], atLeast width: Int) -> Tensor<Int> {
      let n = sets.reduce(width) { max($0, $1.count) }
      return Tensor(
        shape: axes + [n],
        elements: sets.flatMap { $0 + Array(repeating: -1, count: n - $0.count) })
    }
    let k = plan.parameters.selected
    var all = [("prefill.selected", sets(promptChosen, [batch, heads.query], atLeast: k))]
    if let first = steps.first {
      let axes = [steps.count, batch, heads.query]
      let attended = steps.flatMap(\.attended)
      all.append(("selected", sets(steps.flatMap(\.chosen), axes, atLeast: k)))
      all.append(("attended", sets(attended, axes, atLeast: 1)))
      all.append(("attended_count", Tensor(shape: axes, elements: attended.map(\.count))))
      all.append(
        (
          "missed_rows",
          Tensor(
            shape: [steps.count, batch, first.missedRows.count / batch],
            elements: steps.flatMap(\.missedRows))
        ))
    }
    return all
  }

  /// What is said about the choices, and whether there was anything to choose.
  package var notes: [String] {
    let isWhole = !steps.isEmpty && steps.allSatisfy(\.isDense)
    return plan.notes
      + [isWhole ? plan.parameters.nothingSelected(tokens: tokensInSight) : nil].compactMap { $0 }
  }

  /// The outputs that golden files have and this replay has not, and why: a line for each reason.
  package var leftOut: [String] {
    let (k, r) = (plan.parameters.selected, plan.parameters.rank)
    let names = Set(tensors.map(\.name))
    let letter = plan.parameters.hasLinearCodes ? "W" : "B"
    let early = "before \(max(k, r)) tokens (k = \(k), r = \(r)) nothing is factorised"
    var lines: [String] = []
    if prompt.isEmpty {
      lines.append(
        "prefill.A_K, prefill.\(letter)_Q and prefill.\(letter)_K are not written: \(early), and "
          + "the prompt has \(promptLength)")
    }
    if !steps.isEmpty && !names.contains("k_hat") {
      let without = steps.count { $0.keyCodes.isEmpty }
      lines.append("k_hat is not written: \(early), so the first \(without) steps have no codes")
    }
    if !steps.isEmpty && final.isEmpty {
      lines.append("final.\(letter)_Q and final.\(letter)_K are not written: \(early)")
    }
    return lines
  }

  /// Rows and bytes by direction and reason.
  package var ledger: [String: [String: LedgerLine]] {
    var lines = TransferLedger.lines(events)
    for (direction, reasons): (TransferDirection, [TransferReason]) in [
      (.hostToDevice, [.miss, .reload]), (.deviceToHost, [.promptOffload, .ringFlush]),
    ] {
      for reason in reasons where lines[direction.rawValue]?[reason.rawValue] == nil {
        lines[direction.rawValue]?[reason.rawValue] = LedgerLine()
      }
    }
    return lines
  }

  /// Mean recall of the steps `range`.
  package func recall(_ range: Range<Int>) -> Double {
    range.isEmpty ? 1 : quality[range].reduce(0) { $0 + $1.recall } / Double(range.count)
  }

  /// The four quarters of the steps.
  package var quarters: [Range<Int>] {
    (0..<4).map { steps.count * $0 / 4..<steps.count * ($0 + 1) / 4 }
  }

  /// Relative distance of the attention outputs of steps `range` from the same rows in Double.
  package func sameRowsError(_ range: Range<Int>) -> Double {
    quality[range].reduce(SquaredRatio()) { $0 + $1.sameRows }.root
  }

  /// Relative distance of the attention outputs of steps `range` from full attention.
  package func fullAttentionError(_ range: Range<Int>) -> Double {
    quality[range].reduce(SquaredRatio()) { $0 + $1.full }.root
  }

  /// Relative distance of all attention outputs from the same rows in Double.
  package var sameRowsError: Double { sameRowsError(quality.indices) }

  /// Relative distance of all attention outputs from full attention.
  package var fullAttentionError: Double { fullAttentionError(quality.indices) }
}

extension Tensor {
  /// The first `count` places of the first axis, or all of them.
  fileprivate func first(_ count: Int) -> Tensor {
    guard let all = shape.first, count < all else { return self }
    return Tensor(
      shape: [count] + shape.dropFirst(),
      elements: Array(elements[..<(elements.count / all * count)]))
  }
}
