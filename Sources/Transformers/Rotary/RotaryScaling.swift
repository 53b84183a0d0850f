// How the frequencies of RoPE are stretched for sequences longer than those of the training.
//
// In:  R rotated elements of a row, base θ, the length of the sequence.
// Out: the frequencies f_i, i < R/2, and a factor on every cosine and sine.
//
//   plain     f_i = θ^(−2i/R)
//   linear    f_i / s                                                 position interpolation
//   dynamic   θ' = θ (s l/L − (s − 1))^(R/(R−2)) beyond L tokens       NTK-aware, grows with l
//   yarn      f_i / s where a wave has fewer than β_slow periods in L tokens, f_i where it has
//             more than β_fast, a ramp between (Peng et al., arXiv 2309.00071)
//   llama3    the same idea over wavelengths 2π/f_i, between L/low and L/high
//   longrope  f_i / e_i with one list of e_i up to L tokens, another beyond (arXiv 2402.13753)
//   resampled θ^(−a/R), a = R/4, R/4 + 2, ... below 3R/4, then every number from there to R:
//             KV-Latent's for narrow heads, no fast ones and more slow ones (arXiv 2507.11273)
//
// L is the length that the model was trained at. The formulas and their defaults are those of the
// library transformers (5.23, modeling_rope_utils.py); everything is computed in Float as there,
// because at position 100,000 one unit in the last place of f_i rotates a pair by 0.006 radians.

import RealModule

/// A stretching of RoPE's frequencies.
public enum RotaryScaling: Sendable, Equatable {
  /// Frequencies as they are.
  case none
  /// All frequencies divided by `factor`.
  case linear(factor: Double)
  /// A larger base beyond `trainedLength` tokens.
  case dynamic(factor: Double, trainedLength: Int)
  /// Slow waves divided by a factor, fast ones kept.
  case yarn(Yarn)
  /// Slow waves divided by `factor`, those with a wavelength below L / `high` kept.
  case llama3(factor: Double, low: Double, high: Double, trainedLength: Int)
  /// Each frequency divided by its own number: `short` up to `trainedLength` tokens, else `long`.
  case longRope(short: [Double], long: [Double], trainedLength: Int, attentionFactor: Double)
  /// KV-Latent's frequencies; 4 divides the rotated width.
  case resampled

  /// The numbers of YaRN.
  public struct Yarn: Sendable, Equatable {
    /// s, how much longer sequences may get.
    public var factor: Double
    /// The length that the model was trained at, L.
    public var trainedLength: Int
    /// Waves with more periods than this in L tokens are kept.
    public var betaFast: Double
    /// Waves with fewer periods than this in L tokens are divided by s.
    public var betaSlow: Double
    /// Whether the ends of the ramp are rounded to whole indices.
    public var truncate: Bool
    /// What multiplies every cosine and sine.
    public var attentionFactor: Double

    /// Describes a YaRN scaling.
    public init(
      factor: Double, trainedLength: Int, betaFast: Double = 32, betaSlow: Double = 1,
      truncate: Bool = true, attentionFactor: Double
    ) {
      self.factor = factor
      self.trainedLength = trainedLength
      self.betaFast = betaFast
      self.betaSlow = betaSlow
      self.truncate = truncate
      self.attentionFactor = attentionFactor
    }

    /// The factor 0.1 m ln s + 1 of the paper (m = 1), at least 1.
    public static func attentionFactor(_ factor: Double, scale: Double = 1) -> Double {
      factor <= 1 ? 1 : 0.1 * scale * Double.log(factor) + 1
    }
  }

  /// What multiplies every cosine and sine.
  public var attentionFactor: Float {
    switch self {
    case .none, .linear, .dynamic, .llama3, .resampled: 1
    case .yarn(let yarn): Float(yarn.attentionFactor)
    case .longRope(_, _, _, let factor): Float(factor)
    }
  }

