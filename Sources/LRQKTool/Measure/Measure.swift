// A stopwatch, and the middle and the ends of what it measured.
//
// In:  some work, and how often it is timed.
// Out: seconds of each run; their median with the smallest and the largest.

import ArgumentParser
import Foundation
import Reports
import Tensors

/// Seconds of several runs of the same work, after one that is not counted.
struct Timing {
  private(set) var seconds: [Double] = []

  /// `count` is called after each run that counts, with the clock stopped.
  init(runs: Int, _ work: () throws -> Void, count: () -> Void = {}) throws {
    for run in 0...runs {
      let elapsed = try secondsOf(work)
      if run == 0 { continue }
      seconds.append(elapsed)
      count()
    }
  }

  var spread: Spread { Spread(seconds) }
  var median: Double { spread.median }
}

/// The seconds that one run of `work` takes.
func secondsOf(_ work: () throws -> Void) rethrows -> Double {
  let start = ContinuousClock.now
  try work()
  return (ContinuousClock.now - start) / .seconds(1)
}

/// The middle and the ends of some measurements.
package struct Spread: Sendable, Equatable {
  package let median: Double
  package let least: Double
  package let most: Double

  /// The spread of `values`, at least one of them.
  package init(_ values: [Double]) {
    precondition(!values.isEmpty, "no measurement")
    let sorted = values.sorted()
    let middle = sorted.count / 2
    median =
      sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    (least, most) = (sorted[0], sorted[sorted.count - 1])
  }

  /// "8.10", "7.90 to 9.31": the median, and its range, in units of `unit`.
  func texts(_ digits: Int, unit: Double = 1) -> (median: String, range: String) {
    (
      number(median / unit, digits),
      "\(number(least / unit, digits)) to \(number(most / unit, digits))"
    )
  }

  /// "8.10 (7.90 to 9.31)".
  func text(_ digits: Int, unit: Double = 1) -> String {
    let (median, range) = texts(digits, unit: unit)
    return "\(median) (\(range))"
  }

  /// `name`_median, `name`_min and `name`_max, for JSON.
  func fields(_ name: String) -> [String: Any] {
    ["\(name)_median": median, "\(name)_min": least, "\(name)_max": most]
  }
}

/// A benchmark's object, with what every benchmark says: its name, its cores, its OpenBLAS.
func benchJSON(_ name: String, _ parts: [String: Any]...) throws -> String {
  var object: [String: Any] = ["benchmark": name, "processors": processorCount]
  for part in parts + [kernelReport().fields] { object.merge(part) { $1 } }
  return String(decoding: try objectJSON(object), as: UTF8.self)
}

/// Rows of a benchmark: what, how much, and a sentence.
func benchTable(_ rows: [[String]]) -> String {
  TextTable(rows, alignments: [.left, .right, .left]).text(width: terminalWidth)
}

/// A row of a table for the most memory that the process had.
func peakRow(_ peak: Int) -> [String] {
  ["peak memory", Reports.bytes(peak), "of the whole process, random rows included"]
}

/// Throws for a value that is given and not from 1 to its most.
func requireRange(_ values: [(name: String, value: Int?, most: Int)]) throws {
  for (name, value, most) in values {
    if let value, !(1...most).contains(value) {
      throw ValidationError("\(name) \(value): it must be from 1 to \(most)")
    }
  }
}

/// "512,4096" as numbers; `name` is the option's.
func wholeNumbers(_ text: String, _ name: String) throws -> [Int] {
  try text.split(separator: ",", omittingEmptySubsequences: false).map { part in
    guard let number = Int(part) else {
      throw ValidationError("\(name) \(text): it is a whole number, or several: 512,4096")
    }
    return number
  }
}
