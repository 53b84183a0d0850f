// Data without full rank: named errors from the sweeps, a ridge that helps, starts that are
// missing.

import LRQK
import Tensors
import Testing
import TieredMemory

private let data = Synthetic<Double>(
  tokens: 20, width: 6, queryHeads: 2, keyValueHeads: 2, decay: 0.8, seed: 91)

private func run(
  _ keys: [Tensor<Double>], initial: [InitialCodes<Double>]? = nil,
  _ change: (inout Parameters) throws -> Void
) throws -> Run<Double> {
  var parameters = try Parameters(.paper, rank: 3, selected: 4, recent: 3)
  parameters.sweeps?.iterations = SweepIterations().untilLimit
  try change(&parameters)
  let all = Synthetic(queries: data.queries, keys: keys, values: data.values)
  return try Run(all, parameters, prompt: 18, initial: initial)
}

private func singular(_ error: LRQKError?) -> (
  system: String, pivot: SingularSystem, place: Location
)? {
  if case .singular(let system, let pivot, let place)? = error {
    (system, pivot, place)
  } else {
    nil
  }
}

@Suite struct SingularTests {
  @Test(arguments: [PrefillSolver.rowwise, .gram])
  func `zero keys stop the sweeps with the system, head, step and pivot`(
    _ solver: PrefillSolver
  ) throws {
    let zero = Tensor<Double>(repeating: 0, shape: [20, 6])
    let error = lrqkError { _ = try run([data.keys[0], zero]) { $0.solver = solver } }
    let found = try #require(singular(error), "\(String(describing: error))")
    #expect(found.system == "A_KᵀA_K")
    #expect(found.place == Location(layer: 0, head: 1, step: 0))
    #expect(found.pivot.pivot == 0 && found.pivot.order == 3 && found.pivot.value == 0)
    #expect(error?.description.contains("lower the rank or add a ridge") == true)
  }

  @Test(arguments: [PrefillSolver.rowwise, .gram])
  func `keys of rank 2 at r = 3 are singular without a ridge and pass with one`(
    _ solver: PrefillSolver
  ) throws {
    // Exact numbers, so that the third pivot is rounding or nothing.
    let basis = Tensor<Double>(rows: [[1, 2, 0, -1, 3, 1], [0, 1, 1, 2, -1, 4]])
    let flat = matmul(.normal(shape: [20, 2], seed: 5), basis, in: .reference)
    let error = lrqkError {
      _ = try run([data.keys[0], flat]) {
        $0.solver = solver
        $0.sweeps?.start = .topColumns
      }
    }
    let found = try #require(singular(error), "\(String(describing: error))")
    #expect(found.place.head == 1 && found.pivot.pivot == 2)
    let passed = try run([data.keys[0], flat]) {
      $0.solver = solver
      $0.sweeps?.start = .topColumns
      $0.sweeps?.ridge = 1e-6
      $0.alternation?.ridge = 1e-6
    }
    #expect(passed.cache.keyCodes[1].firstNonFinite == nil)
    #expect(passed.steps.allSatisfy { $0.attention.firstNonFinite == nil })
    // Spectral codes need no ridge; linear ones need no basis either.
    let spectral = try run([data.keys[0], flat]) {
      $0.solver = .spectral
      $0.codes = .linear(refresh: .never)
    }
    #expect(spectral.steps.allSatisfy { $0.attention.firstNonFinite == nil })
  }

  @Test
  func `zero keys pass with spectral linear codes, the oldest tokens chosen by ties`() throws {
    let zero = Tensor<Double>(repeating: 0, shape: [20, 6])
    let run = try run([data.keys[0], zero]) {
      $0.solver = .spectral
      $0.codes = .linear(refresh: .never)
    }
    #expect(run.steps.map { $0.selected[1] } == [[0, 1, 2, 3], [0, 1, 2, 3]])
    #expect(run.steps.allSatisfy { $0.gaps[1] == 0 })
  }

