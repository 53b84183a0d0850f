// A device behind OpenCL 1.2.
//
// In:  libOpenCL.so.1, opened while the program runs.
// Out: the first device of the first platform that has one.
//
// Buffers are plain CL_MEM_READ_WRITE ones without a host pointer, and nothing is ever mapped: so
// bytes cross in the two blocking copies below and nowhere else. Opening the library and the first
// questions to platforms and devices happen under one lock of the process, because PoCL 3.1 crashes
// when two threads ask together. Programs are built when their first kernel is wanted.

#if OpenCL

  internal import CGPUShim
  internal import Glibc
  internal import Synchronization

  /// The few constants of CL/cl.h that are used here.
  private enum CL {
    static let readWrite: UInt64 = 1
    static let allKinds: UInt64 = 0xFFFF_FFFF
    static let platformVersion: UInt32 = 0x0901
    static let deviceName: UInt32 = 0x102B
    static let maxGroup: UInt32 = 0x1004
    static let singleConfiguration: UInt32 = 0x101B
    static let doubleConfiguration: UInt32 = 0x1032
    static let extensions: UInt32 = 0x1030
    static let buildLog: UInt32 = 0x1183
    static let roundsDivision: UInt64 = 1 << 7
    static let deviceNotFound: Int32 = -1
    static let noPlatform: Int32 = -1001
  }

  /// The library and its first device; found once in a process.
  @safe private struct OpenCLPlatform: @unchecked Sendable {
    var api = lrqk_cl_api()
    var device: OpaquePointer
    var name: String
    var hasDoubles: Bool
    var roundsDivision: Bool

    static let found = Mutex<OpenCLPlatform?>(nil)

    /// The platform, searched for under the lock.
    static func find() throws -> OpenCLPlatform {
      try found.withLock { known in
        if let known { return known }
        let platform = try search()
        known = platform
        return platform
      }
    }

    private static func search() throws -> OpenCLPlatform {
      var api = lrqk_cl_api()
      var line = [CChar](repeating: 0, count: 300)
      if unsafe lrqk_cl_load(&api, "libOpenCL.so.1", &line, line.count) != 0 {
        throw GPUError(
          "no OpenCL here: \(text(line)); install an OpenCL loader and a driver "
            + "(Debian: ocl-icd-libopencl1 and pocl-opencl-icd)")
      }
      var count: UInt32 = 0
      let status = unsafe api.get_platform_ids(0, nil, &count)
      if status == CL.noPlatform || (status == 0 && count == 0) {
        throw GPUError(
          "no OpenCL platform here: the loader is installed, a driver is not "
            + "(Debian: pocl-opencl-icd)")
      }
      try check(status, "clGetPlatformIDs")
      var platforms = unsafe [OpaquePointer?](repeating: nil, count: Int(count))
      try check(unsafe api.get_platform_ids(count, &platforms, nil), "clGetPlatformIDs")
      for index in 0..<Int(count) {
        guard let platform = unsafe platforms[index] else { continue }
        var device: OpaquePointer?
        var devices: UInt32 = 0
        let status = unsafe api.get_device_ids(platform, CL.allKinds, 1, &device, &devices)
        if status == CL.deviceNotFound { continue }
        try check(status, "clGetDeviceIDs")
        guard let device = unsafe device else { continue }
        let version = try unsafe string("clGetPlatformInfo") {
          unsafe api.get_platform_info(platform, CL.platformVersion, $0, $1, $2)
        }
        func answer(_ what: UInt32) throws -> String {
          try unsafe string("clGetDeviceInfo") {
            unsafe api.get_device_info(device, what, $0, $1, $2)
          }
        }
        func number(_ what: UInt32) throws -> UInt64 {
          var value: UInt64 = 0
          try check(unsafe api.get_device_info(device, what, 8, &value, nil), "clGetDeviceInfo")
          return value
        }
        let name = "\(try answer(CL.deviceName)) (\(version))"
        let most = try number(CL.maxGroup)
        if most < 256 {
          throw GPUError("\(name) runs groups of at most \(most) items; these kernels need 256")
        }
        let doubles = try answer(CL.extensions).split(separator: " ").contains("cl_khr_fp64")
        let single = try number(CL.singleConfiguration)
        return unsafe OpenCLPlatform(
          api: api, device: device, name: name, hasDoubles: doubles,
          roundsDivision: single & CL.roundsDivision != 0)
      }
      throw GPUError("no OpenCL device here: \(count) platforms have none")
    }

    /// A string of the driver: first its length is asked for, then the string.
    private static func string(
      _ call: String,
      _ ask: (Int, UnsafeMutableRawPointer?, UnsafeMutablePointer<Int>?) -> Int32
    ) throws -> String {
      var size = 0
      try check(unsafe ask(0, nil, &size), call)
      var bytes = [CChar](repeating: 0, count: size + 1)
      try check(unsafe ask(size, &bytes, nil), call)
      return text(bytes)
    }
  }

  private func check(_ status: Int32, _ call: String) throws {
    if status != 0 { throw GPUError("\(call) failed with OpenCL's error \(status)") }
  }

  /// The first device of OpenCL.
  @safe package final class OpenCLDevice: GPUDevice {
    /// Device and platform version.
    package let name: String
    /// True if the device has cl_khr_fp64.
    package let hasDoubles: Bool
    /// True if CL_DEVICE_SINGLE_FP_CONFIG says that it rounds correctly.
    package let roundsDivision: Bool

    private let api: lrqk_cl_api
    private let device: OpaquePointer
    private let context: OpaquePointer
    private let queue: OpaquePointer
    private var programs: [KernelProgram: OpaquePointer] = unsafe [:]
    private var kernels: [DeviceKernel: OpaquePointer] = unsafe [:]

    /// The first device; throws a `GPUError` of one line where there is none.
    package init() throws {
      let platform = try OpenCLPlatform.find()
      api = platform.api
      unsafe device = platform.device
      name = platform.name
      hasDoubles = platform.hasDoubles
      roundsDivision = platform.roundsDivision
      var status: Int32 = 0
      var devices = unsafe [platform.device as OpaquePointer?]
      guard
        let context = unsafe api.create_context(nil, 1, &devices, nil, nil, &status), status == 0
      else { throw GPUError("clCreateContext failed with OpenCL's error \(status)") }
      guard
        let queue = unsafe api.create_command_queue(context, platform.device, 0, &status),
        status == 0
      else {
        _ = unsafe api.release_context(context)
        throw GPUError("clCreateCommandQueue failed with OpenCL's error \(status)")
      }
      unsafe self.context = context
      unsafe self.queue = queue
    }

    deinit {
      unsafe kernels.values.forEach { _ = unsafe api.release_kernel($0) }
      unsafe programs.values.forEach { _ = unsafe api.release_program($0) }
      _ = unsafe api.release_command_queue(queue)
      _ = unsafe api.release_context(context)
    }

    /// Memory for so many bytes.
    package func allocate(bytes: Int) throws -> DeviceMemory {
      var status: Int32 = 0
      guard
        let memory = unsafe api.create_buffer(context, CL.readWrite, bytes, nil, &status),
        status == 0
      else {
        throw GPUError("\(name) has no \(bytes) bytes left (OpenCL's error \(status))")
      }
      return DeviceMemory(handle: UInt(bitPattern: memory), bytes: bytes)
    }

    /// Frees memory of this device.
    package func free(_ memory: DeviceMemory) {
      _ = unsafe api.release_mem_object(OpaquePointer(bitPattern: memory.handle))
    }

    /// A blocking copy to the device.
    package func write(_ bytes: RawSpan, to memory: DeviceMemory, offset: Int) throws {
      let status = unsafe bytes.withUnsafeBytes { source in
        unsafe api.enqueue_write_buffer(
          queue, OpaquePointer(bitPattern: memory.handle), 1, offset, source.count,
          source.baseAddress, 0, nil, nil)
      }
      try check(status, "clEnqueueWriteBuffer")
    }

    /// A blocking copy from the device.
    package func read(
      _ memory: DeviceMemory, offset: Int, into bytes: inout MutableRawSpan
    ) throws {
      let status = unsafe bytes.withUnsafeMutableBytes { target in
        unsafe api.enqueue_read_buffer(
          queue, OpaquePointer(bitPattern: memory.handle), 1, offset, target.count,
          target.baseAddress, 0, nil, nil)
      }
      try check(status, "clEnqueueReadBuffer")
    }

    /// Runs a kernel on `columns` by `rows` groups.
    package func launch(
      _ kernel: DeviceKernel, columns: Int, rows: Int, _ arguments: [KernelArgument]
    ) throws {
      let function = try unsafe self.function(kernel)
      for (index, argument) in arguments.enumerated() {
        func set<T: BitwiseCopyable>(_ value: T) throws {
          var value = value
          try check(
            unsafe api.set_kernel_arg(function, UInt32(index), MemoryLayout<T>.size, &value),
            "clSetKernelArg (\(kernel.rawValue), \(index))")
        }
        switch argument {
        case .memory(let memory): try set(memory.handle)
        case .int(let number): try set(Int32(number))
        case .float(let number): try set(number)
        case .double(let number): try set(number)
        }
      }
      var global = [columns * kernel.items, rows]
      var local = [kernel.items, 1]
      try check(
        unsafe api.enqueue_nd_range_kernel(
          queue, function, 2, nil, &global, &local, 0, nil, nil),
        "clEnqueueNDRangeKernel (\(kernel.rawValue))")
    }

    /// Waits until everything has run.
    package func finish() throws { try check(unsafe api.finish(queue), "clFinish") }

    private func function(_ kernel: DeviceKernel) throws -> OpaquePointer {
      if let known = unsafe kernels[kernel] { return unsafe known }
      let program = try unsafe self.program(kernel.program)
      var status: Int32 = 0
      guard let new = unsafe api.create_kernel(program, kernel.rawValue, &status), status == 0
      else {
        throw GPUError("clCreateKernel (\(kernel.rawValue)) failed with OpenCL's error \(status)")
      }
      unsafe kernels[kernel] = new
      return unsafe new
    }

    private func program(_ which: KernelProgram) throws -> OpaquePointer {
      if let known = unsafe programs[which] { return unsafe known }
      if which == .double && !hasDoubles {
        throw GPUError("\(name) has no double precision, which this kernel needs")
      }
      var status: Int32 = 0
      let created = unsafe which.source.withCString { source in
        var texts: [UnsafePointer<CChar>?] = unsafe [source]
        return unsafe api.create_program_with_source(context, 1, &texts, nil, &status)
      }
      guard let program = unsafe created, status == 0 else {
        throw GPUError("clCreateProgramWithSource failed with OpenCL's error \(status)")
      }
      var devices = unsafe [device as OpaquePointer?]
      let options =
        "-cl-std=CL1.2" + (roundsDivision ? " -cl-fp32-correctly-rounded-divide-sqrt" : "")
      let built = unsafe api.build_program(program, 1, &devices, options, nil, nil)
      if built != 0 {
        var log = [CChar](repeating: 0, count: 4000)
        _ = unsafe api.get_program_build_info(
          program, device, CL.buildLog, log.count - 1, &log, nil)
        _ = unsafe api.release_program(program)
        throw GPUError("\(name) cannot compile the kernels (error \(built)): \(text(log))")
      }
      unsafe programs[which] = program
      return unsafe program
    }
  }

#endif

#if OpenCL || CUDA

  /// The bytes of a C string, up to its end.
  func text(_ bytes: [CChar]) -> String {
    String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

#endif