  /// Whether the angle of a position changes with the length of the sequence.
  var dependsOnLength: Bool {
    switch self {
    case .none, .linear, .yarn, .llama3, .resampled: false
    case .dynamic, .longRope: true
    }
  }

  /// f_i for i < `width` / 2, in a sequence that is `length` tokens long by now.
  func frequencies(width: Int, base: Double, length: Int) -> [Float] {
    let plain = powers(width: width, base: Float(base)).map { 1 / $0 }
    switch self {
    case .none: return plain
    case .linear(let factor): return plain.map { $0 / Float(factor) }
    case .dynamic(let factor, let trained):
      if length <= trained { return plain }
      let growth = Float(factor) * Float(length) / Float(trained) - Float(factor - 1)
      let exponent = Float(Double(width) / Double(width - 2))
      return powers(width: width, base: Float(base) * Float.pow(growth, exponent)).map { 1 / $0 }
    case .yarn(let yarn): return yarnFrequencies(yarn, width: width, base: base)
    case .llama3(let factor, let low, let high, let trained):
      return plain.map {
        llama3Frequency($0, Float(factor), Float(low), Float(high), Float(trained))
      }
    case .longRope(let short, let long, let trained, _):
      let factors = length > trained ? long : short
      precondition(factors.count == width / 2, "longrope needs one factor for each pair")
      return zip(factors, powers(width: width, base: Float(base))).map { 1 / (Float($0) * $1) }
    case .resampled:
      return Self.resampledExponents(width: width).map {
        1 / Float.pow(Float(base), Float($0) / Float(width))
      }
    }
  }

  /// a of θ^(−a/R): R/2 numbers, the last quarter of the exponents twice as dense.
  static func resampledExponents(width: Int) -> [Int] {
    precondition(width % 4 == 0, "resampled frequencies need a width that 4 divides, not \(width)")
    let (quarter, rest) = (width / 4, 3 * width / 4)
    return Array(stride(from: quarter, to: rest, by: 2)) + Array(rest..<width)
  }

  /// The powers θ^(2i/R), i < R/2.
  private func powers(width: Int, base: Float) -> [Float] {
    (0..<width / 2).map { Float.pow(base, Float(2 * $0) / Float(width)) }
  }

  /// Blends of f_i and f_i / s, by the number of periods that each wave has in L tokens.
  ///
  /// Wave i has L f_i / 2π periods, so the wave of n periods has index(n) = R ln(L / 2πn) / (2 ln
  /// θ). From index(β_fast) to index(β_slow) the share of f_i / s rises from 0 to 1.
  private func yarnFrequencies(_ yarn: Yarn, width: Int, base: Double) -> [Float] {
    func index(_ periods: Double) -> Double {
      Double(width) * Double.log(Double(yarn.trainedLength) / (periods * 2 * Double.pi))
        / (2 * Double.log(base))
    }
    var low = index(yarn.betaFast)
    var high = index(yarn.betaSlow)
    if yarn.truncate { (low, high) = (low.rounded(.down), high.rounded(.up)) }
    (low, high) = (max(low, 0), min(high, Double(width - 1)))
    if low == high { high += 0.001 }
    return powers(width: width, base: Float(base)).enumerated().map { i, power in
      let ramp = min(max((Float(i) - Float(low)) / Float(high - low), 0), 1)
      let kept = 1 - ramp
      return 1 / (Float(yarn.factor) * power) * (1 - kept) + 1 / power * kept
    }
  }

  /// Wavelengths 2π/f below L/high stay, above L/low are stretched by `factor`, between them a
  /// blend by t = (L/wavelength − low) / (high − low).
  private func llama3Frequency(
    _ f: Float, _ factor: Float, _ low: Float, _ high: Float, _ trained: Float
  ) -> Float {
    let wavelength = Float(2 * Double.pi) / f
    if wavelength > trained / low { return f / factor }
    if wavelength < trained / high { return f }
    let t = (trained / wavelength - low) / (high - low)
    return (1 - t) * f / factor + t * f
  }
}
