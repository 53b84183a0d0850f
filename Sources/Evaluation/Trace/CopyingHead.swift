// Which head copies an answer out of its prompt, and where it looked for every token.
//
// In:  a trace; the step that writes the answer's first token; a head.
// Out: the head that copies; for every written token a look:
//
//        share(t) = exp(s_t − norm)      t's share of exact attention, of the tokens listed as best
//        copied   = Σ share(t) over prompt tokens t that are the token then written
//        landed   = argmax share(t) over all prompt tokens t
//
// The head is the one with the largest `copied`, summed over the answer. A head that looks hard at
// one token, whatever is written, is none: there are many of those (attention sinks). Where the
// head then landed is not forced to be the written token, so a look can miss, and it says so.
//
// Step t feeds token promptTokens + t − 1 and writes the next one. The token that ends an answer
// was fed to no step, and one that came out of the prompt's own pass has no look.

import Foundation

/// A query head of a layer.
package struct HeadPlace: Equatable, Sendable {
  /// Layer, from 0.
  package let layer: Int
  /// Query head, from 0.
  package let head: Int

  package init(layer: Int, head: Int) { (self.layer, self.head) = (layer, head) }
}

/// Where one head looked when a token of the answer was written.
package struct CopyLook: Equatable, Sendable {
  /// What became of the row of the token that the head landed on.
  package enum Fate: String, Sendable {
    /// One of the newest tokens, whose rows lie in the ring.
    case recent
    /// Its row lay in a slot on the device since the step before.
    case hit
    /// Its row came from the host in this step.
    case fetched
    /// Attended to, and nothing had to come: all rows lie on the device.
    case kept
    /// Not attended to: dropped, or not chosen.
    case leftOut
  }

  /// The step, from 1.
  package let step: Int
  /// The place of the written token in the sequence.
  package let written: Int
  /// The prompt token with the largest exact score.
  package let landed: Int
  /// Its share of exact attention.
  package let share: Double
  package let fate: Fate
  /// The tokens that the head attended to, ascending.
  package let attended: [Int]
  /// Whether the head landed on the token that was then written.
  package let isCopy: Bool

  /// Whether the head looked at one token: it had at least half of its exact attention.
  package var isSure: Bool { share >= 0.5 }
}

extension GenerationTrace {
  /// The head that copies most of what steps from `first` on wrote.
  ///
  /// Nil where no head had a written token of the prompt among its best. Of equal ones the first.
  package func copyingHead(from first: Int) -> HeadPlace? {
    var best: (share: Double, place: HeadPlace)?
    for (n, layer) in layers.enumerated() {
      for h in 0..<layer.queryHeads {
        let share = writtenSteps(from: first).reduce(0.0) { sum, step in
          sum + copied(step, n, h)
        }
        if share > best?.share ?? 0 { best = (share, HeadPlace(layer: n, head: h)) }
      }
    }
    return best?.place
  }

  /// The looks of a head while steps from `first` on wrote the answer; a step whose best tokens
  /// all stand after the prompt has none.
  package func looks(of place: HeadPlace, from first: Int) -> [CopyLook] {
    let attended = attended(layer: place.layer, head: place.head)
    return writtenSteps(from: first).compactMap { step in
      let best = steps[step - 1].layers[place.layer].heads[place.head]
      guard let entry = best.best.first(where: { ($0[0] ?? promptTokens) < promptTokens }),
        let landed = entry[0]
      else { return nil }
      let written = promptTokens + step
      return CopyLook(
        step: step, written: written, landed: landed, share: share(entry, best),
        fate: fate(of: landed, place, step), attended: attended[step - 1],
        isCopy: tokens[landed] == tokens[written])
    }
  }

  /// The mean share of exact attention that the attended tokens had, over all heads and the steps
  /// from `first` on that wrote a token; nil where there was none.
  package func meanMass(from first: Int) -> Double? {
    let masses = writtenSteps(from: first).flatMap { step in
      steps[step - 1].layers.flatMap { $0.heads.map(\.mass) }
    }
    if masses.isEmpty { return nil }
    return shareStep * Double(masses.reduce(0, +)) / Double(masses.count)
  }

  /// The steps from `first` on whose written token is in the trace.
  private func writtenSteps(from first: Int) -> [Int] {
    let last = min(steps.count, tokens.count - promptTokens - 1)
    return first <= last ? Array(max(1, first)...last) : []
  }

  /// exp(s − norm) of an entry of `best`.
  private func share(_ entry: [Int?], _ head: HeadStep) -> Double {
    entry[1].map { exp(Double($0 - head.norm) * scoreStep) } ?? 0
  }

  /// The share of exact attention on prompt tokens that are the one that this step wrote.
  private func copied(_ step: Int, _ layer: Int, _ head: Int) -> Double {
    let look = steps[step - 1].layers[layer].heads[head]
    let written = tokens[promptTokens + step]
    return look.best.reduce(0) { sum, entry in
      guard let token = entry[0], token < promptTokens, tokens[token] == written else {
        return sum
      }
      return sum + share(entry, look)
    }
  }

  /// What became of a token's row in a step: what its row holder had in slots the step before
  /// decides (Docs/viewer.md, "The trace file").
  private func fate(of token: Int, _ place: HeadPlace, _ step: Int) -> CopyLook.Fate {
    let layer = layers[place.layer]
    let sets = { (head: Int) in self.attended(layer: place.layer, head: head) }
    if !sets(place.head)[step - 1].contains(token) { return .leftOut }
    let counts = steps[step - 1].layers[place.layer]
    guard let slots = layer.slots, let size = layer.holderSize, counts.hits + counts.misses > 0
    else { return .kept }
    if token >= promptTokens + step - recentTokens { return .recent }
    // A method that keeps nothing from step to step counts no hits at all.
    if counts.hits == 0 { return .fetched }
    let holder = place.head / max(1, size)
    if step == 1 { return slots[holder].contains(token) ? .hit : .fetched }
    let ring = promptTokens + step - 1 - recentTokens
    let wasThere = (holder * size..<(holder + 1) * size).contains { head in
      token < ring && sets(head)[step - 2].contains(token)
    }
    return wasThere ? .hit : .fetched
  }
}
