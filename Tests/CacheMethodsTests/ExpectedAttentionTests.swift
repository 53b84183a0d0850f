// Expected Attention: means of exponentials by drawing queries, RoPE's mean, and what may not
// matter.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

/// L with L Lᵀ = A, lower.
private func cholesky(_ A: Tensor<Double>) -> Tensor<Double> {
  let n = A.rows
  var L = Tensor<Double>(repeating: 0, shape: [n, n])
  for i in 0..<n {
    for j in 0...i {
      let rest = A[i, j] - (0..<j).reduce(0) { $0 + L[i, $1] * L[j, $1] }
      L[i, j] = i == j ? rest.squareRoot() : rest / L[j, j]
    }
  }
  return L
}

private func dot(_ a: [Double], _ b: [Double]) -> Double {
  zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
}

private func rotations(_ positions: [Int], _ rotary: RotaryEmbedding) -> Rotations<Double> {
  rotary.rotations(positions: positions, length: 100, as: Double.self)
}

@Suite struct ExpectedAttentionTests {
  @Test func `the score is the mean attention of queries drawn from the distribution`() {
    // The means of exp(q · k / √d) over Gaussian queries, for keys of several lengths.
    let d = 8
    let queries: Tensor<Double> = normalHeads(1, 200, d, seed: 1)[0].shifted(by: [
      0.5, -0.2, 0, 0.3, 0, 0, 0.1, -0.4,
    ])
    let statistics = QueryStatistics(queries, from: 4, covariance: true)
    let keys: Tensor<Double> = normalHeads(1, 6, d, seed: 2)[0]
    let z = statistics.expectedLogits(keys)
    let covariance = statistics.covariance ?? keys
    let (L, n) = (cholesky(covariance), 20_000)
    let draws: Tensor<Double> = .normal(shape: [n, d], seed: 3)
    let samples = (0..<n).map { t in
      (0..<d).map { i in
        statistics.mean[0, i] + (0...i).reduce(0) { $0 + L[i, $1] * draws[t, $1] }
      }
    }
    for j in 0..<6 {
      let k = keys.row(j)
      let mean = samples.reduce(0) { $0 + exp(dot($1, k) / Double(d).squareRoot()) } / Double(n)
      // q · k / √d is normal with this variance; its exponential's variance follows.
      let spread = (0..<d).reduce(0) { $0 + k[$1] * dot(covariance.row($1), k) } / Double(d)
      let deviation = exp(z[j]) * (exp(spread) - 1).squareRoot()
      #expect(abs(mean - exp(z[j])) < 4 * deviation / Double(n).squareRoot(), "key \(j)")
      // Without the covariance it would be too small, by more than that.
      let plain = QueryStatistics(queries, from: 4, covariance: false).expectedLogits(keys)[j]
      #expect(abs(z[j] - plain - spread / 2) < 1e-14)
    }
  }

  @Test func `queries that are all equal give the softmax of that query`() throws {
    let q = normalHeads(1, 1, 16, seed: 4, of: Float.self)[0].row(0)
    let queries = Tensor(rows: Array(repeating: q, count: 40))
    let k: Tensor<Float> = normalHeads(1, 40, 16, seed: 5)[0]
    let on = QueryStatistics(queries, from: 4, covariance: true)
    #expect(on.covariance?.elements.allSatisfy { abs($0) < 1e-12 } == true)
    let p = softmax(on.expectedLogits(k))
    let exact = attentionWeights(query: q, keys: k.elements, slots: (0..<40).map(Int32.init))
    #expect(isNear(p, exact, 1e-6))  // the mean of 36 equal numbers is off by roundings
    let prompt = plainPrompt(queries: [queries], keys: [k])
    let sets = try kept(
      "expected-attention:budget=12,sinks=0,vnorm=off", prompt, plainLayer(1, 1, 16))[0]
    #expect(sets == largest(12, of: exact))
  }

