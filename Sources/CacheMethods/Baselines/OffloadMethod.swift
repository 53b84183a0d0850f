// The papers' "CPU offload": the host holds every row, and all of them come over at every step.
//
// Kept:   K and V of every token on the host, per key/value head; nothing on the device.
// A step: the new row goes to the host (append, M rows), then all visible rows, the new one among
//         them, come to a working buffer of this layer (reload), which is freed after attention.
// Bytes:  M · l · 2 d · 4 on the host. Moved by step t, at length l: M · 2 d · 4 up and
//         M · min(l, window) · 2 d · 4 down.
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
  /// Empty: the method has no options.
  public static let optionList: [MethodOption] = []

  /// Takes no options.
  public init(_ given: MethodOptions) {}

  /// Empty: there is nothing to choose.
  public var options: [(name: String, value: String)] { [] }

  /// An empty cache.
  public func makeCache(for layer: LayerShape) -> any KeyValueCache { OffloadCache(layer) }

  /// M · l rows on the host.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    CacheBytes(host: layer.keyValueHeads * tokens * layer.rowBytes)
  }
}

/// One layer whose rows are on the host.
struct OffloadCache: KeyValueCache {
  let layer: LayerShape
  private(set) var length = 0
  var hostBytes: Int { hosts.reduce(0) { $0 + $1.bytes } }
  private var hosts: [HostStore<Float>]
  private var step = 0

  init(_ layer: LayerShape) {
    self.layer = layer
    hosts = Array(repeating: HostStore(width: layer.width), count: layer.keyValueHeads)
  }

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    length = layer.check(prompt)
    var rows = try DeviceRows.heads(prompt, on: &tiers.device)
    for m in hosts.indices {
      hosts[m].append(keys: prompt.keys[m], values: prompt.values[m])
      layer.record(step, m, .deviceToHost, rows: length, .promptOffload, &tiers)
      rows[m].free(on: &tiers.device)
    }
  }

  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    step += 1
    length += 1
    let visible = layer.visible(length: length)
    var working: [DeviceRows] = []
    for m in hosts.indices {
      hosts[m].append(keys: token.keys.rows(m..<m + 1), values: token.values.rows(m..<m + 1))
      layer.record(step, m, .deviceToHost, rows: 1, .append, &tiers)
      let there = visible.lowerBound * layer.width..<visible.upperBound * layer.width
      let shape = [visible.count, layer.width]
      working.append(
        try DeviceRows(
          "working rows of head \(m)",
          keys: Tensor(shape: shape, elements: Array(hosts[m].keys[there])),
          values: Tensor(shape: shape, elements: Array(hosts[m].values[there])), on: &tiers.device))
      layer.record(step, m, .hostToDevice, rows: visible.count, .reload, &tiers)
    }
    let output = try attention(
      queries: token.queries, keys: working.map(\.keys.elements),
      values: working.map(\.values.elements),
      slots: Array(repeating: (0..<Int32(visible.count)).map { $0 }, count: layer.queryHeads))
    for m in working.indices { working[m].free(on: &tiers.device) }
    return AttendedStep(
      attention: output, attended: Array(repeating: Array(visible), count: layer.queryHeads),
      hitRows: 0, missedRows: hosts.count * visible.count)
  }
}
