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
// The letters are those of LRQK's Cache.swift. A check that needs the host (is k_hat finite, did a
// system break down, has a score become NaN) reads a few numbers back; they are control, not rows.

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
        switch parameters.codeMap {
        case .linear: try encodeLinearly()
        case .alternating(let update):
          try encodeAlternating(update, omega: Array(omega), omegaSlot: omegaSlot)
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

    // MARK: b. and c.

    /// More room for A_K when the new token's code has none.
    private func growIfDue() throws {
      if length <= room { return }
      let (old, oldRoom) = (codes, room)
      room += Self.growth
      codes = try context.array(groups * room * rank)
      try context.launch(
        .fillFloats, items: codes.count, .of(codes), .int(codes.count), .float(0))
      for g in 0..<groups {
        try context.launch(
          .copyFloats, items: oldRoom * rank, .of(old), .int(g * oldRoom * rank), .of(codes),
          .int(g * room * rank), .int(oldRoom * rank))
      }
      try work.grow(context, queryHeads: queryHeads, holders: holders, room: room)
    }

    /// Groups of codes to a key/value head.
    private var groupsPerHead: Int { groups / keyValueHeads }

    /// q_hat = q W_Q and k_hat = k W_K; k_hat goes straight to its row of A_K, and is copied for us.
    private func encodeLinearly() throws -> Bool {
      try context.launch(
        .linearCodes, items: rank, rows: queryHeads, .of(work.queries), .int(1),
        .of(queryMatrices), .int(codesShared), .int(width), .int(rank), .of(work.queryCodes),
        .int(0), .int(rank))
      try context.launch(
        .linearCodes, items: rank, rows: groups, .of(work.newKeys), .int(groupsPerHead),
        .of(keyMatrices), .int(1), .int(width), .int(rank), .of(work.keyCodes), .int(0),
        .int(rank))
      try context.launch(
        .linearCodes, items: rank, rows: groups, .of(work.newKeys), .int(groupsPerHead),
        .of(keyMatrices), .int(1), .int(width), .int(rank), .of(codes),
        .int((length - 1) * rank), .int(room * rank))
      return false
    }

    /// The released solver and the update of the bases.
    private func encodeAlternating(
      _ update: BasisUpdate, omega: [Int], omegaSlot: Int
    ) throws -> Bool {
      guard let solver = work.solver else { preconditionFailure("no memory for the solver") }
      let (k, stride) = (parameters.selected, parameters.selected + parameters.recent)
      let count = k + omega.count
      let (ridge, stop) = (
        KernelArgument.double(parameters.solve.ridge),
        KernelArgument.int(parameters.solve.breakdown == .stop ? 1 : 0)
      )
      // The exact products q K_Omegaᵀ, then both products with A_Omega.
      try placeAttended(oldest: omegaSlot, ring: omega.count)
      try context.launch(
        .attentionScores, items: count, rows: queryHeads, .of(keys), .int(slots), .int(width),
        .int(rowsShared), .of(work.queries), .of(work.slotsAttended), .int(count), .float(1),
        .of(work.weights), .int(stride))
      try context.launch(
        .omegaProducts, items: rank * rank + rank, rows: queryHeads, .of(codes), .int(room),
        .int(rank), .int(codesShared), .of(chosen), .int(k), .int(omega.first ?? 0), .int(count),
        .of(work.weights), .int(stride), .of(solver.grams), .of(solver.crosses))
      try context.launch(
        .fillInts, items: 4 * groups, .of(solver.status), .int(4 * groups), .int(0))
      try context.launch(
        .beginCodes, groups: groups, .of(work.queries), .of(work.newKeys), .of(queryMatrices),
        .of(keyMatrices), .int(codesShared), .int(groupsPerHead), .int(rank), .int(width),
        .float(Float(parameters.weights.selectedProducts)), .of(solver.grams),
        .of(solver.crosses), .of(solver.keySystems), .of(solver.keyTargets), .of(solver.selves),
        .of(work.keyCodes), .of(solver.scratch), ridge, stop, .of(solver.status))
      for _ in 0..<max(parameters.decodeIterations.limit, 1) {
        try context.launch(
          .alternateCodes, groups: groups, .of(solver.grams), .of(solver.crosses),
          .of(solver.keySystems), .of(solver.keyTargets), .of(solver.selves), .int(codesShared),
          .int(rank), .float(Float(parameters.weights.selfProduct)), .of(work.queryCodes),
          .of(work.keyCodes), .of(solver.scratch), .of(solver.changes), ridge, stop,
          .of(solver.status))
        // One scalar decides for all heads (quirk Q11).
        if parameters.decodeIterations.tolerance == 0 { continue }
        let changes = try context.download(solver.changes, nil, .control(.codes))
        let mean = changes.reduce(0, +) / Double(groups * rank)
        if mean < parameters.decodeIterations.tolerance { break }
      }
      let pivoted = try checkSystems(solver)
      if update.factor != 0 {
        for (matrices, newCodes, rows, n, share) in [
          (queryMatrices, work.queryCodes, work.queries, codesShared, 1),
          (keyMatrices, work.keyCodes, work.newKeys, 1, groupsPerHead),
        ] {
          try context.launch(
            .updateBasis, groups: groups, .of(matrices), .of(newCodes), .of(rows), .int(n),
            .int(share), .int(rank), .int(width), .float(Float(update.factor)),
            .of(solver.basisScratch))
        }
      }
      try context.launch(
        .appendCodes, items: rank, rows: groups, .of(work.keyCodes), .int(rank), .of(codes),
        .int(room), .int(length - 1))
      return pivoted
    }

    /// Throws for the first group in which a system was singular; true if one needed pivots.
    private func checkSystems(_ solver: SolverWorkspace) throws -> Bool {
      let status = try context.download(solver.status, nil, .control(.codes))
      let names = [
        "B_K B_Kᵀ", "B_Q B_Qᵀ + lambda_2 A_OmegaᵀA_Omega + lambda_1 k_hatᵀk_hat",
        "B_K B_Kᵀ + lambda_1 q_hatᵀq_hat",
      ]
      for g in 0..<groups where status[4 * g] == 2 {
        throw LRQKError.singular(
          system: names[Int(status[4 * g + 1])],
          SingularSystem(
            pivot: Int(status[4 * g + 2]),
            value: Double(Float(bitPattern: UInt32(bitPattern: status[4 * g + 3]))), order: rank),
          Place(layer: layer, head: g, step: step))
      }
      return (0..<groups).contains { status[4 * $0] != 0 }
    }

    /// q_hat and k_hat of every group; a k_hat that is not finite throws, unless the rule is to proceed.
    private func readCodes() throws -> (queries: [Tensor<Float>], keys: [Tensor<Float>]) {
      let q = try context.download(work.queryCodes, nil, .control(.codes))
      let k = try context.download(work.keyCodes, nil, .control(.codes))
      let queries = (0..<groups).map { g in
        Tensor(
          shape: [codesShared, rank],
          elements: Array(q[g * codesShared * rank..<(g + 1) * codesShared * rank]))
      }
      let keys = (0..<groups).map { g in
        Tensor(shape: [1, rank], elements: Array(k[g * rank..<(g + 1) * rank]))
      }
      for (g, k_hat) in keys.enumerated() {
        if k_hat.firstNonFinite == nil {
          largestCodes[g] = k_hat.elements.reduce(largestCodes[g]) { max($0, Double(abs($1))) }
        } else if parameters.solve.breakdown == .stop {
          throw LRQKError.overflow(
            what: "k_hat", largestBefore: largestCodes[g],
            Place(layer: layer, head: g, step: step))
        }
      }
      return (queries, keys)
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
      if parameters.solve.breakdown == .stop, let h = nans.firstIndex(where: { $0 >= 0 }) {
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
    private func placeAttended(oldest: Int, ring count: Int) throws {
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
