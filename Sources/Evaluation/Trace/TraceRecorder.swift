// A look at a cache from outside, step by step: what a trace is made of.
//
// In:  a cache of any method, and everything that the decoder gives to it.
// Out: the same answers; beside them, for every step and query head,
//
//        came, gone   the attended tokens, as a difference from the step before
//        best         the 8 tokens in sight with the largest s_t = q · k_t / √d, with s_t and the
//                     score that the method itself chose by, where it tells it (InspectableCache)
//        norm         log Σ_t exp(s_t) over all tokens in sight: exp(s_t − norm) is t's exact share
//        mass         the sum of these shares over the attended tokens
//        found        of the n attended tokens older than the ring, those among the n best of them
//
// The recorder keeps its own copy of all keys, after RoPE. It is part of the measurement, not of
// the method: no tier and no ledger counts it. The next file, TraceOfAnswer.swift, joins the
// layers.

import CacheMethods
import Foundation
package import TieredMemory
import Tensors
package import Transformers

/// A cache of any method, and the trace of its layer.
package struct TraceRecorder: WrappingCache {
  /// The cache that does the work.
  package var base: any KeyValueCache
  /// By row holder, the tokens in slots after the prompt; nil where no rows come from the host.
  private(set) var slots: [[Int]]?
  /// All steps so far.
  private(set) var steps: [GenerationTrace.LayerStep] = []
  /// Bytes on the device, of all layers so far, and on the host, of this one.
  ///
  /// After the prompt, then after each step.
  private(set) var bytes: [(device: Int, host: Int)] = []

  let layer: LayerShape
  /// The newest tokens, which lie in the ring.
  let recent: Int
  /// Keys of each key/value head, (l, d), row-major.
  private var keys: [[Float]]
  /// The attended tokens of each query head in the last step, ascending.
  private var attended: [[Int]]

  /// Records `base`, which serves `layer` and has the newest `recent` tokens in a ring.
  package init(_ base: any KeyValueCache, layer: LayerShape, recent: Int) {
    self.base = base
    if var inspectable = base as? any InspectableCache {
      inspectable.keepsScores = true
      self.base = inspectable
    }
    self.layer = layer
    self.recent = recent
    keys = Array(repeating: [], count: layer.keyValueHeads)
    attended = Array(repeating: [], count: layer.queryHeads)
  }

  /// Tokens so far.
  package var length: Int { base.length }
  /// Bytes of the recorded cache on the host; the recorder's own copy is not among them.
  package var hostBytes: Int { base.hostBytes }

  /// Keeps the keys and passes the prompt on.
  package mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    for m in keys.indices { keys[m] += prompt.keys[m].elements }
    try base.prefill(prompt, tiers: &tiers)
    let tokens = (base as? any InspectableCache)?.slotTokens
    slots = tokens?.isEmpty == true ? nil : tokens
    bytes.append((tiers.device.residentBytes, base.hostBytes))
  }

  /// Passes the token on and records what was attended to.
  package mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    for m in keys.indices { keys[m] += token.keys.row(m) }
    let step = try base.decode(token, tiers: &tiers)
    let own = (base as? any InspectableCache)?.lastScores ?? []
    let (before, keys) = (attended, self.keys)
    let heads = try mapConcurrently(layer.queryHeads) { h in
      do {
        return try look(
          token.queries.row(h), keys[h / layer.groupSize], step.attended[h], after: before[h],
          own: own.isEmpty ? nil : own[h])
      } catch let error as NaNScore {
        let first = layer.visible(length: length).lowerBound
        throw ScoreError(
          layer: layer.layer, head: h, token: first + error.index, step: steps.count + 1)
      }
    }
    attended = step.attended
    steps.append(
      GenerationTrace.LayerStep(hits: step.hitRows, misses: step.missedRows, heads: heads))
    bytes.append((tiers.device.residentBytes, base.hostBytes))
    return step
  }

  /// One query head's step; `attended` and `before` ascend.
  private func look(
    _ q: [Float], _ keys: [Float], _ attended: [Int], after before: [Int], own: CandidateScores?
  ) throws(NaNScore) -> GenerationTrace.HeadStep {
    let visible = layer.visible(length: length)
    let first = visible.lowerBound
    var scores: [Float] = zeros(visible.count)
    var out = scores.mutableSpan
    Float.chainRowScores(
      rows: keys.span.extracting(first * layer.width..<visible.upperBound * layer.width),
      width: layer.width, q: q.span, into: &out)
    let exact = scores.map { Double($0) / Double(layer.width).squareRoot() }
    if let place = exact.firstIndex(where: { !$0.isFinite }) { throw NaNScore(index: place) }

    let older = max(first, length - recent)
    let chosen = attended.prefix { $0 < older }
    let bestOlder = Set(try topK(Array(scores[..<(older - first)]), count: chosen.count).indices)
    let best = try topK(scores, count: GenerationTrace.bestCount).indices
      .sorted { (scores[$0], $1) > (scores[$1], $0) }

    let largest = exact.max() ?? 0
    let norm = largest + log(exact.reduce(0) { $0 + exp($1 - largest) })
    let mass = attended.reduce(0) { $0 + exp(exact[$1 - first] - norm) }
    let (came, gone) = differences(from: before, to: attended)
    func inSteps(_ score: Double) -> Int {
      GenerationTrace.inSteps(score, of: GenerationTrace.scoreStep)
    }
    func entry(_ place: Int) -> [Int?] {
      let token = first + place
      return [token, inSteps(exact[place]), own?[token].map { inSteps(Double($0)) }]
    }
    return GenerationTrace.HeadStep(
      came: came, gone: gone,
      mass: GenerationTrace.inSteps(min(mass, 1), of: GenerationTrace.shareStep),
      found: chosen.reduce(0) { $0 + (bestOlder.contains($1 - first) ? 1 : 0) },
      norm: inSteps(norm),
      best: best.map(entry))
  }
}

/// What is only in `new`, and what is only in `old`; all lists ascend.
private func differences(from old: [Int], to new: [Int]) -> (came: [Int], gone: [Int]) {
  var (came, gone): ([Int], [Int]) = ([], [])
  var (i, j) = (0, 0)
  while i < old.count || j < new.count {
    if j == new.count || (i < old.count && old[i] < new[j]) {
      gone.append(old[i])
      i += 1
    } else if i == old.count || new[j] < old[i] {
      came.append(new[j])
      j += 1
    } else {
      (i, j) = (i + 1, j + 1)
    }
  }
  return (came, gone)
}
