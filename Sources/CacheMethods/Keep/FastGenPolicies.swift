// FastGen's question: which is the cheapest policy that recovers enough of a head's attention?
//
// In:  a head's map of the prompt, one row at a time; which tokens are special or punctuation.
// Out: for every policy of a list the rows that it keeps and the attention that it recovers.
//
//     policies     special; + punctuation; + heavy hitters; + heavy hitters + window; full
//     C(i)         the rows that a policy lets query i see; the first g rows are in all of them
//     recovery     R(C) = 1/l Σ_i Σ_{j in C(i)} A[i, j]
//     choice       the first policy with R >= T
//
// Only two sums of each column are kept of a map, never the map:
//
//     a_j = Σ_i A[i, j]                    what row j received
//     b_j = Σ_{j <= i < j + W} A[i, j]     the part of it from the W queries whose window it is in
//     l R = Σ_{j in F} a_j + Σ_{j not in F} b_j,   F the rows that a policy keeps for every query
//
// Heavy hitters of a policy are the rows with the largest a_j by the number of queries that saw
// row j, among those that the rest of the policy does not give the last query. They stand in F,
// so that each policy of the list holds all rows of the one before it.

package import Tensors

/// How many rows of a kind a policy has.
package enum FastGenPart: Sendable, Equatable {
  /// A part of all rows, from 0 to 1.
  case part(Double)
  /// This number of rows.
  case rows(Int)
}

/// Which rows a head keeps, beside the first ones.
package struct FastGenPolicy: Sendable, Equatable {
  /// Whether rows of special tokens stay.
  package var special = false
  /// Whether rows of punctuation stay.
  package var punctuation = false
  /// Heavy hitters; nil: none.
  package var heavy: FastGenPart?
  /// A window of the newest rows; nil: none.
  package var window: FastGenPart?
  /// Whether every row stays.
  package var full = false

  /// The policy that keeps rows of all these kinds together.
  package init(
    special: Bool = false, punctuation: Bool = false, heavy: FastGenPart? = nil,
    window: FastGenPart? = nil, full: Bool = false
  ) {
    (self.special, self.punctuation, self.full) = (special, punctuation, full)
    (self.heavy, self.window) = (heavy, window)
  }

  /// The published list, cheapest first.
  package static func list(heavy: FastGenPart, window: FastGenPart) -> [FastGenPolicy] {
    [
      FastGenPolicy(special: true), FastGenPolicy(special: true, punctuation: true),
      FastGenPolicy(special: true, punctuation: true, heavy: heavy),
      FastGenPolicy(special: true, punctuation: true, heavy: heavy, window: window),
      FastGenPolicy(full: true),
    ]
  }

  /// W of `total` rows: at least the query's own.
  package func windowRows(of total: Int) -> Int? {
    switch window {
    case nil: nil
    case .part(let part): max(1, Int(part * Double(total)))
    case .rows(let rows): max(1, rows)
    }
  }

  /// Heavy hitters of `total` rows.
  package func heavyRows(of total: Int) -> Int {
    switch heavy {
    case nil: 0
    case .part(let part): Int((part * Double(total)).rounded(.up))
    case .rows(let rows): rows
    }
  }

  /// Whether token `j` is kept for every query, for what it is or for standing among the first g.
  package func keepsAlways(_ j: Int, _ kinds: TokenKinds, globals g: Int) -> Bool {
    full || j < g || special && kinds.special[j] || punctuation && kinds.punctuation[j]
  }
}

/// What the tokens of a text are.
package struct TokenKinds: Sendable {
  /// Whether each token is part of a special sequence.
  package private(set) var special: [Bool] = []
  /// Whether each token is punctuation.
  package private(set) var punctuation: [Bool] = []
  private var ids: [Int] = []
  private let sequences: [[Int]]
  private let marks: Set<Int>

  /// The kinds of `ids`: sequences of ids that are special, and ids that are punctuation.
  package init(_ ids: [Int], special sequences: [[Int]], punctuation marks: [Int]) {
    self.sequences = sequences
    self.marks = Set(marks)
    for id in ids { append(id) }
  }

  /// Takes the next token; a special sequence that ends with it is special from its first token on.
  package mutating func append(_ id: Int) {
    ids.append(id)
    special.append(false)
    punctuation.append(marks.contains(id))
    for sequence in sequences where ids.suffix(sequence.count).elementsEqual(sequence) {
      for j in ids.count - sequence.count..<ids.count { special[j] = true }
    }
  }

  /// How many of the last tokens may become special with the next ones.
  package var pending: Int {
    sequences.flatMap { sequence in
      (1..<max(1, sequence.count)).filter { ids.suffix($0).elementsEqual(sequence.prefix($0)) }
    }.max() ?? 0
  }
}

