// Is a rival's recording met? Sets exactly, numbers within a limit that has a reason.
//
// In:  a recording, and what our method computed for it.
// Out: a line for every expected tensor: how far off, the limit, within or not.
//
//     sets, counts, ids, masks                      equal, but for -1 behind every row of sets
//     numbers, computed in Float                    4e-6 of the tensor's largest magnitude
//     numbers, computed in Double                   2e-6: what remains is the recording's rounding
//     NAME.f64 against Double                       1e-12
//     after an SVD or a PCA in float32              2e-5
//     rounded to float16 by the published code      2e-3
//     copies                                        equal
//
// The limits are those of the recordings' own README. An infinity has to meet the same infinity:
// +inf is a row that is kept in any case, -inf one that is not there.

import Reports
package import Tensors

/// The comparison of one expected tensor.
package struct RivalLine: Sendable, Encodable {
  /// Its name in the file.
  package let name: String
  /// Largest error, as a part of the tensor's largest magnitude; 1 for differing sets.
  package let error: Double
  /// The largest error that passes.
  package let limit: Double
  /// Elements that were compared.
  package let count: Int
  /// Where the largest error is, or the first element that differs.
  package let worst: [Int]
  /// What is there: computed, then expected; nil where nothing differs.
  package let found: [Double]?
  /// Whether it passes.
  package let within: Bool
  /// Why it was not compared; nil where it was.
  package let skipped: String?
}

/// The comparison of a recording with what was computed.
package struct RivalComparison: Sendable {
  /// A line for every tensor that the file expects.
  package let lines: [RivalLine]

  /// True when every expected tensor was computed and passes.
  package var isWithin: Bool { lines.allSatisfy(\.within) }

  /// Compares everything that `recording` expects with `outputs`.
  package init<E: Scalar>(_ recording: RivalRecording, _ outputs: RivalOutputs<E>) throws {
    let file = recording.file
    try recording.require(
      file.names.contains { $0.hasPrefix("expected/") },
      "it expects nothing: no tensor expected/...")
    lines = try file.names.filter { $0.hasPrefix("expected/") }.sorted().map { name in
      var key = String(name.dropFirst("expected/".count))
      let isDouble = key.hasSuffix(".f64")
      if isDouble {
        key = String(key.dropLast(4))
        if E.self != Double.self {
          return RivalLine.skipped(name, "float64 numbers are compared with --precision double")
        }
      }
      if let own = outputs.integers.first(where: { $0.name == key })?.tensor {
        return RivalLine(name, own, try file.integers(name))
      }
      guard let own = outputs.numbers.first(where: { $0.name == key })?.tensor else {
        return RivalLine.missing(name)
      }
      let limit = isDouble ? 1e-12 : rivalLimit(recording.method, key, E.self)
      return RivalLine(name, own.converted(), try file.tensor(name), limit: limit)
    }
  }
}

/// The same without the columns at its end that are -1 in every row.
private func unpadded(_ sets: Tensor<Int>) -> Tensor<Int> {
  let width = sets.shape.last ?? 0
  if sets.axisCount < 2 || width == 0 { return sets }
  let rows = stride(from: 0, to: sets.count, by: width).map { sets.elements[$0..<$0 + width] }
  let used = rows.reduce(0) { most, row in
    max(most, (row.lastIndex { $0 != -1 } ?? row.startIndex - 1) - row.startIndex + 1)
  }
  return Tensor(
    shape: sets.shape.dropLast() + [used], elements: rows.flatMap { $0.prefix(used) })
}

/// The limit of a float32 tensor; the head of this file says why.
private func rivalLimit<E: Scalar>(_ method: String, _ name: String, _: E.Type) -> Double {
  let decomposed = [
    "shadowkv": ["k_lowrank", "k_held"], "loki": ["projector", "explained_variance"],
    "recalkv": ["wv_hat", "cka", "whitening_gram"],
  ]
  let halves = [
    "infinigen": ["wq_skewed", "wk_skewed"], "recalkv": ["wk_hat", "k_held", "v_held"],
  ]
  let copies = [
    "quest": ["page_min", "page_max"], "kvlatent": ["wq", "wk", "wv", "wo"], "think": ["k_held"],
  ]
  if decomposed[method]?.contains(name) == true { return 2e-5 }
  if halves[method]?.contains(name) == true { return 2e-3 }
  if copies[method]?.contains(name) == true { return 0 }
  return E.self == Double.self ? 2e-6 : 4e-6
}

