// What the terminal shows besides results: errors, progress, aligned columns.

import ArgumentParser
import CacheMethods
import Evaluation
import Foundation
import LRQK
import Replay
import Tensors
import TieredMemory
import Transformers

/// How a run under a cache method goes on at a breakdown.
let cacheGoesOn = "--cache lrqk:on-breakdown=proceed"

/// Ends the tool with one line on standard error: 64 for a choice that makes no sense, 1 for a run
/// that broke down, 65 for input that cannot be used.
///
/// `goingOn` is the option that lets a run go on at a breakdown.
func fail(
  _ error: any Error, _ path: String, goingOn: String = "--continue-on-breakdown"
) -> Never {
  let (text, status): (String, Int32) =
    switch error {
    case LRQKError.parameter(let sentence): (sentence, 64)
    case let error as ValidationError: (error.message, 64)
    case LRQKError.singular: ("\(path): \(error), or go on with \(goingOn)", 1)
    case LRQKError.overflow, LRQKError.decomposition, LRQKError.nonFiniteInput,
      DecoderError.notFiniteLogits:
      ("\(path): \(error)", 1)
    case is DeviceTierError, is SamplingError, is ScoreError: ("\(path): \(error)", 1)
    case is MethodError: ("--cache \(error)", 64)
    case is MisfitError: ("\(error)", 64)
    case is ReplayError, is SafetensorsError, is InputError, is EvaluationError, is FileError:
      ("\(error)", 65)
    default: ("\(error)".contains(path) ? "\(error)" : "\(path): \(error)", 65)
    }
  // One line whatever a path or a file's metadata hold, and no control characters for the terminal.
  let line = String(
    String.UnicodeScalarView(
      text.unicodeScalars.prefix(1000).map { $0.properties.generalCategory == .control ? " " : $0 })
  )
  FileHandle.standardError.write(Data("lrqk: \(line)\n".utf8))
  Foundation.exit(status)
}

/// Writes a line to standard output; where that cannot take it, the tool ends with status 74.
func show(_ text: String, ending: String = "\n") {
  do {
    try FileHandle.standardOutput.write(contentsOf: Data((text + ending).utf8))
  } catch {
    FileHandle.standardError.write(
      Data("lrqk: standard output: cannot write; the rest is lost\n".utf8))
    Foundation.exit(74)
  }
}

/// `object` in JSON over many lines, names in alphabetical order.
func objectJSON(_ object: [String: Any]) throws -> Data {
  try JSONSerialization.data(withJSONObject: object, options: [.sortedKeys, .prettyPrinted])
}

/// A terminal, and nobody asked for plain text (no-color.org).
var isColourWanted: Bool {
  let environment = ProcessInfo.processInfo.environment
  return isatty(1) == 1 && (environment["NO_COLOR"] ?? "").isEmpty
    && environment["TERM"] != "dumb"
}

/// A bar on standard error that appears when a run takes longer than a second.
final class ProgressBar {
  private let label: String
  private let isShown: Bool
  private let start = ContinuousClock.now
  private var lastShown = ContinuousClock.now
  private var width = 0

  init(label: String, isWanted: Bool?) {
    self.label = label
    isShown = isWanted ?? (isatty(FileHandle.standardError.fileDescriptor) == 1)
  }

  func show(_ done: Int, of total: Int) {
    let now = ContinuousClock.now
    guard isShown, now - start > .seconds(1), now - lastShown > .milliseconds(100) else { return }
    lastShown = now
    let filled = 30 * done / max(total, 1)
    let elapsed = now - start
    let left = elapsed / max(done, 1) * (total - done)
    let bar = String(repeating: "#", count: filled) + String(repeating: "-", count: 30 - filled)
    let line = "\r[\(bar)] \(done)/\(total) \(label), \(left.components.seconds) s left"
    FileHandle.standardError.write(
      Data(line.padding(toLength: max(width, line.count), withPad: " ", startingAt: 0).utf8))
    width = line.count
  }

  func clear() {
    if width > 0 {
      FileHandle.standardError.write(
        Data(("\r" + String(repeating: " ", count: width) + "\r").utf8))
    }
  }
}

/// `value` with `digits` behind the point, or in scientific form when it is tiny or huge.
func number(_ value: Double, _ digits: Int = 3) -> String {
  let size = abs(value)
  if value == 0 || (size >= 0.001 && size < 1e6) { return String(format: "%.\(digits)f", value) }
  return String(format: "%.2e", value)
}

/// Bytes as people read them: 1,234,567 B is 1.18 MiB.
func bytes(_ count: Int) -> String {
  let units = ["B", "KiB", "MiB", "GiB", "TiB"]
  var value = Double(count)
  var unit = 0
  while value >= 1024 && unit < units.count - 1 {
    value /= 1024
    unit += 1
  }
  return unit == 0 ? "\(count) B" : String(format: "%.2f %@", value, units[unit])
}

/// Lines of a label and what it stands for, in two columns.
func labelled(_ rows: [[String]]) -> [String] {
  let width = rows.map { $0[0].count }.max() ?? 0
  return rows.map { row in
    row[0].padding(toLength: width, withPad: " ", startingAt: 0) + "  " + row[1]
  }
}

/// Rows of cells in columns: the first left-aligned, the others right-aligned.
func table(_ rows: [[String]], indent: String = "  ") -> String {
  let columns = rows.map(\.count).max() ?? 0
  let widths = (0..<columns).map { c in
    rows.map { c < $0.count ? $0[c].count : 0 }.max() ?? 0
  }
  return rows.map { row in
    indent
      + row.enumerated().map { c, cell in
        let space = String(repeating: " ", count: widths[c] - cell.count)
        if c > 0 { return space + cell }
        return row.count == 1 ? cell : cell + space
      }.joined(separator: "  ").replacing(#/ +$/#, with: "")
  }.joined(separator: "\n")
}
