// `lrqk replay` as scripts use it: the JSON contract, the output file, exit statuses, bad input.

import Foundation
import Testing

@Suite struct ReplayToolTests {
  static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  static func golden(_ name: String) -> String {
    root.appendingPathComponent("Tests/ReplayTests/Golden/\(name).safetensors").path
  }

  private func object(_ arguments: [String], status: Int32 = 0) throws -> [String: Any] {
    let found = try run("lrqk", ["replay"] + arguments + ["--json"])
    #expect(found.status == status, "\(found.error)")
    #expect(found.error == "")
    let json = try JSONSerialization.jsonObject(with: Data(found.output.utf8))
    return try #require(json as? [String: Any])
  }

  @Test func `a prefill's JSON keeps its contract`() throws {
    let json = try object([Self.golden("prefill-r8")])
    #expect(json["kind"] as? String == "prefill")
    #expect(json["within"] as? Bool == true)
    let outputs = try #require(json["outputs"] as? [String: [String: Any]])
    #expect(Set(outputs.keys) == ["A_Q", "B_Q", "A_K", "B_K"])
    for output in outputs.values {
      #expect(output["relative"] is Double && output["max_abs"] is Double)
      #expect(output["limit"] is Double && output["within"] as? Bool == true)
    }
  }

  @Test func `a trajectory's JSON keeps its contract`() throws {
    let json = try object([Self.golden("trajectory-gqa"), "--precision", "double"])
    #expect(json["kind"] as? String == "trajectory")
    #expect(json["selected_compared"] as? Int == 160)
    #expect(json["selected_equal"] as? Int == 160)
    #expect(json["missed_rows_equal"] as? Bool == true)
    for key in ["attention_relative", "recall", "dense_attention_relative"] {
      #expect(json[key] is Double, "\(key)")
    }
    #expect(json["resident_bytes"] is Int)
    let ledger = try #require(json["ledger"] as? [String: [String: [String: Int]]])
    // A row is a key and a value of 32 doubles.
    #expect(ledger["host_to_device"]?["miss"] == ["rows": 903, "bytes": 903 * 2 * 32 * 8])
    #expect(
      ledger["device_to_host"]?["prompt-offload"] == ["rows": 320, "bytes": 320 * 2 * 32 * 8])
    #expect(ledger["device_to_host"]?["ring-flush"] == ["rows": 80, "bytes": 80 * 2 * 32 * 8])
    #expect((json["steps"] as? [Any])?.count == 40)
  }

  @Test func `what is written replays as its own expectation`() throws {
    let directory = FileManager.default.temporaryDirectory
      .appendingPathComponent("lrqk-test-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    let out = directory.appendingPathComponent("out.safetensors").path
    let found = try run("lrqk", ["replay", Self.golden("trajectory-gqa"), "--output", out])
    #expect(found.status == 0, "\(found.error)")
    let data = try Data(contentsOf: URL(fileURLWithPath: out))
    let length = data.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    let header = try #require(
      JSONSerialization.jsonObject(with: data.dropFirst(8).prefix(length)) as? [String: Any])
    for (name, shape) in [
      ("prefill.A_K", [1, 4, 160, 8]), ("prefill.selected", [1, 4, 32]),
      ("selected", [40, 1, 4, 32]), ("missed_rows", [40, 1, 4]), ("k_hat", [40, 1, 4, 8]),
      ("attention", [40, 1, 4, 32]), ("final.B_Q", [1, 4, 8, 32]),
    ] {
      #expect((header[name] as? [String: Any])?["shape"] as? [Int] == shape, "\(name)")
    }
    // A path that cannot be written: one line, and nothing left behind.
    let missing = directory.appendingPathComponent("none/out.safetensors").path
    let failed = try run("lrqk", ["replay", Self.golden("prefill-r8"), "--output", missing])
    #expect(failed.status == 65)
    #expect(failed.error.split(separator: "\n").count == 1)
    #expect(!FileManager.default.fileExists(atPath: directory.appendingPathComponent("none").path))
  }

  @Test func `a comparison outside its limits exits with 1`() throws {
    let json = try object([Self.golden("trajectory-gqa"), "--candidates", "all"], status: 1)
    #expect(json["within"] as? Bool == false)
  }

  @Test(arguments: [
    ["--rank", "33"], ["--rank", "0"], ["--selected", "0"], ["--recent", "0"],
    ["--recent", "\(Int.max)"], ["--selected", "\(Int.max)"], ["--solver", "qr"],
    ["--code-map", "linear", "--basis-update", "frozen"], ["--map-refresh", "8"],
    ["--support", "group"],
    ["--weights", "1,2,3"], ["--weights", "1,1,1,inf"], ["--steps", "-1"], ["--chunk", "0"],
    ["--tolerance", "nan"], ["--iterations", "-1"], ["--basis-update", "damped:0"],
    ["--initialization", "zeros"], ["--ridge", "-1"], ["--json", "--per-step"],
    ["--solver", "spectral", "--initialization", "top"],
    ["--preset", "recommended", "--ridge", "1"], ["--ranks", "by-layer"],
    ["--preset", "recommended", "--rank-energy", "relative"],
    ["--preset", "recommended", "--counts", "pooled", "--on-breakdown", "proceed"],
    ["--preset", "recommended", "--tolerance", "0.1"], ["--steps", "41"],
    ["--prompt-length", "201"], ["--prompt-length", "\(Int.max)"],
  ])
  func `a choice that makes no sense gets one line and status 64`(_ choice: [String]) throws {
    let found = try run("lrqk", ["replay", Self.golden("trajectory-gqa")] + choice)
    #expect(found.status == 64, "\(found.error)")
    #expect(found.output == "")
    #expect(found.error.split(separator: "\n").count == 1, "\(found.error)")
  }

  @Test(arguments: [["--rank", "7"], ["--preset", "recommended"], ["--code-map", "linear"]])
  func `a choice that a recorded decode step cannot have gets status 64`(
    _ choice: [String]
  ) throws {
    let found = try run("lrqk", ["replay", Self.golden("decode-r8")] + choice)
    #expect(found.status == 64, "\(found.error)")
    #expect(found.output == "")
    #expect(found.error.split(separator: "\n").count == 1, "\(found.error)")
  }

  @Test(arguments: [["--rank", "7"], ["--prompt-length", "100"]])
  func `sizes that the recording contradicts get one line`(_ choice: [String]) throws {
    let found = try run("lrqk", ["replay", Self.golden("trajectory-gqa")] + choice)
    #expect(found.status == 65, "\(found.error)")
    #expect(found.error.split(separator: "\n").count == 1, "\(found.error)")
  }

  @Test func `a k far beyond the recording is refused before room is made for it`() throws {
    let capture = Self.root.appendingPathComponent(
      "Tests/ReplayTests/Captures/needle-layer0.safetensors"
    ).path
    let found = try run("lrqk", ["replay", capture, "-k", "\(1 << 40)", "--steps", "1"])
    #expect(found.status == 64, "\(found.error)")
    #expect(found.error.split(separator: "\n").count == 1, "\(found.error)")
  }

  @Test(arguments: ["\(Int.min)", "-1", "0", "201", "\(Int.max)"])
  func `a prompt length that a file lies about gets one line`(_ length: String) throws {
    // The header's number is replaced and the header's length with it; the data stay as they are.
    let original = [UInt8](
      try Data(contentsOf: URL(fileURLWithPath: Self.golden("trajectory-gqa"))))
    let end = 8 + original.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    let header = String(decoding: original[8..<end], as: UTF8.self).replacing(
      #/"prompt_length": ?"160"/#, with: "\"prompt_length\":\"\(length)\"")
    #expect(header.contains("\"\(length)\""))
    let size = UInt64(header.utf8.count)
    let bytes = (0..<8).map { UInt8(truncatingIfNeeded: size >> (8 * $0)) } + Array(header.utf8)
    let path = FileManager.default.temporaryDirectory
      .appendingPathComponent("lrqk-test-\(UUID().uuidString).safetensors")
    defer { try? FileManager.default.removeItem(at: path) }
    try Data(bytes + original[end...]).write(to: path)
    let found = try run("lrqk", ["replay", path.path])
    #expect(found.status == 65, "\(found.error)")
    #expect(found.error.split(separator: "\n").count == 1, "\(found.error)")
  }

  @Test func `a device that is too small stops the run with one line`() throws {
    let found = try run(
      "lrqk", ["replay", Self.golden("trajectory-gqa"), "--device-capacity", "100000"])
    #expect(found.status == 1)
    #expect(found.error.contains("device out of memory"))
    #expect(found.error.split(separator: "\n").count == 1)
  }

  @Test func `mutated recordings are refused or replayed, never a crash`() throws {
    let original = [UInt8](try Data(contentsOf: URL(fileURLWithPath: Self.golden("decode-r8"))))
    let path = FileManager.default.temporaryDirectory
      .appendingPathComponent("lrqk-test-\(UUID().uuidString).safetensors")
    defer { try? FileManager.default.removeItem(at: path) }
    let headerEnd = 8 + original.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    var state: UInt64 = 2510
    func dice(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    for round in 0..<120 {
      var bytes = original
      switch round % 4 {
      case 0: bytes[dice(headerEnd)] ^= 1 << UInt8(dice(8))
      case 1: bytes[dice(headerEnd)] = UInt8(ascii: "0") + UInt8(dice(10))
      case 2: bytes.removeLast(1 + dice(bytes.count - 1))
      default: bytes[headerEnd + dice(bytes.count - headerEnd)] = 0xFF
      }
      try Data(bytes).write(to: path)
      let found = try run("lrqk", ["replay", path.path])
      // 0 or 1: still a recording, compared. 64, 65: refused, in one line.
      #expect([0, 1, 64, 65].contains(found.status), "round \(round): \(found.error)")
      if found.status > 1 {
        #expect(found.error.split(separator: "\n").count == 1, "round \(round): \(found.error)")
      }
    }
  }
}
