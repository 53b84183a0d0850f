// KV-Efficient VLA: the newest W rows as they are; of every C older ones a mean, or nothing.
//
// Kept:   K and V of the newest W rows and of fewer than C pending ones, and of every chunk that
//         its gate keeps one merged row, on the device; a count for each merged row; nothing on the
//         host.
// A step: nothing moves between the tiers; every C steps a chunk is judged (ChunkGate.swift),
//         merged (ChunkedRows.swift) or dropped for good.
// Bytes:  n = min(l, W) + pending + kept rows of each key/value head, n · 2 d · 4; counts, 4 a kept
//         row; gate=mass: 4 for each exact row; gate=FILE: 4 · (4 h (x + h + 2) + h + 1) of
//         weights and M · 2 h · 4 of states, h the LSTM's width, x its input's, d or 2 d.
//
// Source: arXiv 2509.21354; code l-zhuang/KV-Efficient-VLA at fbff2a0, models/vlms/
// kv_cache_manager.py: W = 100, C = 16, α = 0.5, LSTM of 16. The paper's own W, C and width are
// not known to us, nor is the network that merges a chunk there; the mean is the code's. What we do
// otherwise, because the code does not do what it says (Docs/Methods/kv-efficient-vla.md):
//
//     the code                                        here
//     judges the newest C rows, removes the oldest    the chunk that is judged is removed
//     never merges if decoding starts empty           merges at every C-th step
//     adds every later chunk to the means of V        means are those of their chunk
//     judges K and V apart in a prompt                one decision
//     pads with zero keys that get weight exp(0)      no padding
//     leaves the gate untrained                       mass (no weights), or a trained file
//     logit of a mean as of one row                   + log C (merge=plain: the code's)

import TieredMemory
import Tensors
public import Transformers

/// Recent rows, and of older chunks a mean or nothing.
public struct KVEfficientMethod: CalibratedMethod {
  /// The name "kv-efficient-vla".
  public static let name = "kv-efficient-vla"
  /// Its paper, on arXiv.
  public static let paper: String? = "2509.21354"
  /// What `lrqk methods` says of it.
  public static let summary =
    "KV-Efficient VLA: the last w rows; of older chunks means or nothing"
  /// w, budget, chunk, alpha, gate, merge.
  public static let optionList: [MethodOption] = [
    MethodOption("w", "newest rows that stay as they are", defaultValue: "100"),
    MethodOption(
      "budget",
      "most rows, means among them, in w's place: 512, 25% (of the prompt), 256KiB",
      defaultValue: "none"),
    MethodOption(
      "chunk", "older rows that the gate judges as one, and one mean replaces",
      defaultValue: "16"),
    MethodOption(
      "alpha", "a chunk stays where its gate is at least that; above 1 none does",
      defaultValue: "0.5"),
    MethodOption(
      "gate",
      "mass (attention received, beside an even share), keep-all, or a file (lrqk calibrate)",
      defaultValue: "mass"),
    MethodOption(
      "merge", "logit of a mean of C rows: corrected (+ log C), plain (the code)",
      defaultValue: "corrected"),
  ]

  /// The LSTM's file; nil for the other gates.
  public let calibrationFile: CalibrationFile?
  /// The LSTM's width, and what it sees of a row.
  private let trained: (hidden: Int, input: GateInput)?
  private let window: Int
  private let budget: Budget?
  private let chunk: Int
  private let alpha: Double
  private let keepsAll: Bool
  private let merge: Merge

  /// Reads the options and opens the gate's file.
  public init(_ given: MethodOptions) throws(MethodError) {
    let w = try given.integer("w", in: 1...Size.most)
    budget = try given.budget("budget", orNone: true)
    if w != nil && budget != nil { throw given.error("budget and w say the same; give one") }
    window = w ?? 100
    chunk = try given.integer("chunk", in: 1...Size.most) ?? 16
    alpha = try given.number("alpha") ?? 0.5
    merge = try given.choice("merge", of: Merge.self) ?? .corrected
    let gate = given.text("gate") ?? "mass"
    keepsAll = gate == "keep-all"
    if keepsAll && given.text("alpha") != nil {
      throw given.error("alpha has no effect with gate=keep-all; drop one of them")
    }
    if alpha > 1 && given.text("merge") != nil {
      throw given.error("merge has no effect with alpha above 1: no chunk stays; drop one of them")
    }
    calibrationFile =
      keepsAll || gate == "mass" ? nil : try CalibrationFile(path: gate, method: Self.name)
    trained = try calibrationFile.map { file throws(MethodError) in
      (try file.integer("hidden", in: 1...1 << 16), try file.choice("input", of: GateInput.self))
    }
    if let file = calibrationFile {
      let trained = try file.integer("chunk", in: 1...Size.most)
      if trained != chunk {
        throw given.error(
          "\(file.path) was trained for chunks of \(trained) rows, not of \(chunk); give "
            + "chunk=\(trained)")
      }
    }
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    [
      budget.map { ("budget", $0.description) } ?? ("w", "\(window)"), ("chunk", "\(chunk)"),
    ] + (keepsAll ? [] : [("alpha", Int(exactly: alpha).map(String.init) ?? "\(alpha)")])
      + [("gate", keepsAll ? "keep-all" : calibrationFile?.path ?? "mass")]
      + (alpha > 1 ? [] : [("merge", merge.rawValue)])
  }

