// Double Sparsity: rows chosen by calibrated channels of their keys, which lie on the device in few
// bits.
//
// Kept:   a label of every token on the device, c = d div factor channels of its key in label-bits
//         bits; w + k exact rows of every holder there; K and V of every token on the host.
// A step: the new key's label is added; the query's label scores all older ones; the k best rows
//         are attended to, and come from the host where they are missing.
// Bytes:  labels · l · (⌈c · bits / 8⌉ + 8) and labels · c · 4 for the channels' numbers, labels =
//         H, or M where a group shares; holders · (w + k) · 2 d · 4 for rows. Moves: the misses.
//
//     ŝ_j    = q̂ · k̂_j / √c          both over the head's channels, rounded (PackedLabels.swift)
//     chosen = the ring, and the k older rows with the largest ŝ
//
// Source: Yang et al., arXiv 2408.07092; code andy-yang-1/DoubleSparse at b0575e6,
// evaluation/modify_llama.py and config/offline_calibration.py. It forces no recent rows; our ring
// of w rows is the least that is new, w = 1 the newest row alone.
//
//     calibration=prompt   channels by the prompt's own rows (LabelChannels.swift): ours
//     calibration=FILE     channels by other texts, the official way: a file of lrqk calibrate
//                          double-sparsity, with every head's importance of its channels
//     group=own            every query head has its own channels, labels and rows (official)
//     group=mean, ...      one label for a group, by the mean (max, sum) of its statistics, and one
//                          set by that of its scores, at 1 / G of the bytes: ours
//
// Ours: 16 bits are rounded to 2^16 levels as well, where the code leaves Float16 as it is; labels
// carry their lo and s, which the published memory figure leaves out. The code's conversion hands
// label_bits to the outermost modules only. The offload variant, which asks by the previous layer's
// query, is not here.

public import TieredMemory
public import Tensors
public import Transformers

/// Calibrated channels in few bits.
public struct DoubleSparsityMethod: SelectingMethod, CalibratedMethod {
  /// The name "double-sparsity".
  public static let name = "double-sparsity"
  /// Its paper, on arXiv.
  public static let paper: String? = "2408.07092"
  /// What `lrqk methods` says of it.
  public static let summary = "Double Sparsity: older rows by calibrated key channels in few bits"
  /// factor, label-bits, calibration, statistic, group, then k, w, budget and transfers.
  public static let optionList: [MethodOption] =
    [
      MethodOption("factor", "a label has one channel of so many", defaultValue: "8"),
      MethodOption("label-bits", "bits of a label's channel, 1 to 16", defaultValue: "4"),
      MethodOption(
        "calibration", "whose channels: prompt, or a file of lrqk calibrate double-sparsity",
        defaultValue: "prompt"),
      MethodOption(
        "statistic", "what makes a prompt's channel important: qk (official), q, k",
        defaultValue: "qk"),
      MethodOption(
        "group", "labels of a group of heads: own (official), mean, max, sum", defaultValue: "own"),
    ] + RowBudget.optionList
  /// k, w and who holds rows.
  public let budget: RowBudget
  private let factor: Int
  private let bits: Int
  private let calibration: CalibrationSource
  private let importance: ChannelImportance
  private let group: GroupReduction

  /// Reads the options; a file of channels has to exist.
  public init(_ given: MethodOptions) throws(MethodError) {
    factor = try given.integer("factor", in: 1...Size.most) ?? 8
    bits = try given.integer("label-bits", in: 1...16) ?? 4
    calibration = try CalibrationSource(given, "calibration", method: Self.name)
    importance = try given.choice("statistic", of: ChannelImportance.self) ?? .qk
    group = try given.choice("group", of: GroupReduction.self) ?? .own
    budget = try RowBudget(given)
    if calibration.file != nil && given.text("statistic") != nil {
      throw given.error("statistic has no effect with a calibration file; drop one of them")
    }
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    let statistic = calibration.file == nil ? [("statistic", importance.rawValue)] : []
    return [
      ("factor", "\(factor)"), ("label-bits", "\(bits)"),
      ("calibration", calibration.description),
    ] + statistic + [("group", group.rawValue)] + budget.options
  }

