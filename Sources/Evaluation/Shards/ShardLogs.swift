// The logs of all parts of a run, put together.
//
// In:  log files, one of each shard.
// Out: every record of the whole run; or one line that says which file to look at, and why.
//
//   1. every file is the log of a shard, whole lines only
//   2. all heads are the same but for the shard's number
//   3. no shard comes twice, none is missing
//   4. every shard has a record of each of its samples under each method
//
// Nothing is computed and no file is changed: a shard that lacks records is finished by its own
// command. A last line without its line break is what a killed run leaves; it is no record.
//
// Source: ours.

import CacheMethods
import Foundation
import Reports
import Tensors

/// The head of a log that can be a part's.
package protocol ShardHeading: LogHeading {
  /// Which part the log holds; nil for a whole run.
  var shard: Shard? { get }
  /// The same head, of another part.
  func with(_ shard: Shard) -> Self
}

/// A record whose log can be a part's.
package protocol ShardRecord: LogRecord where Head: ShardHeading {
  /// What the records of a part are about, in the order of the run.
  static func keys(of head: Head) -> [Key]
}

/// The records of all parts of a run.
package struct ShardLogs<Record: ShardRecord> {
  /// What all records have in common; the part is that of the first file.
  package let head: Record.Head
  private let records: [Record.Key: Record]

  /// Puts logs together, each of them a path and what the file holds.
  package init(_ files: [(path: String, bytes: [UInt8])]) throws(EvaluationError) {
    precondition(!files.isEmpty, "at least one log")
    var parts: [Part] = []
    for file in files { parts.append(try Part(file.path, file.bytes)) }
    let first = parts[0]
    for part in parts.dropFirst() { try part.checkSameRun(as: first) }
    for (n, part) in parts.enumerated() {
      if let twin = parts[..<n].first(where: { $0.shard == part.shard }) {
        throw EvaluationError(
          "\(part.path): shard \(part.shard), and so is \(twin.path); name every shard once")
      }
    }
    let missing = (1...first.shard.count).map { Shard($0, of: first.shard.count) }
      .filter { shard in !parts.contains { $0.shard == shard } }
    if !missing.isEmpty {
      throw EvaluationError(
        "no file holds shard \(listed(missing)); name the logs of all \(first.shard.count) shards")
    }
    for part in parts { try part.checkThatAllIsThere() }
    head = first.head
    records = parts.reduce(into: [:]) { all, part in all.merge(part.records) { $1 } }
  }

  /// The record about `key`, one of the whole run's.
  func record(_ key: Record.Key) -> Record? { records[key] }

  /// One shard's log.
  private struct Part {
    let path: String
    let head: Record.Head
    let shard: Shard
    let records: [Record.Key: Record]

    init(_ path: String, _ bytes: [UInt8]) throws(EvaluationError) {
      let lines = bytes.split(separator: 10, omittingEmptySubsequences: false).dropLast()
      let log = try RecordLog<Record>.read(lines, path) { _ throws(EvaluationError) in }
      guard let (head, records, _) = log else {
        throw EvaluationError("\(path): not a log of \(Record.Head.command), it has no whole line")
      }
      guard let shard = head.shard else {
        throw EvaluationError(
          "\(path): the log of a whole run, not of a shard; the command that wrote it prints its "
            + "table")
      }
      self.path = path
      self.head = head
      self.shard = shard
      self.records = records
    }

    /// Requires that only the shard's number is another one than that of `first`.
    func checkSameRun(as first: Part) throws(EvaluationError) {
      let same = shard.count == first.shard.count ? head.with(first.shard) : head
      if same == first.head { return }
      throw EvaluationError(
        "\(path): another run than \(first.path) (\(same.difference(to: first.head, "there")))")
    }

    /// Requires a record of every sample under every method.
    func checkThatAllIsThere() throws(EvaluationError) {
      let missing = Record.keys(of: head).filter { records[$0] == nil }
      if missing.isEmpty { return }
      throw EvaluationError(
        "\(path): shard \(shard) lacks \(missing.count) record\(missing.count == 1 ? "" : "s"): "
          + "\(listed(missing)); run its command again, it goes on from there")
    }
  }
}

/// The first few of some things, and how many there are beside them.
private func listed(_ things: [some CustomStringConvertible]) -> String {
  let shown = things.prefix(3).map(\.description).joined(separator: "; ")
  return things.count > 3 ? "\(shown); and \(things.count - 3) more" : shown
}

/// The methods that a log's head names, each of them the one that wrote the records.
func loggedMethods(_ caches: [String]) throws(EvaluationError) -> [any CacheMethod] {
  var methods: [any CacheMethod] = []
  for text in caches {
    let method: any CacheMethod
    do { method = try cacheMethod(text) } catch {
      throw EvaluationError("the logs name \(shown(text)), which cannot be made here: \(error)")
    }
    if method.description != text {
      throw EvaluationError(
        "the logs name \(shown(text)), which is \(shown(method.description)) here; take the "
          + "version of the tool that wrote them")
    }
    methods.append(method)
  }
  return methods
}

/// The command whose log a file is, by its first line: "lrqk ruler"; nil where it is none.
package func logCommand(of bytes: [UInt8]) -> String? {
  struct Kind: Decodable { let log: String }
  let line = bytes.prefix { $0 != 10 }
  let kind = (try? JSONDecoder().decode(Kind.self, from: Data(line)))?.log
  return [LogHead.command, WindowHead.command].first { kind?.hasPrefix("\($0) ") ?? false }
}
