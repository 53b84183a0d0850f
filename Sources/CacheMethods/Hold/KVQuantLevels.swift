// KVQuant, second half: numbers within a range as codes of few bits, and back.
//
// In:  a number y and the range [lo, hi] of its vector (KVQuantRanges.swift).
// Out: a code from 0 to 2^bits − 1; from code and range the number ŷ.
//
//     nuq        x = (y − (hi + lo) / 2) / ((hi − lo) / 2)         between −1 and 1
//                code = the nearest entry e of a codebook           ties to the first entry
//                ŷ = e (hi − lo) / 2 + (hi + lo) / 2
//     Q-Norm     ŷ by e σ₁/σ₂ + μ₁ − μ₂ σ₁/σ₂ in place of e: mean and spread of the entries are
//                those of the numbers that the codebook was made of (1: numbers, 2: entries)
//     uniform    s = (2^bits − 1) / (hi − lo)   code = round((y − lo) s), clipped   ŷ = code/s + lo
//                with a rounded offset: o = round(lo s) within −(2^bits − 1) ... 0,
//                code = round(s y − o), clipped, ŷ = (code + o) / s
//
// The codebook is k-means on the normalised numbers of a whole layer (Codebooks.swift), so entries
// are dense where numbers are. Rounding is to even.
//
// Where hi = lo. The published uniform path divides by 0 and turns what comes of it into 0: a
// vector of nothing but 3 comes back as zeros (quant_fn_zp; the nuq path gives 3). Here it is 3 in
// both; the fault stays behind `equal: .zero` for recordings.
//
// Source: as in KVQuantRanges.swift: quant_fn_nuq_recon, quant_fn_zp, SimQuant.quantize.

package import Tensors

/// How entries of a codebook are moved so that mean and spread stay: e · scale + shift.
package struct QNorm<E: Scalar>: Sendable, Equatable {
  /// What entries are multiplied by, σ₁/σ₂.
  package let scale: E
  /// μ₁ − μ₂ σ₁/σ₂.
  package let shift: E

  /// e · scale + shift.
  package init(scale: E, shift: E) { (self.scale, self.shift) = (scale, shift) }
}

/// Whether the offset of even levels is a whole level.
package enum LevelOffset: Sendable {
  /// lo as it is.
  case exact
  /// Rounded to a level between −(2^bits − 1) and 0: the code's `clamp`.
  case rounded
}

/// What a vector of equal numbers comes back as.
package enum EqualNumbers: Sendable {
  /// As it is.
  case itself
  /// As zeros: the published uniform path.
  case zero
}

/// How numbers become codes.
package enum Levels<E: Scalar>: Sendable, Equatable {
  /// The entries of a codebook, between −1 and 1.
  case codebook([E], norm: QNorm<E>? = nil)
  /// 2^bits levels at even distances.
  case even(bits: Int, offset: LevelOffset = .exact, equal: EqualNumbers = .itself)

  /// The code of `y`, from 0 to 2^bits − 1.
  package func code(_ y: E, in range: CodeRange<E>) -> UInt32 {
    switch self {
    case .codebook(let entries, _):
      if range.half == 0 { return 0 }
      return nearest((y - range.centre) / range.half, among: entries)
    case .even(let bits, let offset, _):
      let most = E((1 << bits) - 1)
      let s = most / (range.high - range.low)
      if !s.isFinite { return 0 }
      let steps =
        switch offset {
        case .exact: (y - range.low) * s
        case .rounded: s * y - Self.roundedOffset(range.low * s, most)
        }
      return UInt32(min(max(steps.rounded(.toNearestOrEven), 0), most))
    }
  }

  /// ŷ of a code.
  package func value(_ code: UInt32, in range: CodeRange<E>) -> E {
    switch self {
    case .codebook(let entries, let norm):
      if range.half == 0 { return range.low }
      var e = entries[Int(code)]
      if let norm { e = e * norm.scale + norm.shift }
      return e * range.half + range.centre
    case .even(let bits, let offset, let equal):
      let most = E((1 << bits) - 1)
      let s = most / (range.high - range.low)
      if !s.isFinite { return equal == .zero ? 0 : range.low }
      switch offset {
      case .exact: return E(code) / s + range.low
      case .rounded: return (E(code) + Self.roundedOffset(range.low * s, most)) / s
      }
    }
  }

  /// Writes ŷ of the next codes of `reader`, one for each of `columns`, into `out` from `place` on.
  ///
  /// The same numbers as `value`, with the form of the levels looked up once a row.
  @inline(__always)
  func read(
    _ columns: Int, _ reader: inout BitReader, of words: Span<UInt32>,
    into out: inout MutableSpan<E>, at place: Int, range: (Int) -> CodeRange<E>
  ) {
    guard case .codebook(let entries, let norm) = self else {
      for c in 0..<columns { out[place + c] = value(reader.code(of: words), in: range(c)) }
      return
    }
    let moved = norm.map { norm in entries.map { $0 * norm.scale + norm.shift } } ?? entries
    let table = moved.span
    for c in 0..<columns {
      let (e, range) = (table[Int(reader.code(of: words))], range(c))
      out[place + c] = range.half == 0 ? range.low : e * range.half + range.centre
    }
  }

  /// What `y` comes back as.
  package func rounded(_ y: E, in range: CodeRange<E>) -> E {
    value(code(y, in: range), in: range)
  }

  private static func roundedOffset(_ offset: E, _ most: E) -> E {
    min(max(offset.rounded(.toNearestOrEven), -most), 0)
  }
}

/// The entry next to `x`; the first one where several are.
package func nearest<E: Scalar>(_ x: E, among entries: [E]) -> UInt32 {
  var (best, distance) = (0, E.infinity)
  for (i, e) in entries.enumerated() where abs(x - e) < distance {
    (best, distance) = (i, abs(x - e))
  }
  // Beyond every finite distance: the outermost entry on that side.
  if distance == .infinity && x > 0 {
    best = entries.indices.max { entries[$0] < entries[$1] } ?? 0
  } else if distance == .infinity {
    best = entries.indices.min { entries[$0] < entries[$1] } ?? 0
  }
  return UInt32(best)
}
