// The measurements of lrqk bench growth, and the exponents of lines through them.
//
// In:  sizes; what `lrqk bench prefill` and `lrqk bench decode` print; or a file of --save.
// Out: points, each with what varied, its value, seconds and bytes; the slope of a line through
//      logarithms.

import ArgumentParser
import Foundation
package import LRQK
import Tensors

/// The quantity that varies while the others stay.
package enum GrowthQuantity: String, Codable, CaseIterable, Sendable {
  case tokens, rank, selected, heads

  /// The letter or word for it.
  var label: String {
    switch self {
    case .tokens: "l, tokens"
    case .rank: "r, rank"
    case .selected: "k, selected"
    case .heads: "query heads"
    }
  }
}

/// What is timed.
package enum GrowthWork: String, Codable, CaseIterable, Sendable {
  case prefill, decode
}

/// The sizes of a measurement.
package struct GrowthSizes: Codable, Equatable, Sendable {
  var tokens, rank, selected, heads: Int

  package init(tokens: Int, rank: Int, selected: Int, heads: Int) {
    (self.tokens, self.rank, self.selected, self.heads) = (tokens, rank, selected, heads)
  }

  package subscript(_ quantity: GrowthQuantity) -> Int {
    get {
      switch quantity {
      case .tokens: tokens
      case .rank: rank
      case .selected: selected
      case .heads: heads
      }
    }
    set {
      switch quantity {
      case .tokens: tokens = newValue
      case .rank: rank = newValue
      case .selected: selected = newValue
      case .heads: heads = newValue
      }
    }
  }

  static let (recent, width, group) = (64, 128, 4)

  /// Key/value heads: one for four query heads.
  var keyValueHeads: Int { max(1, heads / Self.group) }

  /// Throws where a measurement of these sizes makes no sense.
  func check(_ quantity: GrowthQuantity) throws {
    let name = "--\(quantity.rawValue) \(self[quantity])"
    for q in GrowthQuantity.allCases where !(1...1 << 22).contains(self[q]) {
      throw ValidationError("--\(q.rawValue) \(self[q]): it must be from 1 to \(1 << 22)")
    }
    if rank > Self.width { throw ValidationError("\(name): r is at most d = \(Self.width)") }
    if heads > Self.group && heads % Self.group != 0 || heads > 1024 {
      throw ValidationError(
        "\(name): query heads are at most \(Self.group), or a multiple of it up to 1024")
    }
    if tokens < selected + Self.recent || tokens < rank {
      throw ValidationError(
        "\(name): a step is sparse only with l of at least k + w = \(selected + Self.recent)")
    }
  }
}

/// One measurement: a value of one quantity, its times and its peak memory.
package struct GrowthPoint: Codable, Equatable, Sendable {
  /// Which size differs from the start, and its value.
  package let quantity: GrowthQuantity
  package let value: Int
  package let work: GrowthWork
  package let preset: String
  package let secondsMedian, secondsMin, secondsMax: Double
  /// The most memory that the process had.
  package let peakBytes: Int

  package init(
    quantity: GrowthQuantity, value: Int, work: GrowthWork, preset: String, seconds: Spread,
    peakBytes: Int
  ) {
    (self.quantity, self.value, self.work, self.preset) = (quantity, value, work, preset)
    (secondsMedian, secondsMin, secondsMax) = (seconds.median, seconds.least, seconds.most)
    self.peakBytes = peakBytes
  }

  /// Runs one benchmark in a process of its own.
  init(
    _ quantity: GrowthQuantity, _ sizes: GrowthSizes, _ work: GrowthWork, _ preset: Preset,
    runs: Int
  ) throws {
    var arguments = [
      "bench", work.rawValue, "--preset", preset.rawValue, "--tokens", "\(sizes.tokens)", "--rank",
      "\(sizes.rank)", "--query-heads", "\(sizes.heads)", "--key-value-heads",
      "\(sizes.keyValueHeads)", "--width", "\(GrowthSizes.width)", "--runs", "\(runs)", "--json",
    ]
    if work == .decode {
      arguments += ["--selected", "\(sizes.selected)", "--recent", "\(GrowthSizes.recent)"]
    }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    process.arguments = arguments
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let text = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    struct Printed: Decodable {
      let secondsMedian, secondsMin, secondsMax: Double
      let peakBytes: Int
    }
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    guard process.terminationStatus == 0,
      let printed = try? decoder.decode(Printed.self, from: text)
    else {
      throw InputError(
        "lrqk \(arguments.joined(separator: " ")) ended with status \(process.terminationStatus)")
    }
    self.init(
      quantity: quantity, value: sizes[quantity], work: work, preset: preset.rawValue,
      seconds: Spread([printed.secondsMedian, printed.secondsMin, printed.secondsMax]),
      peakBytes: printed.peakBytes)
  }
}

/// All measurements of a run, and where they were made.
package struct Growth: Codable, Equatable, Sendable {
  /// Sizes while another one varies.
  package let start: GrowthSizes
  package let runs, processors: Int
  /// The core type whose kernels OpenBLAS ran.
  package let coreType: String
  package let points: [GrowthPoint]

  package init(
    start: GrowthSizes, runs: Int, processors: Int, coreType: String, points: [GrowthPoint]
  ) {
    (self.start, self.runs, self.processors) = (start, runs, processors)
    (self.coreType, self.points) = (coreType, points)
  }

  /// Reads what --save wrote.
  package init(file: String) throws {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    do {
      self = try decoder.decode(Growth.self, from: Data(contentsOf: URL(fileURLWithPath: file)))
    } catch is DecodingError {
      throw InputError("\(file): no measurements of lrqk bench growth")
    }
    if points.contains(where: { $0.value < 1 || !($0.secondsMedian > 0) || $0.peakBytes < 1 }) {
      throw InputError("\(file): a time or a size that is not above 0")
    }
  }

  /// The measurements of one line: its work, its preset, and what varies.
  package func line(
    _ quantity: GrowthQuantity, _ work: GrowthWork, _ preset: Preset
  ) -> [GrowthPoint] {
    points.filter { $0.quantity == quantity && $0.work == work && $0.preset == preset.rawValue }
      .sorted { $0.value < $1.value }
  }
}

/// p where y grows as xᵖ: the slope through the logarithms, by least squares.
///
/// Nil for fewer than two different x.
package func exponent(_ x: [Double], _ y: [Double]) -> Double? {
  precondition(x.count == y.count && (x + y).allSatisfy { $0 > 0 }, "logarithms of pairs above 0")
  let (u, v) = (x.map { log($0) }, y.map { log($0) })
  let (meanU, meanV) = (u.reduce(0, +) / Double(u.count), v.reduce(0, +) / Double(v.count))
  let spread = u.reduce(0) { $0 + ($1 - meanU) * ($1 - meanU) }
  if u.isEmpty || spread == 0 { return nil }
  return zip(u, v).reduce(0) { $0 + ($1.0 - meanU) * ($1.1 - meanV) } / spread
}
