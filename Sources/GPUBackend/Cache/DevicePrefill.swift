// Stage 2 on the device: the factors of a prompt, by the Gram identity.
//
// In:  a whole prompt's queries and keys (l, d) of every head.
// Out: a PromptState: codes A_K, bases or maps, first selected sets.
//
// The rows go through the device once, for XᵀX and, with a start that has codes, A₀ᵀA₀ and A₀ᵀX.
// After that everything is r by d and d by d in double (prefill.h). The host reads the change of
// each sweep, one scalar for all heads, and decides whether to continue. All sums have the
// reference's order, so the result is that of LRQK's `.gram` solver in reference order, to the last
// bit.
//
// Two things stay on the host. Gaussian starts come from its random numbers and are uploaded. The
// closed form (`.spectral`) needs eigenvalues and singular values of d by d matrices, which LAPACK
// computes from the device's Gram matrices. Row-wise sweeps, and starts from columns, are refused.

#if OpenCL || CUDA

  package import LRQK
  package import Tensors

  /// Factorises a whole prompt on the device: queries and keys (l, d) of every head.
  ///
  /// `initial` are each group's codes, with `Initialization.given`. Throws as the CPU's prefill
  /// does, and for choices that this backend does not have.
  package func factorizeOnDevice(
    queries: [Tensor<Float>], keys: [Tensor<Float>], parameters: Parameters,
    initial: [InitialCodes<Float>]? = nil, layer: Int = 0, on context: GPUContext
  ) throws -> PromptState {
    let (H, M) = (queries.count, keys.count)
    guard M >= 1, H >= M, H % M == 0, keys[0].axisCount == 2 else {
      throw LRQKError.parameter("\(H) query heads cannot share \(M) key/value heads evenly")
    }
    let (l, d, r, k) = (keys[0].rows, keys[0].columns, parameters.rank, parameters.selected)
    try parameters.check(width: d)
    guard (queries + keys).allSatisfy({ $0.shape == [l, d] }) else {
      throw LRQKError.parameter("queries and keys of every head are (\(l), \(d))")
    }
    if l < max(k, r) {
      throw LRQKError.parameter(
        "a prompt of \(l) tokens is shorter than k or r: it has no factors yet")
    }
    try context.requireDoubles(for: "prefill")
    let isSpectral = parameters.solver == .spectral
    let startsFromMaps = isSpectral || parameters.sweeps?.start == .spectral
    switch (parameters.solver, parameters.sweeps?.start) {
    case (.rowwise, _):
      throw LRQKError.parameter("the GPU backend sweeps in d by d space: choose the solver gram")
    case (.gram, .topColumns), (.gram, .sharedTopColumns):
      throw LRQKError.parameter("the GPU backend does not start from columns")
    default: break
    }
    let G = parameters.codeSharing == .perKeyValueHead ? H / M : 1
    let groups = H / G
    if (parameters.sweeps?.start == .given) != (initial != nil)
      || initial.map({ $0.count != groups }) ?? false
    {
      throw LRQKError.parameter("codes to start from: one for each of \(groups) groups, if given")
    }

    // 1. One pass over the rows.
    let sums = try PromptSums(
      context, queries: queries, keys: keys, groupSize: G,
      starts: startsFromMaps
        ? nil
        : (0..<groups).map { g -> InitialCodes<Float>? in
          guard case .gaussian(let seed)? = parameters.sweeps?.start else { return initial?[g] }
          return InitialCodes.gaussian(
            seed: seed, queryHeads: g * G..<(g + 1) * G, group: g, tokens: 0..<l, rank: r)
        }, rank: r)

    // 2. The sweeps, or the closed form.
    let sweeps = try DeviceSweeps(
      context, groups: groups, rank: r, width: d, rule: parameters.sweepRule, purpose: .state)
    var Q = DeviceSide(
      dataGrams: sums.queryGrams, share: 1, size: G * l * r, maps: nil,
      grams: sums.queryStart.grams,
      crosses: sums.queryStart.crosses)
    var K = DeviceSide(
      dataGrams: sums.keyGrams, share: groups / M, size: l * r, maps: nil,
      grams: sums.keyStart.grams, crosses: sums.keyStart.crosses)
    if startsFromMaps {
      let maps = try sums.spectralMaps(
        groups: groups, groupSize: G, tokens: l, rank: r, width: d, layer: layer)
      _ = try sweeps.replace(&Q, maps: try context.array(maps.queries, .control(.state)))
      _ = try sweeps.replace(&K, maps: try context.array(maps.keys, .control(.state)))
    }
    if let choice = parameters.sweeps {
      for _ in 0..<choice.iterations.limit {
        let change = try sweeps.sweep(
          &Q, &K, weights: choice.weights, order: choice.order)
        let delta = max(
          change.queries / Double(groups * Q.size), change.keys / Double(groups * K.size))
        try sweeps.check(layer: layer)
        if delta < choice.iterations.tolerance { break }
      }
    }
    guard let mapsQ = Q.maps, let mapsK = K.maps else {
      throw LRQKError.parameter("the Gram solver needs at least one sweep")
    }

    // 3. Maps and bases in Float, codes of every key.
    let W_Q = try sweeps.narrowed(mapsQ, rows: r, columns: d, transposed: true)
    let W_K = try sweeps.narrowed(mapsK, rows: r, columns: d, transposed: true)
    let codes = try context.array(groups * l * r, of: Float.self)
    for g in 0..<groups {
      let rows = sums.keyRows[g * M / groups]
      let map = try context.array(d * r, of: Float.self)
      try context.launch(
        .copyFloats, items: d * r, .of(W_K), .int(g * d * r), .of(map), .int(0), .int(d * r))
      try context.launch(
        .linearCodes, items: r, rows: l, .of(rows), .int(1), .of(map), .int(l), .int(d), .int(r),
        .of(codes), .int(g * l * r), .int(r))
    }
    let matrices: (queries: [Float], keys: [Float])
    if parameters.hasLinearCodes {
      matrices = (
        try context.download(W_Q, nil, .control(.state)),
        try context.download(W_K, nil, .control(.state))
      )
    } else if isSpectral {
      matrices = (
        try spectralBases(Q, groups: groups, rank: r, width: d, context),
        try spectralBases(K, groups: groups, rank: r, width: d, context)
      )
    } else {
      func bases(_ side: DeviceSide, system: Int) throws -> [Float] {
        let B = try sweeps.basis(of: side, system: system)
        return try context.download(
          try sweeps.narrowed(B, rows: r, columns: d, transposed: false), nil, .control(.state))
      }
      matrices = (try bases(Q, system: 0), try bases(K, system: 1))
      try sweeps.check(layer: layer)
    }

    // 4. The first selected sets, by the code of the newest query.
    let selected = try firstSelection(
      queries: queries, W_Q, codes, groupSize: G, parameters, layer: layer, on: context)
    let shape = parameters.hasLinearCodes ? [d, r] : [r, d]
    func split(_ all: [Float], _ shape: [Int]) -> [Tensor<Float>] {
      let size = shape.reduce(1, *)
      return (0..<groups).map {
        Tensor(shape: shape, elements: Array(all[$0 * size..<($0 + 1) * size]))
      }
    }
    return PromptState(
      length: l, codes: split(try context.download(codes, nil, .control(.state)), [l, r]),
      queryMatrices: split(matrices.queries, shape), keyMatrices: split(matrices.keys, shape),
      selected: selected)
  }

  private func firstSelection(
    queries: [Tensor<Float>], _ W_Q: DeviceArray<Float>, _ codes: DeviceArray<Float>,
    groupSize G: Int, _ parameters: Parameters, layer: Int, on context: GPUContext
  ) throws -> [[Int]] {
    let (H, l, d) = (queries.count, queries[0].rows, queries[0].columns)
    let (k, w, r) = (parameters.selected, parameters.recent, parameters.rank)
    if l <= k + w { return Array(repeating: Array(0..<k), count: H) }
    let candidates = l - w
    let newest = try context.array(queries.flatMap { $0.row(l - 1) }, .control(.prompt))
    let q_hat = try context.array(H * r, of: Float.self)
    try context.launch(
      .linearCodes, items: r, rows: H, .of(newest), .int(1), .of(W_Q), .int(G), .int(d), .int(r),
      .of(q_hat), .int(0), .int(r))
    let scores = try context.array(H * candidates, of: Float.self)
    try context.launch(
      .proxyScores, items: candidates, rows: H, .of(codes), .int(l), .int(r), .int(G), .int(0),
      .int(candidates), .of(q_hat), .of(scores), .int(candidates))
    let (chosen, gaps, nans) = (
      try context.array(H * k, of: Int32.self), try context.array(H, of: Float.self),
      try context.array(H, of: Int32.self)
    )
    try context.launch(
      .topK, groups: H, .of(scores), .int(candidates), .int(0), .int(candidates), .int(k),
      .of(chosen), .of(gaps), .of(nans))
    let marks = try context.download(nans, nil, .control(.selection))
    if parameters.breakdown == .stop, let h = marks.firstIndex(where: { $0 >= 0 }) {
      throw LRQKError.overflow(
        what: "a proxy score", largestBefore: 0, Location(layer: layer, head: h, step: 0))
    }
    let tokens = try context.download(chosen, nil, .control(.state))
    return (0..<H).map { h in tokens[h * k..<(h + 1) * k].map { Int($0) } }
  }

  private func spectralBases(
    _ side: DeviceSide, groups: Int, rank r: Int, width d: Int, _ context: GPUContext
  ) throws -> [Float] {
    let S = try context.download(side.grams, nil, .control(.state))
    let C = try context.download(side.crosses, nil, .control(.state))
    var bases: [Float] = []
    for g in 0..<groups {
      let gram = Tensor(shape: [r, r], elements: Array(S[g * r * r..<(g + 1) * r * r]))
      let cross = Tensor(shape: [r, d], elements: Array(C[g * r * d..<(g + 1) * r * d]))
      let basis = spectralBasis(gram: gram, cross: cross)
      bases += basis.converted(to: Float.self).elements
    }
    return bases
  }

  /// What one pass over the prompt leaves on the device.
  private struct PromptSums {
    /// K of every key/value head, (l, d).
    let keyRows: [DeviceArray<Float>]
    /// QᵀQ (groups, d, d) and KᵀK (M, d, d).
    let queryGrams: DeviceArray<Double>
    let keyGrams: DeviceArray<Double>
    /// A₀ᵀA₀ (groups, r, r) and A₀ᵀX (groups, r, d); unused where the start is a map.
    let queryStart: (grams: DeviceArray<Double>, crosses: DeviceArray<Double>)
    let keyStart: (grams: DeviceArray<Double>, crosses: DeviceArray<Double>)
    private let context: GPUContext

    init(
      _ context: GPUContext, queries: [Tensor<Float>], keys: [Tensor<Float>], groupSize G: Int,
      starts: [InitialCodes<Float>?]?, rank r: Int
    ) throws {
      self.context = context
      let (H, M) = (queries.count, keys.count)
      let (l, d, groups) = (keys[0].rows, keys[0].columns, H / G)
      func sums(_ count: Int, _ size: Int) throws -> DeviceArray<Double> {
        try context.array(count * size)
      }
      let part = try sums(1, d * d)
      // AᵀB at place `index`; heads of a group are added up one after the other.
      func add(
        _ a: DeviceArray<Float>, _ p: Int, _ b: DeviceArray<Float>, _ q: Int,
        to total: DeviceArray<Double>, at index: Int, isFirst: Bool
      ) throws {
        let size = p * q
        let (target, start) = isFirst ? (total, index * size) : (part, 0)
        try context.launch(
          .rowProduct, items: size, .of(a), .int(p), .of(b), .int(q), .int(l),
          .int(RowProduct<Float>.block), .of(target), .int(start))
        if !isFirst {
          try context.launch(
            .addDoubles, items: size, .of(total), .int(index * size), .of(part), .int(0),
            .int(size))
        }
      }
      keyRows = try keys.map { try context.array($0.elements, .control(.prompt)) }
      queryGrams = try sums(groups, d * d)
      keyGrams = try sums(M, d * d)
      queryStart = (try sums(groups, r * r), try sums(groups, r * d))
      keyStart = (try sums(groups, r * r), try sums(groups, r * d))
      for m in 0..<M {
        try add(keyRows[m], d, keyRows[m], d, to: keyGrams, at: m, isFirst: true)
      }
      for h in 0..<H {
        let (g, i) = (h / G, h % G)
        let rows = try context.array(queries[h].elements, .control(.prompt))
        try add(rows, d, rows, d, to: queryGrams, at: g, isFirst: i == 0)
        guard let start = starts?[g] else { continue }
        let A = try context.array(
          Array(start.queries.elements[i * l * r..<(i + 1) * l * r]), .control(.state))
        try add(A, r, A, r, to: queryStart.grams, at: g, isFirst: i == 0)
        try add(A, r, rows, d, to: queryStart.crosses, at: g, isFirst: i == 0)
        if i == 0 {
          let B = try context.array(start.keys.elements, .control(.state))
          try add(B, r, B, r, to: keyStart.grams, at: g, isFirst: true)
          try add(B, r, keyRows[g * M / groups], d, to: keyStart.crosses, at: g, isFirst: true)
        }
      }
    }

    /// Wᵀ of every group, (groups, r, d) flat, in closed form by LAPACK on the host.
    ///
    /// The l tokens of the prompt are rows of G heads each in a group's queries.
    func spectralMaps(
      groups: Int, groupSize G: Int, tokens l: Int, rank: Int, width d: Int, layer: Int
    ) throws -> (queries: [Double], keys: [Double]) {
      let G_Q = try context.download(queryGrams, nil, .control(.state))
      let G_K = try context.download(keyGrams, nil, .control(.state))
      let M = G_K.count / (d * d)
      func gram(_ all: [Double], _ index: Int, rows: Int) -> SummedGram {
        let sum = Tensor(shape: [d, d], elements: Array(all[index * d * d..<(index + 1) * d * d]))
        return SummedGram(sum, rows: rows, of: Float.self)
      }
      var maps: (queries: [Double], keys: [Double]) = ([], [])
      for g in 0..<groups {
        let found = try LRQK.spectralMaps(
          queryGram: gram(G_Q, g, rows: G * l), keyGram: gram(G_K, g * M / groups, rows: l),
          rank: rank, Location(layer: layer, head: g, step: 0))
        maps.queries += found.queries.transposed().elements
        maps.keys += found.keys.transposed().elements
      }
      return maps
    }
  }

#endif
