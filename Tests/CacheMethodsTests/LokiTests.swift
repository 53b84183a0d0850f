// Loki: ranks by principal coordinates are exact where keys have no more, and its bytes are r wide.

import CacheMethods
import Tensors
import Testing
import TieredMemory
import Transformers

/// Every head's rows through a linear map, in place of their own.
private func rows(_ layer: Layer, _ length: Int, through map: Tensor<Float>) -> [Tensor<Float>] {
  (0..<layer.M).map { m in
    let free = Tensor<Float>.normal(
      shape: [length, map.rows], seed: 5, stream: UInt64(m))
    return matmul(free, map, in: .reference)
  }
}

/// The older tokens that each step of `run` chose, by head.
private func chosen(_ run: Run) -> [[[Int]]] { run.steps.map(\.attended) }

/// Runs `body` with a file that has these components for every key/value head, all alike large.
private func withComponents<Result>(
  _ layer: Layer, _ components: Tensor<Double>, _ body: (String) throws -> Result
) throws -> Result {
  try withCalibration(
    LokiMethod.name,
    [
      "components": Tensor(stacking: Array(repeating: components, count: layer.M)),
      "explained_variance": Tensor(repeating: 1 / Double(layer.d), shape: [layer.M, layer.d]),
      "mean": Tensor(repeating: 0, shape: [layer.M, layer.d]),
    ], body)
}

@Suite struct LokiTests {
  @Test(arguments: [Layer(4, 2, 8), Layer(3, 3, 16), Layer(4, 1, 20, window: 17)])
  func `with every component the choice is exact top-k, whatever the basis`(_ layer: Layer) throws {
    let rows = Rows(layer, tokens: 40)
    let exact = chosen(try Run("topk:k=6,w=4", rows, prompt: 20))
    #expect(try chosen(Run("loki:rank=\(layer.d),k=6,w=4", rows, prompt: 20)) == exact)
    // So it is with any orthogonal matrix, and with more components than there are.
    try withComponents(layer, try frame(layer.d, layer.d, seed: 3)) { path in
      let text = "loki:rank=100,k=6,w=4,calibration=\(path)"
      let sets = chosen(try Run(text, rows, prompt: 20))
      #expect(sets == exact)
    }
  }

  @Test
  func `on integers it is exact top-k to the last tie, and a shift of all keys changes nothing`()
    throws
  {
    // A signed permutation: coordinates are integers, every product and sum is exact.
    let layer = Layer(4, 2, 8)
    var P = Tensor<Double>(repeating: 0, shape: [8, 8])
    for j in 0..<8 { P[j, (3 * j + 1) % 8] = j.isMultiple(of: 2) ? 1 : -1 }
    func run(_ method: String, shift: Float) throws -> [[Int]] {
      let draw = { (heads: Int, stream: Int) in
        (0..<heads).map {
          Tensor<Float>.normal(shape: [30, 8], seed: 2, stream: UInt64(stream + $0))
            .map { $0.rounded() }
        }
      }
      let (q, k) = (draw(4, 0), draw(2, 10).map { $0.map { $0 + shift } })
      var tiers = Tiers()
      var cache = try cacheMethod(method).makeCache(for: layer.shape)
      try cache.prefill(
        PromptRows(queries: q, keys: k, keysBeforeRotary: k, values: k), tiers: &tiers)
      func newest(_ heads: [Tensor<Float>]) -> Tensor<Float> {
        Tensor(joiningRows: heads.map { $0.rows(7..<8) })
      }
      let token = TokenRows(
        queries: newest(q), queriesBeforeRotary: newest(q), keys: newest(k),
        keysBeforeRotary: newest(k), values: newest(k))
      return try cache.decode(token, tiers: &tiers).attended
    }
    let exact = try run("topk:k=6,w=4", shift: 0)
    try withComponents(layer, P) { path in
      // A shift of all keys adds one number to all scores of a query.
      for shift in [Float(0), 7, -64] {
        let sets = try run("loki:rank=8,k=6,w=4,calibration=\(path)", shift: shift)
        #expect(sets == exact, "shift \(shift)")
      }
    }
  }

