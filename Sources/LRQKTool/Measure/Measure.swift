// A stopwatch, and the limits of the machine it runs on.

import Foundation
import Tensors

/// Seconds of several runs of the same work, after one that is not counted.
struct Timing {
  private(set) var seconds: [Double] = []

  init(runs: Int, _ work: () throws -> Void) throws {
    for run in 0...runs {
      let start = ContinuousClock.now
      try work()
      let elapsed = ContinuousClock.now - start
      if run > 0 { seconds.append(elapsed / .seconds(1)) }
    }
    seconds.sort()
  }

  var median: Double { Spread(seconds).median }
  var fastest: Double { Spread(seconds).least }
  var slowest: Double { Spread(seconds).most }
}

/// The middle and the ends of some measurements.
struct Spread {
  let median: Double
  let least: Double
  let most: Double

  init(_ values: [Double]) {
    precondition(!values.isEmpty, "no measurement")
    let sorted = values.sorted()
    let middle = sorted.count / 2
    median =
      sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    (least, most) = (sorted[0], sorted[sorted.count - 1])
  }
}

/// What this machine can do at most, measured now, on all cores.
struct MachineLimits {
  /// OpenBLAS single precision products, 10^9 operations a second.
  let gflops: Double
  /// Reads of 128 MiB, 10^9 bytes a second; where a cache is as large, reads of the cache.
  let bandwidth: Double

  static func measure() -> MachineLimits {
    let cores = ProcessInfo.processInfo.activeProcessorCount
    let n = 1024
    let matrix = Tensor<Float>.normal(shape: [n, n], seed: 1)
    let products = bestOf(5) {
      _ = try? mapConcurrently(cores) { _ in matmul(matrix, matrix, in: .library).count }
    }
    let words = [UInt64](repeating: 1, count: 16 << 20)
    let reads = bestOf(5) {
      _ = try? mapConcurrently(cores) { core in
        let share = words.count / cores
        return parity(words.span.extracting(core * share..<(core + 1) * share))
      }
    }
    return MachineLimits(
      gflops: Double(cores) * 2 * pow(Double(n), 3) / products / 1e9,
      bandwidth: Double(words.count * 8) / reads / 1e9)
  }

  private static func bestOf(_ runs: Int, _ work: () -> Void) -> Double {
    (try? Timing(runs: runs, work))?.fastest ?? .infinity
  }

  /// The exclusive or of all words: nothing but reading.
  private static func parity(_ words: Span<UInt64>) -> UInt64 {
    var parity: UInt64 = 0
    for i in words.indices { parity ^= words[i] }
    return parity
  }
}
