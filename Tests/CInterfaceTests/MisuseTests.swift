// Wrong arguments, wrong moments, wrong handles: a status and one line each, and no output.
//
// check.c does the same under valgrind, from many threads, for every function.

import CLRQK
import LRQK
import Tensors
import Testing

/// A change to good options, and a word of the sentence that it must lead to.
struct Nonsense: CustomTestStringConvertible, Sendable {
  let word: String
  let change: @Sendable (inout lrqk_options) -> Void
  var testDescription: String { word }

  static let all = [
    Nonsense(word: "solver") { $0.solver = 7 },
    Nonsense(word: "rank") { $0.rank = 9 },
    Nonsense(word: "width") { $0.width = 0 },
    Nonsense(word: "selected") { $0.selected = .max },
    Nonsense(word: "recent") { $0.recent = 0 },
    Nonsense(word: "5 query heads") { $0.query_heads = 5 },
    Nonsense(word: "seed has no effect") {
      $0.initialization = Int32(LRQK_INITIALIZATION_TOP_COLUMNS.rawValue)
      $0.seed = 1
    },
    Nonsense(word: "damping has no effect") { $0.damping = 0.5 },
    Nonsense(word: "map_refresh has no effect") { $0.map_refresh = 5 },
    Nonsense(word: "prefill_iterations has no effect") {
      $0.solver = Int32(LRQK_SOLVER_SPECTRAL.rawValue)
      $0.initialization = 0
      $0.weighted_update = 0
    },
    Nonsense(word: "ridge") { $0.ridge = -1 },
    Nonsense(word: "lambda_1") { $0.lambda_1 = .nan },
    Nonsense(word: "tolerance") { $0.decode_tolerance = .infinity },
    Nonsense(word: "support = 3: known are 1, 2") { $0.support = 3 },
    Nonsense(word: "attends to its group's rows only where") {
      $0.support = Int32(LRQK_SUPPORT_GROUP.rawValue)
    },
    Nonsense(word: "layer") { $0.layer = -1 },
    Nonsense(word: "window") { $0.window = -1 },
    Nonsense(word: "device_capacity") { $0.device_capacity = -1 },
    Nonsense(word: "basis_update = 0: known are 1, 2, 3") { $0.basis_update = 0 },
  ]
}

@Suite struct MisuseTests {
  private let rows = LayerRows(
    tokens: 20, width: Choices.d, queryHeads: Choices.H, keyValueHeads: Choices.M)

  @Test func `a message names what is wrong, and fits into whatever there is room for`() {
    let scores: [Float] = [1, .nan, 3]
    var indices: [Int32] = [7]
    func topK(_ size: Int) -> Answer {
      unsafe call(size: size) {
        unsafe lrqk_top_k(1, 3, 1, scores, &indices, nil, $0, $1)
      }
    }
    let whole = topK(400)
    #expect(whole.status == LRQK_ERROR_NON_FINITE)
    #expect(whole.message == "scores holds nan at (0, 1): clean the input")
    for size in 1..<whole.message.utf8.count {
      #expect(topK(size).message == String(whole.message.prefix(size - 1)))
    }
    #expect(unsafe lrqk_top_k(1, 3, 1, scores, &indices, nil, nil, 0) == LRQK_ERROR_NON_FINITE)
    #expect(indices == [7])
  }

  @Test func `a cut message ends in a whole character`() {
    var buffer = [CChar](repeating: 1, count: 4)
    // "aᵀb" is 61 E1 B5 80 62.
    #expect(unsafe lrqk_cache_message(0, &buffer, 4) == LRQK_ERROR_CLOSED)
    #expect(buffer == [1, 1, 1, 1])
    let singular = [Float](repeating: 0, count: 4)
    var (a, b, c, d) = (room(2), room(2), room(2), room(2))
    var lengths: Set<Int> = []
    for size in 1..<60 {
      let answer = unsafe call(size: size) {
        unsafe lrqk_sweep_gram(
          2, 1, singular, singular, [1, 0], [1, 0], 1, 1, &a, &b, &c, &d, $0, $1)
      }
      #expect(answer.status == LRQK_ERROR_BREAKDOWN)
      #expect(!answer.message.contains("\u{FFFD}"), "\(answer)")
      lengths.insert(answer.message.utf8.count)
    }
    #expect(lengths.count < 59)  // some cuts fell into a character
  }

  @Test func `sizes that overflow or that no machine has are refused before anything is read`() {
    var out: [Float] = [0]
    let big: [Int64] = [0, -1, .min, .max, 1 << 33, 1 << 62]
    for size in big {
      let answer = unsafe call {
        unsafe lrqk_proxy_scores(1, size, 1, [1], [1], &out, $0, $1)
      }
      #expect(answer.status == LRQK_ERROR_SIZE, "\(size): \(answer)")
    }
    let huge = unsafe call {
      unsafe lrqk_proxy_scores(
        1 << 16, (1 << 31) - 1, 1 << 16, [1], [1], &out, $0, $1)
    }
    #expect(huge.status == LRQK_ERROR_MEMORY || huge.status == LRQK_ERROR_SIZE, "\(huge)")
  }

