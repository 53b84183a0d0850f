// A method's replay as people and scripts read it.
//
// In:  a finished replay of a cache method (MethodReplay.swift).
// Out: lines; the JSON object of `lrqk replay --cache METHOD --json`; the tensors of `--output`.

import CacheMethods
import Reports
package import Tensors
import TieredMemory

/// The JSON object; its keys are a contract with scripts.
package struct MethodReplayReport: Encodable {
  let file: String
  let cache: String
  let notes: [String]
  let budget: BudgetUse
  let recall: Double?
  let mass: Double
  let sameRowsAttentionRelative: Double
  let fullAttentionRelative: Double
  let ledger: [String: [String: LedgerLine]]
  let residentBytes: Int
  let peakBytes: Int
  let hostBytes: Int
  let fullCacheBytes: Int
  let steps: [StepLine]

  /// One step, with its errors as single numbers.
  struct StepLine: Encodable {
    let step: Int
    let recall: Double?
    let mass: Double
    let hits: Int
    let misses: Int
    let movedBytes: Int
    let residentBytes: Int
    let sameRowsAttentionRelative: Double
    let fullAttentionRelative: Double
  }

  /// The object of a replay of `recording`.
  package init(_ recording: Recording, _ replay: MethodReplay) {
    let whole = replay.summary(replay.steps.indices)
    file = recording.file.path
    cache = replay.method.description
    notes = replay.notes
    budget = replay.budget
    recall = whole.recall
    mass = whole.mass
    sameRowsAttentionRelative = whole.sameRows
    fullAttentionRelative = whole.full
    ledger = TransferLedger.lines(replay.events)
    residentBytes = replay.residentBytes
    peakBytes = replay.peakBytes
    hostBytes = replay.hostBytes
    fullCacheBytes = replay.fullCacheBytes
    steps = replay.steps.map {
      StepLine(
        step: $0.step, recall: $0.recall, mass: $0.mass, hits: $0.hits, misses: $0.misses,
        movedBytes: $0.movedBytes, residentBytes: $0.residentBytes,
        sameRowsAttentionRelative: $0.sameRows.root, fullAttentionRelative: $0.full.root)
    }
  }
}

extension MethodReplay {
  /// Some steps together.
  struct Summary {
    let recall: Double?
    let mass: Double
    let hits: Int
    let misses: Int
    let movedBytes: Int
    let residentBytes: Int
    let sameRows: Double
    let full: Double
  }

  func summary(_ range: Range<Int>) -> Summary {
    let part = steps[range]
    let recalls = part.compactMap(\.recall)
    func sum(_ count: (Step) -> Int) -> Int { part.reduce(0) { $0 + count($1) } }
    return Summary(
      recall: recalls.isEmpty ? nil : recalls.reduce(0, +) / Double(recalls.count),
      mass: part.isEmpty ? 1 : part.reduce(0) { $0 + $1.mass } / Double(part.count),
      hits: sum(\.hits), misses: sum(\.misses), movedBytes: sum(\.movedBytes),
      residentBytes: part.last?.residentBytes ?? residentBytes,
      sameRows: part.reduce(SquaredRatio()) { $0 + $1.sameRows }.root,
      full: part.reduce(SquaredRatio()) { $0 + $1.full }.root)
  }

  /// As people read it: the verdict first, then the steps, what moved and what is held.
  ///
  /// Lines are at most 100 columns wide, but for the name of the file.
  package func text(_ recording: Recording, everyStep: Bool, width: Int?) -> String {
    let width = replayWidth(width)
    let whole = summary(steps.indices)
    var lines = [
      "attends to \(percent(whole.mass)) of the exact attention; its answers are "
        + "\(percent(whole.full)) off full attention",
      "  \(visible(recording.file.path))",
    ]
    let sentences =
      ["method: \(method.brief)"] + notes.map { "note: \(visible($0))" } + [
        "\(batch) x \(heads.query) query heads, \(heads.keyValue) key/value heads; prompt "
          + "\(promptLength) tokens, \(steps.count) decode steps", "budget: \(budget.text)",
      ]
    lines += sentences.flatMap { filled($0, width: width, indent: 2, hanging: 2) }
    if !steps.isEmpty {
      var rows = [
        ["step", "recall", "mass", "hit", "missed", "moved", "held", "err same rows", "err full"]
      ]
      if everyStep || steps.count <= 12 {
        rows += steps.indices.map { line("\($0 + 1)", $0..<$0 + 1) }
      } else {
        rows += (0..<4).map { n in
          let part = steps.count * n / 4..<steps.count * (n + 1) / 4
          return line("\(part.lowerBound + 1)-\(part.upperBound)", part)
        }
      }
      rows.append(line("all", steps.indices))
      lines += ["", "Decode steps (recall against the exact best rows; errors relative)"]
      lines.append(TextTable(rows).text(width: width))
    }
    var moved = [["direction", "reason", "rows", "bytes"]]
    for (direction, reasons) in TransferLedger.lines(events).sorted(by: { $0.key < $1.key }) {
      for (reason, line) in reasons.sorted(by: { $0.key < $1.key }) {
        moved.append([direction, reason, "\(line.rows)", bytes(line.bytes)])
      }
    }
    lines += ["", moved.count == 1 ? "Transfers: none" : "Transfers"]
    if moved.count > 1 { lines.append(TextTable(moved).text(width: width)) }
    lines += ["", "Bytes at the end"]
    lines.append(
      TextTable([
        [
          "on the device", bytes(residentBytes),
          "\(number(Double(residentBytes) / Double(max(fullCacheBytes, 1)))) of the full cache",
        ],
        ["at most, prompt included", bytes(peakBytes), ""],
        ["on the host", bytes(hostBytes), ""],
        ["full key/value cache", bytes(fullCacheBytes), ""],
      ]).text(width: width))
    return lines.joined(separator: "\n")
  }

  private func line(_ label: String, _ range: Range<Int>) -> [String] {
    let part = summary(range)
    return [
      label, part.recall.map { number($0) } ?? "-", number(part.mass), "\(part.hits)",
      "\(part.misses)", bytes(part.movedBytes), bytes(part.residentBytes),
      number(part.sameRows, 7), number(part.full, 4),
    ]
  }

  private func percent(_ x: Double) -> String { "\(number(x * 100, 1)) %" }

  /// Attended tokens (steps, batch · H, n), padded with -1, and their counts.
  package var integers: [(name: String, tensor: Tensor<Int>)] {
    guard let first = attended.first else { return [] }
    let most = attended.joined().reduce(1) { max($0, $1.count) }
    let axes = [attended.count, first.count]
    return [
      (
        "attended",
        Tensor(
          shape: axes + [most],
          elements: attended.joined().flatMap {
            $0 + Array(repeating: -1, count: most - $0.count)
          })
      ),
      ("attended_count", Tensor(shape: axes, elements: attended.joined().map(\.count))),
    ]
  }

  /// The answers, (steps, batch · H, d); nil without steps.
  package var answers: Tensor<Float>? {
    attention.isEmpty ? nil : Tensor(stacking: attention)
  }
}