  /// The file of calibration=FILE.
  public var calibrationFile: CalibrationFile? { calibration.file }
  /// True where a group shares labels.
  public var choosesForGroups: Bool { group != .own }

  private func channelCount(_ layer: LayerShape) -> Int { max(1, layer.width / factor) }
  private func labelHeads(_ layer: LayerShape) -> Int {
    group == .own ? layer.queryHeads : layer.keyValueHeads
  }

  /// A selector for one layer; throws where the file does not fit it.
  public func selector(for layer: LayerShape) throws -> LabelSelector {
    let (H, d) = (layer.queryHeads, layer.width)
    let means = try calibration.file?.tensor("importance", of: layer, shape: [H, d])
    return LabelSelector(
      layer: layer, bits: bits, count: channelCount(layer),
      calibrated: means.map { means in (0..<H).map { means.row($0).map { Float($0) } } },
      importance: importance, group: group)
  }

  /// labels · (l · (⌈c · bits / 8⌉ + 8) + c · 4).
  public func selectorBytes(tokens: Int, layer: LayerShape) -> Int {
    let c = channelCount(layer)
    return labelHeads(layer)
      * (tokens * PackedLabels<Float>.rowBytes(channels: c, bits: bits)
        + c * MemoryLayout<Int32>.stride)
  }
}

/// Chooses by labels.
public struct LabelSelector: RowSelector {
  let layer: LayerShape
  let bits: Int
  /// Channels of a label.
  let count: Int
  /// Importance of the channels of every query head, (H, d); nil where the prompt says.
  let calibrated: [[Float]]?
  let importance: ChannelImportance
  let group: GroupReduction
  /// Of each query head, or key/value head.
  private var labels: [PackedLabels<Float>] = []

  init(
    layer: LayerShape, bits: Int, count: Int, calibrated: [[Float]]?,
    importance: ChannelImportance, group: GroupReduction
  ) {
    (self.layer, self.bits, self.count, self.calibrated) = (layer, bits, count, calibrated)
    (self.importance, self.group) = (importance, group)
  }

  /// Query heads that share a label: 1 or G.
  private var sharing: Int { group == .own ? 1 : layer.groupSize }

  /// The channels, and a label of every token of the prompt.
  public mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    for (s, channels) in try channels(of: prompt).enumerated() {
      labels.append(
        try PackedLabels(
          prompt.keys[s * sharing / layer.groupSize], channels: channels, bits: bits,
          label: "head \(s)", on: &tiers.device))
    }
  }

  /// The channels of every label: the most important ones of the file or of the prompt.
  private func channels(of prompt: PromptRows) throws -> [[Int]] {
    var statistic = ChannelStatistic<Float>(importance)
    if calibrated == nil { try statistic.add(queries: prompt.queries, keys: prompt.keys) }
    let heads = group.apply(calibrated ?? statistic.means, groupSize: layer.groupSize)
    return try heads.enumerated().map { s, means in
      do { return try topK(means, count: count).indices } catch {
        let h = s * sharing
        let (q, k) = (prompt.queries[h], prompt.keys[h / layer.groupSize])
        let place = (0..<q.count).first { (q.elements[$0] * k.elements[$0]).isNaN } ?? 0
        throw ScoreError(layer: layer.layer, head: h, token: place / layer.width, step: 0)
      }
    }
  }

  /// The new token's labels.
  public mutating func append(_ token: TokenRows, tiers: inout Tiers) throws {
    for s in labels.indices {
      try labels[s].append(
        token.keys.row(s * sharing / layer.groupSize), on: &tiers.device)
    }
  }

  /// The k older rows with the best labels, by query head or by group.
  public func choose(
    _ query: ChoiceQuery, among candidates: Range<Int>, rows: ResidentRows<Float>,
    tiers: inout Tiers
  ) throws -> [[Int]] {
    let sets = try best(query.count, of: candidates, heads: labels.count, rows) { s in
      let scores = (s * sharing..<(s + 1) * sharing).map { h in
        labels[s].scores(query.queries.row(h), candidates)
      }
      return group.apply(scores, groupSize: sharing)[0]
    }
    return group == .own ? sets : layer.forQueryHeads(sets)
  }
}