  @Test func `statistics are the mean and the covariance, divided by the number of rows`() {
    let queries = Tensor<Double>(rows: [[90, 90], [1, 2], [3, 2], [1, 6], [3, 6]])
    let statistics = QueryStatistics(queries, from: 1, covariance: true)
    #expect(statistics.mean.elements == [2, 4])
    #expect(statistics.covariance?.elements == [1, 0, 0, 4])
    let z = statistics.expectedLogits(Tensor<Double>(rows: [[1, 0], [0, 1], [1, 1]]))
    let root = 2.0.squareRoot()
    #expect(isNear(z, [2 / root + 0.25, 4 / root + 1, 6 / root + 1.25], 1e-15))
  }

  @Test func `one future position turns the statistics as it turns the queries`() {
    let queries: Tensor<Double> = normalHeads(1, 50, 12, seed: 6)[0]
    let rotary = RotaryEmbedding(rotatedWidth: 12, base: 100)
    let turned = QueryStatistics(queries, from: 4, covariance: true).turned(
      by: rotations([57], rotary).averaged)
    let direct = QueryStatistics(rotations([57], rotary).rotate(queries), from: 4, covariance: true)
    #expect(isNear(turned.mean.elements, direct.mean.elements, 1e-14))
    #expect(isNear(turned.covariance?.elements ?? [], direct.covariance?.elements ?? [], 1e-14))
  }

  @Test func `the mean of rotations is applied, which is the mean of the turned queries`() {
    let x: Tensor<Double> = normalHeads(1, 1, 12, seed: 7)[0]
    let rotary = RotaryEmbedding(rotatedWidth: 12, base: 100)
    let all = (40..<72).map { rotations([$0], rotary).rotate(x).elements }
    let mean = (0..<12).map { c in all.reduce(0) { $0 + $1[c] } / 32 }
    let averaged = rotations(Array(40..<72), rotary).averaged
    #expect(isNear(averaged.rotate(x).elements, mean, 1e-14))
  }

  @Test(arguments: [1, 2, 16, 512])
  func `the mean of rotations shrinks, and leaves what no position turns`(_ future: Int) {
    let rotary = RotaryEmbedding(rotatedWidth: 8, base: 100)
    let averaged = rotations(Array(90..<90 + future), rotary).averaged
    for (c, s) in zip(averaged.cosines.elements, averaged.sines.elements) {
      let length = c * c + s * s
      #expect(future == 1 ? abs(length - 1) < 1e-14 : length < 1)
    }
    let x: Tensor<Double> = normalHeads(1, 9, 12, seed: 8)[0]
    let y = averaged.rotate(x)
    for j in 0..<9 {
      #expect(dot(y.row(j), y.row(j)) <= dot(x.row(j), x.row(j)) * (1 + 1e-14))
      #expect(y.row(j)[8...] == x.row(j)[8...], "a part without RoPE")
    }
    // Far enough ahead, fast pairs forget where they pointed; slow ones hardly.
    if future == 512 {
      #expect(abs(averaged.cosines[0, 0]) < 0.01)
    }
  }

  @Test func `the layer's own scaling stretches the future, factors included`() throws {
    let yarn = RotaryEmbedding(
      rotatedWidth: 8, base: 100,
      scaling: .yarn(.init(factor: 4, trainedLength: 32, attentionFactor: 1.5)))
    let x: Tensor<Double> = normalHeads(1, 1, 8, seed: 9)[0]
    let one = rotations([50], yarn).averaged.rotate(x)
    #expect(abs(one.squaredNorm / x.squaredNorm - 2.25) < 1e-12)
    // And a method uses it: other frequencies, other rows.
    let prompt = Rows(Layer(4, 2, 8), tokens: 80).prompt(80)
    func sets(_ rotary: RotaryEmbedding) throws -> [[Int]] {
      try kept(
        "expected-attention:budget=20,future=4", prompt,
        LayerShape(
          layer: 0, queryHeads: 4, keyValueHeads: 2, width: 8, window: nil, rotary: rotary))
    }
    #expect(try sets(yarn) != sets(RotaryEmbedding(rotatedWidth: 8, base: 100)))
  }

