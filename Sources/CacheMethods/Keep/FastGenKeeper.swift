// FastGen's rows in one layer: a policy for every key/value head, kept up while the answer grows.
//
// In:  the prompt's queries, keys and ids; then each step's weights and id.
// Out: the rows that each head's policy keeps.
//
// After the prompt a policy's parts are numbers: W rows of window and n heavy hitters, settled by
// the prompt's length, or by what a budget leaves beside the rows that are kept for what they are.
// Heavy hitters that are held compete with the rows that leave the window; a
// row that was dropped never comes back. The sums of received attention lie on the device, for the
// heads whose policy has heavy hitters.
//
// A special sequence may end with a later token than it begins with. Rows at its beginning are kept
// until it is clear whether the others follow.

public import TieredMemory
import Tensors
public import Transformers

/// Keeps by policies.
public struct FastGenKeeper: RowKeeper {
  let layer: LayerShape
  /// The list, cheapest first; a budget makes another one of it.
  private var policies: [FastGenPolicy]
  /// T.
  let least: Double
  let globals: Int
  /// The heavy hitters' part of what a budget leaves; nil where there is none.
  let heavyShare: Double?
  private var kinds: TokenKinds
  private let knowsIDs: Bool
  /// l, which the policies' parts are parts of.
  private var total = 0
  private var step = 0
  /// The policy of each head, an index.
  private(set) var chosen: [Int] = []
  private var held: [[Int]] = []
  /// What each held row has received, where the policy has heavy hitters.
  private var sums: [DeviceBuffer<Float>?] = []

  init(
    layer: LayerShape, policies: [FastGenPolicy], least: Double, globals: Int,
    heavyShare: Double?, special: [[Int]], punctuation: [Int]
  ) {
    self.layer = layer
    self.policies = policies
    self.least = least
    self.globals = globals
    self.heavyShare = heavyShare
    kinds = TokenKinds([], special: special, punctuation: punctuation)
    knowsIDs = !(special.isEmpty && punctuation.isEmpty)
  }

  /// Token ids, where some are special or punctuation.
  public var needs: CacheNeeds { knowsIDs ? .tokens : [] }
  /// True: heavy hitters are the rows that receive most.
  public var wantsWeights: Bool { true }

  private mutating func take(_ id: Int?) throws(MethodError) {
    if knowsIDs && id == nil {
      throw MethodError("fastgen: special and punctuation need token ids, and there are none here")
    }
    kinds.append(id ?? -1)
  }

  /// Profiles every head's map of the prompt and chooses its policy.
  ///
  /// `count` are the rows of a head that the budget allows, where there is one.
  public mutating func keep(
    of prompt: PromptRows, count: Int, layer: LayerShape, tiers: inout Tiers
  ) throws -> [[Int]]? {
    let l = prompt.keys[0].rows
    total = l
    for t in 0..<l { try take(prompt.tokens?[t]) }
    let visible = layer.visible(length: l)
    if let heavyShare, count < visible.count {
      try limit(to: count, heavyShare: heavyShare, among: visible)
    }
    let heads = try mapConcurrently(layer.keyValueHeads) { m in
      try profile(of: prompt, head: m)
    }
    // T = 1 is everything, whatever rounding makes of a sum of weights.
    let T = least >= 1 ? .infinity : least
    for (m, head) in heads.enumerated() {
      let p = head.choice(T)
      chosen.append(p)
      held.append(head.kept[p])
      sums.append(
        policies[p].heavy == nil
          ? nil
          : try tiers.device.allocate(
            "sums of head \(m)", holding: head.kept[p].map { head.received[$0] }))
    }
    return held
  }

