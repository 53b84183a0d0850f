// A cache behind a handle does what LRQKCache does, bit for bit and event for event.

import CLRQK
import LRQK
import Tensors
import Testing
import TieredMemory

/// One combination of choices, said to both sides.
struct Choices: CustomTestStringConvertible, Sendable {
  let testDescription: String
  let parameters: Parameters
  let options: lrqk_options
  var window: Int? { options.window == 0 ? nil : Int(options.window) }

  static let (H, M, d, r, k, w) = (4, 2, 8, 3, 6, 4)

  init(
    _ name: String, _ preset: Preset, _ change: (inout Parameters) -> Void = { _ in },
    _ same: (inout lrqk_options) -> Void = { _ in }
  ) {
    testDescription = name
    var parameters = Parameters(preset, rank: Self.r, selected: Self.k, recent: Self.w)
    change(&parameters)
    self.parameters = parameters
    var options = lrqk_options()
    let status = unsafe lrqk_options_init(
      &options, MemoryLayout<lrqk_options>.size,
      preset == .paper ? LRQK_PRESET_PAPER : LRQK_PRESET_RECOMMENDED)
    precondition(status == LRQK_OK, "a preset")
    options.query_heads = Int64(Self.H)
    options.key_value_heads = Int64(Self.M)
    options.width = Int64(Self.d)
    options.rank = Int64(Self.r)
    options.selected = Int64(Self.k)
    options.recent = Int64(Self.w)
    same(&options)
    self.options = options
  }

  static let all = [
    Choices("paper", .paper),
    Choices("recommended", .recommended),
    Choices(
      "recommended, refreshed", .recommended, { $0.mapRefresh = .every(3) },
      { $0.map_refresh = 3 }),
    Choices(
      "recommended, the group's rows", .recommended, { $0.support = .group },
      { $0.support = Int32(LRQK_SUPPORT_GROUP.rawValue) }),
    Choices(
      "rowwise, Jacobi, weights, another seed", .paper,
      {
        $0.solver = .rowwise
        $0.initialization = .gaussian(seed: 9)
        $0.weightedUpdate = .jacobi
        $0.weights = Weights(queries: 0.5, keys: 2, selfProduct: 0.25, selectedProducts: 4)
        $0.prefillIterations = Iterations(3, tolerance: 0)
        $0.decodeIterations = Iterations(4, tolerance: 1e-6)
      },
      {
        $0.solver = Int32(LRQK_SOLVER_ROWWISE.rawValue)
        $0.seed = 9
        $0.weighted_update = Int32(LRQK_WEIGHTED_UPDATE_JACOBI.rawValue)
        ($0.lambda_q, $0.lambda_k, $0.lambda_1, $0.lambda_2) = (0.5, 2, 0.25, 4)
        ($0.prefill_iterations, $0.prefill_tolerance) = (3, 0)
        ($0.decode_iterations, $0.decode_tolerance) = (4, 1e-6)
      }),
    Choices(
      "columns, damped, shared codes, all candidates", .paper,
      {
        $0.initialization = .sharedTopColumns
        $0.codeMap = .alternating(.damped(0.1))
        $0.codeSharing = .perKeyValueHead
        $0.candidates = .all
      },
      {
        $0.initialization = Int32(LRQK_INITIALIZATION_SHARED_TOP_COLUMNS.rawValue)
        $0.basis_update = Int32(LRQK_BASIS_UPDATE_DAMPED.rawValue)
        $0.damping = 0.1
        $0.code_sharing = Int32(LRQK_PER_KEY_VALUE_HEAD.rawValue)
        $0.candidates = Int32(LRQK_CANDIDATES_ALL.rawValue)
      }),
    Choices(
      "columns apart, frozen, shared rows, no reuse, window, ridge, layer", .paper,
      {
        $0.initialization = .topColumns
        $0.codeMap = .alternating(.frozen)
        $0.transfers = .perKeyValueHead
        $0.reuse = .none
        $0.solve = SolveRule(ridge: 0.01, breakdown: .proceed)
      },
      {
        $0.initialization = Int32(LRQK_INITIALIZATION_TOP_COLUMNS.rawValue)
        $0.basis_update = Int32(LRQK_BASIS_UPDATE_FROZEN.rawValue)
        $0.transfers = Int32(LRQK_PER_KEY_VALUE_HEAD.rawValue)
        $0.reuse = Int32(LRQK_REUSE_NONE.rawValue)
        ($0.window, $0.ridge, $0.layer) = (20, 0.01, 3)
        $0.breakdown = Int32(LRQK_BREAKDOWN_PROCEED.rawValue)
      }),
    Choices(
      "sweeps from the closed form, linear", .paper,
      {
        $0.initialization = .spectral
        $0.codeMap = .linear
      },
      {
        $0.initialization = Int32(LRQK_INITIALIZATION_SPECTRAL.rawValue)
        $0.code_map = Int32(LRQK_CODE_MAP_LINEAR.rawValue)
        ($0.basis_update, $0.decode_iterations, $0.decode_tolerance) = (0, 0, 0)
        ($0.lambda_1, $0.lambda_2) = (0, 0)
      }),
    Choices(
      "library arithmetic", .recommended, { $0.prefillArithmetic = .library },
      { $0.arithmetic = Int32(LRQK_ARITHMETIC_LIBRARY.rawValue) }),
  ]
}

