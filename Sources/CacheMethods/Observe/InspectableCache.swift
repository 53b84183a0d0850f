// What a cache can tell of itself: where its rows lie, and by which scores it chose.
//
// In:  a cache that selects rows, and a reader who asks.
// Out: the older tokens in the slots of every row holder; each query head's scores of the last
//      step.
//
// Scores are estimates of q · k / √d, so that they stand beside the exact ones. They are kept only
// where somebody reads them, and are no part of the method: no tier and no ledger counts them. A
// selector that scores tokens one by one hands its scores to the `ScoreLog`; one that scores pages
// or draws at random has none to hand over.

import Synchronization
public import Transformers

/// A cache that says where its rows lie and by what it chose.
public protocol InspectableCache: KeyValueCache {
  /// By row holder, the older tokens whose rows lie in slots on the device, ascending.
  var slotTokens: [[Int]] { get }
  /// Whether `lastScores` are kept; false until a reader sets it.
  var keepsScores: Bool { get set }
  /// By query head, the scores that the last step chose by; nil where it chose without any, and
  /// empty where no head did.
  var lastScores: [CandidateScores?] { get }
}

/// The scores of one query head's candidates.
public struct CandidateScores: Sendable, Equatable {
  /// The first candidate.
  public let first: Int
  /// Estimates of q · k / √d, for the tokens from `first` on.
  public let scores: [Float]

  /// Scores of the tokens from `first` on.
  public init(first: Int, scores: [Float]) {
    self.first = first
    self.scores = scores
  }

  /// The score of `token`; nil where it was no candidate.
  public subscript(token: Int) -> Float? {
    scores.indices.contains(token - first) ? scores[token - first] : nil
  }
}

/// Takes the scores of a step, from heads that work at the same time.
public final class ScoreLog: Sendable {
  private let table = Mutex<[Int: CandidateScores]>([:])

  /// An empty log.
  public init() {}

  /// Takes the scores of some query heads, times `scale`.
  public func record(_ scores: [Float], times scale: Float, first: Int, heads: Range<Int>) {
    let kept = CandidateScores(first: first, scores: scores.map { $0 * scale })
    table.withLock { for h in heads { $0[h] = kept } }
  }

  /// By query head, what was recorded; nil where nothing was.
  public func scores(heads: Int) -> [CandidateScores?] {
    table.withLock { table in (0..<heads).map { table[$0] } }
  }

  /// Forgets the scores of the step before.
  public func clear() { table.withLock { $0.removeAll() } }
}
