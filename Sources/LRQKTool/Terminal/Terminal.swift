// What the terminal shows besides results: errors, progress, aligned columns.

import ArgumentParser
import CacheMethods
import Evaluation
import Foundation
import LRQK
import Replay
import Reports
import Tasks
import Tensors
import TieredMemory
import Transformers

/// How a run under a cache method goes on at a breakdown.
let cacheGoesOn = "--cache lrqk:on-breakdown=proceed"

/// Ends the tool with one line on standard error: 64 for a choice that makes no sense, 1 for a run
/// that broke down, 65 for input that cannot be used, 74 for a standard stream that failed.
///
/// `goingOn` is the option that lets a run go on at a breakdown.
func fail(
  _ error: any Error, _ path: String, goingOn: String = "--continue-on-breakdown"
) -> Never {
  let (line, status) = failure(error, path, goingOn: goingOn)
  if status == 1 { showNotes() }  // the run began; otherwise the line stands alone
  Streams.writeErrors(visible(line) + "\n")
  Streams.exit(status)
}

/// The line for an error, and the exit status of a command that ends with it.
func failure(
  _ error: any Error, _ path: String, goingOn: String
) -> (line: String, status: Int32) {
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
    case is StreamError: ("\(error)", EX_IOERR)
    case is TwinError: ("\(error)", EX_UNAVAILABLE)
    case let error as FileError where error.isOfStandardInput: ("\(error)", EX_IOERR)
    case is MisfitError: ("\(error)", 64)
    case is ReplayError, is SafetensorsError, is InputError, is EvaluationError, is TaskError,
      is FileError:
      ("\(error)", 65)
    default:
      if let line = systemLine(error, path) {
        (line, 65)
      } else {
        ("\(error)".contains(path) ? "\(error)" : "\(path): \(error)", 65)
      }
    }
  return ("lrqk: \(text.unicodeScalars.count > 1000 ? text.prefix(1000) + "..." : text)", status)
}

/// One line for an error of the system's libraries; nil for an error of ours, which has its own
/// words.
///
/// `path` is what the command worked on, for an error that names no file.
private func systemLine(_ error: any Error, _ path: String) -> String? {
  switch error {
  case let error as CocoaError:
    let file = error.filePath ?? error.url?.path ?? path
    let reason: String =
      switch error.code {
      case .fileNoSuchFile, .fileReadNoSuchFile: "there is no such file or folder"
      case .fileReadNoPermission, .fileWriteNoPermission: "the system does not permit it"
      case .fileWriteOutOfSpace: "the disk is full"
      case .fileWriteVolumeReadOnly: "the disk can only be read"
      case .fileWriteFileExists: "there is another file or folder of this name"
      case .fileReadInapplicableStringEncoding, .fileReadCorruptFile: "not UTF-8 text"
      default:
        (error.underlying as? POSIXError).map { systemReason($0.code.rawValue) }
          ?? "cannot be read or written"
      }
    return "\(file): \(reason)"
  case let error as POSIXError: return "\(path): \(systemReason(error.code.rawValue))"
  case is EncodingError:
    return "\(path): the result holds a number that is infinite or none, which JSON cannot say"
  case is DecodingError: return "\(path): no JSON of the kind that is needed here"
  default:
    return type(of: error) == NSError.self ? "\(path): \(error.localizedDescription)" : nil
  }
}

/// Whether standard output is a terminal.
var isOnTerminal: Bool { isatty(1) == 1 }

/// Writes text to standard output, and a line's end; where that fails, the tool ends with status
/// 74.
///
/// Bytes stay as they are in files and pipes; a terminal is shown escapes (VisibleText.swift).
func show(_ text: String, ending: String = "\n") {
  showNotes()
  Streams.writeOutput((isOnTerminal ? visible(text, keeping: ["\n", "\t"]) : text) + ending)
}

/// Writes a page to standard output; its own colours are the only escape sequences in it.
func show(_ page: Page) {
  showNotes()
  var lines = page.lines
  while lines.last == "" { lines.removeLast() }
  Streams.writeOutput(lines.joined(separator: "\n") + "\n")
}

/// Writes a line for people to standard error; where that fails, the tool's exit status will be 74.
func say(_ line: String) {
  showNotes()
  Streams.writeErrors(visible(line) + "\n")
}

/// `object` in JSON over many lines, names in alphabetical order.
func objectJSON(_ object: [String: Any]) throws -> Data {
  try JSONSerialization.data(withJSONObject: object, options: [.sortedKeys, .prettyPrinted])
}

/// A terminal, and nobody asked for plain text (no-color.org).
var isColourWanted: Bool {
  let environment = ProcessInfo.processInfo.environment
  return isOnTerminal && (environment["NO_COLOR"] ?? "").isEmpty
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
    isShown = isWanted ?? (isatty(2) == 1)
  }

  func show(_ done: Int, of total: Int) {
    let now = ContinuousClock.now
    guard isShown, now - start > .seconds(1), now - lastShown > .milliseconds(100) else { return }
    lastShown = now
    showNotes()
    let filled = 30 * done / max(total, 1)
    let elapsed = now - start
    let left = elapsed / max(done, 1) * (total - done)
    let bar = String(repeating: "#", count: filled) + String(repeating: "-", count: 30 - filled)
    let line = "\r[\(bar)] \(done)/\(total) \(label), \(left.components.seconds) s left"
    Streams.writeErrors(
      line.padding(toLength: max(width, line.count), withPad: " ", startingAt: 0))
    width = line.count
  }

  func clear() {
    if width > 0 {
      Streams.writeErrors("\r" + String(repeating: " ", count: width) + "\r")
    }
  }
}

/// Columns of the terminal that standard output is; nil where it is a file or a pipe, or does not
/// say.
var terminalWidth: Int? {
  var size = winsize()
  guard isOnTerminal, unsafe ioctl(1, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else {
    return nil
  }
  return Int(size.ws_col)
}

/// Rows of cells in columns, as wide as the terminal allows.
func table(_ rows: [[String]], indent: String = "  ") -> String {
  TextTable(rows, indent: indent).text(width: terminalWidth)
}