extension RivalLine {
  /// Integers: equal or not.
  fileprivate init(_ name: String, _ own: Tensor<Int>, _ expected: Tensor<Int>) {
    // Sets are padded with -1, and how far is no part of what they say.
    let isPadded = own.shape.dropLast() == expected.shape.dropLast() && own.shape != expected.shape
    let (own, expected) = isPadded ? (unpadded(own), unpadded(expected)) : (own, expected)
    let isShape = own.shape == expected.shape
    let place =
      isShape ? own.elements.indices.first { own.elements[$0] != expected.elements[$0] } : 0
    self.init(
      name: name, error: isShape && place == nil ? 0 : 1, limit: 0, count: expected.count,
      worst: isShape ? place.map(own.place) ?? [] : [],
      found: isShape
        ? place.map { [Double(own.elements[$0]), Double(expected.elements[$0])] } : nil,
      within: isShape && place == nil,
      skipped: isShape ? nil : "computed \(own.shape), the file has \(expected.shape)")
  }

  /// Numbers: largest difference by largest magnitude.
  fileprivate init(
    _ name: String, _ own: Tensor<Double>, _ expected: Tensor<Double>, limit: Double
  ) {
    guard own.shape == expected.shape else {
      self.init(
        name: name, error: 1, limit: limit, count: expected.count, worst: [], found: nil,
        within: false, skipped: "computed \(own.shape), the file has \(expected.shape)")
      return
    }
    let largest = expected.elements.reduce(0) { $1.isFinite ? max($0, abs($1)) : $0 }
    var (worst, place) = (0.0, 0)
    for i in 0..<expected.count {
      let (x, y) = (own.elements[i], expected.elements[i])
      var error = x == y ? 0 : abs(x - y) / (largest == 0 ? 1 : largest)
      if error.isNaN { error = .infinity }
      if error > worst { (worst, place) = (error, i) }
    }
    self.init(
      name: name, error: worst, limit: limit, count: expected.count,
      worst: worst == 0 ? [] : own.place(of: place),
      found: worst == 0 ? nil : [own.elements[place], expected.elements[place]],
      within: worst <= limit, skipped: nil)
  }

  /// A tensor that is not compared in this precision.
  fileprivate static func skipped(_ name: String, _ reason: String) -> RivalLine {
    RivalLine(
      name: name, error: 0, limit: 0, count: 0, worst: [], found: nil, within: true,
      skipped: reason)
  }

  /// A tensor that was not computed: the recording is not met.
  fileprivate static func missing(_ name: String) -> RivalLine {
    RivalLine(
      name: name, error: 1, limit: 0, count: 0, worst: [], found: nil, within: false,
      skipped: "expected, and not computed here")
  }
}

/// The JSON object of a rival's replay; its keys are a contract with scripts.
package struct RivalReport: Encodable {
  let file: String
  let method: String
  let source: String
  let precision: String
  let within: Bool
  let outputs: [RivalLine]

  /// The object of one recording.
  package init<E: Scalar>(
    _ recording: RivalRecording, _ comparison: RivalComparison, _: E.Type
  ) {
    file = recording.file.path
    method = recording.method
    source = recording.source
    precision = E.precisionName
    within = comparison.isWithin
    outputs = comparison.lines
  }

  /// As people read it: the verdict first, then a line for every tensor.
  ///
  /// Lines are at most 100 columns wide, but for the name of the file.
  package func text(width: Int?) -> String {
    let width = replayWidth(width)
    let rows = outputs.map { line in
      [
        line.name,
        line.skipped
          ?? (line.limit == 0 ? (line.within ? "equal" : "differs") : number(line.error)),
        line.skipped != nil ? "" : line.limit == 0 ? "equal" : number(line.limit),
        line.within
          ? "" : "at \(line.worst)" + (line.found.map { ": \($0[0]), not \($0[1])" } ?? ""),
      ]
    }
    let compared = outputs.filter { $0.count > 0 || !$0.within }.map {
      (name: $0.name, error: $0.error, limit: $0.limit, isWithin: $0.within)
    }
    let verdict =
      finding(compared).map { ReplayVerdict(isWithin: within, findings: [$0]) }
      ?? ReplayVerdict(nothingCompared: "no output is expected in this precision")
    let lines =
      verdict.lines(width: width) + ["  \(visible(file)) (\(method), \(precision))"]
      + filled("recorded with \(visible(source))", width: width, indent: 2, hanging: 2)
      + [TextTable([["tensor", "largest error", "limit", ""]] + rows).text(width: width)]
    return lines.joined(separator: "\n")
  }
}
