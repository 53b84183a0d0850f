// A look at a cache from outside: how many of the best tokens it attended to, and their weight.
//
// In:  a cache of any method, and everything that the decoder gives to it.
// Out: the same answers; beside them, for every step and query head,
//
//        recall = |A ∩ T| / n      A: attended tokens older than the newest `recent` ones; n = |A|
//                                  T: the n tokens of that age, in sight, with the largest q · k
//        mass   = Σ_A' p_t         p: exact softmax over all tokens in sight; A': all attended
//
// The newest `recent` tokens are left out of recall on both sides, because a method attends to them
// whatever their scores are: 1 leaves out the new token, which every method attends to; a method's
// own w leaves its choice alone, and then exact top-k has recall 1. A head that chose nothing, n =
// 0, has no recall. Since n is what the method chose, choosing less is not punished here but in the
// mass; lrqk replay divides by the number of tokens that k allows. Ties go to the older token, as
// everywhere.
//
// The probe keeps its own copy of all keys, after RoPE, and every figure is about the exact scores
// of those, also where a method attends with others. The copy is part of the measurement, not of
// the method: no tier and no ledger counts it.

public import TieredMemory
import Tensors
public import Transformers

/// A cache of any method, and how its attended sets compare with the exact best ones.
public struct RecallProbe: WrappingCache {
  /// What one step measured, by query head.
  public struct Step: Sendable, Equatable {
    /// Tokens of the sequence, the new one included.
    public let length: Int
    /// From 0 to 1; nil for a head that chose nothing.
    public let recall: [Double?]
    /// From 0 to 1.
    public let mass: [Double]
  }

  /// The cache that does the work.
  public var base: any KeyValueCache
  /// The newest tokens that recall leaves out.
  public let recent: Int
  /// All steps so far.
  public private(set) var steps: [Step] = []

  private let layer: LayerShape
  /// Keys of each key/value head, (l, d), row-major.
  private var keys: [[Float]]

  /// Measures `base`, which serves `layer`; recall leaves the newest `recent` tokens out.
  public init(_ base: any KeyValueCache, layer: LayerShape, recent: Int = 1) {
    precondition(recent >= 1, "every method attends to the new token: leave out at least that one")
    self.base = base
    self.layer = layer
    self.recent = recent
    keys = Array(repeating: [], count: layer.keyValueHeads)
  }

  /// Tokens so far.
  public var length: Int { base.length }
  /// Bytes of the measured cache on the host; the probe's own copy is not among them.
  public var hostBytes: Int { base.hostBytes }

  /// Masses so far: steps times query heads.
  public var count: Int { steps.count * layer.queryHeads }
  /// Recalls so far: those of them that chose anything.
  public var recallCount: Int { steps.reduce(0) { $0 + $1.recall.count { $0 != nil } } }
  /// The sum of all recalls.
  public var recallSum: Double { steps.reduce(0) { $0 + $1.recall.reduce(0) { $0 + ($1 ?? 0) } } }
  /// The sum of all masses.
  public var massSum: Double { steps.reduce(0) { $0 + $1.mass.reduce(0, +) } }

  /// Keeps the keys and passes the prompt on.
  public mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    _ = layer.check(prompt)
    for m in keys.indices { keys[m] += prompt.keys[m].elements }
    try base.prefill(prompt, tiers: &tiers)
  }

  /// Passes the token on and measures what was attended to.
  public mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    for m in keys.indices { keys[m] += token.keys.row(m) }
    let step = try base.decode(token, tiers: &tiers)
    let measured = try mapConcurrently(layer.queryHeads) { h in
      do {
        return try measure(token.queries.row(h), keys[h / layer.groupSize], step.attended[h])
      } catch let error as NaNScore {
        let first = layer.visible(length: length).lowerBound
        throw ScoreError(
          layer: layer.layer, head: h, token: first + error.index, step: steps.count + 1)
      }
    }
    steps.append(
      Step(length: length, recall: measured.map(\.recall), mass: measured.map(\.mass)))
    return step
  }

  /// Recall and mass of one query head; `attended` ascends.
  private func measure(
    _ q: [Float], _ keys: [Float], _ attended: [Int]
  ) throws(NaNScore) -> (recall: Double?, mass: Double) {
    let visible = layer.visible(length: length)
    var scores: [Float] = zeros(visible.count)
    var out = scores.mutableSpan
    Float.chainRowScores(
      rows: keys.span.extracting(
        visible.lowerBound * layer.width..<visible.upperBound * layer.width),
      width: layer.width, q: q.span, into: &out)

    let older = max(visible.lowerBound, length - recent)  // recall is about the tokens below it
    let chosen = attended.prefix { $0 < older }
    let best = Set(
      try topK(Array(scores[..<(older - visible.lowerBound)]), count: chosen.count).indices)
    let found = chosen.reduce(0) { $0 + (best.contains($1 - visible.lowerBound) ? 1 : 0) }

    let weights = softmax(scores.map { Double($0) / Double(layer.width).squareRoot() })
    let mass = attended.reduce(0) { $0 + weights[$1 - visible.lowerBound] }
    return (chosen.isEmpty ? nil : Double(found) / Double(chosen.count), min(mass, 1))
  }
}
