// Stages 5 and 6 for all heads: scores of the older tokens, and which of them each head attends to.
//
// In:  query codes of every group, (G, r); queries (H, d), for the ring's exact scores.
// Out: for every query head its tokens, the gap at the cut, and the scores.
//
// With `Counts.fixed` each head takes its k best (Selection.swift). With `Counts.shared` all heads
// of the layer together take H k (PooledCounts.swift), so all scores are there before any head
// chooses. Heads that share codes share a pass over them. The next file, LRQKCache+Prompt.swift, is
// the prompt.

import TieredMemory
import Tensors

extension LRQKCache {
  /// The best candidates of every query head, with the scores of all of them; `q_hats` (G, r) are
  /// the query codes of each group, `q` (H, d) the queries.
  func choose(
    _ q_hats: [Tensor<E>], _ q: Tensor<E>, candidates: Int
  ) throws -> [(selection: Selection, scores: [E])] {
    let first = rows.visible.lowerBound
    if parameters.counts != .fixed && candidates - first > parameters.selected {
      return try chooseTogether(q_hats, q, first..<candidates)
    }
    return try forEachPass(q_hats) { g, q_hat in
      try LRQK.select(
        q_hat, from: groups[g].codes, first: first, candidates: candidates, k: parameters.selected,
        nan: parameters.breakdown == .stop ? .refuse : .largest)
    }
  }

  /// The same where all heads share H k places, and there are more candidates than k.
  private func chooseTogether(
    _ q_hats: [Tensor<E>], _ q: Tensor<E>, _ candidates: Range<Int>
  ) throws -> [(selection: Selection, scores: [E])] {
    let scores = try forEachPass(q_hats) { g, q_hat in
      let scores = groups[g].codes.scores(
        q_hat, tokens: candidates.upperBound, from: candidates.lowerBound)
      return (0..<scores.rows).map(scores.row)
    }
    let scale = 1 / E(shape.width).squareRoot()
    let weights = try mapConcurrently(scores.count) { h throws(LRQKError) in
      let weights = softmax((scores[h] + recentScores(q.row(h), h)).map { $0 * scale })
      if weights.contains(where: \.isNaN) { throw overflow(h) }
      return Array(weights[..<candidates.count])
    }
    let k = parameters.selected
    let counts = pooledCounts(
      weights, pool: scores.count * k, sure: parameters.counts.sure(of: k))
    return try mapConcurrently(scores.count) { h in
      let best = try topK(scores[h], count: counts[h])
      let tokens = best.indices.map { candidates.lowerBound + $0 }
      return (Selection(tokens: tokens, gap: Double(best.gap)), scores[h])
    }
  }

  /// `body` for every run of query heads that share codes, with the group that it belongs to; its
  /// results by query head.
  private func forEachPass<Result>(
    _ q_hats: [Tensor<E>], _ body: (_ group: Int, _ q_hats: Tensor<E>) throws -> [Result]
  ) throws -> [Result] {
    let passes = sharedPasses(shape.queryHeads) {
      coders.holder(ofQueryHead: $0) == coders.holder(ofQueryHead: $1)
    }
    return try mapConcurrently(passes.count) { n in
      let g = coders.holder(ofQueryHead: passes[n].lowerBound)
      let own = passes[n].lowerBound % coders.size
      do {
        return try body(g, q_hats[g].rows(own..<own + passes[n].count))
      } catch let error as NaNProxyScore {
        throw overflow(passes[n].lowerBound + error.row)
      }
    }.flatMap { $0 }
  }

  /// The error of a query head with a proxy score that is not a number.
  private func overflow(_ h: Int) -> LRQKError {
    .overflow(
      what: "a proxy score", largestBefore: groups[coders.holder(ofQueryHead: h)].largestCode,
      location(h))
  }

  /// q · k of query head `h` for the recent tokens in sight, whose rows are on the device.
  private func recentScores(_ q: [E], _ h: Int) -> [E] {
    if rows.isSettled {
      return rows.exactScores(q, ofQueryHead: h, older: [], recent: rows.visibleRing)
    }
    let recent = (length - parameters.recent..<length).clamped(to: rows.visible)
    return rows.oracleScores(q, ofQueryHead: h, tokens: recent)
  }

  /// The older tokens that each query head attends to: its own set, or the union of its group's.
  func attended(_ choices: [[Int]]) -> [[Int]] {
    if parameters.rows.attended == .own { return choices }
    let groups = shape.sharing(perKeyValueHead: true)
    return groups.forQueryHeads(groups.union(of: choices))
  }
}
