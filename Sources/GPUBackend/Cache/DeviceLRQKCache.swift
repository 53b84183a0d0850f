// The decode of one layer on a device: what it holds there, and how it starts.
//
// In:  the state that prefill leaves (codes, bases or maps, first selected sets), and the prompt's
//      exact keys and values.
// Out: everything that decode works on, in device memory; the prompt's rows on the host; the first
//      events of the ledger.
//
// One to one with LRQK's LRQKCache: DeviceResidentRows.swift has the rows, this file has codes and
// matrices, and DeviceLRQKCache+Decode.swift is the step. The events of the ledger are the same,
// one by one.
//
// Not here, and refused with a sentence (PromptState.swift): sliding windows, a map refresh, rows
// without reuse, a prompt that is still collecting (shorter than k or r), Double rows.

#if OpenCL || CUDA

  package import LRQK
  package import Tensors
  package import TieredMemory

  /// LRQK's decode of one layer on a device; one value for one sequence.
  ///
  /// A cache whose call threw is in an unspecified state and is not to be used again.
  package final class DeviceLRQKCache {
    /// The device and its account.
    package let context: GPUContext
    /// The choices of this cache.
    package let parameters: Parameters
    /// The exact rows, on both tiers.
    let rows: DeviceResidentRows
    /// Which query heads share codes.
    let coders: HeadSharing
    /// Largest finite |A_K| of each group so far, for messages.
    var largestCodes: [Double]

    // On the device. A_K (groups, room, r); matrices (groups, r, d) or (groups, d, r).
    var room: Int
    var codes: DeviceArray<Float>
    let queryMatrices: DeviceArray<Float>
    let keyMatrices: DeviceArray<Float>
    /// Selected tokens, (H, k).
    let chosen: DeviceArray<Int32>
    let work: Workspace

    /// The layer's heads and the width of its rows.
    package var shape: CacheShape { rows.shape }
    /// Tokens so far, l.
    package var length: Int { rows.length }
    /// Decode steps so far.
    package var step: Int { rows.step }
    /// Where the sequence stands.
    var phase: Phase { parameters.phase(length: length) }
    var groups: Int { coders.count }
    var rank: Int { parameters.rank }

    /// A cache that goes on from a prompt of keys and values (l, d) of every key/value head.
    ///
    /// Uploads the state and the prompt's rows, then sends the rows to the host as the ledger says.
    package init(
      layer: Int = 0, queryHeads: Int, keyValueHeads: Int, width: Int, parameters: Parameters,
      state: PromptState, keys promptKeys: [Tensor<Float>], values promptValues: [Tensor<Float>],
      on context: GPUContext
    ) throws {
      guard keyValueHeads >= 1, queryHeads >= keyValueHeads, queryHeads % keyValueHeads == 0 else {
        throw LRQKError.parameter(
          "\(queryHeads) query heads cannot share \(keyValueHeads) key/value heads evenly")
      }
      try parameters.check(width: width, groupSize: queryHeads / keyValueHeads)
      try Self.checkSupport(parameters, context)
      let shape = CacheShape(
        layer: layer, queryHeads: queryHeads, keyValueHeads: keyValueHeads, width: width)
      let (k, w, r, l) = (
        parameters.selected, parameters.recent, parameters.rank, state.length
      )
      coders = shape.sharing(perKeyValueHead: parameters.codeSharing == .perKeyValueHead)
      try state.check(
        keys: promptKeys, values: promptValues, groups: coders.count, queryHeads: queryHeads,
        keyValueHeads: keyValueHeads, width: width, parameters)
      self.context = context
      self.parameters = parameters
      largestCodes = state.codes.map { codes in
        codes.elements.reduce(0) { max($0, $1.isFinite ? Double(abs($1)) : 0) }
      }

      // Codes and matrices; room for 256 tokens more, as the CPU's cache has.
      room = l + CodeStore<Float>.growth
      let padding = [Float](repeating: 0, count: CodeStore<Float>.growth * r)
      codes = try context.array(
        state.codes.flatMap { $0.elements + padding }, .control(.state))
      queryMatrices = try context.array(
        state.queryMatrices.flatMap(\.elements), .control(.state))
      keyMatrices = try context.array(state.keyMatrices.flatMap(\.elements), .control(.state))
      chosen = try context.array(
        state.selected.flatMap { $0.map { Int32($0) } }, .control(.state))
      work = try Workspace(context, shape, groups: coders.count, room: room, parameters)
      rows = try DeviceResidentRows(
        shape, holders: parameters.rows.holders, recent: w, selected: k, length: l, room: room,
        on: context)
      let fits = parameters.phase(length: l) == .dense
      try rows.settle(
        chosen, firstRecent: fits ? k : l - w, offloaded: fits ? k : l, keys: promptKeys,
        values: promptValues)
    }

    /// Where head or group `head` is now, for messages.
    func place(_ head: Int) -> Location { Location(layer: shape.layer, head: head, step: step) }
  }

#endif
