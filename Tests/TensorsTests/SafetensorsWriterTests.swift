// Writing: what goes in comes out, what does not fit is refused, nothing is written half.

import Foundation
import Tensors
import Testing

@Suite struct `Safetensors writer` {
  @Test func `a file on disk is what was in memory, and nothing else is left there`() throws {
    try withDirectory { directory in
      let path = "\(directory)/a.safetensors"
      var writer = SafetensorsWriter(metadata: ["step": "1"])
      try writer.add("x", sixReals, as: .float64)
      try writer.write(to: path)
      let first = try SafetensorsFile(path: path)
      #expect(try first.tensor("x") == sixReals)
      #expect(first.path == path && first.metadata == ["step": "1"])
      #expect(FileManager.default.contents(atPath: path).map(Array.init) == writer.bytes())

      // Replaced while open: the new file is there, the open one still reads the old bytes.
      writer.metadata["step"] = "2"
      try writer.write(to: path)
      #expect(try SafetensorsFile(path: path).metadata == ["step": "2"])
      #expect(try first.tensor("x") == sixReals)
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["a.safetensors"])
    }
  }

  @Test func `infinities and NaNs pass, finite numbers do not become infinite`() throws {
    let special = Tensor<Float>(shape: [3], elements: [.infinity, -.infinity, .nan])
    for format in StorageFormat.allCases where format.isFloatingPoint {
      var writer = SafetensorsWriter()
      try writer.add("x", special, as: format)
      let read: Tensor<Float> = try SafetensorsFile(bytes: writer.bytes(), name: "t").tensor("x")
      #expect(read.elements[0] == .infinity && read.elements[1] == -.infinity)
      #expect(read.elements[2].isNaN)
    }
    for (format, value, text) in [
      (StorageFormat.float16, 65520.0, "65520.0"), (.float32, 1e39, "1e+39"),
      (.bfloat16, 3.4e38, "3.4e+38"),
    ] {
      var writer = SafetensorsWriter()
      let tensor = Tensor(shape: [2], elements: [0, value])
      #expect(
        problem { () throws(SafetensorsError) in try writer.add("x", tensor, as: format) }
          == .valueOutOfRange(tensor: "x", element: 1, value: text, format: format))
    }
  }

  @Test func `what does not fit is refused and leaves the writer as it was`() throws {
    var writer = SafetensorsWriter()
    try writer.add("x", integers: Tensor(shape: [1], elements: [7]), as: .uint8)
    let before = writer.bytes()
    for (format, value) in [
      (StorageFormat.int32, Int(Int32.max) + 1), (.int32, Int(Int32.min) - 1), (.uint8, 256),
      (.uint8, -1), (.bool, 2),
    ] {
      let tensor = Tensor(shape: [2], elements: [1, value])
      #expect(
        problem { () throws(SafetensorsError) in
          try writer.add("y", integers: tensor, as: format)
        } == .valueOutOfRange(tensor: "y", element: 1, value: "\(value)", format: format))
    }
    #expect(
      problem { () throws(SafetensorsError) in try writer.add("x", sixReals, as: .float32) }
        == .duplicateName("x"))
    #expect(
      problem { () throws(SafetensorsError) in
        try writer.add("__metadata__", sixReals, as: .float32)
      } == .reservedName)
    #expect(
      problem { () throws(SafetensorsError) in try writer.add("y", sixReals, as: .int64) }
        == .notFloatingPoint(tensor: "y", format: .int64))
    #expect(
      problem { () throws(SafetensorsError) in
        try writer.add("y", integers: Tensor(shape: [1], elements: [1]), as: .float32)
      } == .notIntegers(tensor: "y", format: .float32))
    #expect(
      problem { () throws(SafetensorsError) in
        try writer.add(
          "y", Tensor<Float>(shape: [0, 1 << 40, 1 << 40], elements: []), as: .float32)
      } == .shapeOverflow(tensor: "y"))
    #expect(writer.bytes() == before)
  }

  @Test func `names and metadata may hold any text`() throws {
    let texts = [
      "", " ", "a.b", "\"", "\\", "\n\r\t\u{0}\u{1F}\u{7F}", "é", "中文", "😀", "\u{202E}x", "/",
      "\\u0041", "🏳️‍🌈", String(repeating: "n", count: 10_000),
    ]
    var writer = SafetensorsWriter()
    for (i, text) in texts.enumerated() {
      try writer.add(text, integers: Tensor(shape: [], elements: [i]), as: .int32)
      writer.metadata[text] = "\(text)\(i)"
    }
    let file = try SafetensorsFile(bytes: writer.bytes(), name: "test")
    #expect(Set(file.names) == Set(texts))
    #expect(file.metadata == writer.metadata)
    for (i, text) in texts.enumerated() {
      #expect(try file.integers(text).elements == [i])
      #expect(file.contains(text))
    }
    #expect(!file.contains("absent"))
  }

  @Test func `the same content gives the same aligned bytes in whatever order`() throws {
    let names = ["b", "a", "é", "Z", "c"]
    var files: Set<[UInt8]> = []
    for order in [names, names.reversed(), names.sorted()] {
      var writer = SafetensorsWriter()
      for name in order {
        writer.metadata[name] = name
        try writer.add(name, sixReals, as: name == "c" ? .float64 : .bfloat16)
        try writer.add("\(name).n", integers: Tensor(shape: [1], elements: [1]), as: .uint8)
      }
      files.insert(writer.bytes())
    }
    #expect(files.count == 1)
    let bytes = try #require(files.first)
    let header = bytes[0..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
    #expect((8 + header) % 64 == 0)
    #expect(
      try SafetensorsFile(bytes: bytes, name: "test").names
        == ["c", "Z", "a", "b", "é", "Z.n", "a.n", "b.n", "c.n", "é.n"])
  }

  @Test func `a write that fails leaves nothing behind`() throws {
    try withDirectory { directory in
      let writer = SafetensorsWriter()
      #expect(
        problem { () throws(SafetensorsError) in
          try writer.write(to: "\(directory)/absent/a.safetensors")
        } == .system(operation: "write", reason: "No such file or directory"))
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory).isEmpty)

      // The name belongs to a directory: the temporary file is written, renaming it fails.
      let taken = "\(directory)/taken"
      try FileManager.default.createDirectory(
        atPath: taken, withIntermediateDirectories: false)
      #expect(
        problem { () throws(SafetensorsError) in try writer.write(to: taken) }
          == .notARegularFile)
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["taken"])
      #expect(
        problem { () throws(SafetensorsError) in try writer.write(to: "\(directory)/a\u{0}b") }
          == .system(operation: "write", reason: "the path contains a NUL character"))
    }
  }
}
