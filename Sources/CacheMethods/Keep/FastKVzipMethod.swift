// Fast KVzip: a trained gate guesses, from the layer's input, what KVzip would keep.
//
// Kept:   the first rows, a window, and of all other rows of all layers and heads together those
//         with the largest scores; on the device, a score beside each; nothing on the host.
// A step: the new row is scored and added. Every so many steps, where all layers and heads hold
//         more than the budget, the lowest rows of all leave.
// Bytes:  M · n · 2 d · 4 of rows, n the mean over layers and heads; M · n · 4 of scores; the gate,
//         4 · (M d' ((G + 1) D + G + S) + M G + 2 d').
//
//     score   FastGate.swift           which rows leave, and when   FastKVzipDecision.swift
//
// A gate costs one small product a row, where KVzip repeats the whole context. It comes from a
// file, gate=FILE: `lrqk calibrate fastkvzip` makes one for a model (FastGateTraining.swift). The
// authors' names of tensors are read as well, behind the layer's number: 0.q_proj.weight.
//
// Source: Kim et al., arXiv 2601.17668; code Janghyun1230/FastKVzip at 7d78b34; kvpress at 8bb29b9,
// fastkvzip_press.py. One score for a group of query heads: the mean over the group.
//
// prefill=chunked decides as often as the official code, from the same scores. Our decoder passes a
// prompt whole, though, so that no chunk is computed from what earlier decisions left. Either way
// what is kept of a prompt depends on where it is cut: the method is not chunk invariant.
//
//     rule=official   the prompt's rows strictly above a threshold (JointDecision.swift)

import TieredMemory
package import Tensors
public import Transformers

/// Rows that a trained gate scores highest.
public struct FastKVzipMethod: KeepingMethod, CalibratedMethod {
  /// The name "fastkvzip".
  public static let name = "fastkvzip"
  /// Its paper, on arXiv.
  public static let paper: String? = "2601.17668"
  /// What `lrqk methods` says of it.
  public static let summary = "Fast KVzip: the rows that a trained gate scores highest"
  /// budget, dropped, gate, prefill, chunk, level, rule, first, window, window-ratio, every,
  /// answer-window.
  public static let optionList: [MethodOption] =
    KeptBudget.optionList() + [
      MethodOption(
        "gate", "file of the gates (lrqk calibrate fastkvzip); needed", defaultValue: "none"),
      MethodOption(
        "prefill", "when a prompt's rows are dropped: whole (once), chunked",
        defaultValue: "whole"),
      MethodOption("chunk", "rows between two decisions of prefill=chunked", defaultValue: "16000"),
      MethodOption(
        "level", "rows compete within: pair (all layers and heads), layer, adakv-layer",
        defaultValue: "pair"),
      MethodOption(
        "rule", "exact (as many as the budget says), official (strictly above a threshold)",
        defaultValue: "exact"),
      MethodOption("first", "first rows that are kept in any case", defaultValue: "4"),
      MethodOption("window", "last rows of the prompt that are kept", defaultValue: "4096"),
      MethodOption(
        "window-ratio", "the window's part of a prompt shorter than a chunk", defaultValue: "0.02"),
      MethodOption(
        "every", "steps of an answer between two decisions; 0: rows only come",
        defaultValue: "128"),
      MethodOption("answer-window", "newest rows kept in those decisions", defaultValue: "128"),
    ]
  /// Rows a head on average.
  public let budget: KeptBudget
  /// The gates' file where it is a calibration of ours; nil for the authors' own.
  public let calibrationFile: CalibrationFile?
  private let file: String?
  private let gates: [FastGate<Float>]
  private let choices: FastKVzipChoices

  /// Reads the options and the file of the gates.
  public init(_ given: MethodOptions) throws(MethodError) {
    budget = try KeptBudget(given)
    choices = FastKVzipChoices(
      isChunked: try given.choice("prefill", of: FastPrefill.self) == .chunked,
      chunk: try given.integer("chunk", in: 1...Size.most) ?? 16000,
      level: try given.choice("level", of: FastLevel.self) ?? .pair,
      rule: try given.choice("rule", of: CountRule.self) ?? .exact,
      first: try given.integer("first", in: 0...Size.most) ?? 4,
      window: try given.integer("window", in: 0...Size.most) ?? 4096,
      windowRatio: try given.number("window-ratio") ?? 0.02,
      every: try given.integer("every", in: 0...Size.most) ?? 128,
      answerWindow: try given.integer("answer-window", in: 0...Size.most) ?? 128)
    if choices.every == 0, given.text("answer-window") != nil {
      throw given.error("answer-window has no effect with every=0; drop it or every")
    }
    if choices.windowRatio > 1 {
      throw given.error("window-ratio=\(choices.windowRatio) is more than the whole prompt")
    }
    let text = given.text("gate")
    file = text == "none" ? nil : text
    do {
      let opened = try file.map { try SafetensorsFile(path: $0) }
      let isOwn = opened?.metadata["schema"] == CalibrationFile.schema
      calibrationFile =
        isOwn ? try file.map { try CalibrationFile(path: $0, method: Self.name) } : nil
      gates = try opened.map { try fastGates($0) } ?? []
    } catch let error as MethodError {
      throw error
    } catch {
      throw given.error("gate: \(error)")
    }
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    budget.options + [("gate", file ?? "none")] + choices.options
  }
  /// The first rows and one more.
  public var leastRows: Int { choices.first + 1 }
  /// The first rows and the prompt's window.
  public func forcedRows(of rows: Int, tokens: Int, layer: LayerShape) -> Int {
    let sight = layer.visible(length: tokens)
    let firsts = choices.firsts(in: sight).count
    return min(firsts + choices.window(in: sight, count: rows), rows)
  }

