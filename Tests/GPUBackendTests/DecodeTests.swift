// The whole decode on the device beside the CPU's cache, and faults that have to be found.

#if OpenCL || CUDA

  import GPUBackend
  import GPUChecks
  import LRQK
  import Tensors
  import Testing
  import TieredMemory

  private func summary(_ report: DecodeReport) -> Comment {
    Comment(
      rawValue: report.findings.map { "\($0.finding.rawValue): \($0.detail)" }
        .joined(separator: "\n"))
  }

  @Suite(.enabled(if: !Interface.here.isEmpty, "no GPU device, and no PoCL, is here"))
  struct DecodeTests {
    /// An interface whose device can run these parameters.
    private func open(_ interface: Interface, _ layer: LayerCase) throws -> any GPUDevice {
      let device = try interface.kind.open()
      try #require(
        device.hasDoubles || layer.parameters.hasLinearCodes,
        "\(device.name) has no doubles: the alternating solver cannot run there")
      return device
    }

    @Test(arguments: Interface.here, LayerCase.long)
    func `300 steps have the CPU's sets, rows, attention and ledger`(
      _ interface: Interface, _ layer: LayerCase
    ) throws {
      let watched = WatchedDevice(try open(interface, layer))
      let report = try compareDecode(layer, on: watched)
      #expect(report.findings.isEmpty, summary(report))
      #expect(report.steps == 300 && report.sets == 300 * 8)
      // The case is worth something: rows move, and not all of them.
      let (hits, misses) = (report.hitRows, report.missedRows)
      #expect(min(hits, misses) > (hits + misses) / 10, "\(hits) hits, \(misses) misses")
      #expect(misses > 1000 && report.events > 600)
    }

    @Test(arguments: Interface.here, LayerCase.choices)
    func `every choice and every length has the CPU's numbers`(
      _ interface: Interface, _ layer: LayerCase
    ) throws {
      let report = try compareDecode(
        layer, on: WatchedDevice(try open(interface, layer)), auditEvery: 1)
      #expect(report.findings.isEmpty, summary(report))
      #expect(report.steps == layer.steps)
    }

    @Test(arguments: Interface.here, LayerCase.long)
    func `the device's own prefill leads to the same decode`(
      _ interface: Interface, _ layer: LayerCase
    ) throws {
      let device = try interface.kind.open()
      if !device.hasDoubles { return }
      let report = try compareDecode(layer, on: WatchedDevice(device), devicePrefill: true)
      #expect(report.findings.isEmpty, summary(report))
    }

    @Test(arguments: Interface.here, Fault.allCases)
    func `a planted fault is found by its name`(_ interface: Interface, _ fault: Fault) throws {
      for layer in LayerCase.long {
        let watched = WatchedDevice(try open(interface, layer), fault: fault)
        let report = try compareDecode(layer, on: watched)
        let first = try #require(
          report.findings.first, "\(layer): \(fault.rawValue) was not found")
        #expect(first.finding == fault.expected, "\(layer): \(summary(report))")
        #expect(report.steps >= 5 && report.steps < 60, "found at step \(report.steps)")
      }
    }

    @Test(arguments: Interface.here)
    func `what this backend does not do is refused in one line`(_ interface: Interface) throws {
      let layer = LayerCase.long[1]
      let device = try interface.kind.open()
      for change in [
        { (p: inout Parameters) throws in p.codes = .linear(refresh: .every(3)) },
        { $0.reuse = .reloadAll }, { $0.sizes = try Sizes(rank: 8, selected: 300, recent: 8) },
        { $0.rows = .perKeyValueHead(attended: .group) },
      ] {
        var parameters = layer.parameters
        try change(&parameters)
        let changed = LayerCase(layer.name, parameters, prompt: 200, steps: 1)
        #expect(throws: LRQKError.self) {
          try compareDecode(changed, on: WatchedDevice(device))
        }
      }
    }

    @Test(arguments: Interface.here)
    func `a token with a NaN is refused before anything moves`(_ interface: Interface) throws {
      let layer = LayerCase.long[1]
      var cpu = try LRQKCache<Float>(
        queryHeads: 8, keyValueHeads: 2, width: layer.width, parameters: layer.parameters)
      var tiers = Tiers()
      let (Q, K, V) = (layer.queries, layer.keys, layer.values)
      try cpu.prefill(queries: Q, keys: K, values: V, tiers: &tiers)
      let context = GPUContext(try interface.kind.open())
      let gpu = try DeviceLRQKCache(
        queryHeads: 8, keyValueHeads: 2, width: layer.width, parameters: layer.parameters,
        state: try PromptState(cpu), keys: K, values: V, on: context)
      let before = context.all
      var q = Tensor<Float>(repeating: 0, shape: [8, layer.width])
      let k = Tensor<Float>(repeating: 0, shape: [2, layer.width])
      q[3, 1] = .nan
      #expect(throws: LRQKError.self) { try gpu.decode(queries: q, keys: k, values: k) }
      #expect(context.all == before && gpu.length == layer.keys[0].rows)
    }
  }

#endif
