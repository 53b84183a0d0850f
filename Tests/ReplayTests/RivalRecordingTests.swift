// Recordings of rival methods, made with their own code: ours gives the same sets and numbers.

import Foundation
import Replay
import Tensors
import Testing

/// The recordings of the methods that can be replayed.
private func files() -> [String] {
  let folder = Bundle.module.bundleURL.appending(path: "Rivals").path()
  let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
  return names.map { $0.replacing(".safetensors", with: "") }.filter { name in
    rivalComputations.contains { name.dropLast(2) == $0.method }
  }.sorted()
}

private func comparison<E: Scalar>(_ name: String, _: E.Type) throws -> RivalComparison {
  let recording = try RivalRecording(SafetensorsFile(path: Recordings.path("Rivals", name)))
  return try RivalComparison(recording, recording.outputs(E.self))
}

@Suite struct RivalRecordingTests {
  @Test func `every method that can be replayed has recordings here`() {
    for computation in rivalComputations {
      #expect(files().contains { $0.dropLast(2) == computation.method }, "\(computation.method)")
    }
  }

  @Test(arguments: files())
  func `is met in Float`(_ name: String) throws {
    let lines = try comparison(name, Float.self).lines
    #expect(lines.contains { $0.skipped == nil })
    for line in lines { #expect(line.within, "\(line)") }
  }

  @Test(arguments: files())
  func `is met in Double`(_ name: String) throws {
    let lines = try comparison(name, Double.self).lines
    #expect(lines.allSatisfy { $0.skipped == nil })
    for line in lines { #expect(line.within, "\(line)") }
  }
}
