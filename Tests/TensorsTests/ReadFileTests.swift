// A file in memory, or one line that says why not.

import Foundation
import Tensors
import Testing

@Suite struct `Reading a file` {
  @Test func `the bytes come as they are, up to the limit`() throws {
    let path = FileManager.default.temporaryDirectory
      .appendingPathComponent("\(UUID().uuidString).json").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0) }
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    #expect(try readFile(at: path, limit: 1000) == bytes)
    do throws(FileError) {
      _ = try readFile(at: path, limit: 999)
      Issue.record("read 1000 bytes of at most 999")
    } catch {
      #expect(error.description == "\(path): 1000 bytes long, the limit is 999")
    }
    try Data().write(to: URL(fileURLWithPath: path))
    #expect(try readFile(at: path, limit: 0) == [])
  }

  @Test(arguments: ["/nowhere/config.json", "/", "/dev/null", "a\u{0}b"])
  func `what is no file gives one line`(_ path: String) {
    do throws(FileError) {
      _ = try readFile(at: path, limit: 10)
      Issue.record("read \(path)")
    } catch {
      #expect(error.description.hasPrefix("\(path): "))
      #expect(!error.description.utf8.contains(10))
    }
  }
}
