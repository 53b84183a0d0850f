// How much memory a run may take, and how much it took.
//
// In:  /proc and /sys of this machine.
// Out: bytes: what the system could give without swapping, and no more than control groups
//      (containers) and a limit of the address space leave.

import Foundation
import Reports

/// Bytes that are to be had; nil where the system does not say.
func availableMemory() -> Int? {
  [systemMemory(), groupMemory(), addressSpace()].compactMap { $0 }.min()
}

/// The most memory that this process has had so far, in bytes; 0 where the system does not say.
func peakMemory() -> Int {
  (number("VmHWM:", in: text("/proc/self/status")) ?? 0) << 10
}

/// The files below /proc have no length, so they are read as a stream.
private func text(_ path: String) -> String? { try? String(contentsOfFile: path, encoding: .utf8) }

/// The number behind `name` on the line that begins with it.
private func number(_ name: String, in text: String?) -> Int? {
  for line in text?.split(separator: "\n") ?? [] where line.hasPrefix(name) {
    return line.dropFirst(name.count).split(whereSeparator: \.isWhitespace).first
      .flatMap { Int($0) }
  }
  return nil
}

private func systemMemory() -> Int? {
  number("MemAvailable:", in: text("/proc/meminfo")).map { $0 << 10 }
}

/// The least memory that this process's control group, or one above it, leaves.
private func groupMemory() -> Int? {
  var left: [Int] = []
  for line in text("/proc/self/cgroup")?.split(separator: "\n") ?? [] {
    let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count == 3 else { continue }
    // Version 2 has one tree, version 1 one for memory. Within a container the group's own files
    // may stand at the top.
    let isNew = parts[1].isEmpty
    guard isNew || parts[1].split(separator: ",").contains("memory") else { continue }
    let root = isNew ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory"
    let names = parts[2].split(separator: "/")
    for count in 0...names.count {
      let folder = ([root] + names.prefix(count).map(String.init)).joined(separator: "/")
      let files =
        isNew
        ? (limit: "memory.max", used: "memory.current", cache: "inactive_file ")
        : (
          limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes",
          cache: "total_inactive_file "
        )
      guard let limit = number("", in: text("\(folder)/\(files.limit)")),
        let used = number("", in: text("\(folder)/\(files.used)"))
      else { continue }
      // Files that the system read ahead count as used, and are given back when needed.
      let cache = number(files.cache, in: text("\(folder)/memory.stat")) ?? 0
      left.append(max(0, limit - max(0, used - cache)))
    }
  }
  return left.min()
}

private func addressSpace() -> Int? {
  guard let most = number("Max address space", in: text("/proc/self/limits")),
    let used = number("VmSize:", in: text("/proc/self/status"))
  else { return nil }
  return max(0, most - used << 10)
}