  @Test
  func `going on after a breakdown is a choice, as released`() throws {
    let zero = Tensor<Float>(repeating: 0, shape: [20, 6])
    let all = Synthetic<Float>(
      queries: data.queries.map { $0.converted() }, keys: [zero, zero],
      values: data.values.map { $0.converted() })
    var parameters = try Parameters(.paper, rank: 3, selected: 4, recent: 3)
    parameters.breakdown = .proceed
    let run = try Run(all, parameters, prompt: 18)
    #expect(run.cache.keyCodes[0].firstNonFinite != nil)
    // Attention is over exact rows whatever the codes hold, so it stays finite.
    #expect(run.steps.allSatisfy { $0.attention.firstNonFinite == nil })
    #expect(run.steps.allSatisfy { $0.selected.allSatisfy { Set($0).count == 4 } })
  }

  @Test
  func `codes that outgrow the precision name themselves`() throws {
    let x = Tensor<Float>.normal(shape: [10, 6], seed: 1)
    var parameters = try Parameters(.recommended, rank: 3, selected: 4, recent: 2)
    parameters.codeSharing = .perQueryHead
    var tiers = Tiers()
    var cache = try LRQKCache<Float>(
      queryHeads: 1, keyValueHeads: 1, width: 6, parameters: parameters)
    try cache.prefill(queries: [x], keys: [x], values: [x], tiers: &tiers)
    // A key near Float's end, with the signs of W_K's first column: every product adds up.
    let column = cache.matrices[0].keys.transposed().row(0)
    let token = Tensor<Float>(rows: [column.map { $0 < 0 ? -3e38 : 3e38 }])
    try #require(column.reduce(0) { $0 + abs($1) } > 1.2)
    do {
      _ = try cache.decode(
        queries: x.rows(0..<1), keys: token, values: x.rows(0..<1), tiers: &tiers)
      Issue.record("nothing was thrown")
    } catch {
      guard case .overflow(let what, let before, let place)? = error as? LRQKError else {
        Issue.record("\(error)")
        return
      }
      #expect(what == "k_hat" && before.isFinite && before > 0)
      #expect(place == Location(layer: 0, head: 0, step: 1))
    }
  }

  @Test
  func `given codes must be there, fit, and be wanted`() throws {
    let good = (0..<2).map { g in
      InitialCodes<Double>(
        queries: .normal(shape: [18, 3], seed: 6, stream: UInt64(g)),
        keys: .normal(shape: [18, 3], seed: 7, stream: UInt64(g)))
    }
    #expect(
      lrqkError { _ = try run(data.keys) { $0.sweeps?.start = .given } }
        == .parameter("the sweeps start from given codes, but A_Q and A_K were not given"))
    let unwanted = LRQKError.parameter(
      "A_Q and A_K were given, but the choice of initialisation does not use them")
    #expect(lrqkError { _ = try run(data.keys, initial: good) { _ in } } == unwanted)
    #expect(
      lrqkError {
        _ = try run(data.keys, initial: good) {
          $0.sweeps?.start = .given
          $0.solver = .spectral
        }
      } == unwanted)
    var narrow = good
    narrow[1].keys = narrow[1].keys.gather(columns: [0, 1])
    #expect(
      lrqkError { _ = try run(data.keys, initial: narrow) { $0.sweeps?.start = .given } }
        == .shape(
          ShapeError(tensor: "A_K of head 1", found: [18, 2], expected: ["token 18", "rank 3"])))
    #expect(
      lrqkError {
        _ = try run(data.keys, initial: [good[0]]) { $0.sweeps?.start = .given }
      } != nil, "codes of one head for two")
    _ = try run(data.keys, initial: good) { $0.sweeps?.start = .given }
    // A prompt that is still collecting when decoding starts cannot be given codes for its tokens.
    var parameters = try Parameters(.paper, rank: 3, selected: 10, recent: 3)
    parameters.sweeps?.start = .given
    let short = good.map {
      InitialCodes(queries: $0.queries.rows(0..<5), keys: $0.keys.rows(0..<5))
    }
    #expect(
      lrqkError { _ = try Run(data, parameters, prompt: 5, initial: short) }
        == .parameter("given codes need a prompt of at least k = 10 tokens"))
  }

  @Test
  func `the Gram solver refuses to hand out codes of no sweep`() {
    let error = lrqkError {
      _ = try run(data.keys) {
        $0.sweeps?.iterations = try SweepIterations(0, tolerance: 0)
      }
    }
    guard case .parameter(let sentence)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(sentence.contains("at least one sweep"))
  }
}
