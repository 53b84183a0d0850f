// gpu-check: the GPU backend on a device, without Swift or tests at hand.
//
// In:  gpu-check opencl|cuda [--decode] [--bench]
// Out: one line a check. Exit status 0 if all passed, 1 if one differs, 2 if there is no such
//      device, 64 for a wrong call.
//
// First the cases of the conformance suite (`lrqk check` prints the same verdicts one by one), then
// kernels and decodes beside the CPU's, bit for bit. With --decode only the two 300-step decodes
// run, and the last line says what crossed in all; an independent counter has to find the same
// (Tests/GPUBackendTests/Layer/run.sh). With --bench proxy scores and attention are timed too,
// beside a plain copy on the same device.

import Glibc

#if OpenCL || CUDA

  import Conformance
  import GPUBackend
  import GPUChecks

  func stop(_ line: String, _ status: Int32) -> Never {
    print("gpu-check: \(line)")
    exit(status)
  }

  let arguments = CommandLine.arguments.dropFirst()
  let options = arguments.filter { $0.hasPrefix("--") }
  let names = arguments.filter { !$0.hasPrefix("--") }
  guard names.count == 1, let kind = names.first.flatMap(GPUInterface.init(rawValue:)),
    options.allSatisfy({ $0 == "--decode" || $0 == "--bench" })
  else { stop("usage: gpu-check opencl|cuda [--decode] [--bench]", 64) }

  let device: any GPUDevice
  do { device = try kind.open() } catch { stop("\(error)", 2) }
  print("device: \(device.name)")
  print("doubles: \(device.hasDoubles), division rounds correctly: \(device.roundsDivision)")

  var failures = 0
  @MainActor func line(_ name: String, _ problem: String?) {
    print("\(problem == nil ? "passed" : "FAILED")  \(name)\(problem.map { ": \($0)" } ?? "")")
    failures += problem == nil ? 0 : 1
  }

  if !options.contains("--decode") {
    let verdicts = check(DeviceBackend(device)) { _ in true }
    for kernel in Kernel.allCases {
      let own = verdicts.filter { $0.path.hasPrefix("\(kernel.name)/") }
      let ran = own.filter { $0.status != .skipped }
      if ran.count < own.count {
        print("skipped  \(kernel.name): \(own.first { $0.status == .skipped }?.reason ?? "")")
      }
      if ran.isEmpty { continue }
      let wrong = ran.first { $0.status != .passed }
      let worst = Int(100 * (ran.map(\.worst).filter(\.isFinite).max() ?? 0))
      line(
        "\(kernel.name): \(ran.count) outputs of \(kernel.cases.count) cases, the worst error "
          + "\(worst) % of the allowed one",
        wrong.map { "\($0.path) \($0.output): \($0.status), \($0.reason)" })
    }
    for check in KernelCheck.all {
      if check.needsDoubles && !device.hasDoubles {
        print("skipped  \(check): the device has no doubles")
        continue
      }
      do {
        line("\(check)", try check.difference(on: GPUKernels(GPUContext(device))))
      } catch { line("\(check)", "\(error)") }
    }
  }

  var (written, read) = (Traffic(), Traffic())
  let layers = LayerCase.long + (options.contains("--decode") ? [] : LayerCase.choices)
  for layer in layers {
    do {
      let watched = WatchedDevice(device)
      let report = try compareDecode(layer, on: watched)
      line(
        "decode-step, \(layer): \(report.steps) steps, \(report.sets) sets, "
          + "\(report.hitRows) hits, \(report.missedRows) misses, \(report.events) events",
        report.findings.first.map { "\($0.finding.rawValue), \($0.detail)" })
      written = Traffic(
        calls: written.calls + watched.written.calls, bytes: written.bytes + watched.written.bytes)
      read = Traffic(
        calls: read.calls + watched.read.calls, bytes: read.bytes + watched.read.bytes)
      let (w, r) = (report.written, report.read)
      print(
        "         \(w.bytes) bytes in \(w.calls) copies to the device, "
          + "\(r.bytes) in \(r.calls) back, \(report.rowBytes) of them cache rows")
    } catch { line("decode-step, \(layer)", "\(error)") }
  }

  if options.contains("--bench") {
    do { for timing in try timings(on: device) { print(timing) } } catch {
      line("timings", "\(error)")
    }
  }
  print("all copies: written \(written.calls) \(written.bytes) read \(read.calls) \(read.bytes)")
  print(failures == 0 ? "all passed" : "\(failures) failed")
  exit(failures == 0 ? 0 : 1)

#else

  print("gpu-check: this build has no GPU backend: build with --traits OpenCL or --traits CUDA")
  exit(2)

#endif
