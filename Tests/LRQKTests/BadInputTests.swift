// Input that LRQK cannot work on: each case has its own error, and none ends the process.

import LRQK
import Tensors
import Testing
import TieredMemory

private let data = Synthetic<Double>(
  tokens: 20, width: 6, queryHeads: 4, keyValueHeads: 2, decay: 0.8, seed: 81)

private func parameters(
  _ change: (inout Parameters) throws -> Void = { _ in }
) throws -> Parameters {
  var parameters = try Parameters(.paper, rank: 2, selected: 4, recent: 3)
  try change(&parameters)
  return parameters
}

/// The same matrix with one element changed.
private func with(_ value: Double, in matrix: Tensor<Double>, _ i: Int, _ j: Int) -> Tensor<Double>
{
  var changed = matrix
  changed[i, j] = value
  return changed
}

private func prefill(
  _ parameters: Parameters, queries: [Tensor<Double>] = data.queries,
  keys: [Tensor<Double>] = data.keys, values: [Tensor<Double>] = data.values,
  initial: [InitialCodes<Double>]? = nil
) throws {
  var tiers = Tiers()
  var cache = try LRQKCache<Double>(
    layer: 3, queryHeads: 4, keyValueHeads: 2, width: 6, parameters: parameters)
  try cache.prefill(
    queries: queries, keys: keys, values: values, initial: initial, tiers: &tiers)
}

@Suite struct BadInputTests {
  @Test
  func `parameters that make no sense are named`() {
    func sizes(_ r: Int, _ k: Int, _ w: Int) -> (inout Parameters) throws -> Void {
      { $0.sizes = try Sizes(rank: r, selected: k, recent: w) }
    }
    let none = 0  // a literal would be a trap
    func damped(_ factor: Double) -> (inout Parameters) throws -> Void {
      { $0.alternation?.basisUpdate = .damped(try Damping(factor)) }
    }
    let cases: [(String, (inout Parameters) throws -> Void)] = [
      ("rank r = 7 exceeds the head width d = 6", sizes(7, 4, 3)),
      ("rank r = 0: it must be at least 1", sizes(0, 4, 3)),
      ("selected k = 0: it must be at least 1", sizes(2, 0, 3)),
      ("selected k = -1: it must be at least 1", sizes(2, -1, 3)),
      ("recent w = 0: it must be at least 1", sizes(2, 4, 0)),
      ("recent w = -5: it must be at least 1", sizes(2, 4, -5)),
      ("damping 0.0: it must be finite, > 0", damped(0)),
      ("damping -1.0: it must be finite, > 0", damped(-1)),
      ("damping nan: it must be finite, > 0", damped(.nan)),
      ("damping inf: it must be finite, > 0", damped(.infinity)),
      (
        "the maps are refreshed every 0 steps: it must be at least 1",
        { $0.codes = .linear(refresh: .every(try RefreshSteps(none))) }
      ),
      (
        "lambda_Q = -1.0: it must be finite, >= 0",
        { $0.sweeps?.weights = try SweepWeights(queries: -1) }
      ),
      (
        "lambda_K = nan: it must be finite, >= 0",
        { $0.sweeps?.weights = try SweepWeights(keys: .nan) }
      ),
      (
        "lambda_1 = inf: it must be finite, >= 0",
        { $0.alternation?.weights = try AlternationWeights(selfProduct: .infinity) }
      ),
      (
        "lambda_2 = -0.5: it must be finite, >= 0",
        { $0.alternation?.weights = try AlternationWeights(selectedProducts: -0.5) }
      ),
      ("ridge = -1.0: it must be finite, >= 0", { $0.sweeps?.ridge = try Ridge(-1) }),
      (
        "sweeps = -1: it must be at least 0",
        { $0.sweeps?.iterations = try SweepIterations(-1, tolerance: 0) }
      ),
      (
        "alternations = 0: it must be at least 1",
        { $0.alternation?.iterations = try AlternationIterations(0, tolerance: 0) }
      ),
      (
        "prefill tolerance nan: it must be finite, >= 0",
        { $0.sweeps?.iterations = try SweepIterations(2, tolerance: .nan) }
      ),
      (
        "decode tolerance -1.0: it must be finite, >= 0",
        { $0.alternation?.iterations = try AlternationIterations(2, tolerance: -1) }
      ),
      (
        "linear codes need the maps of at least one sweep (or the spectral solver)",
        {
          $0.codes = .linear(refresh: .never)
          $0.sweeps?.iterations = try SweepIterations(0, tolerance: 0)
        }
      ),
    ]
    for (sentence, change) in cases {
      let error = lrqkError { try prefill(parameters(change)) }
      #expect(error == .parameter(sentence))
      #expect(error?.description == sentence)
    }
    #expect(lrqkError { try prefill(parameters()) } == nil)
  }

