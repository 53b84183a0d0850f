// Runs the tool in places that Process cannot make: a shell's redirections, and a terminal.
//
// In:  a line for the shell, in which "$lrqk" is the built tool; or the tool's arguments.
// Out: what the process left behind.

import Foundation
import Glibc
import Testing

/// The folder of the built executables.
let builtProducts = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
  .deletingLastPathComponent()

extension Outcome {
  /// The lines on standard error but for notes about the model.
  var complaints: [Substring] {
    error.split(separator: "\n").filter { !$0.hasPrefix("lrqk: note: ") }
  }
}

/// Runs `script` in a shell, where "$lrqk" is the built tool, and "$1" the first of `arguments`.
func shell(_ script: String, _ arguments: [String] = []) throws -> Outcome {
  let folder = try TemporaryFolder()
  let (out, errors) = ("\(folder.path)/out", "\(folder.path)/errors")
  for path in [out, errors] { try Data().write(to: URL(fileURLWithPath: path)) }
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/bin/bash")
  process.arguments = ["-c", script, "bash"] + arguments
  process.environment = ProcessInfo.processInfo.environment.merging(
    ["lrqk": builtProducts.appendingPathComponent("lrqk").path]
  ) { $1 }
  process.standardInput = FileHandle.nullDevice
  process.standardOutput = try FileHandle(forWritingTo: URL(fileURLWithPath: out))
  process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: errors))
  try process.run()
  process.waitUntilExit()
  func text(_ path: String) throws -> String {
    String(decoding: try Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self)
  }
  return Outcome(
    status: process.terminationStatus, output: try text(out), error: try text(errors))
}

/// What the tool shows on a terminal, standard output and error together, and its exit status.
func runOnTerminal(_ arguments: [String]) throws -> (status: Int32, text: String) {
  var (terminal, side): (Int32, Int32) = (-1, -1)
  try #require(unsafe openpty(&terminal, &side, nil, nil, nil) == 0)
  defer { close(terminal) }
  let screen = FileHandle(fileDescriptor: side)
  let process = Process()
  process.executableURL = builtProducts.appendingPathComponent("lrqk")
  process.arguments = arguments
  process.standardInput = FileHandle.nullDevice
  (process.standardOutput, process.standardError) = (screen, screen)
  try process.run()
  try screen.close()
  var bytes: [UInt8] = []
  var part = [UInt8](repeating: 0, count: 4096)
  // When the process has closed its side, reading ends with an error.
  while case let count = unsafe part.withUnsafeMutableBytes({
    unsafe read(terminal, $0.baseAddress, $0.count)
  }), count > 0 {
    bytes += part[..<count]
  }
  process.waitUntilExit()
  return (
    process.terminationStatus,
    String(decoding: bytes, as: UTF8.self).replacing("\r\n", with: "\n")
  )
}
