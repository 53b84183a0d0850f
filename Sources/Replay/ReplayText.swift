// A replay as people read it.
//
// In:  a finished replay and its comparison with the recording; the reader's width.
// Out: lines: the verdict first, then choices, the fit of the prompt, decode steps, transfers,
//      bytes, the comparison. They are at most 100 columns wide, but for the name of the file.

import LRQK
import Reports
package import Tensors
import TieredMemory

/// The columns that a replay's lines take: those of the reader's terminal, at most 100.
func replayWidth(_ terminal: Int?) -> Int { min(terminal ?? 100, 100) }

/// The lines of a replay, section by section.
package struct ReplayText {
  /// The lines so far, with a line break between two of them.
  package private(set) var text = ""
  private let recording: Recording
  private let precision: String
  private let width: Int

  private init(_ recording: Recording, _ precision: String, _ width: Int?) {
    self.recording = recording
    self.precision = precision
    self.width = replayWidth(width)
  }

  /// The lines of a recorded call.
  package init<E: Scalar>(
    _ recording: Recording, _ call: RecordedCall<E>, _ plan: ReplayPlan, width: Int?
  ) {
    self.init(recording, E.precisionName, width)
    header(verdict(call.outputs), plan, plan.notes)
    fit(call.sweeps, call.conditioning)
    comparisons(call.outputs)
  }

  /// The lines of a trajectory; `leftOut` are lines about what a written file has not.
  package init<E: Scalar>(
    _ recording: Recording, _ replay: TrajectoryReplay<E>, _ comparison: TrajectoryComparison,
    everyStep: Bool, leftOut: [String], width: Int?
  ) {
    self.init(recording, E.precisionName, width)
    header(comparison.verdict(otherwise: replay.measure), replay.plan, replay.notes)
    let p = replay.plan.parameters
    sentence(
      "\(replay.batch) x \(replay.heads.query) query heads, \(replay.heads.keyValue) key/value "
        + "heads; prompt \(replay.promptLength) tokens, \(replay.steps.count) decode steps; "
        + "r = \(p.rank), k = \(p.selected), w = \(p.recent)")
    fit(replay.sweeps, replay.conditioning)
    if !replay.steps.isEmpty {
      steps(replay, everyStep: everyStep)
      codes(replay)
    }
    ledger(replay)
    memory(replay)
    comparisons(comparison.outputs)
    if comparison.selectedCompared > 0 {
      let verdict = comparison.selectedCompared == comparison.selectedEqual ? "" : " (DIFFERENT)"
      add(
        "  selected sets: \(comparison.selectedEqual) of \(comparison.selectedCompared) equal"
          + verdict)
    }
    if let equal = comparison.promptSelectedEqual {
      add("  the prompt's selected sets: \(equal ? "all equal" : "DIFFERENT")")
    }
    if let equal = comparison.missedRowsEqual {
      add("  missed rows: \(equal ? "all equal" : "DIFFERENT")")
    }
    if let equal = comparison.attendedEqual {
      add("  attended tokens: \(equal ? "all equal" : "DIFFERENT")")
    }
    for line in comparison.skipped { sentence("not compared: \(visible(line))") }
    for line in leftOut { sentence(visible(line)) }
  }

  private mutating func header(_ verdict: ReplayVerdict, _ plan: ReplayPlan, _ notes: [String]) {
    for line in verdict.lines(width: width) { add(line) }
    add("  \(visible(recording.file.path)) (\(recording.kind.rawValue), \(precision))")
    for note in notes { sentence("note: \(visible(note))") }
    let choices = plan.parameters.words(recording.kind.parts).map { "\($0.name)=\($0.value)" }
    sentence("choices: " + choices.joined(separator: " "), hanging: 9)
  }

  private mutating func fit(_ sweeps: [SweepReport], _ conditioning: Conditioning) {
    if !sweeps.isEmpty {
      add("\nFit of the prompt, all heads together")
      add(
        table(
          [["", "objective F", "rel. error of QK^T", "optimum at this rank"]]
            + sweeps.map {
              [
                $0.sweep == 0 ? "closed form" : "sweep \($0.sweep)", number($0.objective, 1),
                number($0.relativeError, 4), number($0.optimum, 4),
              ]
            }))
    }
    if conditioning == Conditioning() { return }  // no system was solved
    sentence(
      "worst condition estimate of the solved systems: \(number(conditioning.worst, 0))"
        + (conditioning.pivoted ? " (the pivoted fallback was needed)" : ""))
  }

  private mutating func steps<E: Scalar>(_ replay: TrajectoryReplay<E>, everyStep: Bool) {
    // What moved, rows and bytes, by step, from the ledger: misses, reloads, keys read back by a
    // refresh.
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
    add(
      "\nDecode steps (rows over all holders; errors relative; recall against the exact top-k)")
    var rows = [head]
    if everyStep || all.count <= 12 {
      rows += all.map { line("\($0 + 1)", $0..<$0 + 1) }
    } else {
      rows += replay.quarters.map { line("\($0.lowerBound + 1)-\($0.upperBound)", $0) }
    }
    rows.append(line("all", all))
    add(table(rows))
  }

  private mutating func codes<E: Scalar>(_ replay: TrajectoryReplay<E>) {
    if let place = replay.firstNonFinite {
      sentence(
        "k_hat is NaN or infinite, first at \(place); largest finite magnitude of the run "
          + number(replay.largestCode))
    } else {
      add("  largest |k_hat| or |A_K|: \(number(replay.largestCode))")
    }
  }

  private mutating func ledger<E: Scalar>(_ replay: TrajectoryReplay<E>) {
    add("\nTransfers")
    var rows = [["direction", "reason", "rows", "bytes"]]
    for (direction, reasons) in replay.ledger.sorted(by: { $0.key < $1.key }) {
      for (reason, line) in reasons.sorted(by: { $0.key < $1.key }) where line.rows > 0 {
        rows.append([direction, reason, "\(line.rows)", bytes(line.bytes)])
      }
    }
    add(table(rows))
    let policies = replay.missedRowsByPolicy
    sentence(
      "the same sets would miss \(policies.perQueryHead) rows held per query head, "
        + "\(policies.perKeyValueHead) held per key/value head")
    let model = LinkModel.pcie4x16
    sentence(
      "link model (a model, PCIe 4.0 x16: 25 GB/s, 10 us a copy, 50 ns a gathered row): "
        + "\(number(model.seconds(for: replay.events) * 1e3)) ms in all")
  }

  private mutating func memory<E: Scalar>(_ replay: TrajectoryReplay<E>) {
    let full = Double(max(replay.fullCacheBytes, 1))
    add("\nBytes at the end")
    add(
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

  private mutating func comparisons(_ outputs: [String: Comparison]) {
    if outputs.isEmpty { return }
    // The reasons of limits are long and few: each has a letter in the table, and its line below.
    let reasons = Array(Set(outputs.values.map(\.reason))).sorted()
    func letter(_ reason: String) -> String {
      String("abcdefgh".dropFirst(reasons.firstIndex(of: reason) ?? 0).first ?? "?")
    }
    add("\nComparison with the file")
    add(
      table(
        [["output", "relative", "limit", "max abs", "at", "verdict", "limit from"]]
          + outputs.sorted { $0.key < $1.key }.map { name, c in
            [
              name, number(c.relative, 6), number(c.limit, 6), number(c.maxAbs, 6),
              "\(c.worst)", c.within ? "within" : "OUTSIDE", letter(c.reason),
            ]
          }))
    for reason in reasons { sentence("limit \(letter(reason)): \(reason)") }
  }

  /// Adds a line.
  private mutating func add(_ line: String) {
    text += (text.isEmpty ? "" : "\n") + line
  }

  /// Adds a sentence, in as many lines as it takes.
  private mutating func sentence(_ words: String, hanging: Int = 2) {
    for line in filled(words, width: width, indent: 2, hanging: hanging) { add(line) }
  }

  private func table(_ rows: [[String]]) -> String { TextTable(rows).text(width: width) }
}

extension TrajectoryReplay {
  /// How good the run was, in a few words.
  var measure: String {
    if !steps.isEmpty {
      return "recall \(number(recall(0..<steps.count))) of the exact top-k, answers "
        + "\(number(100 * fullAttentionError, 1)) % off full attention"
    }
    guard let last = sweeps.last else { return "nothing was factorised" }
    return "QK^T of the prompt is missed by \(number(100 * last.relativeError, 2)) %, optimum "
      + "\(number(100 * last.optimum, 2)) %"
  }
}
