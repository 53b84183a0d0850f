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
//   1. Sift: a sample suggests a bound, a little below the score of place k. One pass keeps the
//      scores from there on. If these are at least k + 1, places 1 to k + 1 are among them, and the
//      rest goes on with a few scores instead of all n. If not, all are kept.
//   2. Every kept score becomes an integer that sorts as the score does (`orderKey`).
//   3. Radix select: count the keys by their top 11 bits; the counts, added from the top, tell the
//      bin that place k falls in; keep that bin's keys and go on with the next 11 bits. After 3
//      passes (Float; 6 for Double) the key of place k is known to the last bit.
//   4. One pass in index order takes every key above it and, of those equal to it, the first ones.
// Time O(n) whatever the scores, and line 4 delivers the set sorted by index. The bound decides
// how long it takes, never what is chosen.

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

  /// A selection whose parts are known.
  public init(indices: [Int], threshold: Element, gap: Element) {
    self.indices = indices
    self.threshold = threshold
    self.gap = gap
  }
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

  /// Says that the score at `index` is not a number.
  public init(index: Int) { self.index = index }

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
  if let kept = sift(scores, count: k) {
    var few = [E](repeating: 0, count: kept.count)
    for i in kept.indices { few[i] = scores[kept[i]] }
    do {
      let best = try topKOfAll(few.span, count: k, nan)
      return TopK(
        indices: best.indices.map { kept[$0] }, threshold: best.threshold, gap: best.gap)
    } catch { throw NaNScore(index: kept[error.index]) }
  }
  return try topKOfAll(scores, count: k, nan)
}

/// `topK` without the sieve: the plain form.
@specialized(where E == Float)
@specialized(where E == Double)
func topKOfAll<E: Scalar>(
  _ scores: Span<E>, count k: Int, _ nan: NaNScores
) throws(NaNScore) -> TopK<E> {
  let n = scores.count
  let keys = try orderKeys(scores, nan)
  if k == 0 || n == 0 { return TopK(indices: [], threshold: .infinity, gap: .infinity) }
  let (place, ties, allTies) = selectKey(keys.span, place: min(k, n))

  // Ties are taken before index `cut`, from there on only larger keys.
  var cut = n
  if ties < allTies {
    cut = 0
    var left = ties
    while left > 0 {
      left -= keys[cut] == place ? 1 : 0
      cut += 1
    }
  }
  var indices = [Int](repeating: 0, count: min(k, n) + 1)
  var list = indices.mutableSpan
  let taken = collect(keys.span, 0..<cut, into: &list, from: 0) { $0 >= place }
  _ = collect(keys.span, cut..<n, into: &list, from: taken) { $0 > place }
  indices.removeLast()

  let threshold = E(orderKey: place)
  var gap: E = ties < allTies ? 0 : .infinity
  if k < n && ties == allTies && !threshold.isNaN {
    // Place k + 1 has the largest key below `place`. Subtracting `place`, with wrap-around, puts
    // the keys below it above all others, in their order.
    var next: E.OrderKey = 0
    for key in keys { next = max(next, key &- place) }
    gap = threshold - E(orderKey: next &+ place)
  }
  return TopK(indices: indices, threshold: threshold, gap: gap)
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

/// The indices, ascending, of the scores that may be among the best k + 1, NaN with them; nil where
/// sifting does not pay, or the bound let pass too few or too many.
@inline(__always)
private func sift<E: Scalar>(_ scores: Span<E>, count k: Int) -> [Int]? {
  let n = scores.count
  if k == 0 || n < 4096 || k > n / 4 { return nil }
  // Of m samples k m / n are expected above place k. Four standard deviations more make a bound
  // that is too high rare.
  let m = 1024
  var sample = [E.OrderKey](repeating: 0, count: m)
  for i in 0..<m { sample[i] = scores[i * (n / m) + i % (n / m)].orderKey }
  let expected = Double(k * m) / Double(n)
  let place = min(m, Int(expected + 4 * expected.squareRoot()) + 4)
  let bound = E(orderKey: selectKey(sample.span, place: place).key)

  let room = 2 * n * place / m
  var kept = [Int](repeating: 0, count: room + 1)
  var list = kept.mutableSpan
  var end = 0
  for i in scores.indices {
    list[end] = i
    end &+= oneIf(!(scores[i] < bound))  // NaN passes
    if end > room { return nil }
  }
  if end <= k { return nil }
  kept.removeLast(room + 1 - end)
  return kept
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

/// Appends the indices in `range` whose keys qualify to `list` at `taken`; returns the new end.
///
/// Every index is written at the end of the list, and stays there if its key qualifies: no branch
/// to mispredict. One spare element of the list takes the last one that did not.
@inline(__always)
private func collect<Key>(
  _ keys: Span<Key>, _ range: Range<Int>, into list: inout MutableSpan<Int>, from taken: Int,
  where qualifies: (Key) -> Bool
) -> Int {
  var taken = taken
  for i in range {
    list[taken] = i
    taken &+= oneIf(qualifies(keys[i]))
  }
  return taken
}

/// 1 if true, else 0, as arithmetic: `? 1 : 0` may become a branch, and these loops mispredict it.
@inline(__always)
private func oneIf(_ condition: Bool) -> Int {
  unsafe Int(unsafeBitCast(condition, to: UInt8.self))
}

/// The key at `place` (1 is the largest) and how often it occurs, up to that place and in all.
@inline(__always)
private func selectKey<Key: FixedWidthInteger & UnsignedInteger>(
  _ keys: Span<Key>, place: Int
) -> (key: Key, ties: Int, allTies: Int) {
  var place = place
  var shift = Key.bitWidth - 11
  var (bin, size) = binOfPlace(keys, count: keys.count, shift: shift, mask: 2047, &place)
  // The keys that share all digits found so far; each round keeps fewer of them.
  var all = [Key](repeating: 0, count: size + 1)
  var kept = all.mutableSpan
  var end = 0
  for i in keys.indices {
    kept[end] = keys[i]
    end &+= oneIf(Int(truncatingIfNeeded: keys[i] &>> Key(shift)) == bin)
  }
  while shift > 0 {
    let digit = min(11, shift)
    shift -= digit
    let mask = (1 << digit) - 1
    (bin, size) = binOfPlace(kept.span, count: end, shift: shift, mask: mask, &place)
    let count = end
    end = 0
    for i in 0..<count {
      let key = kept[i]
      kept[end] = key
      end &+= oneIf(Int(truncatingIfNeeded: key &>> Key(shift)) & mask == bin)
    }
  }
  return (kept[0], place, size)
}

/// The value of one digit, (key >> shift) & mask, at `place`, and how many keys have it.
///
/// `place` becomes the place among those.
@inline(__always)
private func binOfPlace<Key: FixedWidthInteger & UnsignedInteger>(
  _ keys: Span<Key>, count: Int, shift: Int, mask: Int, _ place: inout Int
) -> (bin: Int, size: Int) {
  // Four tables in turn: equal keys one after the other do not wait for each other's count.
  var tables = [Int32](repeating: 0, count: 4 * (mask + 1))
  var counts = tables.mutableSpan
  for i in 0..<count {
    let bin = Int(truncatingIfNeeded: keys[i] &>> Key(shift)) & mask
    counts[bin &* 4 &+ i & 3] &+= 1
  }
  var bin = mask
  while true {
    let size = (0..<4).reduce(0) { $0 + Int(counts[bin * 4 + $1]) }
    if place <= size { return (bin, size) }
    place -= size
    bin -= 1
  }
}
