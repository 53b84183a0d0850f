// Times of the two kernels that touch many bytes, beside a plain copy on the same device.
//
// In:  a device.
// Out: lines with microseconds, gigabytes a second, and the fraction of the plain copy's.
//
// Bytes are those that the kernel has to touch at least once, so one that reads something twice
// looks as slow as it is. The plain copy says what the device's memory gives to a kernel of ours.
// Runs are repeated and the shortest counts; programs are compiled before.

#if OpenCL || CUDA

  package import GPUBackend

  /// Sizes that are measured: on a processor (PoCL, or the mock driver) smaller ones.
  private struct BenchSizes {
    let tokens: Int
    let heads: Int
    let rank = 32
    let width = 128
    let attended: Int
    let copied: Int
  }

  /// Milliseconds and bandwidth of proxy scores, attention and a copy.
  package func timings(on device: any GPUDevice) throws -> [String] {
    let isProcessor = ["pthread", "basic", "mock"].contains { device.name.contains($0) }
    let sizes =
      isProcessor
      ? BenchSizes(tokens: 16_384, heads: 8, attended: 1056, copied: 1 << 22)
      : BenchSizes(tokens: 131_072, heads: 32, attended: 2112, copied: 1 << 26)
    let (l, H, r, d, n) = (sizes.tokens, sizes.heads, sizes.rank, sizes.width, sizes.attended)
    let context = GPUContext(device)
    var lines: [String] = []
    var copyRate: Double?

    func filled(_ count: Int) throws -> DeviceArray<Float> {
      let array = try context.array(count, of: Float.self)
      try context.launch(.fillFloats, items: count, .of(array), .int(count), .float(0.01))
      return array
    }
    func measure(_ name: String, bytes: Int, _ body: () throws -> Void) throws {
      try body()
      try device.finish()
      var best = Duration.seconds(1000)
      for _ in 0..<10 {
        let start = ContinuousClock.now
        try body()
        try device.finish()
        best = min(best, ContinuousClock.now - start)
      }
      let seconds = best / .seconds(1)
      let rate = Double(bytes) / seconds
      let fraction = copyRate.map { ", \(Int(100 * rate / $0)) % of the plain copy's" } ?? ""
      copyRate = copyRate ?? rate
      lines.append(
        "\(name): \(Int(seconds * 1e6)) microseconds for \(bytes) bytes, "
          + "\(Double(Int(rate / 1e8)) / 10) GB/s\(fraction)")
    }

    let (from, to) = (try filled(sizes.copied), try filled(sizes.copied))
    try measure("plain copy", bytes: 8 * sizes.copied) {
      try context.launch(
        .copyFloats, items: sizes.copied, .of(from), .int(0), .of(to), .int(0),
        .int(sizes.copied))
    }

    let (codes, q_hat, scores) = (try filled(H * l * r), try filled(H * r), try filled(H * l))
    try measure(
      "proxy scores, \(l) tokens, \(H) heads with codes of their own, r = \(r)",
      bytes: 4 * (H * l * r + H * l)
    ) {
      try context.launch(
        .proxyScores, items: l, rows: H, .of(codes), .int(l), .int(r), .int(1), .int(0), .int(l),
        .of(q_hat), .of(scores), .int(l))
    }
    let (chosen, gaps, nans) = (
      try context.array(H * 2048, of: Int32.self), try filled(H),
      try context.array(H, of: Int32.self)
    )
    try measure("top 2048 of \(l), \(H) heads", bytes: 4 * H * l) {
      try context.launch(
        .topK, groups: H, .of(scores), .int(l), .int(0), .int(l), .int(2048), .of(chosen),
        .of(gaps), .of(nans))
    }

    let (K, V) = (try filled(H * n * d), try filled(H * n * d))
    let (q, weights, output) = (try filled(H * d), try filled(H * n), try filled(H * d))
    let slots = try context.array(H * n, of: Int32.self)
    try context.launch(.countUp, items: n, rows: H, .of(slots), .int(n), .int(0))
    try measure(
      "attention, \(n) rows of d = \(d), \(H) heads with rows of their own", bytes: 8 * H * n * d
    ) {
      try context.launchAttention(
        queries: q, keys: K, values: V, slots: n, width: d, share: 1, attended: slots, count: n,
        stride: n, heads: H, weights: weights, output: output)
    }
    return lines
  }

#endif
