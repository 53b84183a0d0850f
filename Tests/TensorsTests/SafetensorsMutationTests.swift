// Broken files at random: whatever happens to the bytes, reading ends in a file or in an error.

import Tensors
import TestSupport
import Testing

/// A valid file with every format, an empty tensor, metadata and names beyond ASCII.
private func validFile() throws -> [UInt8] {
  var writer = SafetensorsWriter(metadata: ["rank": "8", "note": "q̂ and k̂\n"])
  let real = Tensor<Double>(shape: [2, 3], elements: [1, 2, 3, -4, 0.5, 1e4])
  for format in StorageFormat.allCases {
    if format.isFloatingPoint {
      try writer.add("real.\(format.rawValue)", real, as: format)
    } else {
      let bits = Tensor(shape: [4], elements: [0, 1, 1, 0])
      try writer.add("zahl-ä.\(format.rawValue)", integers: bits, as: format)
    }
  }
  try writer.add("empty", Tensor<Float>(shape: [0, 5], elements: []), as: .float32)
  return writer.bytes()
}

/// One random change; `seed` alone decides which.
private func mutate(_ valid: [UInt8], seed: UInt64) -> (what: String, bytes: [UInt8]) {
  var dice = SeededNumbers(seed: seed)
  var bytes = valid
  let headerEnd = 8 + bytes[0..<8].reversed().reduce(0) { $0 << 8 | Int($1) }

  /// Puts the header's true length in front again, so that the change reaches the checks behind.
  func resealed(_ changed: [UInt8]) -> [UInt8] {
    littleEndian(UInt64(headerEnd - 8 + changed.count - valid.count)) + changed[8...]
  }

  switch dice.below(7) {
  case 0:
    let i = dice.below(bytes.count)
    bytes[i] ^= 1 << UInt8(dice.below(8))
    return ("bit flipped in byte \(i)", bytes)
  case 1:
    let i = 8 + dice.below(headerEnd - 8)
    bytes[i] = UInt8(dice.below(256))
    return ("header byte \(i) replaced", bytes)
  case 2:
    let count = dice.below(bytes.count)
    return ("cut to \(count) bytes", Array(bytes[0..<count]))
  case 3:
    let i = dice.below(bytes.count + 1)
    let extra = (0...dice.below(16)).map { _ in UInt8(dice.below(256)) }
    bytes.insert(contentsOf: extra, at: i)
    return ("\(extra.count) bytes inserted at \(i)", bytes)
  case 4:
    let i = 8 + dice.below(headerEnd - 8)
    let token = ["[", "]", "{", "}", ",", ":", "\"", "\\u", "-", "9", "1e9", "null", "0"][
      dice.below(13)]
    bytes.insert(contentsOf: token.utf8, at: i)
    return ("\(token) inserted in the header at \(i), length corrected", resealed(bytes))
  case 5:
    let digits = bytes.indices.filter {
      (8..<headerEnd).contains($0) && (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[$0])
    }
    for _ in 0...dice.below(3) {
      bytes[digits[dice.below(digits.count)]] = UInt8(ascii: "0") + UInt8(dice.below(10))
    }
    return ("digits of the header replaced", bytes)
  default:
    let i = 8 + dice.below(headerEnd - 8)
    let count = min(1 + dice.below(20), headerEnd - i)
    bytes.removeSubrange(i..<i + count)
    return ("\(count) header bytes removed at \(i), length corrected", resealed(bytes))
  }
}

@Suite struct `Safetensors mutations` {
  @Test func `five thousand broken files give an error or a file no larger than itself`() throws {
    let valid = try validFile()
    #expect(problem(in: valid) == nil)
    var refused = 0
    for seed in 0..<UInt64(5000) {
      let (what, bytes) = mutate(valid, seed: seed)
      do throws(SafetensorsError) {
        let file = try SafetensorsFile(bytes: bytes, name: "seed \(seed)")
        // Whatever was accepted can be read, and its elements are elements of the file.
        var size = 0
        for name in file.names {
          let format = try file.format(of: name)
          let shape = try file.shape(of: name)
          let found: (shape: [Int], count: Int)
          if format.isFloatingPoint {
            let tensor = try file.tensor(name, as: Double.self)
            found = (tensor.shape, tensor.count)
          } else if format == .bool {
            // The one format whose bytes can be wrong by themselves.
            found = (shape, (try? file.integers(name))?.count ?? shape.reduce(1, *))
          } else {
            let tensor = try file.integers(name)
            found = (tensor.shape, tensor.count)
          }
          #expect(found.shape == shape, "seed \(seed), \(what)")
          size += found.count * format.byteWidth
        }
        #expect(size <= bytes.count, "seed \(seed), \(what)")
      } catch {
        refused += 1
        let line = error.description
        let isOneLine = line.hasPrefix("seed \(seed): ") && !line.utf8.contains(10)
        #expect(isOneLine, "seed \(seed), \(what): \(line)")
      }
    }
    // Most changes break the file; changes of elements, spaces and metadata do not.
    #expect(refused > 3000 && refused < 4950, "\(refused) of 5000 refused")
  }

  @Test func `a file cut anywhere is refused`() throws {
    let valid = try validFile()
    for count in 0..<valid.count {
      #expect(problem(in: Array(valid[0..<count])) != nil, "cut to \(count) bytes")
    }
  }
}
