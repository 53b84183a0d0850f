// The conformance suite's cases on every device that is here: what `lrqk check --backend` prints.

#if OpenCL || CUDA

  import Conformance
  import GPUBackend
  import GPUChecks
  import Testing

  @Suite(.enabled(if: !Interface.here.isEmpty, "no GPU device, and no PoCL, is here"))
  struct ConformanceCaseTests {
    @Test(arguments: Interface.here)
    func `every case of every kernel passes`(_ interface: Interface) throws {
      let device = try interface.kind.open()
      let verdicts = check(DeviceBackend(device)) { _ in true }
      #expect(
        Set(verdicts.map(\.path)).count == Kernel.allCases.reduce(0) { $0 + $1.cases.count })
      for verdict in verdicts where device.hasDoubles || verdict.status != .skipped {
        #expect(
          verdict.status == .passed, "\(verdict.path) \(verdict.output): \(verdict.reason)")
      }
    }

    /// Kernels whose sums have one order on the device and on the CPU.
    ///
    /// That is all whose CPU routine has a written order; its sweeps and solvers go through BLAS.
    static let sameOrder: [Kernel] = [
      .proxyScores, .codeScores, .topK, .plan, .gather, .sparseAttention, .denseAttention, .rope,
      .rmsNorm,
    ]

    @Test(arguments: Interface.here, sameOrder)
    func `outputs have the bits of the package's own code`(
      _ interface: Interface, _ kernel: Kernel
    ) throws {
      let device = try interface.kind.open()
      for example in kernel.cases where device.hasDoubles || kernel != .rmsNorm {
        let (found, expected) = (
          try DeviceBackend(device).outputs(of: example), try CPUBackend().outputs(of: example)
        )
        // Equal numbers have equal bits but for the sign of zero.
        #expect(found == expected, "\(example.path)")
      }
    }

    @Test(arguments: Interface.here)
    func `without double precision the kernels that need it do not run, and say why`(
      _ interface: Interface
    ) throws {
      let device = WatchedDevice(try interface.kind.open(), hidingDoubles: true)
      let verdicts = check(DeviceBackend(device)) { _ in true }
      let skipped = verdicts.filter { $0.status == .skipped }
      #expect(
        Set(skipped.map { String($0.path.prefix { $0 != "/" }) })
          == ["sweep-rowwise", "sweep-gram", "decode-codes", "decode-step", "rms-norm"])
      #expect(
        skipped.allSatisfy {
          $0.reason == "\(device.name) has no double precision, which this kernel needs"
        })
      #expect(verdicts.filter { $0.status == .passed }.count == verdicts.count - skipped.count)
    }

    /// A fault and a kernel in which it shows.
    struct Planted: Sendable, CustomTestStringConvertible {
      let fault: Fault
      let kernel: Kernel
      var testDescription: String { "\(fault.rawValue) in \(kernel.name)" }
    }

    /// All faults but a copy made twice, which changes no number: bytes are counted elsewhere.
    static let planted: [Planted] =
      Fault.allCases.filter { $0 != .doubledCopy }
      .map { Planted(fault: $0, kernel: .decodeStep) } + [
        Planted(fault: .wrongIndex, kernel: .topK),
        Planted(fault: .nanScore, kernel: .proxyScores),
        Planted(fault: .nanScore, kernel: .codeScores),
        Planted(fault: .nanWeight, kernel: .sparseAttention),
        Planted(fault: .staleRow, kernel: .gather),
        Planted(fault: .missedCopy, kernel: .plan),
        Planted(fault: .extraCopy, kernel: .plan),
      ]

    @Test(arguments: Interface.here, planted)
    func `a planted fault fails a case`(_ interface: Interface, _ planted: Planted) throws {
      let device = try interface.kind.open()
      if planted.kernel == .decodeStep && !device.hasDoubles { return }
      // One layer: a wider window is written past the end where it meets a new prompt's scores.
      let isDecode = planted.kernel == .decodeStep
      let watched = WatchedDevice(device, fault: planted.fault, from: isDecode ? 1 : 0)
      let verdicts = check(DeviceBackend(watched)) {
        $0.kernel == planted.kernel && (!isDecode || $0.name == "paper")
      }
      let failed = verdicts.filter { $0.status == .failed }
      #expect(!failed.isEmpty, "\(planted.testDescription) was not found")
      if planted.fault == .nanScore || planted.fault == .nanWeight {
        #expect(failed.contains { $0.reason.contains("NaN") || $0.reason.contains("finite") })
      }
    }
  }

#endif
