// StreamingLLM: the first few tokens, the attention sinks, and the last w.
//
// Kept:   K and V of `sinks` + w rows of every key/value head, on the device; none on the host.
// A step: nothing moves between the tiers; the new row takes the place of the oldest recent one
//         (StreamingRows.swift). With during-answer=keep it is added.
// Bytes:  M · min(l, sinks + w) · 2 d · 4 on the device, rows=FORM: its words in place of 2 d. With
//         renumbered positions, during a step, rotated keys: M · min(l, sinks + w) · d · 4.
//
// Source: Xiao et al., arXiv 2309.17453; code mit-han-lab/streaming-llm at 2e50426, kv_cache.py and
// pos_shift/modify_llama.py: start_size 4, recent_size 512. There keys are cached before RoPE and
// rotated at every step, row i of the cache by position i, and the query by the last one, so that
// the model never sees a position beyond the cache's size:
//
//     renumbered   q · k_i with q rotated by n − 1 and k_i by i, i its place among the n kept rows
//     original     q and k rotated by their places in the text, as in other tools that drop rows
//
// kvpress (NVIDIA/kvpress at 8bb29b9, StreamingLLMPress) drops rows once, when the prompt ends, and
// keeps the answer's: positions=original,during-answer=keep.
//
// While nothing has been dropped both are full attention, unless the frequencies of RoPE depend on
// the length (`dynamic`): renumbered keys are rotated for the present length, those of `full` for
// the length at which they came. In a layer with a sliding window the kept rows that are in sight
// are attended to; the sinks, once out of sight, keep their places.

import TieredMemory
import Tensors
public import Transformers

/// The position by which a kept key is rotated.
enum Positions: String, Sendable, CaseIterable {
  /// The key's place among the kept rows, as in the paper.
  case renumbered
  /// The key's place in the text.
  case original
}

/// Whether rows are dropped while the answer grows.
enum DuringAnswer: String, Sendable, CaseIterable {
  /// The oldest recent row makes room for the new one, as in the paper.
  case evict
  /// Every row of the answer stays, as in kvpress.
  case keep
}

/// The first tokens and the last ones.
public struct StreamingMethod: CacheMethod {
  /// The name "streaming".
  public static let name = "streaming"
  /// Its paper, on arXiv.
  public static let paper: String? = "2309.17453"
  /// What `lrqk methods` says of it.
  public static let summary = "StreamingLLM: the first rows and the last w, all others are dropped"
  /// sinks, w, budget, positions, during-answer, rows.
  public static let optionList: [MethodOption] = [
    MethodOption("sinks", "first tokens that are kept", defaultValue: "4"),
    MethodOption("w", "recent tokens that are kept", defaultValue: "512"),
    MethodOption(
      "budget",
      "sinks + w in other words: 512 (rows), 25% (of the prompt), 256KiB (a layer's device)",
      defaultValue: "none"),
    MethodOption(
      "positions", "of kept keys: renumbered (paper), original", defaultValue: "renumbered"),
    MethodOption(
      "during-answer", "old rows while the answer grows: evict (paper), keep (kvpress)",
      defaultValue: "evict"),
    RowFormat.option,
  ]

  private let sinks: Int
  private let recent: Int
  private let budget: Budget?
  private let positions: Positions
  private let duringAnswer: DuringAnswer
  private let format: RowFormat

  /// Reads sinks, w, budget, positions, during-answer and rows.
  public init(_ given: MethodOptions) throws(MethodError) {
    sinks = try given.integer("sinks", in: 0...Size.most) ?? 4
    budget = try given.budget("budget", orNone: true)
    let w = try given.integer("w", in: 1...Size.most)
    if w != nil && budget != nil { throw given.error("budget and w say the same; give one") }
    recent = w ?? 512
    positions = try given.choice("positions", of: Positions.self) ?? .renumbered
    duringAnswer = try given.choice("during-answer", of: DuringAnswer.self) ?? .evict
    format = try given.rowFormat()
  }

  /// sinks, w or budget, positions, during-answer and rows.
  public var options: [(name: String, value: String)] {
    [
      ("sinks", "\(sinks)"),
      budget.map { ("budget", $0.description) } ?? ("w", "\(recent)"),
      ("positions", positions.rawValue), ("during-answer", duringAnswer.rawValue),
    ] + format.options
  }