  /// A keeper with the layer's gate; throws where there is none, or one of another shape.
  public func keeper(for layer: LayerShape) throws -> FastKVzipKeeper {
    guard file != nil else {
      throw MethodError(
        "\(Self.name): there is no gate; give gate=FILE, which lrqk calibrate fastkvzip makes")
    }
    guard layer.layer < gates.count else {
      throw MethodError(
        "\(Self.name): the gates are of a model of \(gates.count) layers, so there is none for "
          + "layer \(layer.layer)")
    }
    let sizes = gates[layer.layer].sizes
    guard sizes.heads == layer.keyValueHeads, sizes.group == layer.groupSize else {
      throw MethodError(
        "\(Self.name): the gate of layer \(layer.layer) is for \(sizes.heads) key/value heads with "
          + "\(sizes.group) query heads each, and the layer has \(layer.keyValueHeads) with "
          + "\(layer.groupSize)")
    }
    return FastKVzipKeeper(gate: gates[layer.layer], choices: choices)
  }

  /// The gate, and a score for each row.
  public func keeperBytes(rows: Int, tokens: Int, layer: LayerShape) -> Int {
    let numbers = layer.layer < gates.count ? gates[layer.layer].sizes.numbers : 0
    return (numbers + layer.keyValueHeads * rows) * MemoryLayout<Float>.stride
  }

  /// Rows of `attendedRows` on average over all layers; the official rule leaves some out.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    let rows = attendedRows(tokens: tokens, layer: layer)
    var bytes = bytes(rows: rows, tokens: tokens, layer: layer)
    bytes.isUpperBound = choices.rule == .official && rows < tokens
    return bytes
  }
}

/// When a prompt's rows are dropped.
private enum FastPrefill: String, CaseIterable {
  case whole
  case chunked
}

/// What Fast KVzip lets its user choose beside budget and gate.
struct FastKVzipChoices: Sendable {
  let isChunked: Bool
  let chunk: Int
  let level: FastLevel
  let rule: CountRule
  let first: Int
  let window: Int
  let windowRatio: Double
  let every: Int
  let answerWindow: Int

  /// The first rows, those in sight.
  func firsts(in visible: Range<Int>) -> Range<Int> {
    let start = visible.lowerBound
    return start..<max(start, min(first, visible.upperBound))
  }

  /// w, at most what `count` rows leave beside the first ones.
  func window(in visible: Range<Int>, count: Int) -> Int {
    let context = visible.upperBound - min(first, visible.upperBound)
    let w = fastWindow(size: window, ratio: windowRatio, context: context, chunk: chunk)
    let firsts = firsts(in: visible).count
    return min(w, max(count - firsts, 0), visible.count - firsts)
  }

  var options: [(name: String, value: String)] {
    [
      ("prefill", isChunked ? "chunked" : "whole"), ("chunk", "\(chunk)"),
      ("level", optionWord(level.rawValue)), ("rule", rule.rawValue), ("first", "\(first)"),
      ("window", "\(window)"), ("window-ratio", "\(windowRatio)"), ("every", "\(every)"),
      ("answer-window", "\(answerWindow)"),
    ]
  }
}

/// The gates of all layers in a file, layer 0 first: tensors layers.N.NAME, as calibrations have
/// them, or N.NAME.
package func fastGates(_ file: SafetensorsFile) throws -> [FastGate<Float>] {
  for prefix in ["layers.", ""] {
    var gates: [FastGate<Float>] = []
    while let gate = try FastGate<Float>(file, prefix: "\(prefix)\(gates.count).") {
      gates.append(gate)
    }
    if !gates.isEmpty { return gates }
  }
  throw MethodError(
    "\(file.path): there is no tensor layers.0.q_proj.weight, so this is no file of gates")
}
