// Stages 3 and 4 on the device: codes of a new token, and the bases after it.
//
// In:  q (H, d) and k (M, d) of the token, where DeviceLRQKCache+Decode.swift has put them, for H
//      query and M key/value heads; Omega, the old selection and the ring without the new token.
// Out: q_hat and k_hat of every group of heads; the bases, or unchanged maps; k_hat in its row of
//      A_K.
//
//   stage 3   two products with the maps, or the alternating solver     linear_codes, codes.h
//   stage 4   bases, k_hat into A_K                                     codes.h
//
// The host decides when the solver stops, and checks systems and k_hat.

#if OpenCL || CUDA

  import LRQK
  import Tensors
  import TieredMemory

  extension DeviceLRQKCache {
    /// Stages 3 and 4: q_hat and k_hat of every group, with a copy for the host; then the bases
    /// follow, and A_K grows.
    func encode() throws -> StepCodes<Float> {
      try growIfDue()
      let pivoted =
        switch parameters.codes {
        case .linear: try encodeLinearly()
        case .alternating(let alternation): try encodeAlternating(alternation)
        }
      let (queries, keys) = try readCodes()
      return StepCodes(
        queries: queries, keys: keys, conditioning: Conditioning(worst: .nan, pivoted: pivoted))
    }

    /// More room for A_K when the new token's code has none.
    private func growIfDue() throws {
      if length <= room { return }
      let (old, oldRoom) = (codes, room)
      room += CodeStore<Float>.growth
      codes = try context.array(groups * room * rank)
      try context.launch(
        .fillFloats, items: codes.count, .of(codes), .int(codes.count), .float(0))
      for g in 0..<groups {
        try context.launch(
          .copyFloats, items: oldRoom * rank, .of(old), .int(g * oldRoom * rank), .of(codes),
          .int(g * room * rank), .int(oldRoom * rank))
      }
      try work.grow(context, queryHeads: shape.queryHeads, room: room)
      try rows.grow(room: room)
    }

    /// How many groups of codes a key/value head has.
    private var groupsPerHead: Int { groups / shape.keyValueHeads }

    /// q_hat = q W_Q and k_hat = k W_K; k_hat goes straight to its row of A_K.
    ///
    /// The host gets a copy.
    private func encodeLinearly() throws -> Bool {
      try context.launch(
        .linearCodes, items: rank, rows: shape.queryHeads, .of(work.queries), .int(1),
        .of(queryMatrices), .int(coders.size), .int(shape.width), .int(rank), .of(work.queryCodes),
        .int(0), .int(rank))
      try context.launch(
        .linearCodes, items: rank, rows: groups, .of(work.newKeys), .int(groupsPerHead),
        .of(keyMatrices), .int(1), .int(shape.width), .int(rank), .of(work.keyCodes), .int(0),
        .int(rank))
      try context.launch(
        .linearCodes, items: rank, rows: groups, .of(work.newKeys), .int(groupsPerHead),
        .of(keyMatrices), .int(1), .int(shape.width), .int(rank), .of(codes),
        .int((length - 1) * rank), .int(room * rank))
      return false
    }

    /// The released solver and the update of the bases.
    ///
    /// Omega is the old selection and the ring without the new token.
    private func encodeAlternating(_ alternation: Alternation) throws -> Bool {
      guard let solver = work.solver else { preconditionFailure("no memory for the solver") }
      let k = parameters.selected
      let recent = rows.ring.tokens.dropLast()
      let count = k + recent.count
      let (ridge, stop) = (
        KernelArgument.double(alternation.ridge.value),
        KernelArgument.int(parameters.breakdown == .stop ? 1 : 0)
      )
      // The exact products q K_Omegaᵀ, then both products with A_Omega.
      try rows.placeSlots(of: chosen, ring: recent)
      try context.launch(
        .attentionScores, items: count, rows: shape.queryHeads, .of(rows.keys),
        .int(rows.slots), .int(shape.width), .int(rows.holders.size), .of(work.queries),
        .of(rows.slotsAttended), .int(count), .float(1), .of(rows.weights),
        .int(rows.attendedStride))
      try context.launch(
        .omegaProducts, items: rank * rank + rank, rows: shape.queryHeads, .of(codes), .int(room),
        .int(rank), .int(coders.size), .of(chosen), .int(k), .int(recent.first ?? 0), .int(count),
        .of(rows.weights), .int(rows.attendedStride), .of(solver.grams), .of(solver.crosses))
      try context.launch(
        .fillInts, items: 4 * groups, .of(solver.status), .int(4 * groups), .int(0))
      try context.launch(
        .beginCodes, groups: groups, .of(work.queries), .of(work.newKeys), .of(queryMatrices),
        .of(keyMatrices), .int(coders.size), .int(groupsPerHead), .int(rank), .int(shape.width),
        .float(Float(alternation.weights.selectedProducts)), .of(solver.grams),
        .of(solver.crosses), .of(solver.keySystems), .of(solver.keyTargets), .of(solver.selves),
        .of(work.keyCodes), .of(solver.scratch), ridge, stop, .of(solver.status))
      for _ in 0..<alternation.iterations.limit {
        try context.launch(
          .alternateCodes, groups: groups, .of(solver.grams), .of(solver.crosses),
          .of(solver.keySystems), .of(solver.keyTargets), .of(solver.selves), .int(coders.size),
          .int(rank), .float(Float(alternation.weights.selfProduct)), .of(work.queryCodes),
          .of(work.keyCodes), .of(solver.scratch), .of(solver.changes), ridge, stop,
          .of(solver.status))
        // One scalar decides for all heads (quirk Q11).
        if alternation.iterations.tolerance == 0 { continue }
        let changes = try context.download(solver.changes, nil, .control(.codes))
        let mean = changes.reduce(0, +) / Double(groups * rank)
        if mean < alternation.iterations.tolerance { break }
      }
      let pivoted = try checkSystems(solver)
      if alternation.basisUpdate.factor != 0 {
        for (matrices, newCodes, data, n, share) in [
          (queryMatrices, work.queryCodes, work.queries, coders.size, 1),
          (keyMatrices, work.keyCodes, work.newKeys, 1, groupsPerHead),
        ] {
          try context.launch(
            .updateBasis, groups: groups, .of(matrices), .of(newCodes), .of(data), .int(n),
            .int(share), .int(rank), .int(shape.width),
            .float(Float(alternation.basisUpdate.factor)),
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
          place(g))
      }
      return (0..<groups).contains { status[4 * $0] != 0 }
    }

    /// q_hat and k_hat of every group; throws where k_hat is not finite, unless a breakdown is to
    /// proceed.
    private func readCodes() throws -> (queries: [Tensor<Float>], keys: [Tensor<Float>]) {
      let q = try context.download(work.queryCodes, nil, .control(.codes))
      let k = try context.download(work.keyCodes, nil, .control(.codes))
      let queries = (0..<groups).map { g in
        Tensor(
          shape: [coders.size, rank],
          elements: Array(q[g * coders.size * rank..<(g + 1) * coders.size * rank]))
      }
      let keys = (0..<groups).map { g in
        Tensor(shape: [1, rank], elements: Array(k[g * rank..<(g + 1) * rank]))
      }
      for (g, k_hat) in keys.enumerated() {
        if k_hat.firstNonFinite == nil {
          largestCodes[g] = k_hat.elements.reduce(largestCodes[g]) { max($0, Double(abs($1))) }
        } else if parameters.breakdown == .stop {
          throw LRQKError.overflow(
            what: "k_hat", largestBefore: largestCodes[g],
            place(g))
        }
      }
      return (queries, keys)
    }
  }

#endif