  @Test func `keys of two directions need two components, and one is too few`() throws {
    let layer = Layer(4, 2, 8)
    let map: Tensor<Float> = try frame(8, 2, seed: 6).transposed().converted()
    let keys = rows(layer, 40, through: map)
    func run(_ method: String) throws -> [[[Int]]] {
      let plain = Rows(layer, tokens: 40)
      var tiers = Tiers()
      var cache = try cacheMethod(method).makeCache(for: layer.shape)
      var prompt = plain.prompt(20)
      prompt.keys = keys.map { $0.rows(0..<20) }
      try cache.prefill(prompt, tiers: &tiers)
      return try (20..<40).map { t in
        var token = plain.token(t)
        token.keys = Tensor(joiningRows: keys.map { $0.rows(t..<t + 1) })
        return try cache.decode(token, tiers: &tiers).attended
      }
    }
    let exact = try run("topk:k=6,w=4")
    #expect(try run("loki:rank=2,k=6,w=4") == exact)
    #expect(try run("loki:rank=99%,k=6,w=4") == exact)
    #expect(try run("loki:rank=1,k=6,w=4") != exact)
  }

  @Test func `no other directions leave less of the keys behind`() throws {
    // Keys with different spreads; residuals of their centred rows on the first 3 directions.
    var keys = Tensor<Double>.normal(shape: [200, 8], seed: 8, stream: 0)
    for t in 0..<200 {
      for j in 0..<8 { keys[t, j] = keys[t, j] * Double(8 - j) + 5 }
    }
    let found = try RowMoments(of: keys).principalComponents()
    func residual(_ rowsOfFrame: Tensor<Double>) -> Double {
      var centred = keys
      for t in 0..<200 {
        for j in 0..<8 { centred[t, j] -= found.mean[j] }
      }
      let coordinates = lokiCoordinates(centred, components: rowsOfFrame)
      return (centred - matmul(coordinates, rowsOfFrame, in: .reference)).squaredNorm
    }
    let best = residual(found.components.rows(0..<3))
    for seed in 0..<20 {
      #expect(best < residual(try frame(8, 3, seed: UInt64(seed)).transposed()))
    }
    let total = residual(Tensor(repeating: 0, shape: [1, 8]))
    let kept = found.explained[..<3].reduce(0, +)
    #expect(abs(best / total - (1 - kept)) < 1e-12, "what is not explained is left behind")
  }

  @Test func `scores are those of the first coordinates, without the mean`() {
    let keys = Tensor<Double>(rows: [[2, 1], [0, 3], [-1, 5]])
    let components = Tensor<Double>(rows: [[0.6, 0.8]])
    let coordinates = lokiCoordinates(keys, components: components)
    #expect(coordinates.elements.map { ($0 * 10).rounded() } == [20, 24, 34])
    let query = lokiCoordinates(Tensor<Double>(rows: [[5, 0]]), components: components).elements
    let scores = lokiScores(query: query, keys: coordinates.elements.span, width: 2)
    for (score, expected) in zip(scores, [2.0, 2.4, 3.4]) {
      #expect(abs(score - 3 * expected / 2.0.squareRoot()) < 1e-12)
    }
  }

  @Test func `the official count of components stays below the variance asked for`() {
    // 0.5 + 0.25 reach 0.75: two components. The official count is one, half of the variance; and
    // where the first explains enough it is none, so that all scores are 0 and the first tokens
    // win.
    let heads = [[0.5, 0.25, 0.25], [0.75, 0.125, 0.125]]
    #expect(lokiRank(explained: heads, fraction: 0.75, reaching: true) == 2)
    #expect(lokiRank(explained: heads, fraction: 0.75, reaching: false) == 1)
    #expect(lokiRank(explained: [heads[1]], fraction: 0.75, reaching: false) == 0)
    #expect(lokiRank(explained: [heads[1]], fraction: 0.75, reaching: true) == 1)
    #expect(lokiRank(explained: heads, fraction: 1, reaching: true) == 3)
    #expect(lokiRank(explained: [[0, 0]], fraction: 0.9, reaching: true) == 2, "nothing varies")
  }

