// Bundles on disk: the same bytes every time, and every damage found.

import Conformance
import Foundation
import Testing

/// A folder that is removed at the end.
private func withFolder(_ body: (String) throws -> Void) throws {
  let folder = NSTemporaryDirectory() + "golden-\(UUID().uuidString)"
  defer { try? FileManager.default.removeItem(atPath: folder) }
  try body(folder)
}

@Suite struct GoldenBundleTests {
  @Test func `the committed bundle is what this version writes`() throws {
    let folder = try #require(Bundle.module.path(forResource: "Golden", ofType: nil))
    #expect(try GoldenBundle(folder: folder).faults().isEmpty)
  }

  @Test func `writing twice gives the same bytes`() throws {
    for kernel in Kernel.allCases {
      let example = kernel.cases[0]
      #expect(try GoldenBundle.bytes(kernel, example) == GoldenBundle.bytes(kernel, example))
    }
  }

  // The published examples of FIPS 180-4, and a million times "a".
  @Test func `the digest is SHA-256`() {
    #expect(
      sha256([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    #expect(
      sha256(Array("abc".utf8))
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(
      sha256(Array(repeating: UInt8(ascii: "a"), count: 1_000_000))
        == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
  }

  @Test func `a changed byte, a missing file and a foreign folder are found`() throws {
    try withFolder { folder in
      let bundle = GoldenBundle(folder: folder)
      #expect(try bundle.write { $0.kernel == .topK } == 8)
      #expect(try bundle.faults().isEmpty)
      let path = "\(folder)/top-k.ties.safetensors"
      var bytes = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
      bytes[bytes.count - 1] ^= 1
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      try FileManager.default.removeItem(atPath: "\(folder)/top-k.one.safetensors")
      let faults = try bundle.faults()
      #expect(faults.count == 2)
      #expect(faults.contains { $0.hasPrefix("top-k.ties.safetensors: its SHA-256 is ") })
      #expect(faults.contains("top-k.one.safetensors: is not there"))
      try Data("{}".utf8).write(to: URL(fileURLWithPath: "\(folder)/manifest.json"))
      #expect(throws: GoldenError.self) { try bundle.faults() }
    }
  }
}
