// What `lrqk replay` prints for people.

import LRQK
import Replay
import Tensors
import TieredMemory

/// Prints a replay, section by section.
struct ReplayText {
  let recording: Recording
  let precision: Precision

  init(_ recording: Recording, _ precision: Precision) {
    self.recording = recording
    self.precision = precision
  }

  func print<E: Scalar>(_ replay: SingleCallReplay<E>, _ plan: ReplayPlan) {
    header(plan, plan.notes)
    fit(replay.sweeps, replay.condition, replay.pivoted)
    comparisons(replay.outputs)
  }

  func print<E: Scalar>(
    _ replay: TrajectoryReplay<E>, _ comparison: TrajectoryComparison, everyStep: Bool,
    leftOut: [String]
  ) {
    header(replay.plan, replay.notes)
    let p = replay.plan.parameters
    show(
      "  \(replay.batch) x \(replay.heads.query) query heads, \(replay.heads.keyValue) key/value "
        + "heads; prompt \(replay.promptLength) tokens, \(replay.steps.count) decode steps; "
        + "r = \(p.rank), k = \(p.selected), w = \(p.recent)")
    fit(replay.sweeps, replay.condition, replay.pivoted)
    if !replay.steps.isEmpty {
      steps(replay, everyStep: everyStep)
      codes(replay)
    }
    ledger(replay)
    memory(replay)
    comparisons(comparison.outputs)
    if comparison.selectedCompared > 0 {
      let verdict = comparison.selectedCompared == comparison.selectedEqual ? "equal" : "DIFFERENT"
      show(
        "  selected sets: \(comparison.selectedEqual) of \(comparison.selectedCompared) equal"
          + " (\(verdict))")
    }
    if let equal = comparison.promptSelectedEqual {
      show("  the prompt's selected sets: \(equal ? "all equal" : "DIFFERENT")")
    }
    if let equal = comparison.missedRowsEqual {
      show("  missed rows: \(equal ? "all equal" : "DIFFERENT")")
    }
    if let equal = comparison.attendedEqual {
      show("  attended tokens: \(equal ? "all equal" : "DIFFERENT")")
    }
    for line in comparison.skipped { show("  not compared: \(visible(line))") }
    for line in leftOut { show("  \(visible(line))") }
  }

  private func header(_ plan: ReplayPlan, _ notes: [String]) {
    show("\(visible(recording.file.path)) (\(recording.kind.rawValue), \(precision.rawValue))")
    for note in notes { show("  note: \(visible(note))") }
    var line = "  choices:"
    for (name, value) in plan.parameters.words(recording.kind.parts) {
      if line.count + name.count + value.count > 92 {
        show(line)
        line = "          "
      }
      line += " \(name)=\(value)"
    }
    show(line)
  }

  private func fit(_ sweeps: [SweepReport], _ condition: Double, _ pivoted: Bool) {
    if !sweeps.isEmpty {
      show("\nFit of the prompt, all heads together")
      show(
        table(
          [["", "objective F", "rel. error of QK^T", "optimum at this rank"]]
            + sweeps.map {
              [
                $0.sweep == 0 ? "closed form" : "sweep \($0.sweep)", number($0.objective, 1),
                number($0.relativeError, 4), number($0.optimum, 4),
              ]
            }))
    }
    if condition == 1 && !pivoted { return }  // no system was solved
    show(
      "  worst condition estimate of the solved systems: \(number(condition, 0))"
        + (pivoted ? " (the pivoted fallback was needed)" : ""))
  }

  private func steps<E: Scalar>(_ replay: TrajectoryReplay<E>, everyStep: Bool) {
    // What moved, rows and bytes, by step, from the ledger: misses, reloads, keys read back by a refresh.
    var moved = Array(repeating: (rows: 0, bytes: 0), count: replay.steps.count + 1)
    for event in replay.events where event.direction == .hostToDevice {
      moved[event.step].rows += event.rows
      moved[event.step].bytes += event.bytes
    }
    func line(_ label: String, _ range: Range<Int>) -> [String] {
      let part = replay.quality[range]
      let (selected, hits, misses) = part.reduce((0, 0, 0)) {
        ($0.0 + $1.selected, $0.1 + $1.hits, $0.2 + $1.misses)
      }
      let (rows, count) = moved[range.lowerBound + 1..<range.upperBound + 1].reduce((0, 0)) {
        ($0.0 + $1.rows, $0.1 + $1.bytes)
      }
      return [
        label, number(replay.recall(range)), "\(selected)", "\(hits)", "\(misses)", "\(rows)",
        bytes(count),
        number(replay.sameRowsError(range), 7), number(replay.fullAttentionError(range), 4),
      ]
    }
    let head = [
      "step", "recall", "selected", "hit", "missed", "moved", "bytes", "err same rows", "err full",
    ]
    let all = 0..<replay.steps.count
    show(
      "\nDecode steps (rows over all holders; errors relative; recall against the exact top-k)")
    var rows = [head]
    if everyStep || all.count <= 12 {
      rows += all.map { line("\($0 + 1)", $0..<$0 + 1) }
    } else {
      rows += replay.quarters.map { line("\($0.lowerBound + 1)-\($0.upperBound)", $0) }
    }
    rows.append(line("all", all))
    show(table(rows))
  }

  private func codes<E: Scalar>(_ replay: TrajectoryReplay<E>) {
    if let place = replay.firstNonFinite {
      show(
        "  k_hat is NaN or infinite, first at \(place); largest finite magnitude of the run "
          + number(replay.largestCode))
    } else {
      show("  largest |k_hat| or |A_K|: \(number(replay.largestCode))")
    }
  }

  private func ledger<E: Scalar>(_ replay: TrajectoryReplay<E>) {
    show("\nTransfers")
    var rows = [["direction", "reason", "rows", "bytes"]]
    for (direction, reasons) in replay.ledger.sorted(by: { $0.key < $1.key }) {
      for (reason, line) in reasons.sorted(by: { $0.key < $1.key }) where line.rows > 0 {
        rows.append([direction, reason, "\(line.rows)", bytes(line.bytes)])
      }
    }
    show(table(rows))
    let policies = replay.missedRowsByPolicy
    show(
      "  the same sets would miss \(policies.perQueryHead) rows held per query head, "
        + "\(policies.perKeyValueHead) held per key/value head")
    let model = LinkModel.pcie4x16
    show(
      "  link model (a model, PCIe 4.0 x16: 25 GB/s, 10 us a copy, 50 ns a gathered row): "
        + "\(number(model.seconds(for: replay.events) * 1e3)) ms in all")
  }

  private func memory<E: Scalar>(_ replay: TrajectoryReplay<E>) {
    let full = Double(max(replay.fullCacheBytes, 1))
    show("\nBytes at the end")
    show(
      table([
        [
          "on the device", bytes(replay.residentBytes),
          "\(number(Double(replay.residentBytes) / full)) of the full cache",
        ],
        ["at most, prompt included", bytes(replay.peakBytes), ""],
        ["on the host", bytes(replay.hostBytes), ""],
        ["full key/value cache", bytes(replay.fullCacheBytes), ""],
      ]))
  }

  private func comparisons(_ outputs: [String: Comparison]) {
    if outputs.isEmpty { return }
    show("\nComparison with the file")
    show(
      table(
        [["output", "relative", "limit", "max abs", "at", "verdict", "limit from"]]
          + outputs.sorted { $0.key < $1.key }.map { name, c in
            [
              name, number(c.relative, 6), number(c.limit, 6), number(c.maxAbs, 6), "\(c.worst)",
              c.within ? "within" : "OUTSIDE", c.reason,
            ]
          }))
  }
}
