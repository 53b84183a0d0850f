// Stage 2 in d by d space on the device: sweeps of all groups.
//
// In:  for each side XᵀX, and S = AᵀA and C = AᵀX of the codes so far.
// Out: bases, better maps, and how far the codes moved. The formulas are those of LRQK's
//      Sweep.swift.
//
// One kernel a formula (prefill.h). Old S and C stay while they are needed, so the Jacobi order
// only hands in the older side. DevicePrefill.swift starts and ends the sweeps.

#if OpenCL || CUDA

  import LRQK
  package import Tensors

  /// One side of all groups, Q with A_Q or K with A_K, in d by d space.
  struct DeviceSide {
    /// XᵀX, (groups / share, d, d).
    let dataGrams: DeviceArray<Double>
    let share: Int
    /// l r of a group.
    let size: Int
    /// Wᵀ, (groups, r, d); nil while A is a start with codes of its own.
    var maps: DeviceArray<Double>?
    /// S (groups, r, r) and C (groups, r, d).
    var grams: DeviceArray<Double>
    var crosses: DeviceArray<Double>
  }

  /// The sweeps of all groups.
  struct DeviceSweeps {
    let context: GPUContext
    let groups: Int
    let rank: Int
    let width: Int
    let rule: SolveRule
    let work: DeviceArray<Double>
    let products: DeviceArray<Double>
    let changes: DeviceArray<Double>
    let status: DeviceArray<Int32>
    let purpose: Control

    init(
      _ context: GPUContext, groups: Int, rank r: Int, width d: Int, rule: SolveRule,
      purpose: Control
    ) throws {
      self.context = context
      self.groups = groups
      rank = r
      width = d
      self.rule = rule
      self.purpose = purpose
      work = try context.array(groups * (2 * r * r + r))
      products = try context.array(groups * r * d)
      changes = try context.array(groups)
      status = try context.array(4 * groups)
      try context.launch(
        .fillInts, items: 4 * groups, .of(status), .int(4 * groups), .int(0))
    }

    private var ridge: KernelArgument { .double(rule.ridge) }
    private var stop: KernelArgument { .int(rule.breakdown == .stop ? 1 : 0) }

    /// B = S⁻¹ C.
    func basis(of side: DeviceSide, system: Int) throws -> DeviceArray<Double> {
      let bases = try context.array(groups * rank * width, of: Double.self)
      try context.launch(
        .gramBasis, groups: groups, .of(side.grams), .of(side.crosses), .int(rank), .int(width),
        .of(bases), .of(work), ridge, stop, .int(system), .of(status))
      return bases
    }

    /// Wᵀ = (S + lambda B Bᵀ)⁻¹ (C + lambda B) with S and C of `side`.
    func map(
      from side: DeviceSide, _ bases: DeviceArray<Double>, lambda: Double, system: Int
    ) throws -> DeviceArray<Double> {
      let maps = try context.array(groups * rank * width, of: Double.self)
      try context.launch(
        .gramMap, groups: groups, .of(side.grams), .of(side.crosses), .of(bases),
        .double(lambda), .int(rank), .int(width), .of(maps), .of(work), ridge, stop, .int(system),
        .of(status))
      return maps
    }

    /// A' = X W; returns the sum of ‖A − A'‖² over all groups.
    func replace(_ side: inout DeviceSide, maps: DeviceArray<Double>) throws -> Double {
      let grams = try context.array(groups * rank * rank, of: Double.self)
      let crosses = try context.array(groups * rank * width, of: Double.self)
      try context.launch(
        .gramReplace, groups: groups, .of(maps), .of(side.maps ?? maps),
        .int(side.maps == nil ? 0 : 1), .of(side.dataGrams), .int(side.share), .int(rank),
        .int(width), .of(side.grams), .of(side.crosses), .of(grams), .of(crosses), .of(products),
        .of(changes))
      side.maps = maps
      side.grams = grams
      side.crosses = crosses
      return try context.download(changes, nil, .control(purpose)).reduce(0, +)
    }

    /// One sweep; the summed changes of Q and K.
    func sweep(
      _ queries: inout DeviceSide, _ keys: inout DeviceSide, weights: SweepWeights,
      order: UpdateOrder
    ) throws -> (
      queries: Double, keys: Double, queryBases: DeviceArray<Double>, keyBases: DeviceArray<Double>
    ) {
      let old = queries
      let B_Q = try basis(of: queries, system: 0)
      let B_K = try basis(of: keys, system: 1)
      let mapQ = try map(from: keys, B_Q, lambda: weights.queries, system: 2)
      let changeQ = try replace(&queries, maps: mapQ)
      let mapK = try map(
        from: order == .gaussSeidel ? queries : old, B_K, lambda: weights.keys, system: 3)
      let changeK = try replace(&keys, maps: mapK)
      return (changeQ, changeK, B_Q, B_K)
    }

    /// Throws for the first group in which a system was singular.
    func check(layer: Int) throws {
      let names = [
        "A_QᵀA_Q", "A_KᵀA_K", "A_KᵀA_K + lambda_Q B_Q B_Qᵀ", "A_QᵀA_Q + lambda_K B_K B_Kᵀ",
      ]
      let status = try context.download(status, nil, .control(purpose))
      for g in 0..<groups where status[4 * g] == 2 {
        throw LRQKError.singular(
          system: names[Int(status[4 * g + 1])],
          SingularSystem(
            pivot: Int(status[4 * g + 2]),
            value: Double(Float(bitPattern: UInt32(bitPattern: status[4 * g + 3]))), order: rank),
          Location(layer: layer, head: g, step: 0))
      }
    }

    /// (groups, rows, columns) in Float, each matrix transposed if asked for.
    func narrowed(
      _ matrices: DeviceArray<Double>, rows: Int, columns: Int, transposed: Bool
    ) throws -> DeviceArray<Float> {
      let out = try context.array(matrices.count, of: Float.self)
      try context.launch(
        .narrow, items: rows * columns, rows: groups, .of(matrices), .int(rows), .int(columns),
        .int(transposed ? 1 : 0), .of(out))
      return out
    }
  }

  extension GPUKernels {
    /// One sweep by the device.
    package struct SweepResult: Sendable, Equatable {
      /// The basis of the queries, B_Q (r, d).
      package let queryBasis: Tensor<Double>
      /// The basis of the keys, B_K (r, d).
      package let keyBasis: Tensor<Double>
      /// The new map of the queries, W_Q' (d, r).
      package let queryMap: Tensor<Double>
      /// The new map of the keys, W_K' (d, r).
      package let keyMap: Tensor<Double>
      /// ‖A_Q − A_Q'‖² and ‖A_K − A_K'‖².
      package let change: [Double]
    }

    /// sweep-gram: one Gauss-Seidel sweep in d by d space, from the maps W_Q and W_K (d, r).
    package func sweepGram(
      queryGram: Tensor<Double>, keyGram: Tensor<Double>, queryMap: Tensor<Double>,
      keyMap: Tensor<Double>, lambdaQueries: Double = 1, lambdaKeys: Double = 1,
      rule: SolveRule = SolveRule()
    ) throws -> SweepResult {
      let (d, r) = (queryMap.rows, queryMap.columns)
      try requireSizes(
        keyMap.shape == [d, r] && queryGram.shape == [d, d] && keyGram.shape == [d, d],
        "G_Q \(queryGram.shape), G_K \(keyGram.shape), W_Q \(queryMap.shape)")
      try context.requireDoubles(for: "a sweep in d by d space")
      let sweeps = try DeviceSweeps(
        context, groups: 1, rank: r, width: d, rule: rule, purpose: .kernel)
      func side(_ gram: Tensor<Double>, _ map: Tensor<Double>) throws -> DeviceSide {
        var side = DeviceSide(
          dataGrams: try up(gram.elements), share: 1, size: r,
          maps: nil, grams: try context.array(r * r), crosses: try context.array(r * d))
        _ = try sweeps.replace(&side, maps: try up(map.transposed().elements))
        return side
      }
      var (Q, K) = (try side(queryGram, queryMap), try side(keyGram, keyMap))
      return try swept(
        &Q, &K, sweeps, try SweepWeights(queries: lambdaQueries, keys: lambdaKeys))
    }

    /// sweep-rowwise: one Gauss-Seidel sweep over Q (m, d) and K (l, d), with the new codes.
    ///
    /// It starts from the codes A_Q (m, r) and A_K (l, r).
    ///
    /// The rows are read for XᵀX, AᵀA and AᵀX and again for the new codes A = X W; the sweep itself
    /// is in d by d space, the only form that this backend has.
    package func sweepRows(
      queries: Tensor<Float>, keys: Tensor<Float>, queryCodes: Tensor<Float>,
      keyCodes: Tensor<Float>, lambdaQueries: Double = 1, lambdaKeys: Double = 1,
      rule: SolveRule = SolveRule()
    ) throws -> (sweep: SweepResult, queryCodes: Tensor<Float>, keyCodes: Tensor<Float>) {
      let (d, r) = (queries.columns, queryCodes.columns)
      try requireSizes(
        keys.columns == d && queryCodes.shape == [queries.rows, r]
          && keyCodes.shape == [keys.rows, r],
        "Q \(queries.shape), K \(keys.shape), A_Q \(queryCodes.shape), A_K \(keyCodes.shape)")
      try context.requireDoubles(for: "a sweep in d by d space")
      let sweeps = try DeviceSweeps(
        context, groups: 1, rank: r, width: d, rule: rule, purpose: .kernel)
      func side(_ X: DeviceArray<Float>, _ codes: Tensor<Float>) throws -> DeviceSide {
        let A = try up(codes.elements)
        // aᵀb over all rows.
        func product(
          _ a: DeviceArray<Float>, _ p: Int, _ b: DeviceArray<Float>, _ q: Int
        ) throws -> DeviceArray<Double> {
          let sum = try context.array(p * q, of: Double.self)
          try context.launch(
            .rowProduct, items: p * q, .of(a), .int(p), .of(b), .int(q), .int(codes.rows),
            .int(RowProduct<Float>.block), .of(sum), .int(0))
          return sum
        }
        return DeviceSide(
          dataGrams: try product(X, d, X, d), share: 1, size: codes.count, maps: nil,
          grams: try product(A, r, A, r), crosses: try product(A, r, X, d))
      }
      let (Q_rows, K_rows) = (try up(queries.elements), try up(keys.elements))
      var (Q, K) = (try side(Q_rows, queryCodes), try side(K_rows, keyCodes))
      let result = try swept(
        &Q, &K, sweeps, try SweepWeights(queries: lambdaQueries, keys: lambdaKeys))
      func newCodes(_ X: DeviceArray<Float>, rows n: Int, _ side: DeviceSide) throws -> Tensor<
        Float
      > {
        guard let maps = side.maps else { throw GPUError("a sweep left no map") }
        let W = try sweeps.narrowed(maps, rows: r, columns: d, transposed: true)
        let codes = try context.array(n * r, of: Float.self)
        try context.launch(
          .linearCodes, items: r, rows: n, .of(X), .int(1), .of(W), .int(n), .int(d), .int(r),
          .of(codes), .int(0), .int(r))
        return Tensor(shape: [n, r], elements: try down(codes))
      }
      return (
        result, try newCodes(Q_rows, rows: queries.rows, Q),
        try newCodes(K_rows, rows: keys.rows, K)
      )
    }

    /// One sweep of both sides, read back.
    private func swept(
      _ Q: inout DeviceSide, _ K: inout DeviceSide, _ sweeps: DeviceSweeps, _ weights: SweepWeights
    ) throws -> SweepResult {
      let (r, d) = (sweeps.rank, sweeps.width)
      let done = try sweeps.sweep(&Q, &K, weights: weights, order: .gaussSeidel)
      try sweeps.check(layer: 0)
      func matrix(_ array: DeviceArray<Double>?) throws -> Tensor<Double> {
        guard let array else { throw GPUError("a sweep left no map") }
        return Tensor(shape: [r, d], elements: try down(array))
      }
      return SweepResult(
        queryBasis: try matrix(done.queryBases), keyBasis: try matrix(done.keyBases),
        queryMap: try matrix(Q.maps).transposed(), keyMap: try matrix(K.maps).transposed(),
        change: [done.queries, done.keys])
    }
  }

#endif
