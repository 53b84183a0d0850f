// Files that the tool's tests write and read back.
//
// In:  bytes and numbers.
// Out: folders that go with the test, safetensors files of one tensor.

import Foundation
import Testing

/// A folder that is removed with its last user.
final class TemporaryFolder {
  let path: String

  init() throws {
    path =
      FileManager.default.temporaryDirectory
      .appendingPathComponent("lrqk-test-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// A safetensors file, read independently of the package.
struct TensorFile {
  private let header: [String: Any]
  private let data: Data

  init(_ path: String) throws {
    let file = try Data(contentsOf: URL(fileURLWithPath: path))
    let length = file.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    let json = try JSONSerialization.jsonObject(with: file.dropFirst(8).prefix(length))
    header = try #require(json as? [String: Any])
    data = Data(file.dropFirst(8 + length))
  }

  func shape(_ name: String) -> [Int]? {
    (header[name] as? [String: Any])?["shape"] as? [Int]
  }

  /// The 32-bit words of a tensor.
  private func words(_ name: String) throws -> [UInt32] {
    let entry = try #require(header[name] as? [String: Any])
    let range = try #require(entry["data_offsets"] as? [Int])
    return stride(from: range[0], to: range[1], by: 4).map { first in
      (0..<4).reversed().reduce(0) { $0 << 8 | UInt32(data[first + $1]) }
    }
  }

  func floats(_ name: String) throws -> [Float] { try words(name).map { Float(bitPattern: $0) } }
  func integers(_ name: String) throws -> [Int] {
    try words(name).map { Int(Int32(bitPattern: $0)) }
  }

  /// Writes one I32 tensor.
  static func write(_ path: String, _ name: String, shape: [Int], _ values: [Int]) throws {
    let entry =
      #"{"\#(name)":{"dtype":"I32","shape":\#(shape),"data_offsets":[0,\#(values.count * 4)]}}"#
    var bytes = (0..<8).map { UInt8(truncatingIfNeeded: entry.utf8.count >> (8 * $0)) }
    bytes += entry.utf8
    for value in values { bytes += (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
    try Data(bytes).write(to: URL(fileURLWithPath: path))
  }
}
