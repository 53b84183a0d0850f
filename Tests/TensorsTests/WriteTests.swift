// Writing that survives a kill: files that are replaced whole, locks, logs that grow line by line.

import Foundation
import Tensors
import Testing

@Suite struct WriteTests {
  private func names(_ directory: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: directory).sorted()
  }

  private func put(_ text: String, _ path: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
  }

  private func text(_ path: String) throws -> String {
    try String(contentsOfFile: path, encoding: .utf8)
  }

  @Test func `a write takes away what killed writers of the same file left, and nothing else`()
    throws
  {
    try withDirectory { directory in
      let others = ["a", "a.tmp", "a.lrqk-x.tmp", "a.lrqk-0.tmp.txt", "b.lrqk-0.tmp"]
      for name in others { try put("old", "\(directory)/\(name)") }
      for number in 0..<3 { try put("half", "\(directory)/a.lrqk-\(number).tmp") }
      try writeFile("new".utf8, to: "\(directory)/a")
      #expect(try names(directory) == others.sorted())
      #expect(try text("\(directory)/a") == "new")
      #expect(try text("\(directory)/b.lrqk-0.tmp") == "old")
    }
  }

  @Test func `a symbolic link stays, and the file that it names is written`() throws {
    try withDirectory { directory in
      let files = FileManager.default
      try files.createDirectory(atPath: directory + "/far", withIntermediateDirectories: true)
      let names = ["near": "a", "ahead": "far/new", "chain": "near", "round": "round"]
      for (name, target) in names {
        try files.createSymbolicLink(
          atPath: "\(directory)/\(name)", withDestinationPath: target)
      }
      for (name, target) in [("near", "a"), ("ahead", "far/new"), ("chain", "a")] {
        try writeFile(name.utf8, to: "\(directory)/\(name)")
        #expect(try text("\(directory)/\(target)") == name)
      }
      #expect(throws: FileError.self) { try writeFile("x".utf8, to: "\(directory)/round") }
      for (name, target) in names {
        #expect(try files.destinationOfSymbolicLink(atPath: "\(directory)/\(name)") == target)
      }
    }
  }

  @Test func `the unfinished file of a writer that lives is left to it`() throws {
    try withDirectory { directory in
      let living = "\(directory)/a.lrqk-0.tmp"
      var lock = try FileLock.take(at: living)
      #expect(lock != nil)
      try writeFile("new".utf8, to: "\(directory)/a")
      #expect(try names(directory) == ["a", "a.lrqk-0.tmp"])
      // The same name without its writer goes.
      lock = nil
      try put("half", living)
      try writeFile("newer".utf8, to: "\(directory)/a")
      #expect(try names(directory) == ["a"])
      #expect(try text("\(directory)/a") == "newer")
    }
  }

  @Test func `many writers of one file leave one whole text`() async throws {
    let directory = FileManager.default.temporaryDirectory
      .appendingPathComponent("lrqk-write-\(UUID().uuidString)").path
    try makeFolder(directory)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let texts = (0..<8).map { String(repeating: "\($0)", count: 5000) }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for text in texts {
        group.addTask { for _ in 0..<20 { try writeFile(text.utf8, to: "\(directory)/a") } }
      }
      try await group.waitForAll()
    }
    #expect(try names(directory) == ["a"])
    #expect(texts.contains(try text("\(directory)/a")))
  }

  @Test func `a lock has one holder, says which, and goes with it`() throws {
    try withDirectory { directory in
      let path = "\(directory)/lock"
      // What a killed process left hinders no later one.
      try put("999999\n", path)
      var lock = try FileLock.take(at: path)
      #expect(lock != nil)
      #expect(FileLock.holder(at: path) == Int(ProcessInfo.processInfo.processIdentifier))
      #expect(try FileLock.take(at: path) == nil)
      lock = nil
      #expect(try names(directory).isEmpty)
      lock = try FileLock.take(at: path)
      #expect(lock != nil)
      #expect(throws: FileError.self) { try FileLock.take(at: "\(directory)/absent/lock") }
    }
  }

  @Test(arguments: ["one\ntwo\nthr", "one\ntwo\n", "one\ntwo\n\u{e9}", "one\ntwo\n "])
  func `a log goes on behind its last whole line`(_ found: String) throws {
    try withDirectory { directory in
      let path = "\(directory)/log"
      try put(found, path)
      do {
        let log = try LineLog(path: path, limit: 100)
        #expect(String(decoding: log.text, as: UTF8.self) == "one\ntwo\n")
        #expect(log.tail == Array(found.utf8.dropFirst(8)))
        #expect(try text(path) == found)  // nothing is changed by opening it
        #expect(throws: FileError.self) { try LineLog(path: path, limit: 100) }
        try log.cut(to: 4)
        try log.append("three")
        try log.synchronize()
      }
      #expect(try text(path) == "one\nthree\n")
      #expect(String(decoding: try LineLog(path: path, limit: 100).text, as: UTF8.self).count == 10)
    }
  }

  @Test func `what is no log is refused`() throws {
    try withDirectory { directory in
      try put("too long", "\(directory)/long")
      for path in [
        directory, "\(directory)/absent/log", "/dev/null", "\(directory)/long", "a\u{0}b",
      ] {
        #expect(throws: FileError.self) { try LineLog(path: path, limit: 3) }
      }
      #expect(throws: FileError.self) { try writeFile([1], to: "/dev/null") }
    }
  }

  @Test func `a folder is made with those around it, and a file in its place is an error`() throws {
    try withDirectory { directory in
      for path in ["a/b/c", "a/b/c/", "d//e", "a"] {
        try makeFolder("\(directory)/\(path)")
        #expect(FileManager.default.fileExists(atPath: "\(directory)/\(path)"))
      }
      try put("", "\(directory)/file")
      for path in ["file", "file/a"] {
        let error = #expect(throws: FileError.self) { try makeFolder("\(directory)/\(path)") }
        #expect(error?.description.contains("cannot make the folder") == true)
      }
    }
  }
}