  /// The last tokens that are kept, w; with a budget at least the new one.
  public var recentTokens: Int { budget == nil ? recent : 1 }

  /// w after a prompt of `tokens` tokens.
  func recent(tokens: Int, layer: LayerShape) throws(MethodError) -> Int {
    guard let budget else { return recent }
    let rows = try budget.rows(
      tokens: tokens, least: sinks + 1, method: Self.name, isLasting: true
    ) {
      bytes(rows: $0, layer: layer).device
    }
    return max(1, rows - sinks)
  }

  /// Throws where bytes are too few for the sinks and one more row.
  public func checkBudget(tokens: Int, layer: LayerShape) throws(MethodError) {
    _ = try recent(tokens: tokens, layer: layer)
  }

  /// sinks + w, or all.
  public func attendedRows(tokens: Int, layer: LayerShape) -> Int {
    let w = (try? recent(tokens: tokens, layer: layer)) ?? 1
    return min(tokens, sinks + w, layer.visible(length: tokens).count)
  }

  /// All that is kept: it does not depend on scores.
  public func forcedRows(of rows: Int, tokens: Int, layer: LayerShape) -> Int { rows }

  /// With w below l - sinks something is dropped; sinks that a window has put out of sight do not
  /// count.
  public func nothingLeftOut(tokens: Int, of length: Int) -> String? {
    let inSight = max(0, sinks - (length - tokens))
    if case .rows(let rows) = budget {
      return TieredMemory.nothingLeftOut(
        tokens: tokens, smaller: ("budget", rows), kept: nil, words: ("dropped", "drops"))
    }
    if budget != nil { return nil }
    return TieredMemory.nothingLeftOut(
      tokens: tokens, smaller: ("w", recent), kept: inSight > 0 ? ("sinks", inSight) : nil,
      words: ("dropped", "drops"))
  }

  /// An empty cache.
  public func makeCache(for layer: LayerShape) throws -> any KeyValueCache {
    StreamingCache(
      layer, sinks: sinks, positions: positions, duringAnswer: duringAnswer,
      form: try format.form(for: layer)
    ) {
      try recent(tokens: $0, layer: layer)
    }
  }

  /// M · min(l, sinks + w) rows.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    let w = (try? recent(tokens: tokens, layer: layer)) ?? 1
    return bytes(rows: min(tokens, sinks + w), layer: layer)
  }

  /// The bytes of so many rows a head.
  private func bytes(rows: Int, layer: LayerShape) -> CacheBytes {
    CacheBytes(deviceRows: layer.keyValueHeads * rows * format.rowBytes(layer))
  }
}

/// One layer under StreamingLLM.
struct StreamingCache: KeyValueCache {
  let layer: LayerShape
  let sinks: Int
  let positions: Positions
  let duringAnswer: DuringAnswer
  /// The form of the rows; nil: as they are.
  private let form: (any RowForm)?
  private let recentOf: @Sendable (_ tokens: Int) throws -> Int
  /// w, once there is a prompt.
  private var recent = 1
  private(set) var length = 0
  var hostBytes: Int { 0 }
  var needs: CacheNeeds { positions == .renumbered ? [.keysBeforeRotary] : form.needs }
  /// Rows of each key/value head, min(l, sinks + w) of them; keys before RoPE if positions are
  /// renumbered.
  private var rows: [DeviceRows] = []
  /// The kept tokens, ascending, and the slot of each.
  private var (kept, slots): ([Int], [Int]) = ([], [])
  /// Cosines and sines of positions 0 ..< n, a table and no state of the sequence.
  private var table: (n: Int, rotations: Rotations<Float>)?

