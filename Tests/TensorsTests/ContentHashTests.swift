// The hash of a content: published values, and files like bytes.

import Foundation
import Tensors
import Testing

@Suite struct ContentHashTests {
  @Test func `a file has the hash of its bytes, in pieces as in one`() throws {
    let path = FileManager.default.temporaryDirectory
      .appendingPathComponent("hash-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    for count in [0, 1, 1000, 1 << 20, 1 << 20 + 7] {
      let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 9) }
      try writeFile(bytes, to: path)
      #expect(try fnv1a(ofFile: path) == fnv1a(bytes))
    }
    #expect(throws: FileError.self) { _ = try fnv1a(ofFile: "\(path).none") }
    #expect(throws: FileError.self) {
      _ = try fnv1a(ofFile: FileManager.default.temporaryDirectory.path)
    }
  }

  @Test func `one bit that is another gives another hash`() {
    let bytes = (0..<200).map { UInt8($0) }
    for place in 0..<200 {
      var other = bytes
      other[place] ^= 1 << (place % 8)
      #expect(fnv1a(other) != fnv1a(bytes))
    }
    #expect(hexadecimal(0xAB) == "00000000000000ab")
  }
}