/// What a head's map of the prompt comes to, under every policy.
package struct AttentionProfile<E: Scalar>: Sendable {
  /// a_j, what each row received.
  package private(set) var received: [E]
  /// b_j for each policy with a window, empty for others.
  private var near: [[E]]
  private let policies: [FastGenPolicy]
  private let sight: Int?
  private var length: Int { received.count }

  /// No rows yet of a map (l, l), of a layer whose tokens see `sight` tokens, or all before them.
  package init(_ policies: [FastGenPolicy], length l: Int, sight: Int? = nil) {
    self.policies = policies
    self.sight = sight
    received = zeros(l)
    near = policies.map { $0.window == nil ? [] : zeros(l) }
  }

  /// Adds the map's next row: the weights of query `i` over the tokens that it sees.
  package mutating func add(_ i: Int, _ seen: Range<Int>, _ weights: [E]) {
    for (j, a) in zip(seen, weights) { received[j] += a }
    for p in policies.indices {
      guard let W = policies[p].windowRows(of: length) else { continue }
      let first = max(seen.lowerBound, i + 1 - W)
      for j in first..<seen.upperBound { near[p][j] += weights[j - seen.lowerBound] }
    }
  }

  /// What each row received by the number of queries that saw it.
  package var scores: [E] {
    received.indices.map { received[$0] / E(min(length - $0, sight ?? length)) }
  }

  /// The tokens that the last query sees.
  private var seen: Range<Int> { max(0, length - (sight ?? length))..<length }

  /// F of policy `p`, ascending, with fractions of `total` rows.
  package func columns(
    _ p: Int, _ kinds: TokenKinds, globals g: Int, total: Int
  ) throws(NaNScore) -> [Int] {
    let policy = policies[p]
    let always = (0..<length).filter { policy.keepsAlways($0, kinds, globals: g) }
    if policy.heavy == nil { return always }
    var isKept = [Bool](repeating: false, count: length)
    for j in always { isKept[j] = true }
    let window = max(0, length - (policy.windowRows(of: total) ?? 0))
    let left = seen.filter { !isKept[$0] && $0 < window }
    let scores = scores
    do {
      let heavy = try topK(left.map { scores[$0] }, count: policy.heavyRows(of: total)).indices
      return (always + heavy.map { left[$0] }).sorted()
    } catch {
      throw NaNScore(index: left[error.index])
    }
  }

  /// The rows that policy `p` keeps for the last query, ascending: its columns and its window.
  package func kept(_ p: Int, columns: [Int], total: Int) -> [Int] {
    let window = max(0, length - (policies[p].windowRows(of: total) ?? 0))
    return columns.filter { $0 < window } + (window..<length)
  }

  /// R of policy `p` with these columns.
  package func recovery(_ p: Int, columns: [Int]) -> E {
    var isKept = [Bool](repeating: false, count: length)
    for j in columns { isKept[j] = true }
    var sum: E = 0
    for j in received.indices {
      if isKept[j] { sum += received[j] } else if !near[p].isEmpty { sum += near[p][j] }
    }
    return sum / E(length)
  }
}

/// The first policy with R >= T; where there is none, the last one, which keeps all.
///
/// Of policies that keep as many rows, `kept` of each, the last one: they cost the same, and the
/// answer may need what a prompt without punctuation, or one of four tokens, does not show.
/// The reproduction stays with the first one, and where no policy recovers enough it takes index
/// 0, the cheapest: `official`.
package func fastGenChoice<E: Scalar>(
  _ recovery: [E], least T: Double, kept: [Int] = [], official: Bool = false
) -> Int {
  guard var p = recovery.firstIndex(where: { Double($0) >= T }) else {
    return official ? 0 : recovery.count - 1
  }
  while p + 1 < kept.count && kept[p + 1] == kept[p] { p += 1 }
  return p
}
