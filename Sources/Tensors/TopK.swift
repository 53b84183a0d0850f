// The k largest scores, as a set.
//
// In:  scores, one per candidate, and k.
// Out: the indices of the k largest, ascending, and how clear the choice was.
//
// The rule for ties is part of the answer, because everything after it (which rows are fetched,
// what a report counts) must be the same everywhere: the larger score first, then the lower index;
// -0 and +0 are equal. `gap` says how much rounding the choice could have borne.
//
// A sort would cost n log n comparisons and answer more than was asked. Instead:
//   1. Every score becomes an integer that sorts as the score does (`orderKey`).
//   2. Radix select: count the keys by their top 11 bits; the counts, added from the top, tell the
//      bin that place k falls in; keep that bin's keys and go on with the next 11 bits. After 3
//      passes (Float; 6 for Double) the key of place k is known to the last bit.
//   3. One pass in index order takes every key above it and, of those equal to it, the first ones.
// Time O(n) whatever the scores, and step 3 delivers the set sorted by index.

/// The k largest of some scores.
public struct TopK<Element: Scalar>: Sendable, Equatable {
  /// Where they are, ascending: min(k, n) of them.
  public let indices: [Int]

  /// The score of place k, the smallest of those chosen; infinity if none was chosen.
  public let threshold: Element

  /// The score of place k minus that of place k + 1; infinity if either place is empty.
  ///
  /// 0 says that the tie rule decided; if scores have errors up to e, a gap above 2e says that the
  /// set is the true one. Between NaN and a number the gap is infinite.
  public let gap: Element
}

/// What to do with NaN scores.
public enum NaNScores: Sendable {
  /// Refuse them with an error that says where the first one is.
  case refuse
  /// Let them sort above every number, as PyTorch's topk does.
  case largest
}

/// A score that is not a number, where numbers were required.
public struct NaNScore: Error, Equatable, CustomStringConvertible {
  /// Where the first one is.
  public let index: Int

  /// One line: what and where.
  public var description: String { "the score at index \(index) is not a number" }
}

/// The `k` largest scores: the larger first, then the lower index; all of them if k >= n.
@specialized(where E == Float)
@specialized(where E == Double)
public func topK<E: Scalar>(
  _ scores: Span<E>, count k: Int, nan: NaNScores = .refuse
) throws(NaNScore) -> TopK<E> {
  precondition(k >= 0, "topK: k is \(k)")
  let n = scores.count
  let keys = try orderKeys(scores, nan)
  if k == 0 || n == 0 { return TopK(indices: [], threshold: .infinity, gap: .infinity) }
  let (place, ties, allTies) = selectKey(keys.span, place: min(k, n))

  // Ties are taken up to and including index `cut`, beyond it only larger keys.
  var cut = n - 1
  if ties < allTies {
    var left = ties
    cut = -1
    while left > 0 {
      cut += 1
      left -= keys[cut] == place ? 1 : 0
    }
  }
  var indices = [Int](repeating: 0, count: min(k, n) + 1)
  var list = indices.mutableSpan
  let last = collect(keys.span, 0...cut, into: &list, from: 0) { $0 >= place }
  if cut + 1 < n { _ = collect(keys.span, cut + 1...n - 1, into: &list, from: last) { $0 > place } }
  indices.removeLast()

  // Place k + 1: another tie, or the largest of the smaller keys.
  let threshold = E(orderKey: place)
  if k >= n { return TopK(indices: indices, threshold: threshold, gap: .infinity) }
  if ties < allTies { return TopK(indices: indices, threshold: threshold, gap: 0) }
  var next: E.OrderKey = 0
  for key in keys { next = max(next, key < place ? key : 0) }
  let gap = threshold.isNaN ? .infinity : threshold - E(orderKey: next)
  return TopK(indices: indices, threshold: threshold, gap: gap)
}

/// Appends the indices in `range` whose keys qualify to `list` at `taken`; returns the new end.
///
/// Every index is written at the end of the list, and stays there if its key qualifies: no branch
/// to mispredict. One spare element of the list takes the last one that did not.
@inline(__always)
private func collect<Key>(
  _ keys: Span<Key>, _ range: ClosedRange<Int>, into list: inout MutableSpan<Int>, from taken: Int,
  where qualifies: (Key) -> Bool
) -> Int {
  var taken = taken
  for i in range {
    list[taken] = i
    taken &+= qualifies(keys[i]) ? 1 : 0
  }
  return taken
}

/// The `k` largest scores: the larger first, then the lower index; all of them if k >= n.
public func topK<E: Scalar>(
  _ scores: [E], count k: Int, nan: NaNScores = .refuse
) throws(NaNScore) -> TopK<E> {
  try topK(scores.span, count: k, nan: nan)
}

/// The indices of the `k` largest scores, best first, by the same rule.
public func ranked<E: Scalar>(
  _ scores: [E], count k: Int, nan: NaNScores = .refuse
) throws(NaNScore) -> [Int] {
  try topK(scores.span, count: k, nan: nan).indices.sorted {
    let (a, b) = (scores[$0].orderKey, scores[$1].orderKey)
    return a > b || (a == b && $0 < $1)
  }
}

/// The key of every score; throws at the first NaN if they are refused.
@inline(__always)
private func orderKeys<E: Scalar>(_ scores: Span<E>, _ nan: NaNScores) throws(NaNScore)
  -> [E.OrderKey]
{
  var keys = [E.OrderKey](repeating: 0, count: scores.count)
  var span = keys.mutableSpan
  var highest: E.OrderKey = 0
  for i in scores.indices {
    let key = scores[i].orderKey
    span[i] = key
    highest = max(highest, key)
  }
  if highest == .max, case .refuse = nan, let index = keys.firstIndex(of: .max) {
    throw NaNScore(index: index)
  }
  return keys
}

/// The key at `place` (1 is the largest), how many equal to it are in places 1 to `place`, and how
/// many there are in all.
@inline(__always)
private func selectKey<Key: FixedWidthInteger & UnsignedInteger>(
  _ keys: Span<Key>, place: Int
) -> (key: Key, ties: Int, allTies: Int) {
  var place = place
  var kept = [Key](repeating: 0, count: keys.count + 1)
  var candidates = kept.mutableSpan
  for i in keys.indices { candidates[i] = keys[i] }
  var count = keys.count
  var shift = Key.bitWidth
  // Four tables of counts in turn: equal keys one after the other do not wait for each other.
  var tables = [Int32](repeating: 0, count: 4 << 11)
  var bins = tables.mutableSpan
  while true {
    let digit = min(11, shift)
    shift -= digit
    let mask = (1 << digit) &- 1

    for i in 0..<count {
      let bin = Int(truncatingIfNeeded: candidates[i] >> shift) & mask
      bins[bin &* 4 &+ i & 3] &+= 1
    }
    var bin = mask
    while true {
      let size = (0..<4).reduce(0) { $0 + Int(bins[bin * 4 + $1]) }
      if place <= size { break }
      place -= size
      bin -= 1
    }

    // The candidates that stay share all digits so far; compaction in place, as in `collect`.
    var end = 0
    for i in 0..<count {
      let key = candidates[i]
      candidates[end] = key
      end &+= Int(truncatingIfNeeded: key >> shift) & mask == bin ? 1 : 0
    }
    count = end
    if shift == 0 { return (candidates[0], place, count) }
    for i in bins.indices { bins[i] = 0 }
  }
}
