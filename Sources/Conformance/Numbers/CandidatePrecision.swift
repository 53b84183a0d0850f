// The formats in which a candidate may hold its tensors.
//
// In:  the format of a candidate's outputs.
// Out: the size of one rounding, and the ends of the range; the tolerances are made from them.

/// The precision of a candidate.
package enum CandidatePrecision: String, Sendable, CaseIterable {
  case float32 = "F32"
  case bfloat16 = "BF16"
  case float16 = "F16"

  /// The largest relative error of one rounding, u.
  package var unitRoundoff: Double {
    switch self {
    case .float32: 0x1p-24
    case .bfloat16: 0x1p-8
    case .float16: 0x1p-11
    }
  }

  /// The largest finite number.
  package var largest: Double {
    switch self {
    case .float32: 0x1.fffffep127
    case .bfloat16: 0x1.fep127
    case .float16: 65504
    }
  }

  /// The smallest positive number.
  package var smallest: Double {
    switch self {
    case .float32: 0x1p-149
    case .bfloat16: 0x1p-133
    case .float16: 0x1p-24
    }
  }

  /// `value` as this format holds it.
  func rounded(_ value: Double) -> Double {
    switch self {
    case .float32: Double(Float(value))
    case .bfloat16: Rounded<BFloat16>(rounding: value).value
    case .float16: Rounded<Float16Format>(rounding: value).value
    }
  }
}