  @Test(arguments: [(0, 1), (1, 0), (3, 2), (1, 2), (-4, 2)])
  func `heads that cannot be shared evenly are refused`(_ heads: (Int, Int)) {
    let error = lrqkError {
      _ = try LRQKCache<Float>(
        queryHeads: heads.0, keyValueHeads: heads.1, width: 6, parameters: parameters())
    }
    guard case .parameter? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test
  func `a head of no width is refused`() {
    let error = lrqkError {
      _ = try LRQKCache<Float>(queryHeads: 1, keyValueHeads: 1, width: 0, parameters: parameters())
    }
    #expect(error == .parameter("rank r = 2 exceeds the head width d = 0"))
  }

  @Test(arguments: [Double.nan, .infinity, -.infinity], PrefillSolver.allCases)
  func `what is not finite in a prompt is found where it is`(
    _ value: Double, _ solver: PrefillSolver
  ) throws {
    let choice = try parameters { $0.solver = solver }
    func place(_ head: Int) -> Location { Location(layer: 3, head: head, step: 0) }
    func expected(_ tensor: String, _ head: Int) -> LRQKError {
      .nonFiniteInput(tensor: tensor, token: 13, column: 4, value: "\(value)", place(head))
    }
    var queries = data.queries
    queries[2] = with(value, in: queries[2], 13, 4)
    #expect(lrqkError { try prefill(choice, queries: queries) } == expected("Q of head 2", 2))
    var values = data.values
    values[1] = with(value, in: values[1], 13, 4)
    #expect(lrqkError { try prefill(choice, values: values) } == expected("V of head 1", 1))
    var keys = data.keys
    keys[1] = with(value, in: keys[1], 13, 4)
    #expect(lrqkError { try prefill(choice, keys: keys) } == expected("K of head 1", 1))
  }

  @Test func `a token of a later chunk is counted from the first one of the prompt`() throws {
    var tiers = Tiers()
    var cache = try LRQKCache<Double>(
      layer: 3, queryHeads: 4, keyValueHeads: 2, width: 6, parameters: parameters())
    let (first, second) = (data.part(0..<12), data.part(12..<20))
    try cache.extendPrompt(
      queries: first.queries, keys: first.keys, values: first.values, tiers: &tiers)
    for name in ["Q", "K", "V"] {
      var (q, k, v) = (second.queries, second.keys, second.values)
      switch name {
      case "Q": q[1] = with(.nan, in: q[1], 5, 4)
      case "K": k[1] = with(.nan, in: k[1], 5, 4)
      default: v[1] = with(.nan, in: v[1], 5, 4)
      }
      var broken = cache
      let error = lrqkError {
        try broken.extendPrompt(queries: q, keys: k, values: v, tiers: &tiers)
      }
      #expect(
        error
          == .nonFiniteInput(
            tensor: "\(name) of head 1", token: 17, column: 4, value: "nan",
            Location(layer: 3, head: 1, step: 0)))
    }
  }

