// A model's folder that a test may change.

import Foundation
import Tensors

/// A copy of a tiny checkpoint in a temporary folder, removed at the end.
final class CheckpointCopy {
  let path: String

  init(copying name: String) throws {
    path =
      FileManager.default.temporaryDirectory
      .appendingPathComponent("lrqk-model-\(UUID().uuidString)").path
    try FileManager.default.copyItem(atPath: TinyCheckpoint.path(name), toPath: path)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func bytes(_ file: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: URL(fileURLWithPath: "\(path)/\(file)")))
  }

  func write(_ file: String, _ bytes: [UInt8]) throws {
    try Data(bytes).write(to: URL(fileURLWithPath: "\(path)/\(file)"))
  }

  func write(_ file: String, _ text: String) throws { try write(file, Array(text.utf8)) }

  func remove(_ file: String) throws {
    try FileManager.default.removeItem(atPath: "\(path)/\(file)")
  }

  /// Sets keys of config.json to JSON texts; nil removes a key.
  func configure(_ changes: [String: String?]) throws {
    let json = try JSONValue(parsing: try bytes("config.json"), depthLimit: 16)
    var members = (json.objectValue ?? []).map { ($0.key, text($0.value)) }
    for (key, value) in changes {
      members.removeAll { $0.0 == key }
      if let value { members.append((key, value)) }
    }
    let lines = members.map { "\(jsonQuoted($0.0)): \($0.1)" }
    try write("config.json", "{\(lines.joined(separator: ",\n"))}")
  }

  /// Writes model.safetensors again, each tensor through `change`: nil leaves it out.
  func rewriteWeights(
    adding extra: [(String, Tensor<Float>)] = [],
    _ change: (String, Tensor<Float>) -> (Tensor<Float>, StorageFormat)? = { ($1, .float32) }
  ) throws {
    let file = try SafetensorsFile(path: "\(path)/model.safetensors")
    var writer = SafetensorsWriter()
    for name in file.names {
      guard let (tensor, format) = change(name, try file.tensor(name)) else { continue }
      try writer.add(name, tensor, as: format)
    }
    for (name, tensor) in extra { try writer.add(name, tensor, as: .float32) }
    try writer.write(to: "\(path)/model.safetensors")
  }

  private func text(_ value: JSONValue) -> String {
    switch value {
    case .object(let members):
      "{" + members.map { "\(jsonQuoted($0.key)): \(text($0.value))" }.joined(separator: ", ") + "}"
    case .array(let elements): "[" + elements.map(text).joined(separator: ", ") + "]"
    case .string(let string): jsonQuoted(string)
    case .integer(let integer): "\(integer)"
    case .number(let number): number
    case .bool(let flag): "\(flag)"
    case .null: "null"
    }
  }
}
