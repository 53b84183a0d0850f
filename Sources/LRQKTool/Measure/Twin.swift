// The other side of a comparison: a Python program that does the same work with PyTorch.
//
// In:  a Python that can import PyTorch; the kind of work; sizes and numbers, in files.
// Out: seconds of one run after another, whenever they are asked for; its result, to be compared.
//
// The program is twin.py, written for this package. It is a process of its own that waits for a
// word on its standard input and answers with a line, so that ours and its runs take turns and a
// slow minute of the machine slows both. A *pair* is the median of some runs of ours and the median
// of as many of its runs, right after each other.

import ArgumentParser
import Foundation
import Reports
import Tensors

/// Whether there is another side, and which Python runs it.
struct CompareOptions: ParsableArguments {
  @Flag(help: "Time a PyTorch program that does the same in turn with ours.") var compare = false
  @Option(help: "With --compare: a Python that can import PyTorch. (default: python3)")
  var python: String?
  @Option(help: "With --compare: pairs of runs. (default: 5)") var pairs: Int?

  func validate() throws {
    if !compare {
      for (name, isGiven) in [("--python", python != nil), ("--pairs", pairs != nil)] where isGiven
      {
        throw ValidationError("\(name) has no effect without --compare")
      }
    }
    try requireRange([("--pairs", pairs, 1000)])
  }

  /// How many pairs there are; 0 without a comparison.
  var pairCount: Int { compare ? pairs ?? 5 : 0 }

  /// Starts the other side in `folder`, where it finds `numbers`; nil without a comparison.
  func twin(
    _ work: String, in folder: String, sizes: [String: Any], numbers: [String: [[Float]]] = [:]
  ) throws -> Twin? {
    if !compare { return nil }
    for (name, parts) in numbers {
      try writeFloats(parts, to: "\(folder)/\(name).f32")
    }
    return try Twin(python ?? "python3", work, folder: folder, sizes: sizes)
  }
}

/// Writes all `parts`, one behind the other, as they are in memory.
private func writeFloats(_ parts: [[Float]], to path: String) throws {
  guard FileManager.default.createFile(atPath: path, contents: nil),
    let file = FileHandle(forWritingAtPath: path)
  else { throw InputError("\(path): cannot be written") }
  for part in parts {
    try file.write(contentsOf: unsafe part.withUnsafeBytes { unsafe Data($0) })
  }
  try file.close()
}

/// The other side cannot run; the sentence says why.
struct TwinError: Error, CustomStringConvertible {
  let description: String
}

/// A running Python program with some work to repeat.
final class Twin {
  /// PyTorch's version, "2.13.0".
  let version: String
  private let process = Process()
  private let words = Pipe()
  private let lines = Pipe()
  private let folder: String
  private var unread = Data()

  fileprivate init(
    _ python: String, _ work: String, folder: String, sizes: [String: Any]
  ) throws {
    self.folder = folder
    let all = sizes.merging(["processors": processorCount]) { given, _ in given }
    try objectJSON(all).write(to: URL(fileURLWithPath: "\(folder)/twin.json"))
    let program = "\(folder)/twin.py"
    try Data(PackageResources.twin_py).write(to: URL(fileURLWithPath: program))
    // Errors go into a file: nobody reads them unless the program ends.
    let errors = "\(folder)/errors"
    try Data().write(to: URL(fileURLWithPath: errors))
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [python, program, folder, work]
    process.standardInput = words
    process.standardOutput = lines
    process.standardError = FileHandle(forWritingAtPath: errors)
    do { try process.run() } catch {
      throw TwinError(description: "--compare: \(python) does not start: \(error)")
    }
    guard let line = Self.line(from: lines.fileHandleForReading, &unread),
      line.hasPrefix("ready ")
    else {
      process.waitUntilExit()
      throw TwinError(
        description: "--compare needs a Python with PyTorch, and \(python) "
          + "\(Self.reason(errors)); --python names another one")
    }
    version = String(line.dropFirst("ready ".count))
  }

  deinit {
    try? words.fileHandleForWriting.close()
    process.terminate()
    process.waitUntilExit()
  }

