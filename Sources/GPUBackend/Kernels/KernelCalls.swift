// Every kernel of the conformance suite as a function: arrays in, arrays out.
//
// In:  flat row-major arrays of the host, and sizes.
// Out: what the device makes of them, downloaded.
//
// These calls are for comparing kernels one at a time. Each call allocates memory and uploads
// everything; the cache (DeviceLRQKCache.swift) keeps its memory and runs the same kernels.
// Letters: l tokens, d head width, r rank, c candidates, k selected, n attended rows, m missed
// rows, S slots, H query heads, M key/value heads, G heads of a group.

#if OpenCL || CUDA

  import LRQK
  package import Tensors

  /// Throws the caller's mistake, a bad size, as an error.
  func requireSizes(_ holds: Bool, _ sentence: @autoclosure () -> String) throws {
    if !holds { throw GPUError(sentence()) }
  }

  extension GPUContext {
    /// Attention's three kernels over memory of the device.
    package func launchAttention(
      queries: DeviceArray<Float>, keys: DeviceArray<Float>, values: DeviceArray<Float>,
      slots: Int, width: Int, share: Int, attended: DeviceArray<Int32>, count: Int, stride: Int,
      heads: Int, weights: DeviceArray<Float>, output: DeviceArray<Float>
    ) throws {
      try launch(
        .attentionScores, items: count, rows: heads, .of(keys), .int(slots), .int(width),
        .int(share), .of(queries), .of(attended), .int(count),
        .float(1 / Float(width).squareRoot()), .of(weights), .int(stride))
      try launch(
        .attentionSoftmax, groups: heads, .of(weights), .int(stride), .int(count))
      try launch(
        .attentionValues, items: width, rows: heads, .of(values), .int(slots), .int(width),
        .int(share), .of(weights), .of(attended), .int(stride), .int(count), .of(output))
    }
  }

  /// Single kernels on a device.
  package struct GPUKernels {
    /// The device and its account.
    package let context: GPUContext

    /// Kernels of this device.
    package init(_ context: GPUContext) { self.context = context }

    func up<E: DeviceNumber>(_ elements: [E]) throws -> DeviceArray<E> {
      try context.array(elements, .control(.kernel))
    }

    func down<E: DeviceNumber>(_ array: DeviceArray<E>, _ count: Int? = nil) throws -> [E] {
      try context.download(array, count.map { 0..<$0 }, .control(.kernel))
    }

    // MARK: Selection

    /// proxy-scores: A_K (c, r) and q_hat (H, r) make scores (H, c).
    package func proxyScores(codes: Tensor<Float>, queryCodes: Tensor<Float>) throws -> Tensor<
      Float
    > {
      let (c, r, H) = (codes.rows, codes.columns, queryCodes.rows)
      try requireSizes(queryCodes.columns == r, "A_K \(codes.shape) and q_hat \(queryCodes.shape)")
      let (A, q) = (try up(codes.elements), try up(queryCodes.elements))
      let scores = try context.array(H * c, of: Float.self)
      try context.launch(
        .proxyScores, items: c, rows: H, .of(A), .int(c), .int(r), .int(H), .int(0), .int(c),
        .of(q), .of(scores), .int(c))
      return Tensor(shape: [H, c], elements: try down(scores))
    }

    /// code-scores: packed integers (l, row bytes), BF16 scales (l) and q_hat (H, r): (H, l).
    ///
    /// `bits` of each integer are 8, 4, 3, 2 or 1; see `PackedIntegers`.
    package func codeScores(
      codes: [UInt8], bits: Int, scales: [UInt16], queryCodes: Tensor<Float>
    ) throws -> Tensor<Float> {
      try requireSizes(PackedIntegers.widths.contains(bits), "integers of \(bits) bits")
      let (l, r, H) = (scales.count, queryCodes.columns, queryCodes.rows)
      let rowBytes = PackedIntegers(bits: bits).bytes(width: r)
      try requireSizes(
        codes.count == l * rowBytes,
        "\(codes.count) bytes of codes, not \(l) rows of \(rowBytes)")
      let (c, s, q) = (try up(codes), try up(scales), try up(queryCodes.elements))
      let scores = try context.array(H * l, of: Float.self)
      try context.launch(
        .codeScores, items: l, rows: H, .of(c), .int(rowBytes), .int(bits), .of(s), .int(r),
        .int(l), .of(q), .of(scores), .int(l))
      return Tensor(shape: [H, l], elements: try down(scores))
    }

    /// A selection by the device.
    package struct TopKResult: Sendable, Equatable {
      /// Chosen indices of each head, ascending.
      package let indices: [[Int32]]
      /// Score of place k minus that of place k + 1, by head.
      package let gaps: [Float]
      /// The first NaN of each head, or -1.
      package let firstNaN: [Int32]
    }

    /// top-k: the k best of each row of scores (H, c), larger first, then lower index.
    package func topK(scores: Tensor<Float>, k: Int) throws -> TopKResult {
      let (H, c) = (scores.rows, scores.columns)
      try requireSizes(k >= 1 && c >= 1, "the \(k) best of \(c) scores")
      let taken = min(k, c)
      let s = try up(scores.elements)
      let chosen = try context.array(H * taken, of: Int32.self)
      let (gaps, nans) = (
        try context.array(H, of: Float.self), try context.array(H, of: Int32.self)
      )
      try context.launch(
        .topK, groups: H, .of(s), .int(c), .int(0), .int(c), .int(taken), .of(chosen), .of(gaps),
        .of(nans))
      let all = try down(chosen)
      return TopKResult(
        indices: (0..<H).map { Array(all[$0 * taken..<($0 + 1) * taken]) }, gaps: try down(gaps),
        firstNaN: try down(nans))
    }

    // MARK: Rows

    /// A plan by the device.
    package struct PlanResult: Sendable, Equatable {
      /// Missed tokens, ascending, (m).
      package let missed: [Int32]
      /// The slot of each, (m).
      package let slots: [Int32]
      /// The token of each slot afterwards, or -1, (S).
      package let residents: [Int32]
    }

    /// plan: which of `needed`, ascending, do not lie in `residents` (S), and where they go.
    ///
    /// Slots below `reserved` are not touched.
    package func plan(
      residents: [Int32], needed: [Int32], reserved: Int = 0
    ) throws -> PlanResult {
      let (S, n) = (residents.count, needed.count)
      try requireSizes(
        reserved >= 0 && n <= S - reserved,
        "\(n) tokens do not fit \(S - reserved) slots")
      try requireSizes(
        zip(needed, needed.dropFirst()).allSatisfy { $0 < $1 } && needed.first ?? 0 >= 0,
        "needed tokens ascend from 0")
      let resident = try up(residents)
      let (need, count) = (try up(needed), try up([Int32(n)]))
      func list() throws -> DeviceArray<Int32> { try context.array(n) }
      let (places, missed, slots, misses) = (
        try list(), try list(), try list(), try context.array(1, of: Int32.self)
      )
      try context.launch(
        .planResidency, groups: 1, .of(resident), .int(S), .int(reserved), .of(need), .of(count),
        .int(n), .of(places), .of(missed), .of(slots), .of(misses))
      let m = Int(try down(misses)[0])
      return PlanResult(
        missed: try down(missed, m), slots: try down(slots, m), residents: try down(resident))
    }

    /// gather: rows `tokens` (m) of the host's K and V (l, d) go to `slots` (m) of the device's.
    ///
    /// The device's K and V are (S, d).
    package func gather(
      hostKeys: Tensor<Float>, hostValues: Tensor<Float>, tokens: [Int32], slots: [Int32],
      deviceKeys: Tensor<Float>, deviceValues: Tensor<Float>
    ) throws -> (keys: Tensor<Float>, values: Tensor<Float>) {
      let (l, d, S, m) = (hostKeys.rows, hostKeys.columns, deviceKeys.rows, tokens.count)
      try requireSizes(
        hostValues.shape == [l, d] && deviceKeys.shape == [S, d] && deviceValues.shape == [S, d]
          && slots.count == m, "rows of width \(d), as many slots as tokens")
      try requireSizes(
        tokens.allSatisfy { $0 >= 0 && $0 < l } && slots.allSatisfy { $0 >= 0 && $0 < S },
        "tokens below \(l), slots below \(S)")
      let (K, V) = (try up(deviceKeys.elements), try up(deviceValues.elements))
      let rows = tokens.map { Int($0) }
      let staging = try up(
        hostKeys.gather(rows: rows).elements + hostValues.gather(rows: rows).elements)
      let where_ = try up(slots)
      try context.launch(
        .scatterRows, items: m * d, .of(staging), .int(m), .int(d), .of(where_), .int(m),
        .int(0), .int(S), .of(K), .of(V))
      return (
        Tensor(shape: [S, d], elements: try down(K)), Tensor(shape: [S, d], elements: try down(V))
      )
    }

    // MARK: Attention

    /// sparse-attention: q (H, d) over the rows `slots` (H, n) of K and V (M, S, d) makes (H, d).
    package func sparseAttention(
      queries: Tensor<Float>, keys: Tensor<Float>, values: Tensor<Float>, slots: Tensor<Int32>
    ) throws -> Tensor<Float> {
      let (H, d, n) = (queries.rows, queries.columns, slots.columns)
      try requireSizes(
        keys.axisCount == 3 && keys.shape == values.shape && keys.columns == d
          && H % max(keys.shape[0], 1) == 0 && slots.rows == H && n > 0,
        "q \(queries.shape), K \(keys.shape), V \(values.shape), slots \(slots.shape)")
      let S = keys.shape[1]
      try requireSizes(
        slots.elements.allSatisfy { $0 >= 0 && Int($0) < S }, "slots below \(S)")
      let (q, K, V) = (try up(queries.elements), try up(keys.elements), try up(values.elements))
      let attended = try up(slots.elements)
      let (weights, output) = (
        try context.array(H * n, of: Float.self), try context.array(H * d, of: Float.self)
      )
      try context.launchAttention(
        queries: q, keys: K, values: V, slots: S, width: d, share: H / keys.shape[0],
        attended: attended, count: n, stride: n, heads: H, weights: weights, output: output)
      return Tensor(shape: [H, d], elements: try down(output))
    }

    /// dense-attention: q (H, d) over all rows of K and V (M, l, d) makes (H, d).
    package func denseAttention(
      queries: Tensor<Float>, keys: Tensor<Float>, values: Tensor<Float>
    ) throws -> Tensor<Float> {
      try requireSizes(keys.axisCount == 3, "K (M, l, d), not \(keys.shape)")
      let all = (0..<Int32(keys.shape[1])).map { $0 }
      return try sparseAttention(
        queries: queries, keys: keys, values: values,
        slots: Tensor(rows: Array(repeating: all, count: queries.rows)))
    }

    /// lrkv-attention: attention over the keys K + C_K U_K and the values V + C_V U_V, (H, d).
    ///
    /// q (H, d), shared K and V (l, d), codes C_K and C_V (l, H, r), factors U_K and U_V (H, r, d).
    package func lrkvAttention(
      queries: Tensor<Float>, keys: Tensor<Float>, values: Tensor<Float>, keyCodes: Tensor<Float>,
      valueCodes: Tensor<Float>, keyFactors: Tensor<Float>, valueFactors: Tensor<Float>
    ) throws -> Tensor<Float> {
      let (H, d, l, r) = (queries.rows, queries.columns, keys.rows, keyCodes.columns)
      try requireSizes(
        keys.shape == [l, d] && values.shape == [l, d] && keyCodes.shape == [l, H, r]
          && valueCodes.shape == [l, H, r] && keyFactors.shape == [H, r, d]
          && valueFactors.shape == [H, r, d] && l > 0,
        "q \(queries.shape), K \(keys.shape), C_K \(keyCodes.shape), U_K \(keyFactors.shape)")
      let (q, K, V) = (try up(queries.elements), try up(keys.elements), try up(values.elements))
      let (C_K, C_V) = (try up(keyCodes.elements), try up(valueCodes.elements))
      // q U_Kᵀ is a product with the transpose, (H, d, r).
      let transposed = (0..<H).flatMap { h in keyFactors.slice(h).transposed().elements }
      let (U_K, U_V) = (try up(transposed), try up(valueFactors.elements))
      func numbers(_ count: Int) throws -> DeviceArray<Float> { try context.array(count) }
      let (mixedQueries, weights, mixed, output) = (
        try numbers(H * r), try numbers(H * l), try numbers(H * r), try numbers(H * d)
      )
      try context.launch(
        .linearCodes, items: r, rows: H, .of(q), .int(1), .of(U_K), .int(1), .int(d), .int(r),
        .of(mixedQueries), .int(0), .int(r))
      try context.launch(
        .lrkvScores, items: l, rows: H, .of(q), .of(mixedQueries), .of(K), .of(C_K), .int(l),
        .int(H), .int(d), .int(r), .float(1 / Float(d).squareRoot()), .of(weights))
      try context.launch(.attentionSoftmax, groups: H, .of(weights), .int(l), .int(l))
      try context.launch(
        .lrkvMix, items: r, rows: H, .of(weights), .of(C_V), .int(l), .int(H), .int(r),
        .of(mixed))
      try context.launch(
        .lrkvValues, items: d, rows: H, .of(weights), .of(V), .of(mixed), .of(U_V), .int(l),
        .int(d), .int(r), .of(output))
      return Tensor(shape: [H, d], elements: try down(output))
    }

    // MARK: Around the method

    /// rope: x (n, H, d), each row's pairs (i, i + d/2) rotated by cosines and sines (n, d/2).
    ///
    /// The table is the host's, as in a model, where one serves all layers.
    package func rope(
      _ x: Tensor<Float>, cosines: Tensor<Float>, sines: Tensor<Float>
    ) throws -> Tensor<Float> {
      try requireSizes(x.axisCount == 3, "x (n, H, d), not \(x.shape)")
      let (n, H, d) = (x.shape[0], x.shape[1], x.columns)
      try requireSizes(
        d % 2 == 0 && cosines.shape == [n, d / 2] && sines.shape == [n, d / 2],
        "x \(x.shape) with an even d, cosines \(cosines.shape), sines \(sines.shape)")
      let (rows, c, s) = (
        try up(x.elements), try up(cosines.elements), try up(sines.elements)
      )
      let y = try context.array(n * H * d, of: Float.self)
      try context.launch(
        .rope, items: d / 2, rows: n * H, .of(rows), .of(c), .of(s), .int(H), .int(d), .of(y))
      return Tensor(shape: x.shape, elements: try down(y))
    }

    /// rms-norm: x (n, D), weight (D); y = w x / √(mean x² + ε).
    package func rmsNorm(
      _ x: Tensor<Float>, weight: [Float], epsilon: Double
    ) throws -> Tensor<Float> {
      try requireSizes(
        x.axisCount == 2 && x.columns == weight.count, "x \(x.shape), w (\(weight.count))")
      try context.requireDoubles(for: "the mean of squares")
      let (rows, weights) = (try up(x.elements), try up(weight))
      let y = try context.array(x.count, of: Float.self)
      try context.launch(
        .rmsNorm, groups: x.rows, .of(rows), .of(weights), .int(x.columns), .double(epsilon),
        .of(y))
      return Tensor(shape: x.shape, elements: try down(y))
    }
  }

#endif
