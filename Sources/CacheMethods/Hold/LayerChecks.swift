// What every cache asks of its layer: bytes of rows, events, and whether rows have its shapes.
//
// In:  a layer, and what a decoder hands to its cache.
// Out: sizes; a trap where the shapes are another layer's.

import TieredMemory
import Tensors
import Transformers

extension LayerShape {
  /// Bytes of one exact row of one key/value head: a key and a value.
  var rowBytes: Int { 2 * width * MemoryLayout<Float>.stride }

  /// An empty store of the host for rows in a form.
  func hostStore(_ form: (any RowForm)?) -> HostStore<Float> {
    HostStore(
      keyWidth: form?.words(.key, width: width) ?? width,
      valueWidth: form?.words(.value, width: width) ?? width)
  }

  /// Notes a copy of whole rows, of `rowBytes` bytes each, of one holder of rows.
  func record(
    _ step: Int, _ holder: Int, _ direction: TransferDirection, rows: Int, of rowBytes: Int,
    _ reason: TransferReason, _ tiers: inout Tiers
  ) {
    tiers.ledger.record(
      step: step, layer: layer, head: holder, direction: direction, rows: rows,
      bytes: rows * rowBytes, reason: reason)
  }

  /// The number of tokens of a prompt whose shapes are this layer's.
  func check(_ prompt: PromptRows) -> Int {
    let l = prompt.keys.first?.shape.first ?? 0
    precondition(l >= 1, "a prompt has at least one token")
    precondition(
      prompt.queries.count == queryHeads && prompt.keys.count == keyValueHeads
        && prompt.values.count == keyValueHeads && prompt.keysBeforeRotary.count == keyValueHeads,
      "a prompt of \(queryHeads) query and \(keyValueHeads) key/value heads")
    for rows in prompt.queries + prompt.keys + prompt.keysBeforeRotary + prompt.values {
      precondition(rows.shape == [l, width], "rows of shape \(rows.shape), not (\(l), \(width))")
    }
    return l
  }

  /// Requires a token of this layer's shapes.
  func check(_ token: TokenRows) {
    precondition(
      token.queries.shape == [queryHeads, width]
        && token.queriesBeforeRotary.shape == [queryHeads, width],
      "queries of shape \(token.queries.shape), not (\(queryHeads), \(width))")
    for rows in [token.keys, token.keysBeforeRotary, token.values] {
      precondition(
        rows.shape == [keyValueHeads, width],
        "rows of shape \(rows.shape), not (\(keyValueHeads), \(width))")
    }
  }
}
