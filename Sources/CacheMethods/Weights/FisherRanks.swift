// Ranks for many matrices out of one budget: the more the loss depends on a matrix, the more it
// keeps.
//
// In:  F_i of every matrix; the least and the most rank it can have; the sum R of all ranks.
// Out: r_i with Σ r_i = R.
//
//   F(W) = mean over W's entries of √(mean over texts of (∂loss/∂w)²)     FisherInformation.swift
//   r_i  = ⌊R F_i / Σ F⌋, within its least and its most; what is left is given out one by one, in
//          turns, first to those that have least of what is due to them
//
// Source: "fisher_uniform" of ReCalKV (XIANGLONGYAN/ReCalKV at ea548d5, palu/rank_search.py). That
// code then rounds every rank to a multiple of 32, at least 32, for the sake of memory: here ranks
// stay as they are, and their sum is R.

/// Shares out `total` ranks by `information`; `bounds` are the least and the most of each.
///
/// `total` lies between the sums of the bounds; information is finite, 0 or more, and not all 0.
package func sharedRanks(
  _ information: [Double], bounds: [ClosedRange<Int>], total: Int
) -> [Int] {
  // Over the largest first, so that no sum of finite numbers is infinite.
  let largest = information.max() ?? 0
  let sum = information.reduce(0) { $0 + $1 / largest }
  precondition(
    information.count == bounds.count && largest > 0
      && (bounds.reduce(0) { $0 + $1.lowerBound }...bounds.reduce(0) { $0 + $1.upperBound })
        .contains(total),
    "\(total) ranks for \(bounds)")
  let due = information.map { Double(total) * ($0 / largest) / sum }
  var ranks = due.indices.map { n in
    min(max(Int(due[n]), bounds[n].lowerBound), bounds[n].upperBound)
  }
  // Sorted by what is missing; equals in their order.
  let order = ranks.indices.sorted {
    (due[$0] - Double(ranks[$0]), $1) > (due[$1] - Double(ranks[$1]), $0)
  }
  var left = total - ranks.reduce(0, +)
  while left != 0 {
    // Too many only where some had to have their least: those that have most give.
    for n in left > 0 ? order : order.reversed() where left != 0 {
      let next = ranks[n] + left.signum()
      guard bounds[n].contains(next) else { continue }
      ranks[n] = next
      left -= left.signum()
    }
  }
  return ranks
}
