// Steps 3 to 8 on the device: one decode step.
//
// In:  q (H, d), k and v (M, d) of one new token.
// Out: attention over selected and recent rows; codes, bases, sets, rows and ledger moved on.
//
//   a. (k, v) into the ring; the ring to the host when it is full of new rows       append_rows
//   b. codes: two products with the maps, or the alternating solver                 linear_codes
//   c. bases, k_hat into A_K                                                        codes.h
//   d. proxy scores and the best k of every head                                    scores.h, selection.h
//   e. hit and miss; the host sends the missed rows, and nothing else               residency.h, rows.h
//   f. exact attention                                                              attention.h
//
// The letters are those of LRQK's LRQKCache.swift; b. and c. are in DeviceCacheCodes.swift. A check that needs
// the host (is k_hat finite, did a system break down, has a score become NaN) reads a few numbers back;
// they are control, not rows.

#if OpenCL || CUDA

  import LRQK
  public import Tensors
  import TieredMemory

  /// What one decode step on a device did; the same fields as LRQK's DecodeStep.
  public struct DeviceDecodeStep: Sendable {
    /// From 1.
    public let step: Int
    /// (H, d).
    public let attention: Tensor<Float>
    /// Selected tokens of each query head, ascending; empty if the step was not asked for them.
    public let selected: [[Int]]
    /// Selected rows that lay on the device, by holder of rows.
    public let hitRows: [Int]
    /// Rows copied from the host, by holder of rows.
    public let missedRows: [Int]
    /// Score gap at the cut, by query head; infinity where nothing was chosen.
    public let gaps: [Double]
    /// q_hat (G, r), by group.
    public let queryCodes: [Tensor<Float>]
    /// k_hat (1, r), by group.
    public let keyCodes: [Tensor<Float>]
    /// True when a system needed the pivoted fallback.
    public let pivoted: Bool
    /// True when attention was full.
    public let isDense: Bool
  }

  /// A device that asks for a row that the host does not have: it has chosen a token of the ring, or none.
  public struct RowNotOnHost: Error, Equatable, CustomStringConvertible {
    /// Layer, from 0.
    public let layer: Int
    /// Decode step, from 1.
    public let step: Int
    /// The token asked for.
    public let token: Int
    /// Rows that the host has: tokens 0 ..< this.
    public let hostRows: Int

    /// One line.
    public var description: String {
      "layer \(layer), step \(step): the device asks for the row of token \(token), and the host has "
        + "\(hostRows): the selection is wrong"
    }
  }

  extension DeviceLRQKCache {
    /// One new token: q (H, d) of all query heads, k and v (M, d) of all key/value heads.
    ///
    /// Selected sets are read back when `reporting`.
    public func decode(
      queries q: Tensor<Float>, keys k: Tensor<Float>, values v: Tensor<Float>,
      reporting: Bool = true
    ) throws -> DeviceDecodeStep {
      try checkToken(q, k, v)
      step += 1
      try context.upload(q.elements, to: work.queries, .control(.token))
      try context.upload(k.elements, to: work.newKeys, .control(.token))
      try context.upload(v.elements, to: work.newValues, .control(.token))

      // a. (k, v) into the ring. Omega is the old selection and the ring without the new token.
      let omega = ring.tokens.count == ring.capacity ? ring.tokens.dropFirst() : ring.tokens[...]
      let omegaSlot = omega.first.map { ring.slot(of: $0) } ?? 0
      let slot = ring.append(length)
      length += 1
      try context.launch(
        .appendRows, items: width, rows: holders, .of(work.newKeys), .of(work.newValues),
        .int(width), .int(holders / keyValueHeads), .int(slot), .int(slots), .of(keys),
        .of(values))
      try flushIfDue()

      // b. and c. codes, bases, A_K
      try growIfDue()
      let pivoted =
        switch parameters.codes {
        case .linear: try encodeLinearly()
        case .alternating(let alternation):
          try encodeAlternating(alternation, omega: Array(omega), omegaSlot: omegaSlot)
        }
      let newCodes = try readCodes()

      // d. scores and top-k
      let isDense = length <= parameters.selected + parameters.recent
      let gaps = isDense ? Array(repeating: .infinity, count: queryHeads) : try choose()

      // e. hit and miss
      try planRows()
      let missedRows = try fetch()

      // f. attention
      let output = try attend()
      return DeviceDecodeStep(
        step: step, attention: output, selected: reporting ? try readSelected() : [],
        hitRows: zip(missedRows.needed, missedRows.missed).map { $0 - $1 },
        missedRows: missedRows.missed, gaps: gaps, queryCodes: newCodes.queries,
        keyCodes: newCodes.keys, pivoted: pivoted, isDense: isDense)
    }

    // MARK: d.

    /// The best k of the candidates of every head, on the device; the gaps.
    private func choose() throws -> [Double] {
      let k = parameters.selected
      let candidates = parameters.candidates.count(oldestRecent: ring.tokens.lowerBound)
      if candidates <= k {  // no choice
        try context.launch(
          .countUp, items: candidates, rows: queryHeads, .of(chosen), .int(candidates), .int(0))
        return Array(repeating: .infinity, count: queryHeads)
      }
      try context.launch(
        .proxyScores, items: candidates, rows: queryHeads, .of(codes), .int(room), .int(rank),
        .int(codesShared), .int(0), .int(candidates), .of(work.queryCodes), .of(work.scores),
        .int(room))
      try context.launch(
        .topK, groups: queryHeads, .of(work.scores), .int(room), .int(0), .int(candidates),
        .int(k), .of(chosen), .of(work.gaps), .of(work.nans))
      let nans = try context.download(work.nans, nil, .control(.selection))
      if parameters.breakdown == .stop, let h = nans.firstIndex(where: { $0 >= 0 }) {
        throw LRQKError.overflow(
          what: "a proxy score", largestBefore: largestCodes[h / codesShared],
          Place(layer: layer, head: h, step: step))
      }
      return try context.download(work.gaps, nil, .control(.selection)).map { Double($0) }
    }

    /// The selected sets as they stand on the device.
    private func readSelected() throws -> [[Int]] {
      let k = parameters.selected
      let tokens = try context.download(chosen, nil, .control(.selection))
      return (0..<queryHeads).map { h in tokens[h * k..<(h + 1) * k].map { Int($0) } }
    }

    // MARK: e.

    /// The missed rows of every holder, one copy each; how many rows were needed and missed.
    private func fetch() throws -> (needed: [Int], missed: [Int]) {
      let needed = try context.download(counts, nil, .control(.plan)).map { Int($0) }
      let missedCounts = try context.download(misses, nil, .control(.plan)).map { Int($0) }
      for s in 0..<holders where missedCounts[s] > 0 {
        let tokens = try context.download(
          missed, s * most..<s * most + missedCounts[s], .control(.plan))
        let host = hosts[s * rowsShared / (queryHeads / keyValueHeads)]
        try context.upload(
          try gathered(tokens, from: host), to: work.staging,
          .rows(step: step, layer: layer, head: s, rows: tokens.count, reason: .miss))
        try context.launch(
          .scatterRows, items: tokens.count * width, .of(work.staging), .int(tokens.count),
          .int(width), .of(missedSlots), .int(most), .int(s), .int(slots), .of(keys),
          .of(values))
      }
      return (needed, missedCounts)
    }

    /// Rows of the host behind each other: keys, then values.
    private func gathered(_ tokens: [Int32], from host: HostStore<Float>) throws -> [Float] {
      if let token = tokens.first(where: { $0 < 0 || $0 >= host.count }) {
        throw RowNotOnHost(layer: layer, step: step, token: Int(token), hostRows: host.count)
      }
      var rows: [Float] = []
      rows.reserveCapacity(2 * tokens.count * width)
      for all in [host.keys, host.values] {
        for token in tokens { rows += all[Int(token) * width..<(Int(token) + 1) * width] }
      }
      return rows
    }

    // MARK: f.

    /// The slots of each head's selected tokens and of `ring` tokens of the ring, oldest first.
    func placeAttended(oldest: Int, ring count: Int) throws {
      let k = parameters.selected
      try context.launch(
        .attendedSlots, items: k + count, rows: queryHeads, .of(chosen), .int(k),
        .int(rowsShared), .of(needed), .of(counts), .int(most), .of(places), .int(oldest),
        .int(count), .int(ring.capacity), .of(work.slotsAttended),
        .int(k + parameters.recent))
    }

    /// softmax(q Kᵀ / √d) V over the selected rows and the ring, (H, d).
    private func attend() throws -> Tensor<Float> {
      let stride = parameters.selected + parameters.recent
      let count = parameters.selected + ring.tokens.count
      try placeAttended(
        oldest: ring.slot(of: ring.tokens.lowerBound), ring: ring.tokens.count)
      try context.launchAttention(
        queries: work.queries, keys: keys, values: values, slots: slots, width: width,
        share: rowsShared, attended: work.slotsAttended, count: count, stride: stride,
        heads: queryHeads, weights: work.weights, output: work.output)
      return Tensor(
        shape: [queryHeads, width],
        elements: try context.download(work.output, nil, .control(.output)))
    }

    private func checkToken(
      _ q: Tensor<Float>, _ k: Tensor<Float>, _ v: Tensor<Float>
    ) throws {
      for (name, tensor, heads) in [
        ("q", q, queryHeads), ("k", k, keyValueHeads), ("v", v, keyValueHeads),
      ] {
        do { try tensor.require(name, [("head", heads), ("width", width)]) } catch {
          throw LRQKError.shape(error)
        }
        if let index = tensor.firstNonFinite {
          throw LRQKError.nonFiniteInput(
            tensor: name, token: length, column: index % width,
            value: "\(tensor.elements[index])",
            Place(layer: layer, head: index / width, step: step + 1))
        }
      }
    }
  }

#endif
