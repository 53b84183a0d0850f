// A cache behind a handle does what LRQKCache does, bit for bit and event for event.

import CLRQK
import LRQK
import Tensors
import Testing
import TieredMemory

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
    let isLinear = swift.parameters.hasLinearCodes
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
        $0.sweeps?.start = .given
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
