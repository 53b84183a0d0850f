// What the safetensors tests share: files from parts, the problem with a file, a place to write to.

import Foundation
import Tensors

/// Small numbers that every floating-point format can hold, exactly or rounded.
let sixReals = Tensor<Double>(
  shape: [2, 3], elements: [0, -1.5, 0.1, 65504, 0x1p-24, -0x1p-14])

/// A file as its format puts it together: length, header, data.
func safetensors(header: String, dataBytes: Int) -> [UInt8] {
  safetensors(header: Array(header.utf8), dataBytes: dataBytes)
}

/// The same from any header bytes, UTF-8 or not.
func safetensors(header: [UInt8], dataBytes: Int) -> [UInt8] {
  littleEndian(UInt64(header.count)) + header + [UInt8](repeating: 0, count: dataBytes)
}

/// The eight bytes of `value`, lowest first.
func littleEndian(_ value: UInt64) -> [UInt8] {
  (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
}

/// What is wrong with a file, or nil.
func problem(in bytes: [UInt8]) -> SafetensorsError.Problem? {
  do throws(SafetensorsError) {
    _ = try SafetensorsFile(bytes: bytes, name: "test")
    return nil
  } catch {
    return error.problem
  }
}

/// A directory of its own for one test; gone afterwards.
func withDirectory(_ body: (String) throws -> Void) throws {
  let directory = FileManager.default.temporaryDirectory
    .appendingPathComponent("lrqk-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
  defer { try? FileManager.default.removeItem(at: directory) }
  try body(directory.path)
}

/// What is wrong with a call, or nil.
func problem(_ body: () throws(SafetensorsError) -> Void) -> SafetensorsError.Problem? {
  do throws(SafetensorsError) {
    try body()
    return nil
  } catch {
    return error.problem
  }
}
