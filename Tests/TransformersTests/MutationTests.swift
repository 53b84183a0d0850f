// Damaged folders: whatever a few changed bytes make of a checkpoint, opening it either works or
// throws one of the errors that are meant for the world.

import Tensors
import TestSupport
import Testing
import Transformers

@Suite struct MutationTests {
  /// Opens a folder and runs a short prompt; true if that worked.
  ///
  /// An error of another type fails the test; a crash ends it.
  private func survives(_ folder: CheckpointCopy, _ what: String) -> Bool {
    do {
      let decoder = try Decoder(folder: folder.path)
      _ = try decoder.prefill([1, 2, 3], logits: .last)
      return true
    } catch is ConfigurationError, is CheckpointError, is SafetensorsError, is DecoderError {
      return false
    } catch {
      Issue.record("\(what): \(error)")
      return false
    }
  }

  /// One to three changes: a byte flipped, a piece cut out, repeated, or replaced.
  private func damaged(
    _ bytes: [UInt8], within range: Range<Int>, _ numbers: inout SeededNumbers,
    pieces: [String]
  ) -> [UInt8] {
    var bytes = bytes
    for _ in 0...numbers.below(3) {
      let place = min(range.lowerBound + numbers.below(range.count), bytes.count - 1)
      let end = min(place + 1 + numbers.below(12), bytes.count)
      switch numbers.below(5) {
      case 0: bytes[place] ^= 1 << UInt8(numbers.below(8))
      case 1: bytes.removeSubrange(place..<end)
      case 2: bytes.insert(contentsOf: bytes[place..<end], at: place)
      case 3: bytes.replaceSubrange(place..<end, with: pieces[numbers.below(pieces.count)].utf8)
      default:
        // A digit, where there is one nearby: numbers that stay numbers get furthest.
        let digits = bytes[place...].indices.prefix(200).filter { 0x30...0x39 ~= bytes[$0] }
        if let digit = digits.first { bytes[digit] = 0x30 + UInt8(numbers.below(10)) }
      }
    }
    return bytes
  }

  private static let pieces = [
    "0", "-1", "1e308", "9223372036854775807", "99999999999999999999", "null", "true", "[]", "{}",
    "\"\"", "\"..\"", "[[[[", ",", "\u{0}", "\"factor\": 1e-300", "NaN",
  ]

  @Test(
    "config.json",
    arguments: ["llama3", "phi3-partial", "qwen2-sliding", "lrkv-rotated-residual", "deepseek"])
  func configuration(_ name: String) throws {
    let folder = try CheckpointCopy(copying: name)
    let bytes = try folder.bytes("config.json")
    var numbers = SeededNumbers(seed: 1)
    var worked = 0
    for n in 0..<60 {
      let changed = damaged(bytes, within: 0..<bytes.count, &numbers, pieces: Self.pieces)
      try folder.write("config.json", changed)
      if survives(folder, "\(name), change \(n)") { worked += 1 }
    }
    #expect(worked < 60, "some changes are noticed")
  }

  @Test("every value of config.json replaced by every piece")
  func values() throws {
    let folder = try CheckpointCopy(copying: "phi3-partial")
    let original = try folder.bytes("config.json")
    let keys = try JSONValue(parsing: original, depthLimit: 8).objectValue?.map(\.key) ?? []
    #expect(keys.count > 20)
    for key in keys {
      for piece in Self.pieces.prefix(11) {
        try folder.write("config.json", original)
        try folder.configure([key: piece])
        _ = survives(folder, "\(key) = \(piece)")
      }
    }
  }

  @Test("model.safetensors.index.json")
  func index() throws {
    let folder = try CheckpointCopy(copying: "qwen2-sharded")
    let name = "model.safetensors.index.json"
    let bytes = try folder.bytes(name)
    var numbers = SeededNumbers(seed: 2)
    for n in 0..<60 {
      try folder.write(
        name, damaged(bytes, within: 0..<bytes.count, &numbers, pieces: Self.pieces))
      _ = survives(folder, "change \(n)")
    }
  }

  @Test("model.safetensors: header, data, length")
  func weights() throws {
    let folder = try CheckpointCopy(copying: "llama3")
    let bytes = try folder.bytes("model.safetensors")
    let header = 8 + bytes.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    var numbers = SeededNumbers(seed: 3)
    for n in 0..<60 {
      try folder.write(
        "model.safetensors",
        damaged(bytes, within: 0..<header, &numbers, pieces: Self.pieces))
      _ = survives(folder, "header, change \(n)")
    }
    for n in 0..<20 {
      var changed = bytes
      for _ in 0..<50 {
        changed[header + numbers.below(bytes.count - header)] = UInt8(numbers.below(256))
      }
      try folder.write("model.safetensors", changed)
      _ = survives(folder, "data, change \(n)")
    }
    for n in 0..<20 {
      try folder.write("model.safetensors", Array(bytes.prefix(numbers.below(bytes.count))))
      #expect(!survives(folder, "cut \(n)"), "a shorter file is noticed")
    }
  }
}