  @Test(arguments: ["mean", "max", "sum"])
  func `a reduced group has one set, and equal queries have the set of one`(_ group: String) throws
  {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 30)
    let text = "loki:rank=4,k=6,w=4"
    let reduced = try Run("\(text),group=\(group)", rows, prompt: 20)
    let own = try Run(text, rows, prompt: 20)
    for (step, plain) in zip(reduced.steps, own.steps) {
      #expect(step.attended[0] == step.attended[1] && step.attended[2] == step.attended[3])
      #expect(plain.attended[0] != plain.attended[1] || plain.attended[2] != plain.attended[3])
    }
    func twins(_ method: String) throws -> [[[Int]]] {
      var tiers = Tiers()
      var cache = try cacheMethod(method).makeCache(for: layer.shape)
      try cache.prefill(rows.prompt(20), tiers: &tiers)
      return try (20..<30).map { t in
        let token = rows.token(t)
        let q = token.queries.gather(rows: [0, 0, 2, 2])
        let same = TokenRows(
          queries: q, queriesBeforeRotary: q, keys: token.keys,
          keysBeforeRotary: token.keysBeforeRotary, values: token.values)
        return try cache.decode(same, tiers: &tiers).attended
      }
    }
    #expect(try twins("\(text),group=\(group)") == twins(text))
  }

  @Test(
    arguments: [
      ("loki:rank=3,k=6,w=4", 3), ("loki:rank=100,k=6,w=4,transfers=per-key-value-head", 100),
      ("loki:rank=3,k=6,w=4,group=mean", 3),
    ], Layer.few)
  func `what it chooses by takes (l + d) r numbers a key head`(
    _ method: (text: String, rank: Int), _ layer: Layer
  ) throws {
    let made = try cacheMethod(method.text)
    let r = min(method.rank, layer.d)
    for prompt in promptLengths {
      let run = try Run(method.text, Rows(layer, tokens: 30), prompt: prompt)
      let codes = run.liveBuffers.filter {
        $0.label.hasPrefix("components of") || $0.label.hasPrefix("coordinates of")
      }
      #expect(codes.reduce(0) { $0 + $1.bytes } == layer.M * (prompt + layer.d) * r * 4)
      for (i, resident) in run.residentBytes.enumerated() {
        let bytes = made.bytes(tokens: prompt + i, layer: layer.shape)
        #expect(bytes.deviceCodes == layer.M * (prompt + i + layer.d) * r * 4)
        #expect(bytes.isUpperBound ? resident <= bytes.device : resident == bytes.device)
      }
    }
  }

  @Test func `a part of the variance is a bound before the prompt, and exact with a file`() throws {
    let layer = Layer(4, 2, 8)
    let method = try cacheMethod("loki:rank=50%,k=6,w=4")
    let bytes = method.bytes(tokens: 20, layer: layer.shape)
    let run = try Run("loki:rank=50%,k=6,w=4", Rows(layer, tokens: 20), prompt: 20)
    #expect(bytes.isUpperBound && run.residentBytes[0] < bytes.device)
    // Eight equal parts: half of them are 50%.
    try withComponents(layer, try frame(8, 8, seed: 1)) { path in
      let text = "loki:rank=50%,k=6,w=4,calibration=\(path)"
      let known = try cacheMethod(text).bytes(tokens: 20, layer: layer.shape)
      #expect(!known.isUpperBound && known.deviceCodes == 2 * 28 * 4 * 4)
      let exact = try Run(text, Rows(layer, tokens: 20), prompt: 20)
      #expect(exact.residentBytes[0] == known.device)
      let below = try cacheMethod(text + ",variance=below").bytes(tokens: 20, layer: layer.shape)
      #expect(below.deviceCodes == 2 * 28 * 3 * 4)
    }
  }

  @Test(arguments: [1, 2, 9, 29])
  func `with a budget for everything it is full attention, bit for bit`(_ prompt: Int) throws {
    for layer in Layer.few {
      let rows = Rows(layer, tokens: 30)
      let full = try Run("full", rows, prompt: prompt)
      for text in ["loki:rank=2,k=40,w=1", "loki:rank=90%,k=40,w=4,group=max"] {
        let run = try Run(text, rows, prompt: prompt)
        #expect(run.steps.map(\.attention) == full.steps.map(\.attention), "\(text)")
      }
    }
  }

  @Test(arguments: [
    ("loki:rank=0", "rank=0 is not a whole number from 1"),
    ("loki:rank=0%", "rank=0% is no part of the variance"),
    ("loki:rank=101%", "rank=101% is no part of the variance"),
    ("loki:rank=x%", "rank=x% is no part of the variance"),
    ("loki:variance=below", "variance has no effect with a number of components"),
    ("loki:rank=90%,variance=above", "is none of: reached, below"),
    ("loki:group=median", "is none of: own, mean, max, sum"),
  ])
  func `a bad option is one line`(_ text: String, _ part: String) {
    let line = methodError { _ = try cacheMethod(text) }
    #expect(line.contains(part) && !line.contains("\n"), "\(line)")
  }
}
