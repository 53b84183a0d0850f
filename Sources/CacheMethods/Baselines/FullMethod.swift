// Full attention: every row stays on the device.
//
// Kept:   K and V of every visible token, on the device, per key/value head.
// A step: nothing moves; the new row is written where it stays.
// Bytes:  M · min(l, window) · 2 d · 4 on the device, none on the host; with rows=FORM the words of
//         a key and a value in place of 2 d.
//
// With a sliding window of W tokens a row that is out of sight can never be seen again, so W rows
// are enough: token t lies in slot t % W, over token t − W. Without one, W is larger than any
// sequence, and the same formula says slot t. Attention takes rows in token order whatever their
// slots are (RowAttention.swift of TieredMemory), so both give the same bits. This is the method
// that all others are compared with.

import TieredMemory
import Tensors
public import Transformers

/// All rows on the device.
public struct FullMethod: CacheMethod {
  /// The name "full".
  public static let name = "full"
  /// What `lrqk methods` says of it.
  public static let summary = "full attention, all visible rows on the device"
  /// The one option, `rows`: in what form rows are held.
  public static let optionList = [RowFormat.option]
  private let rows: RowFormat

  /// Reads the option `rows`.
  public init(_ given: MethodOptions) throws(MethodError) { rows = try given.rowFormat() }

  /// rows, as it is written.
  public var options: [(name: String, value: String)] { rows.options }

  /// An empty cache.
  public func makeCache(for layer: LayerShape) throws -> any KeyValueCache {
    FullCache(layer, form: try rows.form(for: layer))
  }

  /// M · min(l, window) rows.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    CacheBytes(
      deviceRows: layer.keyValueHeads * layer.visible(length: tokens).count * rows.rowBytes(layer))
  }
}

/// One layer under full attention.
struct FullCache: KeyValueCache {
  let layer: LayerShape
  private(set) var length = 0
  var hostBytes: Int { 0 }
  var needs: CacheNeeds { form.needs }
  /// The form of the rows; nil: as they are.
  private let form: (any RowForm)?
  /// Rows of each key/value head, min(l, window) of them.
  private var rows: [DeviceRows] = []

  init(_ layer: LayerShape, form: (any RowForm)? = nil) {
    self.layer = layer
    self.form = form
  }

  private func slot(of token: Int) -> Int { layer.window.map { token % $0 } ?? token }

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    length = layer.check(prompt)
    let visible = layer.visible(length: length)
    rows = try DeviceRows.heads(prompt, form, on: &tiers.device)
    if visible.count == length { return }

    // The last W rows, each in its slot; the whole prompt was on the device until here.
    let tokens = visible.sorted { slot(of: $0) < slot(of: $1) }
    for m in rows.indices {
      let kept = try rows[m].gathered(tokens, "rows of head \(m)", on: &tiers.device)
      rows[m].free(on: &tiers.device)
      rows[m] = kept
    }
  }

  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    let new = length
    length += 1
    let visible = Array(layer.visible(length: length))
    for m in rows.indices {
      try rows[m].grow(to: visible.count, on: &tiers.device)
      try rows[m].write(
        slot: slot(of: new), token: new, key: token.heldKeys(form).row(m),
        value: token.values.row(m))
    }
    let slots = visible.map { Int32(slot(of: $0)) }
    return AttendedStep(
      attention: try attention(
        queries: token.queries, rows: rows, keyValueHeads: layer.keyValueHeads,
        slots: Array(repeating: slots, count: layer.queryHeads),
        tokens: Array(repeating: visible, count: layer.queryHeads)),
      attended: Array(repeating: visible, count: layer.queryHeads), hitRows: 0, missedRows: 0)
  }
}
