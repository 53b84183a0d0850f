// A device and the account of everything that crosses between it and the host.
//
// In:  arrays of the host, and why they cross.
// Out: arrays of the device; a ledger of cache rows, a tally of everything else, and their sum.
//
// `count` is the one place where a copy is written down, and `upload` and `download` are the only
// callers of the device's write and read. A copy is one of two kinds:
//
//   rows      keys and values of tokens. One event of the ledger, with the reason that the
//             simulated cache gives it; one transfer, whose size must be the event's.
//   control   everything else: the new token's q, k and v, lists of missed tokens, outputs, the
//             state at the start. Tallied by what it is, in bytes and calls, apart from the ledger.
//
// So the bytes of the ledger and of the tally are all bytes. A counter below the driver's interface
// finds the same number (Tests/GPUBackendTests/Layer).

#if OpenCL || CUDA

  package import TieredMemory

  /// How much was copied: calls and bytes.
  package struct Traffic: Sendable, Equatable {
    /// The number of copies.
    package var calls = 0
    /// The bytes of all copies.
    package var bytes = 0

    /// A number of copies and their bytes; by default none.
    package init(calls: Int = 0, bytes: Int = 0) {
      self.calls = calls
      self.bytes = bytes
    }

    mutating func add(_ more: Int) {
      calls += 1
      bytes += more
    }
  }

  /// What crosses without being a cache row.
  package enum Control: String, Sendable, CaseIterable {
    /// The prompt's rows, which a model on the device would have made there.
    case prompt
    /// Codes, bases, maps and selected sets that prefill leaves.
    case state
    /// q, k and v of a new token.
    case token
    /// Lists of missed tokens, and how many they are.
    case plan
    /// q_hat and k_hat, changes and the state of systems, for the host's checks.
    case codes
    /// Gaps, NaN marks and selected sets, for reports.
    case selection
    /// Attention of a step.
    case output
    /// Inputs and outputs of a single kernel.
    case kernel
    /// Everything that a test reads back afterwards.
    case audit
  }

  /// Why a copy is made.
  package enum CopyPurpose: Sendable, Equatable {
    /// Rows of the cache, as one event of the ledger.
    case rows(step: Int, layer: Int, head: Int, rows: Int, reason: TransferReason)
    /// Something else, on the tally.
    case control(Control)
  }

  /// What device arrays hold: Float, Double, Int32; packed codes as UInt8 and UInt16.
  package typealias DeviceNumber = BitwiseCopyable & Sendable & AdditiveArithmetic

  /// An array in a device's memory; the last reference frees it.
  package final class DeviceArray<Element: DeviceNumber> {
    /// The array's memory.
    package let memory: DeviceMemory
    /// The number of elements.
    package let count: Int
    private let context: GPUContext

    init(_ memory: DeviceMemory, count: Int, _ context: GPUContext) {
      self.memory = memory
      self.count = count
      self.context = context
    }

    deinit { context.release(memory) }
  }

  /// One device, and what has crossed.
  package final class GPUContext {
    /// The device that everything goes to and comes from.
    package let device: any GPUDevice
    /// Every copy of cache rows.
    package private(set) var ledger = TransferLedger()
    /// Everything else, by what it is.
    package private(set) var control: [Control: [TransferDirection: Traffic]] = [:]
    /// All copies, counted where they are made.
    package private(set) var all: [TransferDirection: Traffic] = [:]
    /// Bytes of device memory in use.
    package private(set) var residentBytes = 0

    /// Counts what crosses to and from `device`.
    package init(_ device: any GPUDevice) { self.device = device }

    // MARK: Memory

    /// An uninitialised array of the device.
    package func array<E: DeviceNumber>(
      _ count: Int, of: E.Type = E.self
    ) throws -> DeviceArray<E> {
      let bytes = max(count, 1) * MemoryLayout<E>.stride
      let memory = try device.allocate(bytes: bytes)
      residentBytes += bytes
      return DeviceArray(memory, count: count, self)
    }

    fileprivate func release(_ memory: DeviceMemory) {
      residentBytes -= memory.bytes
      device.free(memory)
    }

    // MARK: Copies

    /// A new array of the device that holds `elements`.
    package func array<E: DeviceNumber>(
      _ elements: [E], _ purpose: CopyPurpose
    ) throws -> DeviceArray<E> {
      let array = try array(elements.count, of: E.self)
      try upload(elements, to: array, purpose)
      return array
    }

    /// Host → device: the first elements of `array` become `elements`.
    package func upload<E: DeviceNumber>(
      _ elements: [E], to array: DeviceArray<E>, _ purpose: CopyPurpose
    ) throws {
      precondition(elements.count <= array.count, "\(elements.count) into \(array.count) elements")
      if elements.isEmpty { return }
      try unsafe device.write(elements.span.bytes, to: array.memory, offset: 0)
      count(.hostToDevice, elements.count * MemoryLayout<E>.stride, purpose)
    }

    /// Device → host: elements `range` of `array`, or all.
    package func download<E: DeviceNumber>(
      _ array: DeviceArray<E>, _ range: Range<Int>? = nil, _ purpose: CopyPurpose
    ) throws -> [E] {
      let range = range ?? 0..<array.count
      precondition(
        range.lowerBound >= 0 && range.upperBound <= array.count, "\(range) of \(array.count)")
      if range.isEmpty { return [] }
      let stride = MemoryLayout<E>.stride
      var elements = [E](repeating: .zero, count: range.count)
      var span = elements.mutableSpan
      var bytes = unsafe span.mutableBytes
      try device.read(array.memory, offset: range.lowerBound * stride, into: &bytes)
      count(.deviceToHost, range.count * stride, purpose)
      return elements
    }

    /// The one function that counts.
    private func count(_ direction: TransferDirection, _ bytes: Int, _ purpose: CopyPurpose) {
      all[direction, default: Traffic()].add(bytes)
      switch purpose {
      case .rows(let step, let layer, let head, let rows, let reason):
        ledger.record(
          step: step, layer: layer, head: head, direction: direction, rows: rows, bytes: bytes,
          reason: reason)
      case .control(let kind):
        control[kind, default: [:]][direction, default: Traffic()].add(bytes)
      }
    }

    /// The tally's sum in one direction.
    package func controlTotal(_ direction: TransferDirection) -> Traffic {
      control.values.reduce(into: Traffic()) { sum, line in
        let part = line[direction] ?? Traffic()
        sum.calls += part.calls
        sum.bytes += part.bytes
      }
    }

    /// The sum of ledger and tally in one direction: what an independent counter has to find.
    package func accounted(_ direction: TransferDirection) -> Traffic {
      let rows = ledger.total(direction: direction)
      let rest = controlTotal(direction)
      return Traffic(calls: rows.events + rest.calls, bytes: rows.bytes + rest.bytes)
    }

    // MARK: Kernels

    /// Runs a kernel over `items` items a row, in whole groups, and `rows` rows.
    package func launch(
      _ kernel: DeviceKernel, items: Int, rows: Int = 1, _ arguments: KernelArgument...
    ) throws {
      let columns = (items + kernel.items - 1) / kernel.items
      if columns == 0 || rows == 0 { return }
      try device.launch(kernel, columns: columns, rows: rows, arguments)
    }

    /// Runs a kernel on so many groups, each of them one head or holder.
    package func launch(_ kernel: DeviceKernel, groups: Int, _ arguments: KernelArgument...) throws
    {
      if groups == 0 { return }
      try device.launch(kernel, columns: groups, rows: 1, arguments)
    }

    /// Throws unless the device has doubles.
    func requireDoubles(for what: String) throws {
      if !device.hasDoubles {
        throw GPUError("\(what) needs double precision, which \(device.name) does not have")
      }
    }
  }

  extension KernelArgument {
    /// The memory of an array.
    package static func of<E>(_ array: DeviceArray<E>) -> KernelArgument { .memory(array.memory) }
  }

#endif
