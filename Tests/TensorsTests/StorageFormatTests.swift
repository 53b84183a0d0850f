// Narrow floats: every pattern, every tie.
//
// Two witnesses: the definition (the nearer of two neighbours, checked at every midpoint in Double,
// where midpoints are exact) and Swift's own Float16.

import Tensors
import TestSupport
import Testing

private let formats: [(name: String, format: SixteenBitFloat)] = [
  ("F16", .float16), ("BF16", .bfloat16),
]

@Suite struct `Storage formats` {
  @Test func `all 65536 patterns of both 16-bit formats come back from Float and from Double`() {
    for (name, format) in formats {
      var wrong: [String] = []
      for bits in UInt16.min...UInt16.max {
        let value = format.value(of: bits)
        if value.isNaN {
          // A NaN stays a NaN of its sign and payload; a signalling one becomes quiet.
          let quiet = bits | 1 << UInt16(format.fractionBits - 1)
          if format.bits(of: Double(value)) != quiet { wrong.append("\(name) NaN \(bits)") }
        } else if format.bits(of: value) != bits || format.bits(of: Double(value)) != bits {
          wrong.append("\(name) \(bits) reads as \(value)")
        }
      }
      #expect(wrong.isEmpty, "\(wrong.count) wrong, first: \(wrong.prefix(3))")
    }
  }

  @Test func `all 65536 patterns of F16 mean what Swift's Float16 means`() {
    var wrong: [UInt16] = []
    for bits in UInt16.min...UInt16.max {
      let ours = SixteenBitFloat.float16.value(of: bits)
      let swifts = Float(Float16(bitPattern: bits))
      let same = ours.bitPattern == swifts.bitPattern || (ours.isNaN && swifts.isNaN)
      if !same { wrong.append(bits) }
    }
    #expect(wrong.isEmpty, "\(wrong.count) wrong, first: \(wrong.prefix(3))")
  }

  @Test func `between any two neighbours the nearer wins and the middle goes to the even one`() {
    for (name, format) in formats {
      let infinity = UInt16((1 << format.exponentBits - 1) << format.fractionBits)
      var wrong: [String] = []
      for low in 0..<infinity {
        let a = Double(format.value(of: low))
        // The neighbour above the largest finite value, were the exponent one wider.
        let step = Double(format.value(of: low)) - Double(format.value(of: low == 0 ? 1 : low - 1))
        let b = low + 1 == infinity ? a + step : Double(format.value(of: low + 1))
        let middle = (a + b) / 2
        let even = low & 1 == 0 ? low : low + 1
        for sign: UInt16 in [0, 0x8000] {
          let s: Double = sign == 0 ? 1 : -1
          let found = [middle.nextDown, middle, middle.nextUp].map { format.bits(of: s * $0) }
          let expected = [low, even, low + 1].map { $0 | sign }
          if found != expected { wrong.append("\(name) \(low): \(found), expected \(expected)") }
        }
      }
      #expect(wrong.isEmpty, "\(wrong.count) wrong, first: \(wrong.prefix(3))")
    }
  }

  @Test func `a million random Doubles and Floats round to F16 as Swift rounds them`() {
    var dice = SeededNumbers(seed: 1)
    var wrong: [Double] = []
    for _ in 0..<1_000_000 {
      // Random significand, exponents from below the subnormals to above the largest value.
      let bits = dice.next()
      let exponent = UInt64(1023 - 27 + dice.below(45))
      let value = Double(bitPattern: bits & ~(0x7FF << 52) | exponent << 52)
      let ours = SixteenBitFloat.float16
      if ours.bits(of: value) != Float16(value).bitPattern
        || ours.bits(of: Float(value)) != Float16(Float(value)).bitPattern
      {
        wrong.append(value)
      }
    }
    #expect(wrong.isEmpty, "\(wrong.count) wrong, first: \(wrong.prefix(3))")
  }

  @Test func `a Double is rounded once and not by way of Float`() {
    // Just above the middle of 1 and the next F16; as a Float it is the middle itself.
    let value = 1 + 0x1p-11 + 0x1p-40
    #expect(Float(value) == 1 + 0x1p-11)
    #expect(SixteenBitFloat.float16.bits(of: value) == 0x3C01)
    #expect(SixteenBitFloat.float16.bits(of: Float(value)) == 0x3C00)
    #expect(SixteenBitFloat.bfloat16.bits(of: 1 + 0x1p-8 + 0x1p-40) == 0x3F81)
  }

  @Test func `zeros, infinities and the ends of the Double range keep their signs`() {
    for (_, format) in formats {
      let infinity = UInt16((1 << format.exponentBits - 1) << format.fractionBits)
      for (value, bits) in [
        (0.0, 0), (Double.leastNonzeroMagnitude, 0), (Double.leastNormalMagnitude, 0),
        (Double.greatestFiniteMagnitude, infinity), (Double.infinity, infinity),
      ] {
        #expect(format.bits(of: value) == bits)
        #expect(format.bits(of: -value) == bits | 0x8000)
      }
    }
  }

  @Test func `the size of a tensor is known or nil and never wraps around`() {
    #expect(StorageFormat.allCases.map(\.byteWidth) == [8, 4, 2, 2, 8, 4, 1, 1])
    #expect(StorageFormat.float32.byteCount(shape: []) == 4)
    #expect(StorageFormat.float32.byteCount(shape: [2, 3]) == 24)
    #expect(StorageFormat.float32.byteCount(shape: [2, 0, 3]) == 0)
    #expect(StorageFormat.float32.byteCount(shape: [-1]) == nil)
    #expect(StorageFormat.float32.byteCount(shape: [0, -1]) == nil)
    #expect(StorageFormat.float32.byteCount(shape: [Int.max]) == nil)
    #expect(StorageFormat.uint8.byteCount(shape: [1 << 32, 1 << 32]) == nil)
    #expect(StorageFormat.uint8.byteCount(shape: [0, 1 << 32, 1 << 32]) == nil)
  }
}
