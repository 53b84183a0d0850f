// A device behind CUDA's driver.
//
// In:  libcuda.so.1, opened while the program runs; and NVRTC, which compiles the kernels for the
//      device found, or a folder in which they lie compiled (single.ptx, double.ptx; or .cubin).
// Out: the driver's first device, in its primary context.
//
// Copies are the driver's synchronous ones and kernels go to its default stream, which orders both.
// The current context belongs to a thread, so every call sets it. The build needs no toolkit.

#if CUDA

  internal import CGPUShim
  internal import Glibc
  internal import Tensors

  /// The first device of CUDA's driver.
  @safe package final class CUDADevice: GPUDevice {
    /// Device, compute capability and driver version.
    package let name: String
    /// Every CUDA device has doubles.
    package let hasDoubles = true
    /// True: the kernels name the rounding.
    package let roundsDivision = true

    private let api: lrqk_cu_api
    private let context: OpaquePointer
    private let device: Int32
    private let architecture: String
    private let images: String?
    private let compiler: String?
    private var modules: [KernelProgram: OpaquePointer] = unsafe [:]
    private var functions: [DeviceKernel: OpaquePointer] = unsafe [:]

    /// The first device; throws a `GPUError` of one line where there is none.
    ///
    /// `images` is a folder with compiled programs; else `compiler` is NVRTC's path or name.
    package init(images: String? = nil, compiler: String? = nil) throws {
      var api = lrqk_cu_api()
      var line = [CChar](repeating: 0, count: 300)
      if unsafe lrqk_cu_load(&api, "libcuda.so.1", &line, line.count) != 0 {
        throw GPUError("no NVIDIA driver here: \(text(line))")
      }
      self.api = api
      self.images = images
      self.compiler = compiler
      func check(_ status: Int32, _ call: String) throws {
        if status != 0 { throw cudaError(api, status, call) }
      }
      try check(api.`init`(0), "cuInit")
      var count: Int32 = 0
      try check(unsafe api.device_get_count(&count), "cuDeviceGetCount")
      if count == 0 { throw GPUError("no CUDA device here: the driver finds none") }
      var device: Int32 = 0
      try check(unsafe api.device_get(&device, 0), "cuDeviceGet")
      var label = [CChar](repeating: 0, count: 200)
      try check(unsafe api.device_get_name(&label, 200, device), "cuDeviceGetName")
      var (major, minor, driver) = (Int32(0), Int32(0), Int32(0))
      try check(unsafe api.device_get_attribute(&major, 75, device), "cuDeviceGetAttribute")
      try check(unsafe api.device_get_attribute(&minor, 76, device), "cuDeviceGetAttribute")
      try check(unsafe api.driver_get_version(&driver), "cuDriverGetVersion")
      name =
        "\(text(label)) (compute capability \(major).\(minor), CUDA driver \(driver / 1000)."
        + "\(driver % 1000 / 10))"
      architecture = "compute_\(major)\(minor)"
      self.device = device
      var context: OpaquePointer?
      try check(unsafe api.primary_context_retain(&context, device), "cuDevicePrimaryCtxRetain")
      guard let context = unsafe context else { throw GPUError("CUDA gave no context") }
      unsafe self.context = context
      try check(unsafe api.context_set_current(context), "cuCtxSetCurrent")
    }

    deinit {
      _ = unsafe api.context_set_current(context)
      unsafe modules.values.forEach { _ = unsafe api.module_unload($0) }
      _ = api.primary_context_release(device)
    }

    private func check(_ status: Int32, _ call: String) throws {
      if status != 0 { throw cudaError(api, status, call) }
    }

    /// Makes the context current: each thread has its own.
    private func enter() throws {
      try check(unsafe api.context_set_current(context), "cuCtxSetCurrent")
    }

    /// Allocates memory of so many bytes.
    package func allocate(bytes: Int) throws -> DeviceMemory {
      try enter()
      var memory: UInt64 = 0
      try check(unsafe api.mem_alloc(&memory, bytes), "cuMemAlloc of \(bytes) bytes")
      return DeviceMemory(handle: UInt(memory), bytes: bytes)
    }

    /// Frees memory of this device.
    package func free(_ memory: DeviceMemory) {
      _ = unsafe api.context_set_current(context)
      _ = api.mem_free(UInt64(memory.handle))
    }

    /// Copies to the device, and waits for it.
    package func write(_ bytes: RawSpan, to memory: DeviceMemory, offset: Int) throws {
      try enter()
      let status = unsafe bytes.withUnsafeBytes { source in
        unsafe api.memcpy_host_to_device(
          UInt64(memory.handle) + UInt64(offset), source.baseAddress, source.count)
      }
      try check(status, "cuMemcpyHtoD")
    }

    /// Copies from the device, and waits for it.
    package func read(
      _ memory: DeviceMemory, offset: Int, into bytes: inout MutableRawSpan
    ) throws {
      try enter()
      let status = unsafe bytes.withUnsafeMutableBytes { target in
        unsafe api.memcpy_device_to_host(
          target.baseAddress, UInt64(memory.handle) + UInt64(offset), target.count)
      }
      try check(status, "cuMemcpyDtoH (or a kernel before it)")
    }

    /// Runs a kernel on `columns` by `rows` groups.
    package func launch(
      _ kernel: DeviceKernel, columns: Int, rows: Int, _ arguments: [KernelArgument]
    ) throws {
      try enter()
      let function = try unsafe self.function(kernel)
      // Every argument has 8 bytes, little end first; the driver reads as many as it needs.
      var values: [UInt64] = arguments.map { argument in
        switch argument {
        case .memory(let memory): UInt64(memory.handle)
        case .int(let number): UInt64(UInt32(bitPattern: Int32(number)))
        case .float(let number): UInt64(number.bitPattern)
        case .double(let number): number.bitPattern
        }
      }
      let status = unsafe values.withUnsafeMutableBufferPointer { values in
        var pointers: [UnsafeMutableRawPointer?] = unsafe values.indices.map { index in
          unsafe values.baseAddress.map { unsafe UnsafeMutableRawPointer($0 + index) }
        }
        return unsafe api.launch_kernel(
          function, UInt32(columns), UInt32(rows), 1, UInt32(kernel.items), 1, 1, 0, nil, &pointers,
          nil)
      }
      try check(status, "cuLaunchKernel (\(kernel.rawValue))")
    }

    /// Waits until everything has run.
    package func finish() throws {
      try enter()
      try check(api.context_synchronize(), "cuCtxSynchronize")
    }

    private func function(_ kernel: DeviceKernel) throws -> OpaquePointer {
      if let known = unsafe functions[kernel] { return unsafe known }
      let module = try unsafe self.module(kernel.program)
      var function: OpaquePointer?
      try check(
        unsafe api.module_get_function(&function, module, kernel.rawValue),
        "cuModuleGetFunction (\(kernel.rawValue))")
      guard let function = unsafe function else {
        throw GPUError("CUDA has no function \(kernel.rawValue)")
      }
      unsafe functions[kernel] = function
      return unsafe function
    }

    private func module(_ program: KernelProgram) throws -> OpaquePointer {
      if let known = unsafe modules[program] { return unsafe known }
      let image = try image(program) + [0]  // PTX ends with a zero
      var module: OpaquePointer?
      let status = unsafe image.withUnsafeBytes { image in
        unsafe api.module_load_data_ex(&module, image.baseAddress, 0, nil, nil)
      }
      try check(status, "cuModuleLoadData (\(program.rawValue))")
      guard let module = unsafe module else { throw GPUError("CUDA gave no module") }
      unsafe modules[program] = module
      return unsafe module
    }

    private func image(_ program: KernelProgram) throws -> [UInt8] {
      guard let images else {
        return try NVRTC(compiler ?? "libnvrtc.so.12").compile(program, for: architecture)
      }
      for ending in ["cubin", "ptx"] {
        let path = "\(images)/\(program.rawValue).\(ending)"
        if let bytes = fileBytes(path) { return bytes }
      }
      throw GPUError("\(images) has neither \(program.rawValue).cubin nor \(program.rawValue).ptx")
    }
  }

  private func cudaError(_ api: lrqk_cu_api, _ status: Int32, _ call: String) -> GPUError {
    var (name, sentence): (UnsafePointer<CChar>?, UnsafePointer<CChar>?) = (nil, nil)
    _ = unsafe api.get_error_name(status, &name)
    _ = unsafe api.get_error_string(status, &sentence)
    let words = unsafe name.map { unsafe String(cString: $0) } ?? "error \(status)"
    let more = unsafe sentence.map { unsafe String(cString: $0) } ?? ""
    return GPUError("\(call): \(words) (\(more))")
  }

  /// The bytes of a file, or nil.
  private func fileBytes(_ path: String) -> [UInt8]? {
    guard let file = unsafe fopen(path, "rb") else { return nil }
    defer { unsafe fclose(file) }
    var bytes: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let n = unsafe fread(&block, 1, block.count, file)
      if n == 0 { return bytes }
      bytes += block[..<n]
    }
  }

  /// CUDA's compiler as a library.
  struct NVRTC {
    private let api: lrqk_nvrtc_api

    /// Opens the library of this path or name.
    init(_ library: String) throws {
      var api = lrqk_nvrtc_api()
      var line = [CChar](repeating: 0, count: 300)
      if unsafe lrqk_nvrtc_load(&api, library, &line, line.count) != 0 {
        throw GPUError(
          "no CUDA compiler here: \(text(line)); name NVRTC by LRQK_NVRTC, or a folder of "
            + "compiled kernels by LRQK_CUDA_IMAGES")
      }
      self.api = api
    }

    /// PTX of a program for an architecture such as compute_90.
    func compile(_ program: KernelProgram, for architecture: String) throws -> [UInt8] {
      var handle: OpaquePointer?
      try check(
        unsafe api.create_program(
          &handle, program.source, "\(program.rawValue).h", 0, nil, nil), "nvrtcCreateProgram")
      defer { _ = unsafe api.destroy_program(&handle) }
      let status = try unsafe withOptions(
        ["--gpu-architecture=\(architecture)", "--std=c++17", "--fmad=false"]
      ) { count, options in unsafe api.compile_program(handle, count, options) }
      if status != 0 {
        var size = 0
        _ = unsafe api.get_program_log_size(handle, &size)
        var log = [CChar](repeating: 0, count: size + 1)
        _ = unsafe api.get_program_log(handle, &log)
        throw GPUError("NVRTC cannot compile the kernels: \(text(log))")
      }
      var size = 0
      try check(unsafe api.get_ptx_size(handle, &size), "nvrtcGetPTXSize")
      var ptx = [CChar](repeating: 0, count: size)
      try check(unsafe api.get_ptx(handle, &ptx), "nvrtcGetPTX")
      return ptx.map { UInt8(bitPattern: $0) }
    }

    private func check(_ status: Int32, _ call: String) throws {
      if status == 0 { return }
      let words = unsafe api.get_error_string(status).map { unsafe String(cString: $0) } ?? ""
      throw GPUError("\(call): \(words)")
    }

    private func withOptions(
      _ options: [String],
      _ body: (Int32, UnsafePointer<UnsafePointer<CChar>?>?) throws -> Int32
    ) throws -> Int32 {
      let copies = unsafe options.map { unsafe strdup($0) }
      defer { unsafe copies.forEach { unsafe Glibc.free($0) } }
      let pointers = unsafe copies.map { unsafe UnsafePointer($0) }
      return try unsafe pointers.withUnsafeBufferPointer {
        unsafe try body(Int32($0.count), $0.baseAddress)
      }
    }
  }

#endif
