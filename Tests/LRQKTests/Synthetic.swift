// Synthetic queries, keys and values for these tests, and a run of the cache over them.
//
// In:  sizes and a seed. Out: rows whose directions weigh less and less, as those of real heads do:
//      x_t = n_t diag(1, f, f², ...) M with normals n_t and a mixing matrix M that queries and keys
//      of one group share, so that QKᵀ has a decaying spectrum too. f = 1 makes all directions
//      equal.

import LRQK
import Tensors
import TieredMemory

/// Queries of every query head, keys and values of every key/value head, one row a token.
struct Synthetic<E: Scalar> {
  let queries: [Tensor<E>]
  let keys: [Tensor<E>]
  let values: [Tensor<E>]
  var width: Int { keys[0].columns }

  init(queries: [Tensor<E>], keys: [Tensor<E>], values: [Tensor<E>]) {
    (self.queries, self.keys, self.values) = (queries, keys, values)
  }

  init(
    tokens l: Int, width d: Int, queryHeads: Int = 1, keyValueHeads: Int = 1,
    decay: Double = 0.6, seed: UInt64 = 1
  ) {
    func rows(_ stream: Int, mixing: Int) -> Tensor<E> {
      var x = Tensor<Double>.normal(shape: [l, d], seed: seed, stream: UInt64(stream))
      var factor = 1.0
      for j in 0..<d {
        for t in 0..<l { x[t, j] *= factor }
        factor *= decay
      }
      let mix = Tensor<Double>.normal(shape: [d, d], seed: seed, stream: UInt64(mixing))
      return matmul(x, mix, in: .reference).map { $0 / Double(d).squareRoot() }.converted()
    }
    let share = queryHeads / keyValueHeads
    queries = (0..<queryHeads).map { rows(100 + $0, mixing: 300 + $0 / share) }
    keys = (0..<keyValueHeads).map { rows(200 + $0, mixing: 300 + $0) }
    values = (0..<keyValueHeads).map { rows(400 + $0, mixing: 500 + $0) }
  }

  /// Tokens `range`, as a prompt or a chunk of one.
  func part(_ range: Range<Int>) -> Synthetic {
    Synthetic(
      queries: queries.map { $0.rows(range) }, keys: keys.map { $0.rows(range) },
      values: values.map { $0.rows(range) })
  }

  /// q (H, d), k and v (H / G, d) of token t.
  func token(_ t: Int) -> (queries: Tensor<E>, keys: Tensor<E>, values: Tensor<E>) {
    func row(_ heads: [Tensor<E>]) -> Tensor<E> {
      Tensor(joiningRows: heads.map { $0.rows(t..<t + 1) })
    }
    return (row(queries), row(keys), row(values))
  }

  /// Each key/value head's queries stacked, (G l, d).
  var stackedQueries: [Tensor<E>] {
    let share = queries.count / keys.count
    return keys.indices.map { Tensor(joiningRows: Array(queries[$0 * share..<($0 + 1) * share])) }
  }
}

/// Everything that a run of the cache leaves behind.
struct Run<E: Scalar> {
  var cache: LRQKCache<E>
  var steps: [DecodeStep<E>] = []
  var events: [TransferEvent] = []
  /// Selected sets after the prompt.
  var firstSelected: [[Int]] = []
  /// Device bytes after the prompt and after each step.
  var residentBytes: [Int] = []
  var peakBytes = 0
  var liveBuffers: [DeviceTier.LiveBuffer] = []

  /// Prefill with the first `prompt` tokens, in chunks if wanted, then one step for each later one.
  init(
    _ data: Synthetic<E>, _ parameters: Parameters, prompt: Int, chunks: [Int]? = nil,
    initial: [InitialCodes<E>]? = nil, capacity: Int? = nil, trace: Trace? = nil
  ) throws {
    var tiers = Tiers(capacity: capacity)
    cache = try LRQKCache(
      queryHeads: data.queries.count, keyValueHeads: data.keys.count, width: data.width,
      parameters: parameters)
    var first = 0
    for n in chunks ?? [prompt] {
      let part = data.part(first..<first + n)
      try cache.extendPrompt(
        queries: part.queries, keys: part.keys, values: part.values, initial: initial,
        tiers: &tiers)
      first += n
    }
    precondition(first == prompt, "the chunks make up the prompt")
    try cache.completePrompt(tiers: &tiers, trace: trace)
    firstSelected = cache.selected
    residentBytes = [tiers.device.residentBytes]
    for t in prompt..<data.keys[0].rows {
      let (q, k, v) = data.token(t)
      steps.append(
        try cache.decode(queries: q, keys: k, values: v, tiers: &tiers, trace: trace))
      residentBytes.append(tiers.device.residentBytes)
    }
    events = tiers.ledger.events
    peakBytes = tiers.device.peakBytes
    liveBuffers = tiers.device.liveBuffers
  }

  /// Rows of all events with this reason.
  func rows(_ reason: TransferReason) -> Int {
    events.filter { $0.reason == reason }.reduce(0) { $0 + $1.rows }
  }
}

/// ‖A − B‖ / ‖B‖, Frobenius.
func relativeError<E: Scalar>(_ a: Tensor<E>, _ b: Tensor<E>) -> Double {
  let (a, b) = (a.converted(to: Double.self), b.converted(to: Double.self))
  return ((a - b).squaredNorm / b.squaredNorm).squareRoot()
}

/// ‖A‖, Frobenius.
func norm<E: Scalar>(_ a: Tensor<E>) -> Double { a.squaredNorm.squareRoot() }

/// A_Q A_Kᵀ in Double, the fit of QKᵀ; one NaN where A_Q was not asked for.
func fitted<E: Scalar>(_ factors: Factorization<E>) -> Tensor<Double> {
  guard let A_Q = factors.queryCodes else { return Tensor(repeating: .nan, shape: [1, 1]) }
  return matmul(
    A_Q.converted(to: Double.self), transposed: factors.keyCodes.converted(), in: .reference)
}

/// The error that `body` throws, if it is one of LRQK's.
func lrqkError(_ body: () throws -> Void) -> LRQKError? {
  do {
    try body()
    return nil
  } catch {
    return error as? LRQKError
  }
}