/// A handle, and what is read through it; every call must succeed.
struct Handle {
  let number: lrqk_cache

  init(_ options: lrqk_options) {
    var number: lrqk_cache = 0
    let answer = unsafe call { unsafe lrqk_cache_create([options], &number, $0, $1) }
    #expect(answer.isOK && number != 0, "\(answer)")
    self.number = number
  }

  func expect(_ status: lrqk_status, _ place: SourceLocation = #_sourceLocation) {
    #expect(status == LRQK_OK, "\(status.rawValue): \(message)", sourceLocation: place)
  }

  var message: String {
    var buffer = [CChar](repeating: 1, count: 300)
    _ = unsafe lrqk_cache_message(number, &buffer, buffer.count)
    return text(buffer)
  }

  var info: lrqk_cache_info {
    var info = lrqk_cache_info()
    expect(unsafe lrqk_cache_get_info(number, &info, MemoryLayout<lrqk_cache_info>.size))
    return info
  }

  var bytes: lrqk_bytes {
    var bytes = lrqk_bytes()
    expect(unsafe lrqk_cache_bytes(number, &bytes, MemoryLayout<lrqk_bytes>.size))
    return bytes
  }

  /// The set that a query head selected: its number first, then its tokens.
  func selected(_ head: Int) -> [Int] {
    var count: Int64 = -1
    expect(unsafe lrqk_cache_selected(number, Int64(head), 0, nil, &count))
    var tokens = [Int32](repeating: -1, count: Int(count) + 1)
    expect(unsafe lrqk_cache_selected(number, Int64(head), count, &tokens, &count))
    #expect(tokens.last == -1)
    return tokens.dropLast().map(Int.init)
  }

  /// The tokens that a query head attended to, in the same way.
  func attended(_ head: Int) -> [Int] {
    var count: Int64 = -1
    expect(unsafe lrqk_cache_attended(number, Int64(head), 0, nil, &count))
    var tokens = [Int32](repeating: -1, count: Int(count) + 1)
    expect(unsafe lrqk_cache_attended(number, Int64(head), count, &tokens, &count))
    #expect(tokens.last == -1)
    return tokens.dropLast().map(Int.init)
  }

  var events: [lrqk_event] {
    let size = MemoryLayout<lrqk_event>.size
    var count: Int64 = -1
    expect(unsafe lrqk_cache_ledger_events(number, 0, 0, nil, size, &count))
    var events = [lrqk_event](repeating: lrqk_event(), count: Int(count))
    if events.isEmpty { return [] }
    expect(unsafe lrqk_cache_ledger_events(number, 0, count, &events, size, &count))
    return events
  }
}

@Suite struct CacheTests {
  private static let (H, M, d, r) = (Choices.H, Choices.M, Choices.d, Choices.r)
  private let rows = LayerRows(tokens: 50, width: d, queryHeads: H, keyValueHeads: M)

