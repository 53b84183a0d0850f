// A keeping method's cache: a keeper, and the rows that it has kept.
//
// In:  a `RowKeeper`; the prompt, then one token at a time.
// Out: attention over the rows that are left; dropped rows are gone, or parked on the host.
//
//   prompt   all rows come to the device; the keeper says which stay; the others leave
//   a step   append the row to every holder, attend over what is held, ask the keeper again
//   layers   keepers that decide together do so in `settle`, after the last layer
//
// Nothing ever comes back: a dropped row's bytes leave the device at once. With `dropped=parked`
// they go to the host instead, one event each time (`parked`), so that what dropping costs can be
// compared with what selecting methods keep there.
//
// In a layer with a sliding window a row that has gone out of sight is dropped as well. Where rows
// have a form (RowFormat.swift), the keeper sees them as they are held.

public import TieredMemory
import Tensors
public import Transformers

/// One layer under a keeping method.
public struct KeepingCache<Keeper: RowKeeper>: KeyValueCache {
  let layer: LayerShape
  private let holders: HeadSharing
  private let parks: Bool
  /// The form of the rows; nil: as they are.
  private let form: (any RowForm)?
  /// Rows a holder may keep of a prompt of so many tokens.
  private let count: @Sendable (_ tokens: Int) throws -> Int
  var keeper: Keeper
  private(set) var held: [HeldRows] = []
  private var parked: [HostStore<Float>] = []
  private var step = 0

  /// Tokens so far.
  public private(set) var length = 0

  /// An empty cache; `count` says how many rows of a prompt each holder keeps.
  public init(
    _ layer: LayerShape, keeper: Keeper, parks: Bool, form: (any RowForm)? = nil,
    count: @escaping @Sendable (_ tokens: Int) throws -> Int
  ) {
    self.layer = layer
    self.keeper = keeper
    self.parks = parks
    self.form = form
    self.count = count
    holders = layer.cacheShape.sharing(perKeyValueHead: keeper.holders == .perKeyValueHead)
  }

  /// Bytes of parked rows.
  public var hostBytes: Int { parked.reduce(0) { $0 + $1.bytes } }
  /// Those of the keeper, and of the form.
  public var needs: CacheNeeds { keeper.needs.union(form.needs) }
  /// The tokens that each holder has, ascending.
  public var tokens: [[Int]] { held.map(\.tokens) }

