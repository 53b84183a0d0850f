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

  @Test func `a Git LFS pointer is called so, and a text that only mentions one is read`() throws {
    let pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:\(String(repeating: "a", count: 64))\n"
      + "size 4\n"
    try withDirectory { directory in
      for name in ["config.json", "model.safetensors", "prompt.txt"] {
        let path = "\(directory)/\(name)"
        try Data(pointer.utf8).write(to: URL(fileURLWithPath: path))
        let file = #expect(throws: FileError.self) { try readFile(at: path, limit: 10_000) }
        #expect(file?.description == "\(path): \(gitLFSAdvice)")
        let tensors = #expect(throws: SafetensorsError.self) { try SafetensorsFile(path: path) }
        #expect(tensors?.problem == .gitLFSPointer)
        #expect(tensors?.description == "\(path): \(gitLFSAdvice)")
      }
      for text in ["# \(pointer)", "version 1", "", "version https://git-lfs"] {
        let path = "\(directory)/text"
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        #expect(try readFile(at: path, limit: 10_000) == Array(text.utf8))
        #expect(!isGitLFSPointer(Array(text.utf8)))
      }
      #expect(isGitLFSPointer(Array(pointer.utf8)))
    }
  }

  @Test func `a file that is cut short while it is mapped is named, and ends the process`()
    async throws
  {
    let result = await #expect(
      processExitsWith: .exitCode(65), observing: [\.standardErrorContent]
    ) {
      nameTruncatedFiles(status: 65)
      let path = FileManager.default.temporaryDirectory
        .appendingPathComponent("lrqk-cut-\u{7}-\(UUID().uuidString)").path
      var writer = SafetensorsWriter()
      try writer.add(
        "x", Tensor<Float>(shape: [100, 1000], elements: Array(repeating: 1, count: 100_000)),
        as: .float32)
      try writer.write(to: path)
      _ = try SafetensorsFile(path: path).tensor("x", as: Float.self)  // its place is free again
      let file = try SafetensorsFile(path: path)
      let handle = try #require(FileHandle(forWritingAtPath: path))
      try handle.truncate(atOffset: 4096)
      try FileManager.default.removeItem(atPath: path)
      _ = try file.tensor("x", as: Float.self)
    }
    let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(text.contains("lrqk-cut-?-") && text.contains("made shorter"), "\(text)")
    #expect(text.split(separator: "\n").count == 1, "\(text)")
  }

  @Test func `another fault of the kind keeps its default action`() async {
    // Raised by hand: it belongs to no mapped file, so the signal itself ends the process.
    await #expect(processExitsWith: .signal(SIGBUS)) {
      nameTruncatedFiles(status: 65)
      raise(SIGBUS)
      raise(SIGBUS)
    }
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
