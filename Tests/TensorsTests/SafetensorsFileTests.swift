// Reading: every format, odd addresses, files by others, and paths that lead to no file.

import Foundation
import Tensors
import Testing

@Suite struct `Safetensors files` {
  @Test func `every format of real numbers comes back rounded once`() throws {
    var writer = SafetensorsWriter()
    let single = sixReals.map { Float($0) }
    try writer.add("d64", sixReals, as: .float64)
    try writer.add("d32", sixReals, as: .float32)
    try writer.add("d16", sixReals, as: .float16)
    try writer.add("dbf", sixReals, as: .bfloat16)
    try writer.add("s64", single, as: .float64)
    try writer.add("s32", single, as: .float32)
    try writer.add("s16", single, as: .float16)
    try writer.add("sbf", single, as: .bfloat16)
    let file = try SafetensorsFile(bytes: writer.bytes(), name: "test")
    #expect(file.names == ["d64", "s64", "d32", "s32", "d16", "dbf", "s16", "sbf"])

    let half = sixReals.map { Double(Float16($0)) }
    let brain = sixReals.map {
      Double(SixteenBitFloat.bfloat16.value(of: SixteenBitFloat.bfloat16.bits(of: $0)))
    }
    #expect(try file.tensor("d64") == sixReals)
    #expect(try file.tensor("d32") == single.map { Double($0) })
    #expect(try file.tensor("d16") == half)
    #expect(try file.tensor("dbf") == brain)
    #expect(try file.tensor("d64", as: Float.self) == single)
    #expect(try file.tensor("d16", as: Float.self) == half.map { Float($0) })
    #expect(try file.tensor("dbf", as: Float.self) == brain.map { Float($0) })
    #expect(try file.tensor("s64") == single.map { Double($0) })
    #expect(try file.tensor("s32") == single)
    #expect(try file.tensor("s16") == half)
    #expect(try file.tensor("sbf") == brain)
  }

