// compact: as many rows as a part of full attention's bytes has room for, and keys in few bits.
//
// In:  a part, such as 1/16, and w.
// Out: key-bits (KeyBitsMethod.swift) with bits and k by rule; rows once a key/value head.
//
//     B     = part · bytes of the keys and values of the prompt's tokens, of one layer
//     bits  = the most of 4, 3, 2, 1 with which the codes take at most 2/3 of B:
//             (⌈d b / 8⌉ + 2) / (8 d) <= 2/3 · part;  1 where none does
//     k     = the most rows that fit into B beside the codes and w rows, at least 8
//
// Why this rule. Recall of exact top-k falls with the bits, .9 at 4 to .5 at 1 in every layer that
// was measured, and not with the length of an answer; a map that is fitted to the prompt takes
// bytes itself and ages (Docs/Methods/key-bits.md). Answers need rows as well: so codes have at
// most two thirds. Beyond 4 bits nothing is gained that rows would not give.
//
// Source: ours, a rule over known parts; KeyBitsMethod.swift names their sources.

import TieredMemory
public import Transformers

/// Keys in few bits and exact rows, within a part of full attention's bytes.
public struct CompactMethod: SelectingMethod {
  /// The name "compact".
  public static let name = "compact"
  /// What `lrqk methods` says of it.
  public static let summary = "key-bits by a rule: bits and k for a part of full attention's bytes"
  /// The options part and w.
  public static let optionList = [
    MethodOption(
      "part", "of full attention's bytes after the prompt: 1/8, 1/16", defaultValue: "1/16"),
    MethodOption("w", "recent tokens that are attended to", defaultValue: "8"),
  ]
  /// The fewest rows that are chosen, of a prompt that is too short for its part as well.
  static let least = 8
  /// The bits among which the part decides.
  static let widths = [4, 3, 2, 1]

  /// w, and rows once a key/value head; k comes from the part.
  public let budget: RowBudget
  /// The part of full attention's bytes.
  let part: ByteBudget

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    let recent = try given.integer("w", in: 1...Size.most) ?? 8
    let text = given.text("part") ?? "1/16"
    guard let part = ByteBudget(text) else {
      throw given.error("part=\(text) is no fraction such as 1/16, over 0 and at most 1")
    }
    self.part = part
    budget = RowBudget(recent: recent, holders: .perKeyValueHead)
  }

  /// The options part and w, in effect.
  public var options: [(name: String, value: String)] {
    [("part", part.description), ("w", "\(budget.recent)")]
  }

  /// b, bits of a number of a key in this layer.
  func bits(_ layer: LayerShape) -> Int {
    let row = budget.rows.rowBytes(layer)
    return Self.widths.first { bits in
      let code = KeyCode(bits: bits, width: layer.width).tokenBytes
      return 3 * code * part.denominator <= 2 * row * part.numerator
    } ?? 1
  }

  private func keyBits(_ layer: LayerShape) -> KeyBitsMethod {
    KeyBitsMethod(bits: bits(layer), budget: budget)
  }

  /// A selector for one layer.
  public func selector(for layer: LayerShape) throws -> KeyBitsSelector {
    try keyBits(layer).selector(for: layer)
  }

  /// Codes of all tokens.
  public func selectorBytes(tokens l: Int, layer: LayerShape) -> Int {
    keyBits(layer).selectorBytes(tokens: l, layer: layer)
  }

  /// B, bytes of one layer on the device after a prompt of l tokens.
  func layerBytes(tokens l: Int, layer: LayerShape) -> Int {
    let full = layer.keyValueHeads * l * budget.rows.rowBytes(layer)
    return full * part.numerator / part.denominator
  }

  /// k after a prompt of `tokens` tokens, `Self.least` or more.
  public func selected(tokens: Int, layer: LayerShape) throws(MethodError) -> Int {
    let (limit, w) = (layerBytes(tokens: tokens, layer: layer), budget.recent)
    func device(_ rows: Int) -> Int {
      bytes(selected: max(0, rows - w), tokens: tokens, layer: layer).device
    }
    let least = min(w + Self.least, tokens)
    if device(least) > limit { return Self.least }
    let rows = try Budget.bytes(limit, text: part.description).rows(
      tokens: tokens, least: least, method: Self.name, device: device)
    return max(Self.least, rows - w)
  }

  /// Nil: a part of the bytes leaves rows out of any longer prompt.
  public func nothingLeftOut(tokens: Int, of length: Int) -> String? { nil }
}
