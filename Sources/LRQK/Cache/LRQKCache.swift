// The method from end to end: one layer's cache.
//
// In:  a prompt's queries, keys and values (after RoPE), whole or in chunks; then one token's at a
//      time.
// Out: attention of each new token over selected and recent rows; every copy in the ledger.
//
//   prompt   `LRQKCache+Prompt.swift`   factorise (stages 0 to 2), select the first sets, offload
//   a step   `LRQKCache+Decode.swift`
//            append    (k, v) into the ring; a ring full of new rows goes to the host
//            encode    q_hat, k_hat (stage 3); bases, and k_hat into A_K (stage 4)
//            select    proxy scores (stage 5), the best k of each head (stage 6)
//            bring     hit and miss: missed rows come from the host (stage 7)
//            attend    exact attention over selected and recent rows (stage 8)
//            refresh   new maps, where that was chosen and is due
//
// WHICH rows are attended to is decided here; WHERE they are is the business of TieredMemory's
// ResidentRows.swift. The phases of a sequence (collecting, dense, sparse) are in Phase.swift. The
// next file, LRQKCache+Selection.swift, is how heads choose.
//
// A batch is more heads: sequence b's head h is head b H + h, and groups stay aligned. All
// sequences of a batch have the same length.
//
// In a layer with a sliding window (the model's, not a choice) token t sees the tokens j with
// t − window < j <= t. Those out of sight are neither candidates nor attended to; they keep their
// codes and their rows on the host. Omega may still contain such tokens until the next selection:
// it is used to fit codes, never to attend.

public import Tensors
public import TieredMemory

/// LRQK's state for one layer.
///
/// A cache whose call threw is in an unspecified state and is not to be used again.
public struct LRQKCache<E: Scalar>: Sendable {
  /// The choices of this cache.
  public let parameters: Parameters
  /// The rows, on both tiers; tokens and steps are counted there.
  public internal(set) var rows: ResidentRows<E>
  /// Selected tokens of each query head, ascending; empty while collecting.
  public internal(set) var selected: [[Int]] = []
  /// The tokens that each query head chose itself; they differ from `selected` only where a head
  /// attends to the union of its group's sets.
  public internal(set) var chosen: [[Int]] = []
  /// How the prompt was factorised, by group; empty while collecting.
  public internal(set) var prompt: [PromptSummary<E>] = []

  /// Whether a decode step leaves a prompt that has become long enough to the caller, because other
  /// layers have a part in the ranks of its codes.
  public var waitsForRanks = false
  /// Takes the prompt as it comes in; nil once it has been factorised.
  var factorizer: PromptFactorizer<E>?
  /// Codes, and bases or maps, of each group of query heads that shares codes.
  var groups: [GroupState<E>] = []
  /// Which query heads share codes.
  let coders: HeadSharing

  /// An empty cache for `queryHeads` query and `keyValueHeads` key/value heads of width `width`.
  ///
  /// A `window` says how many tokens each token sees, itself included; nil: all. A `form` says how
  /// rows are held (TieredMemory's RowForm.swift); nil: as they are. Codes are then made of keys as
  /// they are held.
  public init(
    layer: Int = 0, queryHeads: Int, keyValueHeads: Int, width: Int, window: Int? = nil,
    parameters: Parameters, form: (any RowForm)? = nil
  ) throws(LRQKError) {
    guard keyValueHeads >= 1, queryHeads >= keyValueHeads, queryHeads % keyValueHeads == 0 else {
      throw .parameter(
        "\(queryHeads) query heads cannot share \(keyValueHeads) key/value heads evenly")
    }
    guard window ?? 1 >= 1 else {
      throw .parameter("a token sees at least itself, not \(window ?? 0)")
    }
    // Before rows and ring are made with sizes that make no sense.
    try parameters.check(width: width, groupSize: queryHeads / keyValueHeads)
    self.parameters = parameters
    let shape = CacheShape(
      layer: layer, queryHeads: queryHeads, keyValueHeads: keyValueHeads, width: width,
      window: window)
    rows = ResidentRows(
      shape, holders: parameters.rows.holders, recent: parameters.recent, room: parameters.selected,
      sharesSlots: parameters.counts != .fixed, form: form)
    coders = shape.sharing(perKeyValueHead: parameters.codeSharing == .perKeyValueHead)
    factorizer = try PromptFactorizer(
      keyHeads: (0..<coders.count).map(coders.keyValueHead(of:)), groupSize: coders.size,
      width: width, parameters: parameters, layer: layer)
  }

  /// The layer's heads and the width of its rows.
  public var shape: CacheShape { rows.shape }
  /// Tokens so far, l.
  public var length: Int { rows.length }
  /// Decode steps so far.
  public var step: Int { rows.step }

  /// True until the prompt has been factorised.
  public var isCollecting: Bool { factorizer != nil }
  /// Where the sequence stands.
  public var phase: Phase { isCollecting ? .collecting : parameters.phase(length: length) }

  /// A_K of each group, (l, r).
  public var keyCodes: [Tensor<E>] { groups.map(\.codes.allRows) }
  /// B_Q and B_K of each group (alternating codes), or W_Q and W_K (linear codes).
  public var matrices: [(queries: Tensor<E>, keys: Tensor<E>)] { groups.map(\.matrices) }
  /// The newest tokens, which are always on the device; none while collecting.
  public var recentTokens: Range<Int> { isCollecting ? length..<length : rows.ring.tokens }
  /// Where query head `h` finds its rows: the device slot of each selected and recent token.
  public func slots(ofQueryHead h: Int) -> [Int: Int] {
    isCollecting ? [:] : rows.slots(ofQueryHead: h, selected: selected[h])
  }
  /// Bytes of one row: a key and a value.
  public var rowBytes: Int { rows.rowBytes }
  /// Bytes of keys and values on the host, and of what waits there.
  public var hostBytes: Int {
    rows.hostBytes + groups.reduce(0) { $0 + $1.codes.bytesWaiting }
  }
  /// Largest finite |A_K| of each group, since the last map refresh.
  public var largestCodes: [Double] { groups.map(\.largestCode) }

  /// Where head or group `head` is now, for messages.
  func location(_ head: Int) -> Location { Location(layer: shape.layer, head: head, step: step) }
}
