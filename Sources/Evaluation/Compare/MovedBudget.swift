// The largest k whose measured bytes stay within a budget of bytes moved.
//
// In:  a limit in bytes a token, the range of k; a measurement for every k that is asked for.
// Out: k; or, where even k = 1 moves too much, what that moves.
//
//     low = the largest k known to fit (0: none), high = the largest that may
//     while low < high:  k = ⌈(low + high) / 2⌉;  measure;  low = k where it fits,
//                        high = k − 1 where it does not
//
// What a step moves depends on which rows happen to be there already, so no formula has it, and it
// need not grow with k at every step. Bisection takes it as growing: the k found fits, and the next
// one did not where it was tried.
//
// Searches of several methods go on together: each asks for one k a round, and one pass of the
// prompt serves all of them.

/// A search for the largest k.
package struct MovedBudget: Sendable, Equatable {
  /// Bytes a token, both ways.
  package let limit: Double
  private var low = 0
  private var high: Int
  /// What the smallest k that was tried moves.
  package private(set) var least: Double?

  /// A search among 1...most.
  package init(limit: Double, most: Int) {
    precondition(most >= 1, "k from 1 to \(most)")
    (self.limit, high) = (limit, most)
  }

  /// The k to be measured next; nil where the search has ended.
  package var next: Int? { low < high ? low + (high - low + 1) / 2 : nil }

  /// The largest k that fits, once the search has ended; nil where none does.
  package var found: Int? { low == 0 ? nil : low }

  /// Takes what `next` moves; nil, where it was not to be measured, does not fit.
  package mutating func learn(_ moved: Double?) {
    guard let k = next else { return }
    if let moved, moved <= limit {
      low = k
    } else {
      high = k - 1
      least = moved ?? least
    }
  }
}