  @Test func `neither the order of queries nor those of the sinks matter`() throws {
    let (q, k): (Tensor<Double>, Tensor<Double>) = (
      normalHeads(1, 60, 16, seed: 10)[0], normalHeads(1, 60, 16, seed: 11)[0]
    )
    func z(_ q: Tensor<Double>) -> [Double] {
      QueryStatistics(q, from: 4, covariance: true).expectedLogits(k)
    }
    let mixed = q.gather(rows: Array(0..<4) + (4..<60).map { 4 + ($0 * 23 + 7) % 56 })
    #expect(isNear(z(mixed), z(q), 1e-13))
    let loud = q.scalingRows { $0 < 4 ? 1000 : 1 }
    #expect(z(loud) == z(q))
    // Turned together, queries and keys give the same; reciprocal scales to the last bit.
    let turned = QueryStatistics(q.hadamard, from: 4, covariance: true).expectedLogits(k.hadamard)
    #expect(isNear(turned, z(q), 1e-13))
    let scaled = QueryStatistics(q.scalingRows { _ in 0.5 }, from: 4, covariance: true)
      .expectedLogits(k.scalingRows { _ in 2 })
    #expect(scaled == z(q))
  }

  @Test func `a shift of all keys leaves attention by the mean query, and not that by the spread`()
  {
    let (q, k): (Tensor<Double>, Tensor<Double>) = (
      normalHeads(1, 60, 16, seed: 12)[0], normalHeads(1, 40, 16, seed: 13)[0]
    )
    let shifted = k.shifted(by: (0..<16).map { Double($0) / 8 })
    func p(_ k: Tensor<Double>, _ covariance: Bool) -> [Double] {
      softmax(QueryStatistics(q, from: 0, covariance: covariance).expectedLogits(k))
    }
    #expect(isNear(p(shifted, false), p(k, false), 1e-13))
    #expect(!isNear(p(shifted, true), p(k, true), 1e-3))
  }

