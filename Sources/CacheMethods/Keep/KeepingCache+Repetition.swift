// A keeping cache whose keeper hears the context repeated.
//
// In:  the rows of each pass of the model (Transformers, Repetition.swift).
// Out: the same for the keeper, with the context's keys beside them.
//
// All rows of the context are still held at that time: the keeper has returned nil and decides in
// `settle`. They have been added in token order, so the slots are the tokens.

public import TieredMemory
import Tensors
public import Transformers

/// A keeper that scores rows by a repetition.
public protocol RepetitionKeeper: RowKeeper {
  /// The parts of the context that are repeated; empty where nothing has to be scored.
  var repeatedChunks: [Range<Int>] { get }
  /// Takes one chunk's pass; `context` are the rows that are held.
  mutating func hear(_ pass: RepetitionRows, context: ContextRows) throws
}

extension KeepingCache: RepetitionScored where Keeper: RepetitionKeeper {
  /// Those of the keeper.
  public var repeatedChunks: [Range<Int>] { keeper.repeatedChunks }

  /// All rows that are held, as their form gives them back.
  public var contextRows: ContextRows {
    ContextRows(
      keys: held.map { $0.rows.read(.key, $0.slots, tokens: $0.tokens) },
      values: held.map { $0.rows.read(.value, $0.slots, tokens: $0.tokens) })
  }

  /// The pass's own rows lie on the device while the layer attends to them.
  public mutating func hear(_ pass: RepetitionRows, tiers: inout Tiers) throws {
    var rows: [DeviceRows] = []
    for (m, (keys, values)) in zip(pass.keys, pass.values).enumerated() {
      rows.append(
        try DeviceRows(
          "repetition of head \(m)", HeadForm(width: layer.width, nil, head: m), keys: keys,
          values: values, on: &tiers.device))
    }
    try keeper.hear(pass, context: contextRows)
    for m in rows.indices { rows[m].free(on: &tiers.device) }
  }
}