  /// The newest rows, w; with a budget at least the new one.
  public var recentTokens: Int { budget == nil ? window : 1 }
  /// All that are exact; with a budget the new row at least.
  public func forcedRows(of rows: Int, tokens: Int, layer: LayerShape) -> Int {
    min(recentTokens, rows)
  }

  /// Throws where the budget cannot be met.
  public func checkBudget(tokens: Int, layer: LayerShape) throws(MethodError) {
    _ = try plan(tokens: tokens, layer: layer)
  }

  /// With w below l rows are merged.
  public func nothingLeftOut(tokens: Int, of length: Int) -> String? {
    let size: (String, Int)
    switch budget {
    case nil: size = ("w", window)
    case .rows(let rows): size = ("budget", rows)
    case .percent, .bytes: return nil
    }
    return TieredMemory.nothingLeftOut(
      tokens: tokens, smaller: size, kept: nil, words: ("merged", "merges"))
  }

  /// Where the chunks lie after a prompt of `tokens` tokens.
  private func plan(tokens: Int, layer: LayerShape) throws(MethodError) -> ChunkedRows {
    func plan(_ w: Int) -> ChunkedRows {
      ChunkedRows(window: w, chunk: chunk, sight: layer.window)
    }
    guard let budget else { return plan(window) }
    // The largest W with so many rows: with W grows what there is.
    func plan(rows: Int) -> ChunkedRows {
      if rows >= tokens { return plan(rows) }
      var (low, high) = (1, max(1, rows))
      while low < high {
        let middle = (low + high + 1) / 2
        if plan(middle).mostRows(of: tokens) <= rows { low = middle } else { high = middle - 1 }
      }
      return plan(low)
    }
    let rows = try budget.rows(
      tokens: tokens, least: plan(1).mostRows(of: tokens), method: Self.name, isLasting: true
    ) {
      let plan = plan(rows: $0)
      return bytes(plan, tokens: max(tokens, $0), layer: layer).device
    }
    return plan(rows: rows)
  }

  /// Exact rows, and one for every chunk in sight.
  public func attendedRows(tokens: Int, layer: LayerShape) -> Int {
    let most = (try? plan(tokens: tokens, layer: layer).mostRows(of: tokens)) ?? tokens
    return min(most, layer.visible(length: tokens).count)
  }

  /// An empty cache; throws where the file's gate is one of another model.
  public func makeCache(for layer: LayerShape) throws -> any KeyValueCache {
    KVEfficientCache(
      layer, chunk: chunk, alpha: alpha, gate: try gate(for: layer),
      isCorrected: merge == .corrected
    ) { try plan(tokens: $0, layer: layer).window }
  }

  /// The gate of one layer.
  private func gate(for layer: LayerShape) throws(MethodError) -> ChunkGateKind {
    if keepsAll { return .keepAll }
    guard let file = calibrationFile, let (sizes, input) = lstm(layer) else { return .mass }
    var gate = LSTMGate<Float>(zeros: sizes)
    for part in LSTMGate<Float>.parts(sizes) {
      gate[keyPath: part.path] =
        try file.tensor(part.name, of: layer, shape: part.shape).elements.map(Float.init)
    }
    return .lstm(gate, input)
  }

  private func lstm(_ layer: LayerShape) -> (LSTMSizes, GateInput)? {
    trained.map { hidden, input in
      (LSTMSizes(input: input.width(layer.width), hidden: hidden), input)
    }
  }

  /// M · n rows, counts, and what the gate holds; a bound where the gate may drop chunks.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    guard let plan = try? plan(tokens: tokens, layer: layer) else { return CacheBytes() }
    return bytes(plan, tokens: tokens, layer: layer)
  }

  private func bytes(_ plan: ChunkedRows, tokens: Int, layer: LayerShape) -> CacheBytes {
    let exact = plan.exact(of: tokens).count
    let merged = alpha > 1 ? 0 : plan.chunksInSight(of: tokens)
    var numbers = layer.keyValueHeads * merged
    if let (sizes, _) = lstm(layer) {
      numbers += sizes.numbers + layer.keyValueHeads * 2 * sizes.hidden
    } else if !keepsAll {
      numbers += layer.keyValueHeads * exact
    }
    return CacheBytes(
      deviceRows: layer.keyValueHeads * (exact + merged) * layer.rowBytes,
      deviceCodes: numbers * MemoryLayout<Float>.stride,
      isUpperBound: merged > 0 && !keepsAll && alpha > 0)
  }
}

/// How a mean of C rows enters the softmax.
private enum Merge: String, CaseIterable {
  /// With + log C on its logit: for C equal keys exact.
  case corrected
  /// As one row, as in the published code.
  case plain
}
