// What this machine does at most, measured in the minute in which something else was.
//
// In:  how many bytes the measured work touches.
// Out: three limits, each a median of five runs with its range, all cores at work:
//
//     products     OpenBLAS's product of two matrices of 1,024 by 1,024, one product a core
//     memory       reads of a buffer of twice the largest cache, 256 MiB at least
//     same size    reads of a buffer of as many bytes as the work touches
//
// The two reads are one loop (Tensors' Reading.swift). They differ because a cache may hold what
// the work touches from one run to the next: then the work may be faster than memory, and "same
// size" is the limit to look at. Work that touches more than the caches hold has the same limit
// twice. A buffer of the work's size has at least 1 MiB, since starting a thread takes as long as
// reading less; and at most the large buffer's size.
//
// A machine that is shared may be half as fast in the next minute, so these are measured right
// after the work, when its memory has been given back: the buffers come from there.

import Foundation
import Reports
import Tensors

/// Limits of this machine.
struct MachineLimits {
  /// OpenBLAS single precision products, 10^9 operations a second.
  let gflops: Spread
  /// Reads of more than the caches hold.
  let memory: Reads
  /// Reads of as much as the work touches.
  let sameSize: Reads

  /// The speed of reading a buffer again and again.
  struct Reads {
    let bytes: Int
    /// 10^9 bytes a second.
    let speed: Spread
  }

  private static let runs = 5

  /// Measures all three.
  static func measure(touching bytes: Double) throws -> MachineLimits {
    let large = largeBuffer(cache: largestCache())
    let size = min(large, max(1 << 20, Int(bytes)))
    var words = [UInt64](repeating: 1, count: large / 8)
    let memory = try reads(words)
    words.removeLast(words.count - size / 8)
    return MachineLimits(
      gflops: try products(), memory: memory, sameSize: try reads(words))
  }

  private static func reads(_ words: [UInt64]) throws -> Reads {
    let timing = try Timing(runs: runs) {
      _ = try mapConcurrently(processorCount) { core in
        let share = words.count / processorCount
        return parity(of: words.span.extracting(core * share..<(core + 1) * share))
      }
    }
    let bytes = words.count / processorCount * processorCount * 8
    return Reads(
      bytes: bytes, speed: Spread(timing.seconds.map { Double(bytes) / $0 / 1e9 }))
  }

  /// OpenBLAS products, 10^9 operations a second.
  static func products() throws -> Spread {
    let n = 1024
    let matrix = Tensor<Float>.normal(shape: [n, n], seed: 1)
    let timing = try Timing(runs: runs) {
      _ = try mapConcurrently(processorCount) { _ in matmul(matrix, matrix, in: .library).count }
    }
    let operations = Double(processorCount) * 2 * pow(Double(n), 3)
    return Spread(timing.seconds.map { operations / $0 / 1e9 })
  }

  /// The size of the large buffer, where the largest cache has so many bytes.
  ///
  /// At most a fourth of the memory that is to be had.
  private static func largeBuffer(cache: Int) -> Int {
    let wanted = max(256 << 20, 2 * cache)
    return min(wanted, max(64 << 20, (availableMemory() ?? .max) / 4))
  }

  /// The bytes of the processor's largest cache; 0 where the system does not say.
  private static func largestCache() -> Int {
    let folder = "/sys/devices/system/cpu/cpu0/cache"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return names.compactMap { name in
      (try? String(contentsOfFile: "\(folder)/\(name)/size", encoding: .utf8)).flatMap(cacheSize)
    }.max() ?? 0
  }

  // MARK: As text and JSON

  /// "21.3 GB/s, 0.84 of reads of this size, 1.20 of memory reads": what `bytes` in `seconds` are.
  func share(ofBytes bytes: Double, in seconds: Double) -> String {
    let speed = bytes / seconds / 1e9
    return "\(number(speed, 1)) GB/s, \(number(speed / sameSize.speed.median, 2)) of reads of this "
      + "size, \(number(speed / memory.speed.median, 2)) of memory reads"
  }

  /// The lines that say how fast memory was.
  var rows: [[String]] {
    func row(_ name: String, _ reads: Reads) -> [String] {
      let (median, range) = reads.speed.texts(1)
      return [name, "\(median) GB/s", "\(range), of \(Reports.bytes(reads.bytes))"]
    }
    return [row("reads, memory", memory), row("reads, this size", sameSize)]
  }

  /// The limits, and how near `bytes` in `seconds` come to them.
  func fields(bytes: Double, seconds: Double) -> [String: Any] {
    let speed = bytes / seconds / 1e9
    return gflops.fields("limit_sgemm_gflops")
      .merging(memory.speed.fields("limit_memory_gigabytes_per_second")) { $1 }
      .merging(sameSize.speed.fields("limit_same_size_gigabytes_per_second")) { $1 }
      .merging([
        "limit_memory_bytes": memory.bytes, "limit_same_size_bytes": sameSize.bytes,
        "bytes_touched": Int(bytes), "gigabytes_per_second": speed,
        "share_of_memory_reads": speed / memory.speed.median,
        "share_of_same_size_reads": speed / sameSize.speed.median,
      ]) { $1 }
  }
}

/// "266240K" and "48M" as bytes; nil for other texts.
package func cacheSize(_ text: String) -> Int? {
  let text = text.trimmingCharacters(in: .whitespacesAndNewlines)
  let units: [Character: Int] = ["K": 10, "M": 20, "G": 30]
  guard let last = text.last else { return nil }
  guard let shift = units[last] else { return Int(text) }
  return Int(text.dropLast()).map { $0 << shift }
}
