// The recordings that the tests replay, and how they are found.

import Foundation
import Replay
import Tensors

/// A recording that lies beside the tests.
enum Recordings {
  static let golden = [
    "prefill-r8", "prefill-r16-8iter", "prefill-topcol", "prefill-top", "prefill-weighted",
    "decode-r8", "decode-r16-tol", "decode-weighted", "trajectory-gqa", "trajectory-mha-batch2",
    "trajectory-short-prompt", "trajectory-topcol", "trajectory-no-hit-miss",
  ]
  static let trajectories = golden.filter { $0.hasPrefix("trajectory") }
  static let prefills = golden.filter { $0.hasPrefix("prefill") }
  static let decodeSteps = golden.filter { $0.hasPrefix("decode") }

  static func path(_ folder: String, _ name: String) -> String {
    Bundle.module.bundleURL.appendingPathComponent("\(folder)/\(name).safetensors").path
  }

  static func golden(_ name: String) throws -> Recording {
    try Recording(path: path("Golden", name))
  }

  static func capture(layer: Int) throws -> Recording {
    try Recording(path: path("Captures", "needle-layer\(layer)"))
  }
}

/// A copy of a recording in which one tensor has been changed.
func altered<E: Scalar>(
  _ recording: Recording, _ name: String, as format: StorageFormat,
  _ change: (inout Tensor<E>) -> Void
) throws -> Recording {
  try rewritten(recording) { writer, other in
    guard other == name else { return false }
    var tensor: Tensor<E> = try recording.file.tensor(name)
    change(&tensor)
    try writer.add(name, tensor, as: format)
    return true
  }
}

/// A copy of a recording, in a temporary file, that `replace` may write differently.
func rewritten(
  _ recording: Recording, metadata: [String: String]? = nil,
  _ replace: (inout SafetensorsWriter, String) throws -> Bool
) throws -> Recording {
  var writer = SafetensorsWriter(metadata: metadata ?? recording.file.metadata)
  for name in recording.file.names where try !replace(&writer, name) {
    let format = try recording.file.format(of: name)
    if format.isFloatingPoint {
      try writer.add(name, recording.file.tensor(name, as: Double.self), as: format)
    } else {
      try writer.add(name, integers: recording.file.integers(name), as: format)
    }
  }
  let path = FileManager.default.temporaryDirectory
    .appendingPathComponent("lrqk-\(UUID().uuidString).safetensors").path
  try writer.write(to: path)
  defer { try? FileManager.default.removeItem(atPath: path) }
  return try Recording(path: path)
}