  /// The list whose every policy has at most `count` rows: without the full one, and with a window
  /// and heavy hitters that share what the rows kept for what they are leave.
  private mutating func limit(
    to count: Int, heavyShare: Double, among visible: Range<Int>
  ) throws(MethodError) {
    let all = FastGenPolicy(special: true, punctuation: true)
    let waiting = visible.upperBound - kinds.pending
    let always = visible.filter {
      all.keepsAlways($0, kinds, globals: globals) || $0 >= waiting
    }
    let left = count - always.count
    if left < 1 {
      throw MethodError(
        "fastgen: a budget of \(count) rows has no room beside the \(always.count) first, special "
          + "and punctuation rows of this prompt; raise it, or name fewer ids")
    }
    let W = left - min(Int(Double(left) * heavyShare), left - 1)
    // What the window has of the other rows goes to heavy hitters as well.
    let heavy =
      heavyShare == 0 ? 0 : count - W - always.count { $0 < visible.upperBound - W }
    policies = FastGenPolicy.list(heavy: .rows(heavy), window: .rows(W)).dropLast()
  }

  /// What a head's policies keep and recover, and what its rows received.
  struct Head {
    let recovery: [Float]
    let kept: [[Int]]
    let received: [Float]

    func choice(_ T: Double) -> Int {
      fastGenChoice(recovery, least: T, kept: kept.map(\.count))
    }
  }

  /// The map of key/value head `m`, the mean of its query heads' maps, row by row.
  private func profile(of prompt: PromptRows, head m: Int) throws -> Head {
    let (G, l) = (layer.groupSize, prompt.keys[0].rows)
    var profile = AttentionProfile<Float>(policies, length: l, sight: layer.window)
    for t in 0..<l {
      var rows: [[Float]] = []
      var range = 0..<0
      for q in prompt.queries[m * G..<(m + 1) * G] {
        forEachPromptRow(
          queries: q, keys: prompt.keys[m], rows: t..<t + 1, window: layer.window
        ) { _, seen, weights in
          range = seen
          rows.append(weights)
        }
      }
      profile.add(t, range, GroupReduction.mean.apply(rows, groupSize: G)[0])
    }
    do {
      let columns = try policies.indices.map {
        try profile.columns($0, kinds, globals: globals, total: l)
      }
      let visible = layer.visible(length: l)
      let waiting = Array(max(visible.lowerBound, l - kinds.pending)..<l)
      return Head(
        recovery: policies.indices.map { profile.recovery($0, columns: columns[$0]) },
        kept: policies.indices.map { p in
          let kept = profile.kept(p, columns: columns[p], total: l).filter(visible.contains)
          return policies[p].special ? Set(kept + waiting).sorted() : kept
        },
        received: profile.received)
    } catch let error as NaNScore {
      throw ScoreError(layer: layer.layer, head: m * G, token: error.index, step: 0)
    }
  }

  /// The rows that each head's policy keeps after the step.
  public mutating func keep(after seen: KeptStep, tiers: inout Tiers) throws -> [[Int]]? {
    step += 1
    try take(seen.token.token)
    let weights = GroupReduction.mean.apply(seen.weights, groupSize: layer.groupSize)
    let waiting = seen.length - kinds.pending
    for (m, tokens) in seen.held.enumerated() {
      let policy = policies[chosen[m]]
      if policy.full {
        held[m] = tokens
        continue
      }
      let window = seen.length - (policy.windowRows(of: total) ?? 0)
      let isKept = tokens.map { j in
        policy.keepsAlways(j, kinds, globals: globals) || j >= window
          || policy.special && j >= waiting
      }
      guard var sum = sums[m] else {
        held[m] = zip(tokens, isKept).filter(\.1).map(\.0)
        continue
      }
      let S = accumulated(sum.elements, of: held[m], weights: weights[m], of: tokens)
      let others = tokens.indices.filter { !isKept[$0] }
      let scores = perQuery(
        others.map { S[$0] }, of: others.map { tokens[$0] }, length: seen.length,
        window: layer.window)
      var best: [Int] = []
      do {
        best = try topK(scores, count: policy.heavyRows(of: total)).indices
      } catch {
        throw ScoreError(
          layer: layer.layer, head: m * layer.groupSize, token: tokens[others[error.index]],
          step: step)
      }
      let places = (tokens.indices.filter { isKept[$0] } + best.map { others[$0] }).sorted()
      sums[m] = nil
      try tiers.device.resize(&sum, count: S.count, fill: 0)
      try tiers.device.resize(&sum, count: places.count, fill: 0)
      sum.elements = places.map { S[$0] }
      sums[m] = sum
      held[m] = places.map { tokens[$0] }
    }
    return held
  }
}
