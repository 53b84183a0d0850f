// An input that comes once: as a file, through a pipe, or not at all.

import Foundation
import Glibc
import Tensors
import Testing

@Suite struct `Reading an input once` {
  private func temporary() -> String {
    FileManager.default.temporaryDirectory.appendingPathComponent("lrqk-\(UUID().uuidString)").path
  }

  /// More than a pipe holds at once.
  private let bytes = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 / 7) }

  @Test func `a file's bytes come as they are, up to the limit`() throws {
    let path = temporary()
    defer { try? FileManager.default.removeItem(atPath: path) }
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    #expect(try readInput(at: path, limit: bytes.count) == bytes)
    #expect(throws: FileError.self) { try readInput(at: path, limit: bytes.count - 1) }
    try Data().write(to: URL(fileURLWithPath: path))
    #expect(try readInput(at: path, limit: 0) == [])
  }

  @Test func `a pipe of the shell's kind gives the same bytes, however they come`() throws {
    let pipe = Pipe()
    let bytes = bytes
    let writer = Thread {
      for first in stride(from: 0, to: bytes.count, by: 999) {
        try? pipe.fileHandleForWriting.write(
          contentsOf: Data(bytes[first..<min(first + 999, bytes.count)]))
      }
      try? pipe.fileHandleForWriting.close()
    }
    writer.start()
    let path = "/dev/fd/\(pipe.fileHandleForReading.fileDescriptor)"
    #expect(try readInput(at: path, limit: 1 << 20) == bytes)
  }

  @Test func `a named pipe is waited for`() throws {
    let path = temporary()
    let made = unsafe mkfifo(path, 0o600)
    #expect(made == 0)
    defer { try? FileManager.default.removeItem(atPath: path) }
    let bytes = bytes
    let writer = Thread {
      let handle = FileHandle(forWritingAtPath: path)  // waits for the reader
      try? handle?.write(contentsOf: Data(bytes))
      try? handle?.close()
    }
    writer.start()
    #expect(try readInput(at: path, limit: 1 << 20) == bytes)
  }

  @Test(arguments: ["/nowhere/text", "/", "a\u{0}b", "", "/dev/zero"])
  func `what cannot be read to its end gives one line`(_ path: String) {
    do throws(FileError) {
      _ = try readInput(at: path, limit: 100_000)
      Issue.record("read \(path)")
    } catch {
      #expect(error.description.hasPrefix("\(path): "))
      #expect(!error.description.utf8.contains(10))
    }
  }

  @Test(arguments: [
    ("-", true), ("/dev/stdin", true), ("/dev/fd/0", true), ("./-", false), ("/dev/fd/3", false),
    ("--", false), ("", false),
  ])
  func `standard input has a few names`(_ path: String, _ isIt: Bool) {
    #expect(isStandardInput(path) == isIt)
  }

  @Test func `tensors do not come through a pipe, and the line says why`() throws {
    let pipe = Pipe()
    for path in ["-", "/dev/fd/\(pipe.fileHandleForReading.fileDescriptor)"] {
      let error = #expect(throws: SafetensorsError.self) { try SafetensorsFile(path: path) }
      #expect(error?.description.contains("mapped") == true, "\(error?.description ?? "")")
    }
  }
}