  /// Why the program ended, in its own last words.
  private static func reason(_ errors: String) -> String {
    let text = (try? String(contentsOfFile: errors, encoding: .utf8)) ?? ""
    let last = text.split(separator: "\n").last.map(String.init) ?? "said nothing"
    return "ended (\(last))"
  }

  private static func line(from file: FileHandle, _ unread: inout Data) -> String? {
    while true {
      if let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
        let line = String(decoding: unread[..<end], as: UTF8.self)
        unread = Data(unread[(end + 1)...])
        return line
      }
      let more = file.availableData
      if more.isEmpty { return nil }
      unread += more
    }
  }

  private func ask(_ word: String) throws -> String {
    try words.fileHandleForWriting.write(contentsOf: Data("\(word)\n".utf8))
    guard let line = Self.line(from: lines.fileHandleForReading, &unread) else {
      process.waitUntilExit()
      throw TwinError(description: "--compare: the other side \(Self.reason("\(folder)/errors"))")
    }
    return line
  }

  /// Seconds of one run of `word`.
  func seconds(_ word: String = "run") throws -> Double {
    let line = try ask(word)
    guard let seconds = Double(line) else {
      throw TwinError(description: "--compare: the other side said '\(line)'")
    }
    return seconds
  }

  /// The result of the last run.
  func answer() throws -> [Float] {
    _ = try ask("answer")
    let data = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/answer.f32"))
    return unsafe data.withUnsafeBytes { unsafe Array($0.bindMemory(to: Float.self)) }
  }

  /// Throws unless the last run's result is `ours` but for rounding; returns ‖x − y‖ / ‖y‖.
  func check(_ ours: [Float], within limit: Double) throws -> Double {
    let theirs = try answer()
    let difference = relativeDifference(ours, theirs)
    if !(difference <= limit) {
      throw TwinError(
        description: "--compare: the two results differ by \(number(difference)), more than "
          + "\(number(limit)), so their times are not comparable")
    }
    return difference
  }
}

/// ‖x − y‖ / ‖y‖; infinity where they have different lengths.
package func relativeDifference(_ x: [Float], _ y: [Float]) -> Double {
  if x.count != y.count { return .infinity }
  var (difference, size) = (0.0, 0.0)
  for (a, b) in zip(x, y) {
    difference += Double(a - b) * Double(a - b)
    size += Double(b) * Double(b)
  }
  return (difference / size).squareRoot()
}

/// Pairs of ours and theirs.
struct Comparison {
  let version: String
  let ours: Spread
  let theirs: Spread
  /// Theirs by ours, pair by pair.
  let ratio: Spread
  let pairs: Int

  /// Times `pairs` pairs of `runs` runs each; the sides take turns, ours first.
  ///
  /// Threads of either side go on spinning for a while when they have nothing to do, so each turn
  /// begins with a rest.
  init(
    _ twin: Twin, pairs: Int, runs: Int, word: String = "run", _ work: () throws -> Void
  ) throws {
    version = twin.version
    self.pairs = pairs
    var (ours, theirs): ([Double], [Double]) = ([], [])
    for _ in 0..<pairs {
      Thread.sleep(forTimeInterval: 0.05)
      ours.append(Spread(try (0..<runs).map { _ in try secondsOf(work) }).median)
      Thread.sleep(forTimeInterval: 0.05)
      theirs.append(Spread(try (0..<runs).map { _ in try twin.seconds(word) }).median)
    }
    (self.ours, self.theirs) = (Spread(ours), Spread(theirs))
    ratio = Spread(zip(ours, theirs).map { $1 / $0 })
  }

  /// Rows of a table: their time, and by how much it is longer.
  func rows(_ name: String = "PyTorch") -> [[String]] {
    let (median, range) = theirs.texts(2, unit: 1e-3)
    return [
      [
        "\(name) \(version)", "\(median) ms",
        "\(range) ms; ours meanwhile \(ours.text(2, unit: 1e-3))",
      ],
      [
        "its time by ours", number(ratio.median, 2),
        "median of \(pairs) pairs, "
          + ratio.texts(2).range,
      ],
    ]
  }

  /// The same for JSON.
  var fields: [String: Any] {
    ["version": version, "pairs": pairs]
      .merging(ours.fields("seconds")) { $1 }
      .merging(theirs.fields("their_seconds")) { $1 }
      .merging(ratio.fields("ratio")) { $1 }
  }
}