  @Test func `a linear code that overflows is found in its group`() throws {
    let choice = try Parameters(.recommended, rank: 2, selected: 4, recent: 3)
    var tiers = Tiers()
    var cache = try LRQKCache<Double>(
      layer: 3, queryHeads: 4, keyValueHeads: 2, width: 6, parameters: choice)
    let part = data.part(0..<19)
    try cache.prefill(
      queries: part.queries, keys: part.keys, values: part.values, tiers: &tiers)
    let (q, token, v) = data.token(19)
    var k = token
    let W_K = cache.matrices[1].keys
    for j in 0..<6 { k[1, j] = W_K[j, 0] < 0 ? -1.7e308 : 1.7e308 }
    let largest = cache.largestCodes[1]
    let error = lrqkError {
      _ = try cache.decode(queries: q, keys: k, values: v, tiers: &tiers)
    }
    #expect(
      error
        == .overflow(
          what: "k_hat", largestBefore: largest, Location(layer: 3, head: 1, step: 1)))
  }

  @Test(arguments: ["q", "k", "v"], [Double.nan, .infinity])
  func `what is not finite in a new token is found where it is`(
    _ name: String, _ value: Double
  ) throws {
    for prompt in [2, 20] {  // collecting, and decoding
      var tiers = Tiers()
      var cache = try LRQKCache<Double>(
        layer: 3, queryHeads: 4, keyValueHeads: 2, width: 6, parameters: parameters())
      let part = data.part(0..<prompt)
      try cache.prefill(
        queries: part.queries, keys: part.keys, values: part.values, tiers: &tiers)
      var (q, k, v) = data.token(5)
      switch name {
      case "q": q[1, 3] = value
      case "k": k[1, 3] = value
      default: v[1, 3] = value
      }
      do {
        _ = try cache.decode(queries: q, keys: k, values: v, tiers: &tiers)
        Issue.record("nothing was thrown")
      } catch {
        #expect(
          error as? LRQKError
            == .nonFiniteInput(
              tensor: name, token: prompt, column: 3, value: "\(value)",
              Location(layer: 3, head: 1, step: 1)))
      }
      #expect(cache.step == 0 && cache.length == prompt)
    }
  }

  @Test
  func `tensors of another shape are named with both shapes`() throws {
    func shape(_ tensor: String, _ found: [Int], _ expected: [String]) -> LRQKError {
      .shape(ShapeError(tensor: tensor, found: found, expected: expected))
    }
    var queries = data.queries
    queries[1] = queries[1].rows(0..<19)
    #expect(
      lrqkError { try prefill(parameters(), queries: queries) }
        == shape("Q of head 1", [19, 6], ["token 20", "width 6"]))
    var values = data.values
    values[0] = values[0].gather(columns: [0, 1])
    #expect(
      lrqkError { try prefill(parameters(), values: values) }
        == shape("V of head 0", [20, 2], ["token 20", "width 6"]))
    var keys = data.keys
    keys[1] = keys[1].reshaped([2, 10, 6])
    #expect(lrqkError { try prefill(parameters(), keys: keys) } != nil)
    keys[0] = keys[0].reshaped([120])
    #expect(lrqkError { try prefill(parameters(), keys: keys) } != nil)

    var tiers = Tiers()
    var cache = try LRQKCache<Double>(
      queryHeads: 4, keyValueHeads: 2, width: 6, parameters: parameters())
    try cache.prefill(
      queries: data.queries, keys: data.keys, values: data.values, tiers: &tiers)
    let (q, k, v) = data.token(0)
    do {
      _ = try cache.decode(queries: k, keys: k, values: v, tiers: &tiers)
      Issue.record("nothing was thrown")
    } catch {
      #expect(error as? LRQKError == shape("q", [2, 6], ["head 4", "width 6"]))
    }
    do {
      _ = try cache.decode(queries: q, keys: k, values: q, tiers: &tiers)
      Issue.record("nothing was thrown")
    } catch {
      #expect(error as? LRQKError == shape("v", [4, 6], ["head 2", "width 6"]))
    }
  }

  @Test
  func `stacked queries that are no multiple of the keys are refused`() {
    for rows in [0, 10, 30, 50] {
      let Q = Tensor<Double>.normal(shape: [rows, 6], seed: 1)
      let error = lrqkError {
        _ = try factorizePrompt(queries: [Q], keys: [data.keys[0]], parameters: parameters())
      }
      guard case .shape(let shape)? = error else {
        Issue.record("\(rows) rows: \(String(describing: error))")
        continue
      }
      #expect(shape.found == [rows, 6])
    }
  }

  @Test
  func `an empty prompt and one shorter than the rank are refused`() throws {
    let none = Tensor<Double>(shape: [0, 6], elements: [])
    #expect(
      lrqkError { _ = try factorizePrompt(queries: [none], keys: [none], parameters: parameters()) }
        == .parameter("an empty prompt has no factors"))
    for solver in PrefillSolver.allCases {
      let short = data.part(0..<3)
      let error = lrqkError {
        _ = try factorizePrompt(
          queries: [short.queries[0]], keys: [short.keys[0]],
          parameters: parameters {
            $0.sizes = try Sizes(rank: 4, selected: 4, recent: 3)
            $0.solver = solver
          })
      }
      #expect(error == .promptTooShort(tokens: 3, rank: 4))
    }
  }

  @Test
  func `a prompt does not grow once it is complete`() throws {
    var tiers = Tiers()
    var cache = try LRQKCache<Double>(
      queryHeads: 4, keyValueHeads: 2, width: 6, parameters: parameters())
    for _ in 0..<2 {
      do {
        try cache.prefill(
          queries: data.queries, keys: data.keys, values: data.values, tiers: &tiers)
      } catch {
        #expect(error as? LRQKError == .parameter("a prompt cannot grow once it is complete"))
      }
    }
    #expect(cache.length == 20)
  }
}
