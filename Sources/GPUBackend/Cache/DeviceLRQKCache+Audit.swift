// Reading a device's cache back, to compare it with what it should hold.
//
// In:  a cache after any step.
// Out: its codes and matrices, and rows that are not what they should be.
//
// This is for tests and comparisons; the tally counts what is read back as `audit`.

#if OpenCL || CUDA

  import LRQK
  package import Tensors
  import TieredMemory

  /// A row of the device that is not what it should be.
  package struct StaleRow: Sendable, Equatable, CustomStringConvertible {
    /// The row holder.
    package let holder: Int
    /// The slot where the row lies.
    package let slot: Int
    /// The token whose row should lie there.
    package let token: Int

    /// The fault in one line.
    package var description: String {
      "holder \(holder), slot \(slot): not the row of token \(token)"
    }
  }

  extension DeviceLRQKCache {
    /// A_K of each group, (l, r), read back.
    package func readKeyCodes() throws -> [Tensor<Float>] {
      let all = try context.download(codes, nil, .control(.audit))
      return (0..<groups).map { g in
        Tensor(
          shape: [length, rank],
          elements: Array(all[g * room * rank..<(g * room + length) * rank]))
      }
    }

    /// B_Q and B_K of each group, or W_Q and W_K, read back flat.
    package func readMatrices() throws -> (queries: [Float], keys: [Float]) {
      (
        try context.download(queryMatrices, nil, .control(.audit)),
        try context.download(keyMatrices, nil, .control(.audit))
      )
    }

    /// Every selected row on the device beside the host's row of that token, bit for bit.
    ///
    /// In holder and slot order; empty if all are equal. Rows of the ring belong to the newest
    /// tokens, which the host may not have yet. Those that it has are compared too.
    package func staleRows() throws -> [StaleRow] {
      let tokens = try context.download(rows.residents, nil, .control(.audit))
      let K = try context.download(rows.keys, nil, .control(.audit))
      let V = try context.download(rows.values, nil, .control(.audit))
      var stale: [StaleRow] = []
      let (slots, width, ring) = (rows.slots, shape.width, rows.ring)
      for s in 0..<rows.holders.count {
        let host = rows.hosts[rows.holders.keyValueHead(of: s)]
        var there = (parameters.recent..<slots).map { ($0, Int(tokens[s * slots + $0])) }
        there += ring.tokens.map { (ring.slot(of: $0), $0) }
        for (slot, token) in there.sorted(by: { $0.0 < $1.0 })
        where token >= 0 && token < host.count {
          let row = (s * slots + slot) * width..<(s * slots + slot + 1) * width
          let same =
            K[row].elementsEqual(host.keyRow(token)) { $0.bitPattern == $1.bitPattern }
            && V[row].elementsEqual(host.valueRow(token)) { $0.bitPattern == $1.bitPattern }
          if !same { stale.append(StaleRow(holder: s, slot: slot, token: token)) }
        }
      }
      return stale
    }
  }

#endif