  @Test func `values weigh by their length, epsilon lifts rows of little attention`() throws {
    let p: [[Double]] = [[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]
    let v = Tensor<Double>(rows: [[3, 4], [0, 1], [0, 0]])
    #expect(
      expectedScores(p, group: .mean, groupSize: 2, values: nil, epsilon: 0)
        == [[0.3, 0.525, 0.175]])
    let weighed = expectedScores(p, group: .max, groupSize: 2, values: [v], epsilon: 0.5)
    #expect(isNear(weighed[0], [5, 1.3, 0], 1e-15))
    #expect(
      expectedScores(p, group: .own, groupSize: 2, values: [v, v], epsilon: 0).map(\.count)
        == [3, 3])
    // Row 9 has a value 1000 times as long.
    let k: [Tensor<Float>] = normalHeads(1, 40, 16, seed: 14)
    let values = k.map { $0.scalingRows { $0 == 9 ? 1000 : 1 } }
    let prompt = plainPrompt(
      queries: normalHeads(1, 40, 16, seed: 15), keys: k.map { $0.scalingRows { _ in 0.01 } },
      values: values)
    func sets(_ options: String) throws -> [Int] {
      try kept("expected-attention:budget=1,sinks=0,\(options)", prompt, plainLayer(1, 1, 16))[0]
    }
    #expect(try sets("vnorm=on") == [9] && sets("vnorm=off") != [9])
    #expect(try sets("epsilon=1e3") == [9])
  }

  @Test func `the first rows stay, and a group has one set unless it is asked for more`() throws {
    let prompt = Rows(Layer(4, 2, 8), tokens: 70).prompt(70)
    let shape = Layer(4, 2, 8).shape
    let mean = try kept("expected-attention:budget=20,sinks=5,future=16", prompt, shape)
    #expect(mean.allSatisfy { $0.count == 20 && $0.prefix(5) == [0, 1, 2, 3, 4] })
    #expect(mean[0] == mean[1] && mean[0] != mean[2])
    let own = try kept("expected-attention:budget=20,sinks=5,future=16,group=own", prompt, shape)
    #expect(own[0] != own[1])
    let q = normalHeads(2, 50, 8, seed: 16, of: Float.self).flatMap { [$0, $0] }
    let equal = plainPrompt(queries: q, keys: normalHeads(2, 50, 8, seed: 17))
    let sets = try ["own", "mean", "max", "sum"].map {
      try kept("expected-attention:budget=15,group=\($0)", equal, plainLayer(4, 2, 8))
    }
    #expect(sets.allSatisfy { $0 == sets[0] })
    #expect(try kept("expected-attention:budget=2", equal, plainLayer(4, 2, 8))[0] == [0, 1, 2, 3])
  }

  @Test func `without queries before RoPE it says what is missing`() throws {
    var prompt = Rows(Layer(4, 2, 8), tokens: 30).prompt(30)
    prompt.queriesBeforeRotary = nil
    let sentence =
      "expected-attention needs the prompt's queries before RoPE, which this recording does not have"
    #expect(throws: MethodError(sentence)) {
      try kept("expected-attention:budget=5", prompt, Layer(4, 2, 8).shape)
    }
    let cache = try cacheMethod("expected-attention").makeCache(for: Layer(4, 2, 8).shape)
    #expect(cache.needs == .queriesBeforeRotary)
  }

  @Test(
    arguments: [
      "future=8,sinks=2", "sinks=0,covariance=off,group=own,dropped=parked",
      "future=3,vnorm=off,group=max",
    ], Layer.all)
  func `bytes are those of the buffers, and a budget for everything is full attention`(
    _ options: String, _ layer: Layer
  ) throws {
    try expectBytesOfBuffers("expected-attention:budget=10,\(options)", layer)
    try expectFullAttention("expected-attention:budget=40,\(options)", layer)
  }

  @Test func `heads do not look at each other, and options without effect are refused`() throws {
    try expectHeadsApart("expected-attention:budget=12")
    #expect(
      throws: MethodError(
        "expected-attention: epsilon has no effect with vnorm=off; drop one of them")
    ) { try cacheMethod("expected-attention:vnorm=off,epsilon=0.1") }
    #expect(throws: MethodError.self) { try cacheMethod("expected-attention:covariance=yes") }
    #expect(throws: MethodError.self) { try cacheMethod("expected-attention:future=0") }
    #expect(try !cacheMethod("expected-attention:vnorm=off").description.contains("epsilon"))
  }

  @Test func `the queries to come stand after the prompt`() throws {
    // One position ahead and no covariance: the mean query, rotated by l, scores every key.
    let layer = Layer(4, 2, 16)
    let (rows, l, n) = (Rows(layer, tokens: 41, seed: 3), 40, 12)
    let run = try Run(
      "expected-attention:budget=\(n),future=1,sinks=0,covariance=off,vnorm=off", rows, prompt: l)
    let rotation = layer.shape.rotary.rotations(positions: [l], length: l + 1)
    for m in 0..<2 {
      var mass = [Double](repeating: 0, count: l)
      for h in 2 * m..<2 * m + 2 {
        let mean = (0..<16).map { c in
          Float((0..<l).reduce(0.0) { $0 + Double(rows.queriesBefore[h][$1, c]) } / Double(l))
        }
        let q = rotation.rotate(Tensor(shape: [1, 16], elements: mean)).row(0)
        let scores = (0..<l).map { j in
          zip(q, rows.keys[m].row(j)).reduce(0) { $0 + Double($1.0) * Double($1.1) } / 4
        }
        for (j, w) in softmax(scores).enumerated() { mass[j] += w }
      }
      let best = mass.indices.sorted { mass[$0] > mass[$1] }.prefix(n).sorted()
      #expect(run.steps[0].attended[2 * m] == best + [l])
    }
  }
}
