// Runs the built executables, as a user would.
//
// In:  a name and arguments.
// Out: exit status, standard output, standard error.
//
// SwiftPM puts executables beside the test binary, in debug and in release alike.

import Foundation

/// What a process left behind.
struct Outcome {
  var status: Int32
  var output: String
  var error: String
}

/// Runs the built executable `name`, with `input` (a few bytes) as standard input.
///
/// With `sink` as standard output nothing is read from that. A variable of `changing` is set, or
/// with nil removed.
func run(
  _ name: String, _ arguments: [String] = [], input: [UInt8] = [], output sink: FileHandle? = nil,
  changing: [String: String?] = [:]
) throws -> Outcome {
  let here = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
  let process = Process()
  process.executableURL = here.deletingLastPathComponent().appendingPathComponent(name)
  process.arguments = arguments
  var environment = ProcessInfo.processInfo.environment
  for (variable, value) in changing { environment[variable] = value }
  process.environment = environment
  // Errors go into a file: two pipes that fill up could wait for each other.
  let errors = FileManager.default.temporaryDirectory
    .appendingPathComponent("lrqk-test-\(UUID().uuidString)")
  try Data().write(to: errors)
  defer { try? FileManager.default.removeItem(at: errors) }
  let output = Pipe()
  let given = Pipe()  // holds 64 KiB without a reader
  try given.fileHandleForWriting.write(contentsOf: Data(input))
  try given.fileHandleForWriting.close()
  process.standardInput = given
  process.standardOutput = sink ?? output
  process.standardError = try FileHandle(forWritingTo: errors)
  try process.run()
  if sink != nil { try output.fileHandleForWriting.close() }
  let text = output.fileHandleForReading.readDataToEndOfFile()
  process.waitUntilExit()
  return Outcome(
    status: process.terminationStatus, output: String(decoding: text, as: UTF8.self),
    error: String(decoding: try Data(contentsOf: errors), as: UTF8.self))
}

/// A file of the package, by its path from the root.
func committed(_ path: String) throws -> String {
  let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
  return try String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)
}

/// "line 7: found ..., expected ..." for the first line that differs; nil if none does.
func firstDifference(_ found: String, _ expected: String) -> String? {
  let a = found.split(separator: "\n", omittingEmptySubsequences: false)
  let b = expected.split(separator: "\n", omittingEmptySubsequences: false)
  for n in 0..<max(a.count, b.count) {
    let x = n < a.count ? String(a[n]) : "the end"
    let y = n < b.count ? String(b[n]) : "the end"
    if x != y { return "line \(n + 1): found \(x), expected \(y)" }
  }
  return nil
}

/// Starts lrqk and kills it when the log that it writes has three lines, or lets it end before.
func runUntilKilled(_ arguments: [String], log: String) throws {
  let process = Process()
  process.executableURL = builtProducts.appendingPathComponent("lrqk")
  process.arguments = arguments
  (process.standardOutput, process.standardError) = (Pipe(), Pipe())
  try process.run()
  while process.isRunning && lineCount(log) < 3 { usleep(1000) }
  kill(process.processIdentifier, SIGKILL)
  process.waitUntilExit()
}

/// Whole lines of a file; 0 where there is none yet.
func lineCount(_ path: String) -> Int {
  let bytes = (try? Data(contentsOf: URL(fileURLWithPath: path))) ?? Data()
  return bytes.count(where: { $0 == 10 })
}
