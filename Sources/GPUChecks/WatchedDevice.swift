// A device that is watched from below, and can be made to fail on purpose.
//
// In:  the requests of a GPUContext, and perhaps one fault.
// Out: the same requests to the real device; calls and bytes of what really went through.
//
// It stands where a driver stands, so what it counts is independent of the backend's own account. A
// fault strikes once, at the first step from `from` on at which it can; what it does behind the
// backend's back goes to the real device directly and is not counted.

#if OpenCL || CUDA

  package import GPUBackend

  /// A fault planted on purpose.
  package enum Fault: String, Sendable, CaseIterable {
    /// One selected index is another one's.
    case wrongIndex = "wrong index"
    /// A missed row is copied but never reaches its slot.
    case staleRow = "stale row"
    /// A row counts as being there although it is not.
    case missedCopy = "missed copy"
    /// A copy is written down, but not made.
    case droppedCopy = "missed copy, below the ledger"
    /// A row that is there is copied once more.
    case extraCopy = "extra copy"
    /// A copy is made twice, but written down once.
    case doubledCopy = "extra copy, below the ledger"
    /// One candidate too many.
    case wideWindow = "candidate window, one too many"
    /// One candidate too few.
    case narrowWindow = "candidate window, one too few"
    /// A proxy score is not a number.
    case nanScore = "NaN in a score"
    /// A weight of attention is not a number.
    case nanWeight = "NaN in a weight"

    /// The finding that has to name it.
    package var expected: Finding {
      switch self {
      case .wrongIndex: .wrongIndex
      case .staleRow: .staleRow
      case .missedCopy, .droppedCopy: .missedCopy
      case .extraCopy, .doubledCopy: .extraCopy
      case .wideWindow, .narrowWindow: .candidateWindow
      case .nanScore, .nanWeight: .nan
      }
    }
  }

  /// The real device, watched.
  package final class WatchedDevice: GPUDevice {
    /// What was written to the device.
    package private(set) var written = Traffic()
    /// What was read from it.
    package private(set) var read = Traffic()
    /// True once the fault has struck.
    package private(set) var hasStruck = false

    private let device: any GPUDevice
    private let fault: Fault?
    private let from: Int
    private let hidesDoubles: Bool
    private var step = 0
    /// Where missed rows land, once one has.
    private var staging: DeviceMemory?

    /// Watches `device`; `fault` strikes at step `from` or later.
    ///
    /// With `hidingDoubles` it says that it has no double precision.
    package init(
      _ device: any GPUDevice, fault: Fault? = nil, from: Int = 5, hidingDoubles: Bool = false
    ) {
      self.device = device
      self.fault = fault
      self.from = from
      hidesDoubles = hidingDoubles
    }

    /// The name of the real device.
    package var name: String { device.name }
    /// Whether the real device has doubles, unless they are hidden.
    package var hasDoubles: Bool { device.hasDoubles && !hidesDoubles }
    /// Whether division rounds correctly on the real device.
    package var roundsDivision: Bool { device.roundsDivision }
    /// Allocates memory of the real device.
    package func allocate(bytes: Int) throws -> DeviceMemory { try device.allocate(bytes: bytes) }
    /// Frees memory of the real device.
    package func free(_ memory: DeviceMemory) { device.free(memory) }
    /// Waits for the real device.
    package func finish() throws { try device.finish() }

    /// Writes to the real device, and counts.
    package func write(_ bytes: RawSpan, to memory: DeviceMemory, offset: Int) throws {
      if memory == staging, strikes(.droppedCopy) { return }
      let times = memory == staging && strikes(.doubledCopy) ? 2 : 1
      for _ in 0..<times {
        try device.write(bytes, to: memory, offset: offset)
        written.calls += 1
        written.bytes += bytes.byteCount
      }
    }

    /// Reads from the real device, and counts.
    package func read(
      _ memory: DeviceMemory, offset: Int, into bytes: inout MutableRawSpan
    ) throws {
      try device.read(memory, offset: offset, into: &bytes)
      read.calls += 1
      read.bytes += bytes.byteCount
    }

    /// Runs a kernel on the real device; most faults strike here.
    package func launch(
      _ kernel: DeviceKernel, columns: Int, rows: Int, _ arguments: [KernelArgument]
    ) throws {
      var arguments = arguments
      var columns = columns
      switch kernel {
      case .appendRows: step += 1
      case .scatterRows:
        if case .memory(let memory) = arguments[0] { staging = memory }
        if strikes(.staleRow) { return }
      case .proxyScores where step >= from && !hasStruck:
        // Both kernels see the wrong number of candidates; `topK` is the one that ends the fault.
        let change = fault == .wideWindow ? 1 : fault == .narrowWindow ? -1 : 0
        if change != 0, case .int(let count) = arguments[5] {
          arguments[5] = .int(count + change)
          columns = (count + change + kernel.items - 1) / kernel.items
        }
      case .topK where step >= from && (fault == .wideWindow || fault == .narrowWindow):
        // It stays, because one step may choose the same set from a window that is off by one.
        if case .int(let count) = arguments[3] {
          arguments[3] = .int(count + (fault == .wideWindow ? 1 : -1))
        }
      case .planResidency: try tamperWithResidents(arguments)
      default: break
      }
      try device.launch(kernel, columns: columns, rows: rows, arguments)
      switch kernel {
      case .proxyScores, .codeScores: if strikes(.nanScore) { try poison(arguments[7]) }
      case .attentionSoftmax: if strikes(.nanWeight) { try poison(arguments[0]) }
      case .topK: try tamperWithChoice(arguments)
      default: break
      }
    }

    private func strikes(_ wanted: Fault) -> Bool {
      if fault != wanted || hasStruck || step < from { return false }
      hasStruck = true
      return true
    }

    // MARK: Behind the backend's back

    private func integers(_ argument: KernelArgument, _ count: Int, at first: Int = 0) throws
      -> [Int32]
    {
      guard case .memory(let memory) = argument else { return [] }
      var numbers = [Int32](repeating: 0, count: count)
      var span = numbers.mutableSpan
      var bytes = unsafe span.mutableBytes
      try device.read(memory, offset: 4 * first, into: &bytes)
      return numbers
    }

    private func put<E: BitwiseCopyable>(
      _ number: E, into argument: KernelArgument, at place: Int
    ) throws {
      guard case .memory(let memory) = argument else { return }
      let numbers = [number]
      try unsafe device.write(
        numbers.span.bytes, to: memory, offset: place * MemoryLayout<E>.stride)
    }

    private func poison(_ argument: KernelArgument) throws {
      try put(Float.nan, into: argument, at: 0)
    }

    /// Head 0's first choice moves to a neighbour that was not chosen.
    private func tamperWithChoice(_ arguments: [KernelArgument]) throws {
      guard fault == .wrongIndex, !hasStruck, step >= from, case .int(let k) = arguments[4] else {
        return
      }
      let chosen = try integers(arguments[5], k)
      for (place, token) in chosen.enumerated() {
        let previous = place == 0 ? -1 : chosen[place - 1]
        if token - 1 > previous {
          _ = strikes(.wrongIndex)
          return try put(token - 1, into: arguments[5], at: place)
        }
      }
    }

    /// Holder 0 forgets a row that it has, or believes that it has one that it does not.
    private func tamperWithResidents(_ arguments: [KernelArgument]) throws {
      guard fault == .extraCopy || fault == .missedCopy, !hasStruck, step >= from,
        case .int(let slots) = arguments[1], case .int(let reserved) = arguments[2]
      else { return }
      let residents = try integers(arguments[0], slots)
      let count = Int(try integers(arguments[4], 1)[0])
      let needed = Set(try integers(arguments[3], count))
      let there = Set(residents[reserved...].filter { $0 >= 0 })
      if fault == .extraCopy {
        if let slot = (reserved..<slots).first(where: { needed.contains(residents[$0]) }),
          strikes(.extraCopy)
        {
          try put(Int32(-1), into: arguments[0], at: slot)
        }
      } else if let token = needed.subtracting(there).min(),
        let slot = (reserved..<slots).first(where: { !needed.contains(residents[$0]) }),
        strikes(.missedCopy)
      {
        try put(token, into: arguments[0], at: slot)
      }
    }
  }

#endif