  /// `recent` says w of a prompt of so many tokens.
  init(
    _ layer: LayerShape, sinks: Int, positions: Positions, duringAnswer: DuringAnswer,
    form: (any RowForm)?, recent: @escaping @Sendable (_ tokens: Int) throws -> Int
  ) {
    self.layer = layer
    self.sinks = sinks
    self.positions = positions
    self.duringAnswer = duringAnswer
    self.form = form
    recentOf = recent
  }

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    length = layer.check(prompt)
    recent = try recentOf(length)
    var held = prompt
    if positions == .renumbered { held.keys = prompt.keysBeforeRotary }
    var whole = try DeviceRows.heads(held, form, on: &tiers.device)
    kept = rowsLeft(of: Array(0..<length), coming: 0, sinks: sinks, recent: recent)
    slots = Array(kept.indices)
    for m in whole.indices {
      rows.append(try whole[m].gathered(kept, "rows of head \(m)", on: &tiers.device))
      whole[m].free(on: &tiers.device)
    }
  }

  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    let new = length
    let slot = makeRoom(for: new)
    length += 1
    let keys = positions == .renumbered ? token.keysBeforeRotary : token.heldKeys(form)
    for m in rows.indices {
      try rows[m].grow(to: kept.count, on: &tiers.device)
      try rows[m].write(
        slot: slot, token: new, key: keys.row(m), value: token.values.row(m))
    }
    let first = layer.visible(length: length).lowerBound
    let attended = kept.filter { $0 >= first }
    let slots = Array(
      repeating: self.slots.suffix(attended.count).map(Int32.init), count: layer.queryHeads)
    let tokens = Array(repeating: attended, count: layer.queryHeads)
    let output =
      positions == .renumbered
      ? try attendRenumbered(token, slots, attended, tiers: &tiers)
      : try attention(
        queries: token.queries, rows: rows, keyValueHeads: layer.keyValueHeads, slots: slots,
        tokens: tokens)
    return AttendedStep(attention: output, attended: tokens, hitRows: 0, missedRows: 0)
  }

  /// The slot of the new token: that of the row which leaves, or the next one.
  private mutating func makeRoom(for new: Int) -> Int {
    var slot = kept.count
    if duringAnswer == .evict {
      let left = rowsLeft(of: kept, coming: 1, sinks: sinks, recent: recent)
      if left.count < kept.count { slot = slots.remove(at: sinks) }
      kept = left
    }
    kept.append(new)
    slots.append(slot)
    return slot
  }

  /// Cosines and sines of positions 0 ..< n, made once for each n.
  private mutating func rotationsOfPlaces(_ n: Int) -> Rotations<Float> {
    if let table, table.n == n { return table.rotations }
    let rotations = layer.rotary.rotations(positions: Array(0..<n), length: n)
    table = (n, rotations)
    return rotations
  }

  /// Attention over the slots `attended`: keys rotated by their places among the
  /// kept, q by the last.
  private mutating func attendRenumbered(
    _ token: TokenRows, _ attended: [[Int32]], _ tokens: [Int], tiers: inout Tiers
  ) throws -> Tensor<Float> {
    let n = kept.count
    let rotations = rotationsOfPlaces(n)
    // Place i of the cache lies in slots[i]: rotate rows in token order, write them by slot.
    var bySlot = [Int](repeating: 0, count: n)
    for (i, slot) in slots.enumerated() { bySlot[slot] = i }
    var rotated: [DeviceBuffer<Float>] = []
    for m in rows.indices {
      let ordered = rotatedKeys(of: m, by: rotations)
      rotated.append(
        try tiers.device.allocate(
          "rotated keys of head \(m)", holding: ordered.gather(rows: bySlot).elements))
    }
    let last = layer.rotary.rotations(positions: [n - 1], length: n)
    let queries = last.rotate(token.queriesBeforeRotary)
    let (keys, rows) = (rotated.map(\.elements), rows)
    let output: Tensor<Float>
    if form == nil {
      output = try attention(
        queries: queries, keys: keys, values: rows.map(\.values.elements), slots: attended)
    } else {
      let heads = try mapConcurrently(layer.queryHeads) { h in
        let m = h / layer.groupSize
        return rows[m].sum(
          of: attentionWeights(query: queries.row(h), keys: keys[m], slots: attended[h]),
          slots: attended[h], tokens: tokens)
      }
      output = Tensor(rows: heads)
    }
    for m in rotated.indices { tiers.device.free(&rotated[m]) }
    return output
  }

  /// The kept keys of head `m` in token order, rotated by their places, (n, d).
  private func rotatedKeys(of m: Int, by rotations: Rotations<Float>) -> Tensor<Float> {
    let slots = slots.map(Int32.init)
    // A form that rotates on reading is told places instead of tokens.
    if form?.holdsKeysBeforeRotary == true {
      return rows[m].read(.key, slots, tokens: Array(kept.indices))
    }
    return rotations.rotate(rows[m].read(.key, slots, tokens: kept))
  }
}
