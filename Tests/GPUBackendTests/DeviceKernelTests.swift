// Kernels on every device that is here, beside the CPU's routines: equal bits.
//
// Without a device the tests are skipped, not passed. Every test opens its device,
// in parallel with others: that two threads can do so is a test of its own.

#if OpenCL || CUDA

  import GPUBackend
  import GPUChecks
  import Tensors
  import Testing
  import TieredMemory

  /// An interface of which a device is here.
  struct Interface: Sendable, CustomTestStringConvertible {
    let kind: GPUInterface
    var testDescription: String { kind.rawValue }

    /// Those built in whose driver has a device.
    ///
    /// An interface that is built in and has no device is mentioned once.
    static let here: [Interface] = GPUInterface.allCases
      .filter { kind in
        guard let absence = kind.absence else { return true }
        print("GPU tests without \(kind.rawValue): \(absence)")
        return false
      }
      .map { Interface(kind: $0) }

    func kernels() throws -> GPUKernels { GPUKernels(GPUContext(try kind.open())) }
  }

  @Suite(.enabled(if: !Interface.here.isEmpty, "no GPU device, and no PoCL, is here"))
  struct DeviceKernelTests {
    @Test(arguments: Interface.here, KernelCheck.all)
    func `the device gives the CPU's bits`(_ interface: Interface, _ check: KernelCheck) throws {
      let kernels = try interface.kernels()
      if check.needsDoubles && !kernels.context.device.hasDoubles {
        // A device without doubles refuses these, in one line.
        #expect(throws: GPUError.self) { try check.difference(on: kernels) }
        return
      }
      let difference = try check.difference(on: kernels)
      #expect(difference == nil, "\(check): \(difference ?? "")")
    }

    @Test(arguments: Interface.here)
    func `what a kernel call moves is on the tally, and nothing on the ledger`(
      _ interface: Interface
    ) throws {
      let watched = WatchedDevice(try interface.kind.open())
      let kernels = GPUKernels(GPUContext(watched))
      for check in KernelCheck.all where !check.needsDoubles {
        _ = try check.difference(on: kernels)
      }
      let context = kernels.context
      #expect(context.ledger.events.isEmpty)
      #expect(context.accounted(.hostToDevice) == watched.written)
      #expect(context.accounted(.deviceToHost) == watched.read)
      #expect(watched.written.calls > 50 && watched.read.calls > 50)
      #expect(context.residentBytes == 0, "every array has been given back")
    }

    @Test(arguments: Interface.here)
    func `bad sizes are errors in one line`(_ interface: Interface) throws {
      let kernels = try interface.kernels()
      #expect(throws: GPUError.self) {
        try kernels.plan(residents: [-1, -1], needed: [1, 2, 3])
      }
      #expect(throws: GPUError.self) { try kernels.plan(residents: [-1, -1], needed: [2, 1]) }
      #expect(throws: GPUError.self) {
        try kernels.topK(scores: Tensor(shape: [1, 0], elements: []), k: 1)
      }
      // Three integers of 3 bits are two bytes; there are none of 5 bits.
      let q_hat = Tensor<Float>(repeating: 1, shape: [1, 3])
      for (bytes, bits) in [(1, 3), (2, 5)] {
        #expect(throws: GPUError.self) {
          try kernels.codeScores(
            codes: Array(repeating: 0, count: bytes), bits: bits, scales: [0], queryCodes: q_hat)
        }
      }
    }
  }

  @Suite struct InterfaceTests {
    @Test(arguments: GPUInterface.allCases)
    func `an interface opens, or says in one line why not`(_ kind: GPUInterface) throws {
      guard let absence = kind.absence else {
        #expect(try !kind.open().name.isEmpty)
        return
      }
      #expect(!absence.isEmpty && !absence.contains("\n") && absence.count < 300, "\(absence)")
    }

    @Test func `both programs are whole texts without includes`() {
      for program in KernelProgram.allCases {
        #expect(!program.source.contains("#include"))
        for kernel in DeviceKernel.allCases {
          #expect(
            program.source.contains(") \(kernel.rawValue)(") == (kernel.program == program),
            "\(kernel.rawValue) in \(program.rawValue)")
        }
      }
    }
  }

#endif
