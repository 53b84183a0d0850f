// The papers' "CPU offload": the host holds every row, and all of them come over at every step.
//
// Kept:   K and V of every token on the host, per key/value head; nothing on the device.
// A step: the new row goes to the host (append, M rows), then all visible rows, the new one among
//         them, come to a working buffer of this layer (reload), which is freed after attention.
// Bytes:  M · l · 2 d · 4 on the host. Moved by step t, at length l: M · 2 d · 4 up and
//         M · min(l, window) · 2 d · 4 down. With rows=FORM the words of a row in place of 2 d.
//
// Source: the baseline of the LRQK paper, FullOffloadCache of the released code ([C:1973-2027]),
// which also appends the new row first and copies it back with the others. With a sliding window
// only what is visible is copied (the released code has no windows). The prompt lies on the device
// while it is offloaded: a layer's working buffer is the peak of both phases.

import TieredMemory
import Tensors
public import Transformers

/// All rows on the host, reloaded at every step.
public struct OffloadMethod: CacheMethod {
  /// The name "offload".
  public static let name = "offload"
  /// What `lrqk methods` says of it.
  public static let summary = "full attention, all rows on the host and reloaded at every step"
  /// The one option, `rows`: in what form rows are held.
  public static let optionList = [RowFormat.option]
  private let rows: RowFormat

  /// Reads the option `rows`.
  public init(_ given: MethodOptions) throws(MethodError) { rows = try given.rowFormat() }

  /// rows, as it is written.
  public var options: [(name: String, value: String)] { rows.options }

  /// An empty cache.
  public func makeCache(for layer: LayerShape) throws -> any KeyValueCache {
    OffloadCache(layer, form: try rows.form(for: layer))
  }

  /// M · l rows on the host.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    CacheBytes(host: layer.keyValueHeads * tokens * rows.rowBytes(layer))
  }
}

/// One layer whose rows are on the host.
struct OffloadCache: KeyValueCache {
  let layer: LayerShape
  private(set) var length = 0
  var hostBytes: Int { hosts.reduce(0) { $0 + $1.bytes } }
  var needs: CacheNeeds { form.needs }
  /// The form of the rows; nil: as they are.
  private let form: (any RowForm)?
  private var hosts: [HostStore<Float>]
  private var step = 0

  init(_ layer: LayerShape, form: (any RowForm)?) {
    self.layer = layer
    self.form = form
    hosts = Array(repeating: layer.hostStore(form), count: layer.keyValueHeads)
  }

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    length = layer.check(prompt)
    var rows = try DeviceRows.heads(prompt, form, on: &tiers.device)
    for m in hosts.indices {
      hosts[m].append(keys: rows[m].heldKeys, values: rows[m].heldValues)
      record(m, .deviceToHost, rows: length, .promptOffload, &tiers)
      rows[m].free(on: &tiers.device)
    }
  }

  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    step += 1
    let keys = token.heldKeys(form)
    let new = length
    length += 1
    let visible = layer.visible(length: length)
    var working: [DeviceRows] = []
    for m in hosts.indices {
      let head = HeadForm(width: layer.width, form, head: m)
      hosts[m].append(
        keys: try head.held(.key, keys.rows(m..<m + 1), first: new),
        values: try head.held(.value, token.values.rows(m..<m + 1), first: new))
      record(m, .deviceToHost, rows: 1, .append, &tiers)
      let (K, V) = (hosts[m].keyWidth, hosts[m].valueWidth)
      working.append(
        try DeviceRows(
          "working rows of head \(m)", head,
          heldKeys: Array(hosts[m].keys[visible.lowerBound * K..<visible.upperBound * K]),
          values: Array(hosts[m].values[visible.lowerBound * V..<visible.upperBound * V]),
          on: &tiers.device))
      record(m, .hostToDevice, rows: visible.count, .reload, &tiers)
    }
    let output = try attention(
      queries: token.queries, rows: working, keyValueHeads: layer.keyValueHeads,
      slots: Array(repeating: (0..<Int32(visible.count)).map { $0 }, count: layer.queryHeads),
      tokens: Array(repeating: Array(visible), count: layer.queryHeads))
    for m in working.indices { working[m].free(on: &tiers.device) }
    return AttendedStep(
      attention: output, attended: Array(repeating: Array(visible), count: layer.queryHeads),
      hitRows: 0, missedRows: hosts.count * visible.count)
  }

  private func record(
    _ m: Int, _ direction: TransferDirection, rows: Int, _ reason: TransferReason,
    _ tiers: inout Tiers
  ) {
    layer.record(
      step, m, direction, rows: rows, of: hosts[m].rowBytes, reason, &tiers)
  }
}
