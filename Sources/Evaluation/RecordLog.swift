// The log of a long run, one record a line: what a killed run is continued from.
//
// In:  a path, and what all records depend on (the head).
// Out: the records that are there already; then every new one, written before the next begins.
//
//   line 1        the head: which command, which model, which settings
//   other lines   records
//
// A log with another head is refused: its numbers are about something else. A last line without its
// line break is what a killed run leaves behind; it is cut off (LineLog.swift, which also keeps a
// second run away from the same file). Numbers keep every bit: JSON has the shortest text that
// reads back as the same Double.
//
// Two commands have such logs: ruler, with sweep (SampleLog.swift), and perplexity
// (WindowLog.swift). `lrqk merge` reads those of several shards (Shards/ShardLogs.swift).

import Foundation
import Reports
import Tensors

/// What all records of a log have in common.
package protocol LogHeading: Codable, Equatable {
  /// The command that writes such logs: "lrqk ruler".
  static var command: String { get }
  /// What another run may have differently, in words for an error.
  var settings: [(name: String, text: String)] { get }
  /// Whether a run can have this head; one that was read from a damaged file may be none.
  var isSound: Bool { get }
}

extension LogHeading {
  /// The first setting that differs: `seed "0", here "1"`, where `word` is "here".
  func difference(to other: Self, _ word: String) -> String {
    let pair = zip(settings, other.settings).first { $0.text != $1.text }
    return pair.map { "\($0.name) \(shown($0.text)), \(word) \(shown($1.text))" } ?? "other inputs"
  }
}

/// A line of a log.
package protocol LogRecord: Codable {
  /// What a record is about; a log has no two that disagree.
  associatedtype Key: Hashable, CustomStringConvertible
  /// What all records of such a log have in common.
  associatedtype Head: LogHeading
  /// What this record is about.
  var key: Key { get }
  /// Whether a run with this head could have written the numbers.
  func isSound(under head: Head) -> Bool
}

/// Whether a count of bytes, rows or tokens can be summed up: not negative, and below 2^53.
func isSound(count: Int) -> Bool { (0..<1 << 53).contains(count) }

/// A log that is written to.
package final class RecordLog<Record: LogRecord> {
  /// What all of its records have in common.
  package typealias Head = Record.Head

  /// The file's path; empty where records are in memory alone.
  var path: String { log?.path ?? "" }
  private let log: LineLog?
  private var records: [Record.Key: Record] = [:]
  private var synchronized = ContinuousClock.now
  /// Bytes of the largest log that is read.
  static var fileLimit: Int { 1 << 30 }
  /// How much a power failure may cost.
  private static var mostAtRisk: Duration { .seconds(5) }

  /// Records in memory alone.
  package init() { log = nil }

  /// Opens the log at `path`, or begins it.
  ///
  /// Throws where it is not a log of this run, cannot be written, or another process writes to it.
  package init(path: String, head: Head) throws {
    let log: LineLog
    do {
      log = try LineLog(path: path, limit: Self.fileLimit)
    } catch {
      throw EvaluationError("\(error)")
    }
    self.log = log
    // A run that was killed within its first line leaves the beginning of that line, and nothing
    // else may be cut off.
    let firstLine = try jsonText(head, isPretty: false)
    if log.text.isEmpty && !firstLine.utf8.starts(with: log.tail) {
      throw EvaluationError("\(path): not a log of \(Head.command); choose another file")
    }
    let lines = log.text.split(separator: 10, omittingEmptySubsequences: false).dropLast()
    let known = try Self.read(lines, path) { (found) throws(EvaluationError) in
      if found == head { return }
      throw EvaluationError(
        "\(path): the log is of another run (\(found.difference(to: head, "here"))); choose "
          + "another file")
    }
    if let known { records = known.records }
    do {
      if !log.tail.isEmpty { try log.cut(to: log.text.count) }
      if lines.isEmpty { try log.append(firstLine) }
    } catch {
      throw EvaluationError("\(error)")
    }
  }

  deinit { try? log?.synchronize() }

  /// The head, the records of a log's whole lines, and their keys in the order of the lines; nil
  /// where there is no line.
  ///
  /// `check` throws where the head will not do.
  static func read(
    _ lines: ArraySlice<ArraySlice<UInt8>>, _ path: String,
    check: (Head) throws(EvaluationError) -> Void
  ) throws(EvaluationError) -> (head: Head, records: [Record.Key: Record], keys: [Record.Key])? {
    guard let first = lines.first else { return nil }
    guard let head = try? decoder.decode(Head.self, from: Data(first)), head.isSound else {
      throw EvaluationError("\(path): not a log of \(Head.command); choose another file")
    }
    try check(head)
    var records: [Record.Key: (line: Int, record: Record)] = [:]
    var keys: [Record.Key] = []
    for (n, line) in lines.enumerated().dropFirst() {
      guard let record = try? decoder.decode(Record.self, from: Data(line)),
        record.isSound(under: head)
      else { throw EvaluationError("\(path): line \(n + 1) is no record of \(Head.command)") }
      if let earlier = records[record.key], lines[lines.startIndex + earlier.line] != line {
        throw EvaluationError(
          "\(path): lines \(earlier.line + 1) and \(n + 1) are about the same, \(record.key), and "
            + "disagree; remove one of them")
      }
      if records.updateValue((n, record), forKey: record.key) == nil { keys.append(record.key) }
    }
    return (head, records.mapValues(\.record), keys)
  }

  /// As `jsonText` writes.
  private static var decoder: JSONDecoder {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
    return decoder
  }

  /// Adds the records of the log at `path`, of the same run, that are not here yet.
  ///
  /// They come in the order of its lines. A last line without its line break is what a killed run
  /// leaves; it is no record.
  package func take(from path: String, head: Head) throws {
    let bytes = try readInput(at: path, limit: Self.fileLimit)
    let lines = bytes.split(separator: 10, omittingEmptySubsequences: false).dropLast()
    let found = try Self.read(lines, path) { (other) throws(EvaluationError) in
      if other == head { return }
      throw EvaluationError(
        "\(path): the log is of another run (\(other.difference(to: head, "here")))")
    }
    guard let found else {
      throw EvaluationError("\(path): not a log of \(Head.command), it has no whole line")
    }
    for key in found.keys where records[key] == nil {
      if let record = found.records[key] { try add(record) }
    }
  }

  /// The record about `key`, if there is one.
  package func record(_ key: Record.Key) -> Record? { records[key] }

  /// Adds a record.
  package func add(_ record: Record) throws(EvaluationError) {
    records[record.key] = record
    guard let log else { return }
    do {
      try log.append(try jsonText(record, isPretty: false))
      if ContinuousClock.now - synchronized > Self.mostAtRisk {
        try log.synchronize()
        synchronized = .now
      }
    } catch {
      throw EvaluationError("\(error)")
    }
  }
}