  /// A prompt shorter than k, one that fits k + w, and a longer one.
  @Test(arguments: Choices.all, [4, 9, 30])
  func `a cache behind a handle is LRQKCache`(_ choice: Choices, prompt: Int) throws {
    var tiers = Tiers()
    var swift = try LRQKCache<Float>(
      layer: Int(choice.options.layer), queryHeads: Self.H, keyValueHeads: Self.M, width: Self.d,
      window: choice.window, parameters: choice.parameters)
    let c = Handle(choice.options)
    defer { #expect(lrqk_cache_free(c.number) == LRQK_OK) }

    // The prompt in the same chunks for both: library arithmetic has other bits for others.
    for chunk in [0..<1, 1..<prompt] {
      func part(_ heads: [Tensor<Float>]) -> [Tensor<Float>] { heads.map { $0.rows(chunk) } }
      try swift.extendPrompt(
        queries: part(rows.queries), keys: part(rows.keys), values: part(rows.values),
        tiers: &tiers)
      let (Q, K, V) = rows.flat(chunk)
      c.expect(unsafe lrqk_cache_extend_prompt(c.number, Int64(chunk.count), Q, K, V))
      #expect(c.info.phase == Int32(LRQK_PHASE_PROMPT.rawValue))
    }
    try swift.completePrompt(tiers: &tiers)
    c.expect(lrqk_cache_complete_prompt(c.number))
    try compare(c, swift, tiers.ledger.events, tiers.device)

    for t in prompt..<50 {
      let (q, k, v) = rows.token(t)
      let step = try swift.decode(queries: q, keys: k, values: v, tiers: &tiers)
      var attention = room(Self.H * Self.d)
      c.expect(
        unsafe lrqk_cache_decode(c.number, q.elements, k.elements, v.elements, &attention))
      #expect(bits(attention) == step.attention.bits, "step \(step.step)")
      try compare(c, step)
    }
    try compare(c, swift, tiers.ledger.events, tiers.device)
    #expect(c.info.phase == Int32(LRQK_PHASE_SPARSE.rawValue))
  }

  /// State, ledger and bytes.
  private func compare(
    _ c: Handle, _ swift: LRQKCache<Float>, _ events: [TransferEvent],
    _ device: borrowing DeviceTier
  ) throws {
    let info = c.info
    #expect(info.tokens == Int64(swift.length) && info.steps == Int64(swift.step))
    #expect(Int(info.recent_first) == swift.recentTokens.lowerBound)
    #expect(Int(info.recent_count) == swift.recentTokens.count)
    let resident = device.residentBytes
    let peak = device.peakBytes
    #expect(c.bytes.resident == Int64(resident) && c.bytes.peak == Int64(peak))
    #expect(c.bytes.host == Int64(swift.hostBytes))

    let own = c.events
    #expect(own.count == events.count)
    for (a, b) in zip(own, events) {
      #expect(a.step == Int64(b.step) && a.layer == Int64(b.layer) && a.head == Int64(b.head))
      #expect(a.rows == Int64(b.rows) && a.bytes == Int64(b.bytes))
      #expect(unsafe String(cString: lrqk_direction_name(a.direction)) == b.direction.rawValue)
      #expect(unsafe String(cString: lrqk_reason_name(a.reason)) == b.reason.rawValue)
    }
    var total = lrqk_total()
    c.expect(
      unsafe lrqk_cache_ledger_total(
        c.number, 0, 0, -1, &total, MemoryLayout<lrqk_total>.size))
    #expect(total.events == Int64(events.count))
    #expect(total.bytes == Int64(events.reduce(0) { $0 + $1.bytes }))
    c.expect(
      unsafe lrqk_cache_ledger_total(
        c.number, Int32(LRQK_HOST_TO_DEVICE.rawValue), Int32(LRQK_REASON_MISS.rawValue), 2,
        &total, MemoryLayout<lrqk_total>.size))
    #expect(
      total.rows
        == Int64(
          events.filter { $0.reason == .miss && $0.step == 2 }.reduce(0) { $0 + $1.rows }))

    if swift.isCollecting {
      #expect(info.phase == Int32(LRQK_PHASE_COLLECTING.rawValue))
      return
    }
    for h in 0..<Self.H { #expect(c.selected(h) == swift.selected[h]) }
    let isLinear = swift.parameters.codeMap == .linear
    for g in 0..<Int(info.codes) {
      let codes = swift.keyCodes[g]
      var A_K = room(codes.count)
      c.expect(
        unsafe lrqk_cache_key_codes(
          c.number, Int64(g), Int64(codes.rows), Int64(codes.columns), &A_K))
      #expect(bits(A_K) == codes.bits)
      var (x, y) = (room(Self.r * Self.d), room(Self.r * Self.d))
      c.expect(
        unsafe lrqk_cache_bases(c.number, Int64(g), Int64(Self.r), Int64(Self.d), &x, &y))
      let (B_Q, B_K) =
        isLinear
        ? (swift.prompt[g].queryBasis, swift.prompt[g].keyBasis)
        : (swift.matrices[g].queries, swift.matrices[g].keys)
      #expect(bits(x) == B_Q.bits && bits(y) == B_K.bits)
      let status = unsafe lrqk_cache_maps(
        c.number, Int64(g), Int64(Self.d), Int64(Self.r), &x, &y)
      #expect(status == (isLinear ? LRQK_OK : LRQK_ERROR_STATE))
      if isLinear {
        #expect(bits(x) == swift.matrices[g].queries.bits)
        #expect(bits(y) == swift.matrices[g].keys.bits)
      }
    }
  }

  /// What one step did.
  private func compare(_ c: Handle, _ step: DecodeStep<Float>) throws {
    for h in 0..<Self.H { #expect(c.attended(h) == step.attended[h]) }
    let holders = step.hitRows.count
    var hits = [Int64](repeating: -1, count: holders)
    var missed = hits
    c.expect(unsafe lrqk_cache_hits(c.number, Int64(holders), &hits, &missed))
    #expect(hits == step.hitRows.map(Int64.init) && missed == step.missedRows.map(Int64.init))
    var gaps = [Double](repeating: -1, count: Self.H)
    c.expect(unsafe lrqk_cache_gaps(c.number, Int64(Self.H), &gaps))
    #expect(gaps == step.gaps)
    for g in step.queryCodes.indices {
      let group = step.queryCodes[g].rows
      var (q_hat, k_hat) = (room(group * Self.r), room(Self.r))
      c.expect(
        unsafe lrqk_cache_step_codes(
          c.number, Int64(g), Int64(group), Int64(Self.r), &q_hat, &k_hat))
      #expect(bits(q_hat) == step.queryCodes[g].bits && bits(k_hat) == step.keyCodes[g].bits)
    }
  }

  @Test(arguments: [CodeSharing.perQueryHead, .perKeyValueHead])
  func `a prompt with codes to start from`(_ sharing: CodeSharing) throws {
    let codes = sharing == .perQueryHead ? Self.H : Self.M
    let shared = Self.H / codes
    let choice = Choices(
      "given", .paper,
      {
        $0.initialization = .given
        $0.codeSharing = sharing
      },
      {
        $0.initialization = Int32(LRQK_INITIALIZATION_GIVEN.rawValue)
        $0.code_sharing = Int32(
          (sharing == .perQueryHead ? LRQK_PER_QUERY_HEAD : LRQK_PER_KEY_VALUE_HEAD).rawValue)
      })
    let l = 30
    let A_Q = normals(codes, shared * l, Self.r, stream: 5)
    let A_K = normals(codes, l, Self.r, stream: 6)
    var tiers = Tiers()
    var swift = try LRQKCache<Float>(
      queryHeads: Self.H, keyValueHeads: Self.M, width: Self.d, parameters: choice.parameters)
    func part(_ heads: [Tensor<Float>]) -> [Tensor<Float>] { heads.map { $0.rows(0..<l) } }
    try swift.prefill(
      queries: part(rows.queries), keys: part(rows.keys), values: part(rows.values),
      initial: (0..<codes).map { InitialCodes(queries: A_Q.slice($0), keys: A_K.slice($0)) },
      tiers: &tiers)

    let c = Handle(choice.options)
    defer { #expect(lrqk_cache_free(c.number) == LRQK_OK) }
    let (Q, K, V) = rows.flat(0..<l)
    #expect(unsafe lrqk_cache_prefill(c.number, Int64(l), Q, K, V) == LRQK_ERROR_PARAMETER)
    c.expect(
      unsafe lrqk_cache_extend_prompt_from(
        c.number, Int64(l), Q, K, V, A_Q.elements, A_K.elements))
    c.expect(lrqk_cache_complete_prompt(c.number))
    try compare(c, swift, tiers.ledger.events, tiers.device)
  }

  @Test(arguments: [Choices.all[0], Choices.all[1]], [4, 30])
  func `a whole answer in one call is the cache's`(_ choice: Choices, prompt: Int) throws {
    let T = 50 - prompt
    let c = Handle(choice.options)
    defer { #expect(lrqk_cache_free(c.number) == LRQK_OK) }
    let holders = Int(c.info.holders)
    let (H, d, k) = (Self.H, Self.d, Choices.k)
    var selected = [Int32](repeating: -2, count: T * H * k)
    var missed = [Int64](repeating: -2, count: T * holders)
    var attention = room(T * H * d)
    let (Q, K, V) = rows.flat(0..<50)
    let answer = unsafe call {
      unsafe lrqk_decode_steps(
        [choice.options], Int64(prompt), Int64(T), Q, K, V, &selected, &missed, &attention, $0, $1)
    }
    #expect(answer.isOK, "\(answer)")

    let (promptQ, promptK, promptV) = rows.flat(0..<prompt)
    c.expect(unsafe lrqk_cache_prefill(c.number, Int64(prompt), promptQ, promptK, promptV))
    for t in 0..<T {
      let wasCollecting = c.info.phase == Int32(LRQK_PHASE_COLLECTING.rawValue)
      let (q, k1, v) = rows.token(prompt + t)
      var out = room(H * d)
      c.expect(unsafe lrqk_cache_decode(c.number, q.elements, k1.elements, v.elements, &out))
      #expect(bits(out) == bits(Array(attention[t * H * d..<(t + 1) * H * d])))
      var (hits, misses) = (
        [Int64](repeating: 0, count: holders), [Int64](repeating: 0, count: holders)
      )
      c.expect(unsafe lrqk_cache_hits(c.number, Int64(holders), &hits, &misses))
      #expect(misses == Array(missed[t * holders..<(t + 1) * holders]))
      for h in 0..<H {
        let row = selected[(t * H + h) * k..<(t * H + h + 1) * k].map(Int.init)
        let set = wasCollecting ? [] : c.selected(h)
        #expect(row == set + Array(repeating: -1, count: k - set.count), "step \(t), head \(h)")
      }
    }
  }
}
