// A cache under the same choices, in C and in Swift.
//
// In:  a preset and one change, told to both.
// Out: lrqk_options beside Parameters, and a handle that closes itself.

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
    _ name: String, _ preset: Preset, _ change: (inout Parameters) throws -> Void = { _ in },
    _ same: (inout lrqk_options) -> Void = { _ in }
  ) {
    testDescription = name
    do {
      var parameters = try Parameters(preset, rank: Self.r, selected: Self.k, recent: Self.w)
      try change(&parameters)
      self.parameters = parameters
    } catch {
      preconditionFailure("\(error)")
    }
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
      "recommended, refreshed", .recommended, { $0.codes = .linear(refresh: .every(3)) },
      { $0.map_refresh = 3 }),
    Choices(
      "recommended, the group's rows", .recommended,
      { $0.rows = .perKeyValueHead(attended: .group) },
      { $0.support = Int32(LRQK_SUPPORT_GROUP.rawValue) }),
    Choices(
      "rowwise, Jacobi, weights, another seed", .paper,
      {
        $0.solver = .rowwise
        $0.sweeps?.start = .gaussian(seed: 9)
        $0.sweeps?.order = .jacobi
        $0.sweeps?.weights = try SweepWeights(queries: 0.5, keys: 2)
        $0.alternation?.weights = try AlternationWeights(selfProduct: 0.25, selectedProducts: 4)
        $0.sweeps?.iterations = try SweepIterations(3, tolerance: 0)
        $0.alternation?.iterations = try AlternationIterations(4, tolerance: 1e-6)
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
        $0.sweeps?.start = .sharedTopColumns
        $0.codes = .alternating(Alternation(.damped(0.1)))
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
        $0.sweeps?.start = .topColumns
        $0.codes = .alternating(Alternation(.frozen))
        $0.rows = .perKeyValueHead(attended: .own)
        $0.reuse = .reloadAll
        $0.sweeps?.ridge = 0.01
        $0.alternation?.ridge = 0.01
        $0.breakdown = .proceed
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
        $0.sweeps?.start = .spectral
        $0.codes = .linear(refresh: .never)
      },
      {
        $0.initialization = Int32(LRQK_INITIALIZATION_SPECTRAL.rawValue)
        $0.code_map = Int32(LRQK_CODE_MAP_LINEAR.rawValue)
        ($0.basis_update, $0.decode_iterations, $0.decode_tolerance) = (0, 0, 0)
        ($0.lambda_1, $0.lambda_2) = (0, 0)
      }),
    Choices(
      "library arithmetic", .recommended, { $0.arithmetic = .library },
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