  /// The prompt: all rows come, some stay.
  public mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    length = layer.check(prompt)
    parked = Array(repeating: layer.hostStore(form), count: holders.count)
    var whole = try DeviceRows.heads(prompt, form, on: &tiers.device)
    let visible = layer.visible(length: length)
    let kept =
      try keeper.keep(
        of: asHeld(prompt, whole), count: count(length), layer: layer, tiers: &tiers)
      ?? Array(repeating: Array(visible), count: holders.count)
    precondition(kept.count == holders.count, "a set for each of \(holders.count) holders")
    for s in 0..<holders.count {
      let m = holders.keyValueHead(of: s)
      let tokens = kept[s].filter(visible.contains)
      held.append(
        try HeldRows(
          tokens, of: whole[m], label: "rows of \(holders.label(s))", on: &tiers.device))
      if parks {
        let gone = whole[m].held(without(Array(0..<length), tokens).map(Int32.init))
        park(gone.keys, gone.values, s, &tiers)
      }
      if s + 1 == holders.firstHolder(ofKeyValueHead: m + 1) { whole[m].free(on: &tiers.device) }
    }
  }

  /// A prompt whose keys and values are those of `whole`, where rows have a form.
  private func asHeld(_ prompt: PromptRows, _ whole: [DeviceRows]) -> PromptRows {
    if form == nil { return prompt }
    let (tokens, slots) = (Array(0..<length), (0..<length).map(Int32.init))
    var seen = prompt
    seen.keys = whole.map { $0.read(.key, slots, tokens: tokens) }
    seen.values = whole.map { $0.read(.value, slots, tokens: tokens) }
    return seen
  }

  /// A token whose keys and values are what the holders have of it, where rows have a form.
  private func asHeld(_ token: TokenRows) -> TokenRows {
    if form == nil { return token }
    func rows(_ part: RowPart) -> Tensor<Float> {
      Tensor(
        joiningRows: (0..<layer.keyValueHeads).map { m in
          let holder = held[holders.firstHolder(ofKeyValueHead: m)]
          return holder.rows.read(
            part, [holder.slots[holder.slots.count - 1]], tokens: [length - 1])
        })
    }
    var seen = token
    (seen.keys, seen.values) = (rows(.key), rows(.value))
    return seen
  }

  /// One token: append, attend, keep.
  public mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    step += 1
    let new = length
    length += 1
    let first = layer.visible(length: length).lowerBound
    for s in held.indices {
      let m = holders.keyValueHead(of: s)
      try held[s].append(
        new, key: token.heldKeys(form).row(m), value: token.values.row(m), on: &tiers.device)
      try keep(held[s].tokens.filter { $0 >= first }, s, &tiers)
    }
    let slots = holders.forQueryHeads(held.map(\.slots))
    let tokens = held.map(\.tokens)
    let output = try attention(
      queries: token.queries, rows: held.map(\.rows), keyValueHeads: layer.keyValueHeads,
      slots: slots, tokens: holders.forQueryHeads(tokens))
    var weights: [[Float]] = []
    if keeper.wantsWeights {
      weights = try mapConcurrently(layer.queryHeads) { h in
        let holder = held[holders.holder(ofQueryHead: h)]
        return holder.rows.weights(
          of: token.queries.row(h), slots: slots[h], tokens: holder.tokens)
      }
    }
    let seen = KeptStep(
      token: asHeld(token), length: length, held: tokens, weights: weights, rows: held)
    if let kept = try keeper.keep(after: seen, tiers: &tiers) {
      for s in held.indices { try keep(kept[s], s, &tiers) }
    }
    return AttendedStep(
      attention: output, attended: holders.forQueryHeads(tokens), hitRows: 0, missedRows: 0)
  }

  /// All layers' keepers decide together.
  public static func settle(_ caches: inout [any KeyValueCache], tiers: inout Tiers) throws {
    var layers = caches.map { cache in
      guard let layer = cache as? KeepingCache else {
        preconditionFailure("layers that decide together are of one method")
      }
      return layer
    }
    var keepers = layers.map(\.keeper)
    let kept = try Keeper.decide(&keepers, held: layers.map(\.tokens), tiers: &tiers)
    for i in layers.indices {
      layers[i].keeper = keepers[i]
      if let kept {
        for s in layers[i].held.indices { try layers[i].keep(kept[i][s], s, &tiers) }
      }
      caches[i] = layers[i]
    }
  }

  /// Holder `s` keeps `tokens` and nothing else.
  private mutating func keep(_ tokens: [Int], _ s: Int, _ tiers: inout Tiers) throws {
    guard let gone = try held[s].keep(tokens, on: &tiers.device), parks else { return }
    park(gone.keys, gone.values, s, &tiers)
  }

  private mutating func park(
    _ keys: Tensor<Float>, _ values: Tensor<Float>, _ s: Int, _ tiers: inout Tiers
  ) {
    if keys.rows == 0 { return }
    parked[s].append(keys: keys, values: values)
    layer.record(
      step, s, .deviceToHost, rows: keys.rows, of: parked[s].rowBytes, .parked, &tiers)
  }
}

/// The elements of `all` that are not in `some`; both ascend.
private func without(_ all: [Int], _ some: [Int]) -> [Int] {
  var next = 0
  return all.filter { token in
    if next < some.count && some[next] == token {
      next += 1
      return false
    }
    return true
  }
}
