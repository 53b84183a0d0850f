// Colours that can be read on white paper and on dark paper.
//
// In:  which of several series a colour is for; or a colour chosen for white paper.
// Out: a colour of its own for every series; and the colour's twin for dark paper.
//
// Readable is measured as the contrast of the Web Content Accessibility Guidelines: with L the
// luminance of a colour, from 0 (black) to 1 (white),
//
//   contrast of two colours = (larger L + 0.05) / (smaller L + 0.05),   1 to 21
//
// A colour keeps its hue, and gets the lightness at which its contrast with the paper is the one
// wanted. So a grid that is faint on white is as faint on dark.

import Foundation

/// A colour of the screen: red, green and blue from 0 to 1, in sRGB.
package struct Colour: Sendable, Equatable {
  /// Red, green, blue.
  private let parts: [Double]

  /// The colour of white paper.
  package static let white = Colour(parts: [1, 1, 1])
  /// The colour of dark paper.
  package static let dark = Colour(parts: [13 / 255, 17 / 255, 23 / 255])

  private init(parts: [Double]) { self.parts = parts }

  /// The colour "#rrggbb"; nil for any other text.
  package init?(hex: String) {
    guard hex.count == 7, hex.first == "#", let bits = Int(hex.dropFirst(), radix: 16) else {
      return nil
    }
    parts = [bits >> 16, bits >> 8 & 255, bits & 255].map { Double($0) / 255 }
  }

  /// The colour with this hue in degrees, saturation and lightness.
  init(hue: Double, saturation: Double, lightness: Double) {
    let chroma = (1 - abs(2 * lightness - 1)) * saturation
    parts = [0.0, 8, 4].map { shift in
      let sector = (shift + hue / 30).truncatingRemainder(dividingBy: 12)
      return lightness - chroma / 2 * max(-1, min(sector - 3, 9 - sector, 1))
    }
  }

  /// The colour as "#rrggbb".
  package var hex: String {
    "#" + parts.map { String(format: "%02x", Int(($0 * 255).rounded())) }.joined()
  }

  /// From 0 (black) to 1 (white), as the eye weighs red, green and blue.
  package var luminance: Double {
    let linear = parts.map { $0 <= 0.04045 ? $0 / 12.92 : pow(($0 + 0.055) / 1.055, 2.4) }
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
  }

  /// From 1 (the same) to 21 (black and white).
  package func contrast(with other: Colour) -> Double {
    let (a, b) = (luminance + 0.05, other.luminance + 0.05)
    return max(a, b) / min(a, b)
  }

  /// This colour's twin for dark paper: its hue, with the contrast that it has with white.
  package var onDark: Colour {
    if self == .white { return .dark }
    let (most, least) = (parts.max() ?? 0, parts.min() ?? 0)
    let (chroma, lightness) = (most - least, (most + least) / 2)
    var hue = 0.0
    if chroma > 0 {
      switch most {
      case parts[0]: hue = (parts[1] - parts[2]) / chroma
      case parts[1]: hue = (parts[2] - parts[0]) / chroma + 2
      default: hue = (parts[0] - parts[1]) / chroma + 4
      }
    }
    let saturation = chroma == 0 ? 0 : chroma / (1 - abs(2 * lightness - 1))
    return .readable(
      hue: (hue * 60 + 360).truncatingRemainder(dividingBy: 360), saturation: saturation,
      contrast: contrast(with: .white), on: .dark)
  }

  /// The colour of series number `series`.
  ///
  /// Hues are a golden angle apart, so that none comes back; three contrasts take turns, so that
  /// neighbours differ in lightness, too, for those who do not tell all hues apart.
  package static func series(_ series: Int) -> Colour {
    readable(
      hue: (215 + 137.508 * Double(series)).truncatingRemainder(dividingBy: 360), saturation: 0.8,
      contrast: [5.5, 3.6, 8][series % 3], on: .white)
  }

  /// The lightness with this contrast on paper, by halving: lighter is more luminous.
  private static func readable(
    hue: Double, saturation: Double, contrast: Double, on paper: Colour
  ) -> Colour {
    let wanted =
      paper.luminance > 0.5
      ? (paper.luminance + 0.05) / contrast - 0.05 : (paper.luminance + 0.05) * contrast - 0.05
    var (low, high) = (0.0, 1.0)
    for _ in 0..<30 {
      let middle = (low + high) / 2
      let colour = Colour(hue: hue, saturation: saturation, lightness: middle)
      if colour.luminance < wanted { low = middle } else { high = middle }
    }
    return Colour(hue: hue, saturation: saturation, lightness: high)
  }
}