  @Test func `numbers that overflow on the way are a breakdown, and nothing is written`() {
    let large = Float.greatestFiniteMagnitude
    var out: [Float] = [7]
    let answer = unsafe call {
      unsafe lrqk_proxy_scores(1, 1, 2, [large, large], [large, large], &out, $0, $1)
    }
    #expect(answer.status == LRQK_ERROR_BREAKDOWN)
    #expect(answer.message.hasPrefix("scores would hold inf at (0, 0)"))
    #expect(out == [7])
  }

  @Test func `rows that no head names may hold anything`() {
    var out = room(2)
    let (K, V): ([Float], [Float]) = ([1, 2, .nan, .nan], [5, 6, .infinity, 0])
    let good = unsafe call {
      unsafe lrqk_sparse_attention(1, 1, 2, 1, 2, [1, 1], K, V, [0], &out, $0, $1)
    }
    #expect(good.isOK && out == [5, 6], "\(good)")
    let bad = unsafe call {
      unsafe lrqk_sparse_attention(1, 1, 2, 1, 2, [1, 1], K, V, [1], &out, $0, $1)
    }
    #expect(
      bad.status == LRQK_ERROR_NON_FINITE && bad.message.hasPrefix("K holds nan at (0, 1, 0)"))
  }

  @Test(arguments: Nonsense.all)
  func `a choice that makes no sense is named`(_ nonsense: Nonsense) {
    var options = Choices.all[0].options
    nonsense.change(&options)
    var handle: lrqk_cache = 5
    let answer = unsafe call { unsafe lrqk_cache_create([options], &handle, $0, $1) }
    #expect(answer.status == LRQK_ERROR_PARAMETER || answer.status == LRQK_ERROR_SIZE)
    #expect(answer.message.contains(nonsense.word), "\(answer)")
    #expect(handle == 5)
  }

  @Test func `memory that is not there is refused when the cache is made`() {
    var options = Choices.all[0].options
    options.selected = 1 << 30
    options.width = 1 << 12
    var handle: lrqk_cache = 0
    let answer = unsafe call { unsafe lrqk_cache_create([options], &handle, $0, $1) }
    #expect(answer.status == LRQK_ERROR_MEMORY, "\(answer)")
  }

  @Test func `wrong moments are a status, and leave the cache as it was`() {
    let c = Handle(Choices.all[0].options)
    let (q, k, v) = rows.token(0)
    var out = room(Choices.H * Choices.d)
    #expect(
      unsafe lrqk_cache_decode(c.number, q.elements, k.elements, v.elements, &out)
        == LRQK_ERROR_STATE)
    #expect(c.message.contains("lrqk_cache_complete_prompt"))
    var (Q, K, V) = rows.flat(0..<15)
    K[3] = .nan
    #expect(unsafe lrqk_cache_prefill(c.number, 15, Q, K, V) == LRQK_ERROR_NON_FINITE)
    #expect(c.message == "K holds nan at (0, 0, 3): clean the input")
    #expect(c.info.tokens == 0)
    (Q, K, V) = rows.flat(0..<15)
    c.expect(unsafe lrqk_cache_prefill(c.number, 15, Q, K, V))
    #expect(unsafe lrqk_cache_prefill(c.number, 15, Q, K, V) == LRQK_ERROR_STATE)
    var count: Int64 = 0
    #expect(unsafe lrqk_cache_attended(c.number, 0, 0, nil, &count) == LRQK_ERROR_STATE)
    #expect(unsafe lrqk_cache_selected(c.number, 4, 0, nil, &count) == LRQK_ERROR_SIZE)
    var tokens = [Int32](repeating: 0, count: 6)
    #expect(unsafe lrqk_cache_selected(c.number, 0, 5, &tokens, &count) == LRQK_ERROR_SIZE)
    #expect(lrqk_cache_free(c.number) == LRQK_OK)
    #expect(lrqk_cache_free(c.number) == LRQK_ERROR_CLOSED)
    #expect(lrqk_cache_complete_prompt(c.number) == LRQK_ERROR_CLOSED)
  }

  @Test func `a cache that broke says so, and its ledger can still be read`() {
    var options = Choices.all[0].options
    options.device_capacity = 4000  // the prompt's rows fit, codes and slots do not
    let c = Handle(options)
    defer { #expect(lrqk_cache_free(c.number) == LRQK_OK) }
    let (Q, K, V) = rows.flat(0..<15)
    #expect(unsafe lrqk_cache_prefill(c.number, 15, Q, K, V) == LRQK_ERROR_MEMORY)
    let why = c.message
    #expect(why.hasPrefix("device out of memory"))
    #expect(c.info.phase == Int32(LRQK_PHASE_BROKEN.rawValue))
    #expect(lrqk_cache_complete_prompt(c.number) == LRQK_ERROR_STATE)
    #expect(c.message == why)
    #expect(c.bytes.resident <= 4000 && c.bytes.peak <= 4000)
    _ = c.events
  }
}
