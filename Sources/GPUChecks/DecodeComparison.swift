// The device's decode beside the CPU's, step by step, and a name for what differs first.
//
// In:  a LayerCase; a device, perhaps with a fault.
// Out: nothing, or findings at the first step that differs, each with its place.
//
// Everything is compared with ==: codes, selected sets, gaps, hits and misses, the ledger event for
// event, attention by bit pattern; the rows that lie on the device beside the host's; and the bytes
// and calls that the watched device saw beside the ledger and the tally of control traffic.

#if OpenCL || CUDA

  package import GPUBackend
  import LRQK
  import Tensors
  import TieredMemory

  /// What can differ, by name.
  package enum Finding: String, Sendable, CaseIterable {
    /// A NaN where a number belongs.
    case nan = "NaN"
    /// The sets are those of a window with one candidate more or less.
    case candidateWindow = "off-by-one candidate window"
    /// A set that no window explains.
    case wrongIndex = "wrong index"
    /// Fewer copies than the reference's ledger has, or than were written down.
    case missedCopy = "missed copy"
    /// More copies than the reference's ledger has, or than were written down.
    case extraCopy = "extra copy"
    /// A row on the device that is not its token's.
    case staleRow = "stale row"
    /// q_hat, k_hat, A_K or a matrix.
    case codes = "codes differ"
    /// Gaps, hits or the order of events.
    case bookkeeping = "bookkeeping differs"
    /// Attention over equal sets of right rows.
    case attention = "attention differs"
    /// The device's cache threw something else.
    case failure = "failed"
  }

  /// The outcome of a comparison.
  package struct DecodeReport: Sendable {
    /// Findings at the first step that has any, and where; empty if all is equal.
    package var findings: [(finding: Finding, detail: String)] = []
    /// How many steps were compared.
    package var steps = 0
    /// How many sets were compared.
    package var sets = 0
    /// Events of the ledger.
    package var events = 0
    /// Rows that were copied from the host.
    package var missedRows = 0
    /// Needed rows that lay on the device already.
    package var hitRows = 0
    /// What crossed to the device, by the backend's account.
    package var written = Traffic()
    /// What crossed back to the host, by the backend's account.
    package var read = Traffic()
    /// How many of the bytes were cache rows.
    package var rowBytes = 0

    mutating func add(_ finding: Finding, _ detail: String) {
      findings.append((finding, detail))
    }
  }

  /// True when all bits are equal.
  func sameBits(_ a: [Float], _ b: [Float]) -> Bool {
    a.elementsEqual(b) { $0.bitPattern == $1.bitPattern }
  }

  /// Runs both caches over a case and compares every step.
  ///
  /// The device starts from the CPU's prompt state, or with `devicePrefill` from its own.
  package func compareDecode(
    _ layer: LayerCase, on device: WatchedDevice, devicePrefill: Bool = false, auditEvery: Int = 10
  ) throws -> DecodeReport {
    var tiers = Tiers()
    let (H, M) = (layer.queries.count, layer.keys.count)
    let (Q, K, V) = (
      layer.promptRows(layer.queries), layer.promptRows(layer.keys),
      layer.promptRows(layer.values)
    )
    var cpu = try LRQKCache<Float>(
      queryHeads: H, keyValueHeads: M, width: layer.width, parameters: layer.parameters)
    try cpu.prefill(queries: Q, keys: K, values: V, tiers: &tiers)
    let context = GPUContext(device)
    let state =
      devicePrefill
      ? try factorizeOnDevice(queries: Q, keys: K, parameters: layer.parameters, on: context)
      : try PromptState(cpu)
    let gpu = try DeviceLRQKCache(
      queryHeads: H, keyValueHeads: M, width: layer.width, parameters: layer.parameters,
      state: state, keys: K, values: V, on: context)

    var report = DecodeReport()
    for t in layer.prompt..<layer.prompt + layer.steps {
      let (q, k, v) = (
        layer.token(t, layer.queries), layer.token(t, layer.keys), layer.token(t, layer.values)
      )
      let expected = try cpu.decode(queries: q, keys: k, values: v, tiers: &tiers)
      report.steps += 1
      let found: DecodeStep<Float>
      do {
        found = try gpu.decode(queries: q, keys: k, values: v)
      } catch LRQKError.overflow(let what, _, let place) {
        report.add(.nan, "\(what) is not finite (\(place))")
        break
      } catch let error as RowNotOnHost {
        let candidates = cpu.parameters.candidates.count(oldestRecent: cpu.recentTokens.lowerBound)
        report.add(error.token == candidates ? .candidateWindow : .wrongIndex, "\(error)")
        break
      } catch {
        report.add(.failure, "\(error)")
        break
      }
      report.sets += H
      report.missedRows += found.missedRows.reduce(0, +)
      report.hitRows += found.hitRows.reduce(0, +)
      compare(expected, found, cpu, &report)
      compare(events: tiers.ledger.events, context.ledger.events, &report)
      compareTraffic(device, context, &report)
      if !report.findings.isEmpty || report.steps % auditEvery == 0
        || report.steps == layer.steps
      {
        for row in try gpu.staleRows().prefix(1) {
          report.add(.staleRow, "step \(found.step), \(row)")
        }
      }
      if !report.findings.isEmpty { break }
    }
    if report.findings.isEmpty {
      try compareCodes(cpu, gpu, &report)
      compareTraffic(device, context, &report)
    }
    // The first in the order of Finding's cases explains the others.
    let order = Finding.allCases
    report.findings.sort {
      (order.firstIndex(of: $0.finding) ?? 0) < (order.firstIndex(of: $1.finding) ?? 0)
    }
    report.events = context.ledger.events.count
    report.written = context.accounted(.hostToDevice)
    report.read = context.accounted(.deviceToHost)
    report.rowBytes = context.ledger.total().bytes
    return report
  }

  private func compare(
    _ expected: DecodeStep<Float>, _ found: DecodeStep<Float>, _ cpu: LRQKCache<Float>,
    _ report: inout DecodeReport
  ) {
    let step = "step \(expected.step)"
    if let n = found.attention.firstNonFinite {
      report.add(.nan, "\(step): attention of head \(n / found.attention.columns)")
    }
    for (g, codes) in expected.queryCodes.enumerated()
    where !sameBits(codes.elements, found.queryCodes[g].elements)
      || !sameBits(expected.keyCodes[g].elements, found.keyCodes[g].elements)
    {
      report.add(.codes, "\(step): q_hat or k_hat of group \(g)")
      break
    }
    if let h = expected.selected.indices.first(where: {
      expected.selected[$0] != found.selected[$0] || expected.gaps[$0] != found.gaps[$0]
    }) {
      let window = windowOf(found.selected[h], found.gaps[h], expected, cpu, head: h)
      let isSame = expected.selected[h] == found.selected[h]
      report.add(
        window != nil ? .candidateWindow : isSame ? .bookkeeping : .wrongIndex,
        "\(step): head \(h) selected \(difference(found.selected[h], expected.selected[h])), gap "
          + "\(found.gaps[h]), not \(expected.gaps[h])"
          + (window.map { ", which is right for \($0) candidates" } ?? ""))
    } else if !sameBits(expected.attention.elements, found.attention.elements) {
      report.add(.attention, step)
    }
    if expected.hitRows != found.hitRows || expected.missedRows != found.missedRows {
      report.add(
        .bookkeeping,
        "\(step): missed \(found.missedRows), expected \(expected.missedRows)")
    }
  }

  /// "3 7, not 3 8": the tokens in which two sets differ.
  private func difference(_ found: [Int], _ expected: [Int]) -> String {
    let (a, b) = (Set(found).subtracting(expected), Set(expected).subtracting(found))
    func list(_ tokens: Set<Int>) -> String {
      tokens.sorted().map(String.init).joined(separator: " ")
    }
    return "\(list(a)), not \(list(b))"
  }

  /// The number of candidates, one off, that explains a set and its gap.
  private func windowOf(
    _ selected: [Int], _ gap: Double, _ step: DecodeStep<Float>, _ cpu: LRQKCache<Float>,
    head h: Int
  ) -> Int? {
    let right = cpu.parameters.candidates.count(oldestRecent: cpu.recentTokens.lowerBound)
    let share = cpu.shape.queryHeads / cpu.keyCodes.count
    let codes = cpu.keyCodes[h / share]
    let q_hat = step.queryCodes[h / share].rows(h % share..<h % share + 1)
    for count in [right - 1, right + 1] where count > 0 && count <= codes.rows {
      let scores = matmul(q_hat, transposed: codes.rows(0..<count), in: .reference)
      if let best = try? topK(scores.elements, count: selected.count), best.indices == selected,
        Double(best.gap) == gap
      {
        return count
      }
    }
    return nil
  }

  private func compare(
    events expected: [TransferEvent], _ found: [TransferEvent], _ report: inout DecodeReport
  ) {
    if expected == found { return }
    func rows(_ events: [TransferEvent]) -> Int { events.reduce(0) { $0 + $1.rows } }
    let (a, b) = (rows(found), rows(expected))
    let place = zip(found, expected).first { $0 != $1 }
    let detail =
      place.map { "found \($0.0), expected \($0.1)" }
      ?? "\(found.count) events, expected \(expected.count)"
    report.add(a < b ? .missedCopy : a > b ? .extraCopy : .bookkeeping, "ledger: \(detail)")
  }

  private func compareTraffic(
    _ device: WatchedDevice, _ context: GPUContext, _ report: inout DecodeReport
  ) {
    for (direction, seen) in [
      (TransferDirection.hostToDevice, device.written), (.deviceToHost, device.read),
    ] {
      let counted = context.accounted(direction)
      if context.all[direction] ?? Traffic() != counted {
        report.add(.bookkeeping, "ledger and tally do not add up to all copies")
      }
      if seen == counted { continue }
      report.add(
        seen.bytes < counted.bytes ? .missedCopy : .extraCopy,
        "\(direction.rawValue): \(seen.bytes) bytes in \(seen.calls) calls went through, "
          + "\(counted.bytes) in \(counted.calls) were written down")
    }
  }

  private func compareCodes(
    _ cpu: LRQKCache<Float>, _ gpu: DeviceLRQKCache, _ report: inout DecodeReport
  ) throws {
    let (codes, matrices) = (try gpu.readKeyCodes(), try gpu.readMatrices())
    for (g, expected) in cpu.keyCodes.enumerated()
    where !sameBits(expected.elements, codes[g].elements) {
      report.add(.codes, "A_K of group \(g) after the last step")
    }
    if !sameBits(cpu.matrices.flatMap(\.queries.elements), matrices.queries)
      || !sameBits(cpu.matrices.flatMap(\.keys.elements), matrices.keys)
    {
      report.add(.codes, "bases or maps after the last step")
    }
  }

#endif
