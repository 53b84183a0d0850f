// What a conversion leaves where it stops, goes on from, and refuses to write over.

import CacheMethods
import Foundation
import Synchronization
import Tensors
import Testing
import Transformers

@Suite struct ConversionOutputTests {
  /// The three shards of `whole` and of `out` are the same bytes.
  private func expectSameShards(_ folders: ConversionFolders) throws {
    for shard in 1...3 {
      let name = "model-0000\(shard)-of-00003.safetensors"
      let bytes = try ["whole", "out"].map {
        try Data(contentsOf: URL(fileURLWithPath: "\(folders.path)/\($0)/\(name)"))
      }
      #expect(bytes[0] == bytes[1], "\(name)")
    }
  }

  @Test func `a conversion that was stopped goes on with the layers that are missing`() throws {
    let folders = try ConversionFolders()
    let plain = try folders.convert("llama2", "lorc", into: "whole")
    let log = Mutex<[Int]>([])
    let stopping = StoppingMethod(stopsAt: 1) { layer in log.withLock { $0.append(layer) } }
    #expect(throws: StoppingMethod.Stop.self) { try folders.convert("llama2", stopping) }
    #expect(!FileManager.default.fileExists(atPath: "\(folders.path)/out"))

    // Another method or format: not a continuation.
    #expect(
      errorLine { try folders.convert("llama2", "compress-heads") }
        .hasPrefix("\(folders.path)/out.part holds part of another conversion"))
    #expect(throws: MethodError.self) {
      try folders.convert("llama2", stopping, format: .float16)
    }

    let going = StoppingMethod(stopsAt: nil) { layer in log.withLock { $0.append(layer) } }
    let report = try folders.convert("llama2", going)
    #expect(log.withLock { $0 } == [0, 1, 1] && report.layers == plain.layers)
    try expectSameShards(folders)
    // And what is there is not made again.
    #expect(
      errorLine { try folders.convert("llama2", going) }
        == "\(folders.path)/out is there already; choose another folder, or remove it")
  }

  @Test(arguments: ["a bit is another", "the end is missing", "it is gone", "its note is gone"])
  func `a finished layer that is not as it was written is converted again`(_ fault: String) throws {
    let folders = try ConversionFolders()
    try folders.convert("llama2", "lorc", into: "whole")
    let log = Mutex<[Int]>([])
    let stopping = StoppingMethod(stopsAt: 1) { layer in log.withLock { $0.append(layer) } }
    #expect(throws: StoppingMethod.Stop.self) { try folders.convert("llama2", stopping) }
    let shard = URL(
      fileURLWithPath: "\(folders.path)/out.part/model-00001-of-00003.safetensors")
    var bytes = try Data(contentsOf: shard)
    switch fault {
    case "a bit is another":
      // Among the weights: the file can still be read.
      bytes[bytes.count - 100] ^= 1
      try bytes.write(to: shard)
    case "the end is missing": try bytes.dropLast(10).write(to: shard)
    case "it is gone": try FileManager.default.removeItem(at: shard)
    default:
      try FileManager.default.removeItem(atPath: "\(folders.path)/out.part/conversion.json")
    }
    let going = StoppingMethod(stopsAt: nil) { layer in log.withLock { $0.append(layer) } }
    try folders.convert("llama2", going)
    #expect(log.withLock { $0 } == [0, 1, 0, 1])
    try expectSameShards(folders)
  }

  @Test func `a conversion does not go on with another calibration of the same name`() throws {
    let folders = try ConversionFolders()
    let path = "\(folders.path)/ranks"
    func write(tokens: Int) throws {
      let writer = SafetensorsWriter(metadata: [
        "schema": CalibrationFile.schema, "method": "lorc", "model": "0123", "layers": "2",
        "tokens": "\(tokens)",
      ])
      try writer.write(to: path)
    }
    try write(tokens: 100)
    var method = StoppingMethod(stopsAt: 1) { _ in }
    method.calibrationFile = try CalibrationFile(path: path, method: "lorc")
    #expect(throws: StoppingMethod.Stop.self) { try folders.convert("llama2", method) }
    #expect(throws: StoppingMethod.Stop.self) { try folders.convert("llama2", method) }
    try write(tokens: 200)
    let line = errorLine { try folders.convert("llama2", method) }
    #expect(line.contains("holds part of another conversion"), "\(line)")
  }

  @Test(arguments: ["notes.txt", "model.safetensors", "model-00001-of-00004.safetensors", "more/"])
  func `a file that is not the conversion's is named, stays, and is no part of a checkpoint`(
    _ name: String
  ) throws {
    let folders = try ConversionFolders()
    let part = "\(folders.path)/out.part"
    let stopping = StoppingMethod(stopsAt: 1) { _ in }
    #expect(throws: StoppingMethod.Stop.self) { try folders.convert("llama2", stopping) }
    let path = "\(part)/\(name.filter { $0 != "/" })"
    if name.hasSuffix("/") {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    } else {
      try Data("mine".utf8).write(to: URL(fileURLWithPath: path))
    }
    let line = errorLine { try folders.convert("llama2", "lorc") }
    #expect(line.hasPrefix("\(path) is no file of this conversion"), "\(line)")
    #expect(!line.contains("\n") && FileManager.default.fileExists(atPath: path))
    #expect(!FileManager.default.fileExists(atPath: "\(folders.path)/out"))
    try FileManager.default.removeItem(atPath: path)
    try folders.convert("llama2", "lorc")
    // What the source had, and the parts of a checkpoint.
    let names = try FileManager.default.contentsOfDirectory(atPath: "\(folders.path)/out")
    #expect(
      Set(names).subtracting(
        try FileManager.default.contentsOfDirectory(atPath: ConversionFolders.tiny("llama2")))
        == Set(
          ["model.safetensors.index.json"]
            + (1...3).map { "model-0000\($0)-of-00003.safetensors" }))
  }

  @Test func `what is in the way of the output is one line`() throws {
    let folders = try ConversionFolders()
    let (files, path) = (FileManager.default, folders.path)
    try files.createDirectory(atPath: "\(path)/empty", withIntermediateDirectories: false)
    for name in ["file", "half.part"] {
      try Data("mine".utf8).write(to: URL(fileURLWithPath: "\(path)/\(name)"))
    }
    for (output, start) in [
      ("empty", "\(path)/empty is there already; choose another folder, or remove it"),
      ("file", "\(path)/file is there already"),
      ("nodir/x", "\(path)/nodir does not exist; make it, or choose another folder"),
      ("file/x", "\(path)/file/x cannot be made: \(path)/file is no folder"),
      ("half", "\(path)/half.part is no folder, and the conversion is written there first"),
    ] {
      let line = errorLine { try folders.convert("llama2", "lorc", into: output) }
      #expect(line.hasPrefix(start) && !line.contains("\n"), "\(line)")
    }
    #expect(try files.contentsOfDirectory(atPath: path).sorted() == ["empty", "file", "half.part"])
    #expect(try files.contentsOfDirectory(atPath: "\(path)/empty").isEmpty)
  }

  @Test(arguments: [
    // Three layers, 32 numbers a token in each; a window in layers 1 and 2.
    ("qwen2-sliding", "lorc", 48, 96, [1, 2] as [Int]?), ("qwen2-sliding", "kvlatent", 48, 96, nil),
    ("qwen2-sliding", "kvlatent:key=1,value=2", 72, 96, [1, 2]),
    ("qwen2-sliding", "compress-heads", 48, 96, nil), ("llama2", "lorc", 64, 128, nil),
    ("llama-dynamic-long", "lorc", 32, 64, [0, 1]), ("mistral", "lorc", 32, 64, [0, 1]),
  ])
  func `a saving that no cache can hold is said to be none`(
    _ name: String, _ method: String, _ after: Int, _ before: Int, _ layers: [Int]?
  ) throws {
    let folders = try ConversionFolders()
    let report = try folders.convert(name, method)
    #expect(report.numbersAfter == after && report.numbersBefore * report.layers.count == before)
    let decoder = try Decoder(folder: "\(folders.path)/out")
    let refuses = errorLine { () throws -> Void in
      for layer in decoder.layerShapes { _ = try cacheMethod("factored").makeCache(for: layer) }
    }
    let full = try cacheMethod("full")
    let rows = decoder.layerShapes.reduce(0) {
      $0 + full.bytes(tokens: 1, layer: $1).device / 4
    }
    #expect((report.warning == nil) == (refuses.isEmpty || rows == after))
    #expect((report.warning == nil) == (layers == nil))
    guard let layers else { return }
    let warning = try #require(report.warning)
    let list = layers.map(String.init).joined(separator: ", ")
    #expect(warning.contains("in layers \(list), which factored refuses"), "\(warning)")
    #expect(warning.hasSuffix("full holds \(rows) of \(before)"), "\(warning)")
    #expect(rows > after)
  }
}

/// LoRC that stops before a layer.
struct StoppingMethod: WeightMethod {
  struct Stop: Error {}

  static let (name, summary, paper) = ("lorc", "", "")
  static let optionList: [MethodOption] = []
  let stopsAt: Int?
  let hear: @Sendable (Int) -> Void
  var calibrationFile: CalibrationFile?
  var options: [(name: String, value: String)] { (try? weightMethod("lorc").options) ?? [] }

  init(_ given: MethodOptions) { (stopsAt, hear) = (nil, { _ in }) }
  init(stopsAt: Int?, _ hear: @escaping @Sendable (Int) -> Void) {
    (self.stopsAt, self.hear) = (stopsAt, hear)
  }

  func prepare(_ source: ConversionSource) throws -> any LayerConversion {
    Stopping(
      inside: try weightMethod("lorc").prepare(source), stopsAt: stopsAt, hear: hear)
  }

  private struct Stopping: LayerConversion {
    let inside: any LayerConversion
    let stopsAt: Int?
    let hear: @Sendable (Int) -> Void
    func convert(_ layer: Int) throws -> ConvertedLayer {
      hear(layer)
      if layer == stopsAt { throw Stop() }
      return try inside.convert(layer)
    }
  }
}