  @Test func `every format of integers comes back to its last value`() throws {
    let cases: [(StorageFormat, [Int])] = [
      (.int64, [Int.min, -1, 0, Int.max]), (.int32, [Int(Int32.min), -1, 0, Int(Int32.max)]),
      (.uint8, [0, 1, 128, 255]), (.bool, [0, 1, 1, 0]),
    ]
    for (format, elements) in cases {
      var writer = SafetensorsWriter()
      let tensor = Tensor(shape: [1, 4], elements: elements)
      try writer.add("n", integers: tensor, as: format)
      let file = try SafetensorsFile(bytes: writer.bytes(), name: "test")
      #expect(try file.integers("n") == tensor)
      #expect(try file.format(of: "n") == format)
      #expect(try file.shape(of: "n") == [1, 4])
      #expect(
        problem { () throws(SafetensorsError) in _ = try file.tensor("n", as: Float.self) }
          == .notFloatingPoint(tensor: "n", format: format))
    }
  }

  @Test func `data at odd addresses is read`() throws {
    // Headers of 8 lengths in a row: the data starts at every remainder modulo 8.
    for spaces in 0..<8 {
      let header =
        "{\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}"
        + String(repeating: " ", count: spaces)
      let bytes =
        littleEndian(UInt64(header.utf8.count)) + Array(header.utf8) + littleEndian(1.5.bitPattern)
      let tensor: Tensor<Double> = try SafetensorsFile(bytes: bytes, name: "t").tensor("a")
      #expect(tensor.elements == [1.5])
    }
  }

  @Test func `a BOOL that is neither 0 nor 1 is refused`() throws {
    let header = "{\"a\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[0,3]}}"
    var bytes = safetensors(header: header, dataBytes: 3)
    bytes[bytes.count - 2] = 2
    let file = try SafetensorsFile(bytes: bytes, name: "test")
    #expect(
      problem { () throws(SafetensorsError) in _ = try file.integers("a") }
        == .badBool(tensor: "a", element: 1, value: 2))
  }

  @Test func `a missing tensor is answered with those that are there`() throws {
    var writer = SafetensorsWriter()
    try writer.add("K", sixReals, as: .float32)
    try writer.add("Q", sixReals, as: .float32)
    let file = try SafetensorsFile(bytes: writer.bytes(), name: "golden")
    let missing = SafetensorsError.Problem.noSuchTensor("V", present: ["K", "Q"])
    #expect(
      problem { () throws(SafetensorsError) in _ = try file.tensor("V", as: Float.self) }
        == missing)
    #expect(problem { () throws(SafetensorsError) in _ = try file.integers("V") } == missing)
    #expect(problem { () throws(SafetensorsError) in _ = try file.shape(of: "V") } == missing)
    #expect(problem { () throws(SafetensorsError) in _ = try file.format(of: "V") } == missing)
    #expect("\(missing)" == "no tensor \"V\"; there is \"K\", \"Q\"")
    #expect(
      problem { () throws(SafetensorsError) in _ = try file.integers("K") }
        == .notIntegers(tensor: "K", format: .float32))
  }

  @Test func `a path that is no readable file is an error`() throws {
    try withDirectory { directory in
      let absent = "\(directory)/absent.safetensors"
      let error = #expect(throws: SafetensorsError.self) { try SafetensorsFile(path: absent) }
      #expect(error?.description == "\(absent): cannot open: No such file or directory")
      #expect(
        problem { () throws(SafetensorsError) in _ = try SafetensorsFile(path: directory) }
          == .notARegularFile)
      #expect(
        problem { () throws(SafetensorsError) in _ = try SafetensorsFile(path: "/dev/null") }
          == .notARegularFile)
      let empty = "\(directory)/empty"
      #expect(FileManager.default.createFile(atPath: empty, contents: Data()))
      #expect(
        problem { () throws(SafetensorsError) in _ = try SafetensorsFile(path: empty) }
          == .tooShort(bytes: 0))
      #expect(
        problem { () throws(SafetensorsError) in _ = try SafetensorsFile(path: "\(empty)\u{0}") }
          == .system(operation: "open", reason: "the path contains a NUL character"))
    }
  }

  @Test func `a file of the official library is read`() throws {
    let golden = URL(fileURLWithPath: #filePath)
      .deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("ReplayTests/Golden")
    let file = try SafetensorsFile(
      path: golden.appendingPathComponent("trajectory-gqa.safetensors").path)
    #expect(file.metadata["kind"] == "trajectory")
    #expect(file.metadata["prompt_length"] == "160")
    #expect(file.metadata.count == 16)
    #expect(file.names.count == 15)
    #expect(try file.format(of: "K") == .float32)
    #expect(try file.shape(of: "K") == [1, 2, 200, 32])
    let keys: Tensor<Float> = try file.tensor("K")
    // The numbers that Python's struct module finds at these places.
    #expect(keys.elements.prefix(3) == [-0x1.5bdffap-6, 0x1.8d6572p-3, 0x1.5ca6a8p-3])
    #expect(keys.elements.last == 0x1.4e7cf4p-2)
    let selected = try file.integers("selected")
    #expect(selected.shape == [40, 1, 4, 32])
    #expect(selected.elements.prefix(5) == [7, 9, 10, 11, 12])
    #expect(selected.elements.suffix(3) == [183, 184, 185])

    let single = try SafetensorsFile(
      path: golden.appendingPathComponent("prefill-r8.safetensors").path)
    let (wide, narrow) = (
      try single.tensor("A_K.f64", as: Double.self), try single.tensor("A_K.f32", as: Double.self)
    )
    #expect(wide.shape == [1, 2, 96, 8] && narrow.shape == wide.shape)
    let difference = zip(wide.elements, narrow.elements).map { abs($0 - $1) }.max() ?? .infinity
    #expect(difference > 0 && difference < 1e-2, "largest difference \(difference)")
  }
}
