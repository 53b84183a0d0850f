// Stages 3 to 8 on the device: one decode step.
//
// In:  q (H, d), k and v (M, d) of one new token, for H query and M key/value heads.
// Out: attention over selected and recent rows; codes, bases, sets, rows and ledger after the step.
//
// Six lines, as LRQKCache+Decode.swift has them:
//
//   append    (k, v) into the ring; a ring full of new rows goes to the host   DeviceResidentRows
//   encode    two products with the maps, or the alternating solver; bases, and k_hat into A_K
//                                                              DeviceLRQKCache+Codes, codes.h
//   select    proxy scores and the best k of every head                scores.h, selection.h
//   bring     the host sends the missed rows, and nothing else          residency.h, rows.h
//   attend    exact attention                                                   attention.h
//   refresh   refused: the backend keeps the maps of the prompt
//
// The host checks whether k_hat is finite, a system broke down or a score is NaN. For this it reads
// a few numbers back, which count as control, not as rows.

#if OpenCL || CUDA

  package import LRQK
  package import Tensors
  import TieredMemory

  extension DeviceLRQKCache {
    /// One new token: q (H, d) of all query heads, k and v (M, d) of all key/value heads.
    ///
    /// In the result `conditioning` says whether a system needed pivots; its condition estimate is
    /// NaN, because the device makes none.
    package func decode(
      queries q: Tensor<Float>, keys k: Tensor<Float>, values v: Tensor<Float>
    ) throws -> DecodeStep<Float> {
      try check(q, k, v)
      try context.upload(q.elements, to: work.queries, .control(.token))
      try context.upload(k.elements, to: work.newKeys, .control(.token))
      try context.upload(v.elements, to: work.newValues, .control(.token))

      try rows.append(keys: work.newKeys, values: work.newValues)
      let codes = try encode()
      let gaps = try select()
      let brought = try rows.bring(chosen)
      let attention = try rows.attention(work.queries, over: chosen)

      let selected = try readSelected()
      return DecodeStep(
        step: step, attention: attention, selected: selected, chosen: selected,
        attended: selected.map { $0 + rows.ring.tokens }, brought: brought, gaps: gaps,
        codes: codes, isDense: phase == .dense)
    }

    /// Stages 5 and 6: the best k of the candidates of every head, on the device; the gaps.
    private func select() throws -> [Double] {
      let noGaps = [Double](repeating: .infinity, count: shape.queryHeads)
      if phase == .dense { return noGaps }
      let k = parameters.selected
      let candidates = parameters.candidates.count(oldestRecent: rows.ring.tokens.lowerBound)
      if candidates <= k {  // no choice
        try context.launch(
          .countUp, items: candidates, rows: shape.queryHeads, .of(chosen), .int(candidates),
          .int(0))
        return noGaps
      }
      try context.launch(
        .proxyScores, items: candidates, rows: shape.queryHeads, .of(codes), .int(room),
        .int(rank), .int(coders.size), .int(0), .int(candidates), .of(work.queryCodes),
        .of(work.scores), .int(room))
      try context.launch(
        .topK, groups: shape.queryHeads, .of(work.scores), .int(room), .int(0),
        .int(candidates), .int(k), .of(chosen), .of(work.gaps), .of(work.nans))
      let nans = try context.download(work.nans, nil, .control(.selection))
      if parameters.breakdown == .stop, let h = nans.firstIndex(where: { $0 >= 0 }) {
        throw LRQKError.overflow(
          what: "a proxy score", largestBefore: largestCodes[coders.holder(ofQueryHead: h)],
          place(h))
      }
      return try context.download(work.gaps, nil, .control(.selection)).map { Double($0) }
    }

    /// The selected sets, read back from the device.
    private func readSelected() throws -> [[Int]] {
      let k = parameters.selected
      let tokens = try context.download(chosen, nil, .control(.selection))
      return (0..<shape.queryHeads).map { h in tokens[h * k..<(h + 1) * k].map { Int($0) } }
    }

    private func check(
      _ q: Tensor<Float>, _ k: Tensor<Float>, _ v: Tensor<Float>
    ) throws {
      let (H, M, width) = (shape.queryHeads, shape.keyValueHeads, shape.width)
      for (name, tensor, heads) in [("q", q, H), ("k", k, M), ("v", v, M)] {
        do { try tensor.require(name, [("head", heads), ("width", width)]) } catch {
          throw LRQKError.shape(error)
        }
        if let index = tensor.firstNonFinite {
          throw LRQKError.nonFiniteInput(
            tensor: name, token: length, column: index % width,
            value: "\(tensor.elements[index])",
            Location(layer: shape.layer, head: index / width, step: step + 1))
        }
      }
    }
  }

#endif
