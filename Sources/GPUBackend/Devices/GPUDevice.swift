// What a device can be asked for: memory, copies, kernels. OpenCL and CUDA differ in nothing else.
//
// In:  requests, one at a time. Every call returns when it is done, or when everything before it on
//      the device is: no events, no streams, no mapped memory.
// Out: the same, done; or a GPUError that says in one line what is missing.
//
// A device counts nothing. GPUContext counts, and all other code goes through it.

#if OpenCL || CUDA

  import Glibc

  /// A device or a driver that is missing or does not do what is needed.
  package struct GPUError: Error, Equatable, CustomStringConvertible {
    /// What, where and what to do, in one line.
    package let description: String

    /// An error with this description.
    package init(_ description: String) { self.description = description }
  }

  /// A piece of a device's memory.
  package struct DeviceMemory: Sendable, Equatable {
    /// The driver's handle.
    package let handle: UInt
    /// The size in bytes.
    package let bytes: Int

    /// Memory by the driver's handle.
    package init(handle: UInt, bytes: Int) {
      self.handle = handle
      self.bytes = bytes
    }
  }

  /// One argument of a kernel.
  package enum KernelArgument: Sendable, Equatable {
    /// A pointer to device memory.
    case memory(DeviceMemory)
    /// A number that the kernel takes as `int`.
    case int(Int)
    /// A number that the kernel takes as `float`.
    case float(Float)
    /// A number that the kernel takes as `double`.
    case double(Double)
  }

  /// One device, with the programs of KernelSource.swift.
  package protocol GPUDevice: AnyObject {
    /// Device, driver and interface, for reports.
    var name: String { get }
    /// Whether it computes in double precision: the alternating solver and prefill need it.
    var hasDoubles: Bool { get }
    /// Whether float division and square root round correctly, as bit-equal results need.
    var roundsDivision: Bool { get }

    /// Allocates memory of so many bytes, uninitialised.
    func allocate(bytes: Int) throws -> DeviceMemory
    /// Frees memory of this device.
    func free(_ memory: DeviceMemory)
    /// Copies bytes of the host to the device, `offset` bytes into `memory`.
    func write(_ bytes: RawSpan, to memory: DeviceMemory, offset: Int) throws
    /// Copies bytes of the device to the host.
    func read(_ memory: DeviceMemory, offset: Int, into bytes: inout MutableRawSpan) throws
    /// Runs a kernel on `columns` by `rows` groups.
    func launch(_ kernel: DeviceKernel, columns: Int, rows: Int, _ arguments: [KernelArgument])
      throws
    /// Waits until everything has run.
    func finish() throws
  }

  /// The interfaces that there are.
  package enum GPUInterface: String, Sendable, CaseIterable {
    /// OpenCL 1.2, through libOpenCL.so.1.
    case opencl
    /// CUDA's driver, libcuda.so.1.
    case cuda

    /// The first device of this interface.
    ///
    /// Throws `GPUError` where this build has no such backend, and where there is no driver or
    /// device. CUDA needs a compiler too: NVRTC, by LRQK_NVRTC or where the loader finds
    /// libnvrtc.so.12, or compiled programs in the folder LRQK_CUDA_IMAGES.
    package func open() throws -> any GPUDevice {
      switch self {
      case .opencl:
        #if OpenCL
          return try OpenCLDevice()
        #else
          throw GPUError(
            "this build has no OpenCL: build it with `swift build -c release --traits OpenCL`")
        #endif
      case .cuda:
        #if CUDA
          return try CUDADevice(
            images: environment("LRQK_CUDA_IMAGES"), compiler: environment("LRQK_NVRTC"))
        #else
          throw GPUError(
            "this build has no CUDA: build it with `swift build -c release --traits CUDA`")
        #endif
      }
    }

    /// Why there is no device of this interface; nil if there is one.
    package var absence: String? {
      do {
        _ = try open()
        return nil
      } catch {
        return "\(error)"
      }
    }
  }

  private func environment(_ name: String) -> String? {
    unsafe getenv(name).map { unsafe String(cString: $0) }
  }

#endif
