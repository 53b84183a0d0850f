// From the logits of one position to the next token.
//
// In:  logits z (V), and the tokens so far.
// Out: one token.
//
//   1. repetition penalty ρ, for tokens seen before    z_i ← z_i / ρ if z_i > 0, else z_i ρ
//   2. greedy: the largest z_i; equal ones: the lowest i. Otherwise:
//   3. temperature T, softmax                          p_i = exp(z_i / T) / Σ exp(z_j / T)
//   4. top-k     only the k largest p_i
//   5. top-p     of these the fewest, best first, whose sum is at least p of theirs
//   6. min-p     of these all with p_i >= m · p_max
//   7. u uniform in [0, 1); the first token, best first, at which the running sum exceeds u · Σ p
//
// The order of 1 and 3 to 6 is that of the `transformers` library, so that options found in model
// cards mean the same here. The draws are ours: they depend on seed, sequence and step alone, not
// on what other sequences of a batch do.

import RealModule
import Tensors

/// How the next token is chosen.
public struct Sampling: Sendable, Equatable {
  /// Temperature T; nil chooses greedily.
  public var temperature: Double?
  /// Keep only the k likeliest tokens; nil keeps all.
  public var topK: Int?
  /// Keep the likeliest tokens up to this much probability; nil keeps all.
  public var topP: Double?
  /// Keep tokens with at least this share of the likeliest one's probability; nil keeps all.
  public var minP: Double?
  /// Repetition penalty ρ; 1 does nothing.
  public var repetitionPenalty = 1.0
  /// Seed of the random draws.
  public var seed: UInt64 = 0

  /// Always the most likely token.
  public init() {}

  /// Throws for the first choice that makes no sense.
  public func check() throws(SamplingError) {
    func require(_ holds: Bool, _ sentence: @autoclosure () -> String) throws(SamplingError) {
      if !holds { throw SamplingError(sentence()) }
    }
    if let temperature {
      try require(
        temperature > 0 && temperature.isFinite,
        "temperature \(temperature): it must be above 0 (greedy is its limit)")
    } else {
      for (name, isSet) in [
        ("top-k", topK != nil), ("top-p", topP != nil), ("min-p", minP != nil),
      ] {
        try require(!isSet, "\(name) has no effect on greedy choices: give a temperature")
      }
    }
    if let topK { try require(topK >= 1, "top-k \(topK): it must be at least 1") }
    if let topP {
      try require(topP > 0 && topP <= 1, "top-p \(topP): it must be above 0 and at most 1")
    }
    if let minP { try require(minP >= 0 && minP <= 1, "min-p \(minP): it must be from 0 to 1") }
    try require(
      repetitionPenalty > 0 && repetitionPenalty.isFinite,
      "repetition penalty \(repetitionPenalty): it must be above 0 (1 does nothing)")
  }
}

/// Choices that make no sense, or logits that nothing can be chosen from.
public struct SamplingError: Error, Equatable, CustomStringConvertible {
  /// What, and what to do.
  public let description: String

  init(_ description: String) { self.description = description }
}

/// The sampler of one sequence.
public struct Sampler: Sendable {
  /// How tokens are chosen.
  public let sampling: Sampling
  private let numbers: RandomNumbers
  private var draws = 0

  /// The sampler of the sequence number `sequence` of a batch.
  public init(_ sampling: Sampling, sequence: Int = 0) {
    self.sampling = sampling
    numbers = RandomNumbers(seed: sampling.seed, stream: UInt64(sequence))
  }

  /// The token after `tokens`, whose last position has these logits (V).
  public mutating func next(_ logits: [Float], after tokens: [Int]) throws(SamplingError) -> Int {
    var z = logits
    if sampling.repetitionPenalty != 1 {
      let penalty = Float(sampling.repetitionPenalty)
      for token in Set(tokens) where z.indices.contains(token) {
        z[token] = z[token] > 0 ? z[token] / penalty : z[token] * penalty
      }
    }
    let candidates: [Int]
    do {
      candidates = try ranked(z, count: sampling.temperature == nil ? 1 : sampling.topK ?? z.count)
    } catch {
      throw SamplingError("the logit of token \(error.index) is not a number")
    }
    guard let best = candidates.first, z[best].isFinite else {
      throw SamplingError("no finite logit is the largest: nothing can be chosen")
    }
    guard let temperature = sampling.temperature else { return best }

    let top = Double(z[best])
    var weights = candidates.map { Double.exp((Double(z[$0]) - top) / temperature) }
    if let p = sampling.topP {
      let mass = p * weights.reduce(0, +)
      var sum = 0.0
      let last = weights.firstIndex { weight in
        sum += weight
        return sum >= mass
      }
      weights.removeSubrange(((last ?? weights.count - 1) + 1)...)
    }
    if let share = sampling.minP {
      weights.removeSubrange((weights.firstIndex { $0 < share } ?? weights.count)...)
    }

    let u = numbers.uniform(draws)
    draws += 1
    let mark = u * weights.reduce(0, +)
    var sum = 0.0
    for (token, weight) in zip(candidates, weights) {
      sum += weight
      if sum > mark { return token }
    }
    // Only rounding of u · Σ p up to Σ p itself leads here.
    return candidates[weights.count - 1]
  }
}
