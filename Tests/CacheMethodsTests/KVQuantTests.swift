// KVQuant: what is an outlier comes back as it is, everything else within a level; and what is read
// is attended to as full attention would.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

/// Every way to hold rows in few bits.
private let forms = [
  "kvquant", "kvquant:first=0,bits=2,norm=on", "kvquant:first=3,bits=5,sparsity=0.8",
  "kvquant:first=0,bits=4,codebook=even,sparsity=0.9", "kvquant:first=2,bits=3,sparsity=1",
  "kvquant:first=0,cap=on,sparsity=0.7", "kvquant:bits=2,codebook=even,sparsity=1,first=0",
]

/// A cache after a prompt, and what the device has then.
func heldPrompt(
  _ text: String, _ rows: Rows, prompt l: Int
) throws -> (cache: KVQuantCache, bytes: Int) {
  var tiers = Tiers()
  var caches = [try cacheMethod(text).makeCache(for: rows.layer.shape)]
  try caches[0].prefill(rows.prompt(l), tiers: &tiers)
  try settleTogether(&caches, tiers: &tiers)
  let cache = try #require(caches[0] as? KVQuantCache)
  #expect(tiers.ledger.events.isEmpty)
  return (cache, tiers.device.residentBytes)
}

/// The bytes that a cache's buffers should have, counted from the outliers that it found.
private func bytes(
  _ cache: KVQuantCache, _ layer: Layer, bits: Int, hasOutliers: Bool, tables: Int
) -> Int {
  let (x, C) = (cache.exactTokens.count, layer.M * layer.d)
  let n = cache.length - x
  let words = (layer.d * bits + 31) / 32
  let found = cache.outlierCounts
  let apart = hasOutliers ? 2 * (n + 1) * 4 + (found.keys + found.values) * 6 : 0
  return 2 * layer.M * n * words * 4 + (2 * C + 2 * n) * 4 + tables * 4 + apart
    + x * (2 * C * 4 + 4)
}

@Suite struct KVQuantRangeTests {
  @Test func `quantiles are linear between two places, and overflow nowhere`() {
    let numbers: [Double] = [1, 2, 4, 8]
    #expect([0, 1.0 / 3, 0.5, 0.75, 1].map { quantile($0, of: numbers) } == [1, 2, 3, 5, 8])
    let huge = Float.greatestFiniteMagnitude
    #expect(quantile(0.5, of: [-huge, huge]) == 0 && quantile(1, of: [-huge, huge]) == huge)
    #expect(quantile(0.3, of: [Float(7)]) == 7)
    #expect(CodeRange<Float>(low: -huge, high: huge).half == huge)
  }

  @Test func `a channel's outliers lie outside its quantiles, at most as many as was said`() {
    let rows = Tensor<Float>.normal(shape: [101, 6], seed: 3, stream: 1)
    for sparsity in [0.5, 0.9, 0.99, 1] {
      let ranges = channelRanges(rows, sparsity: sparsity)
      var counts = [Int](repeating: 0, count: 6)
      for t in 0..<101 {
        for c in outsideColumns(rows.row(t), ranges) { counts[c] += 1 }
      }
      // All numbers differ: the bound is met, but for one number on each side where a quantile is
      // one of the numbers and its place is whole up to rounding.
      let most = mostOutliers(ofChannel: 101, sparsity: sparsity)
      #expect(counts.allSatisfy { (most - 2...most).contains($0) })
      #expect(sparsity < 1 || most == 0)
    }
    #expect(mostOutliers(ofChannel: 0, sparsity: 0.9) == 0)
    #expect(mostOutliers(ofChannel: 1, sparsity: 0.9) == 0)
  }

  @Test(arguments: [1, 2, 3, 4, 7, 32, 100])
  func `a token's outliers are as many as was said, and where numbers differ the official ones`(
    _ width: Int
  ) {
    for sparsity in [0, 0.3, 0.5, 0.9, 0.99] {
      let row = Tensor<Float>.normal(shape: [width], seed: 5, stream: UInt64(width)).elements
      let counts = outlierCounts(width: width, sparsity: sparsity)
      let (range, outliers) = tokenRange(row, sparsity: sparsity)
      #expect(outliers.count == min(width, counts.below + counts.above))
      let official = tokenRange(row, sparsity: sparsity, ties: .all)
      #expect(official.outliers == outliers && official.range == range)
      let others = row.indices.filter { !outliers.contains($0) }.map { row[$0] }
      if let low = others.min(), let high = others.max() {
        #expect(range == CodeRange(low: low, high: high))
      }
    }
    // Equal numbers: the official rule takes all, ours as many as of others.
    let equal = [Float](repeating: 3, count: width)
    #expect(tokenRange(equal, sparsity: 0.9, ties: .all).outliers.count == width)
    let counts = outlierCounts(width: width, sparsity: 0.9)
    let (range, outliers) = tokenRange(equal, sparsity: 0.9)
    #expect(outliers.count == min(width, counts.below + counts.above))
    #expect(range == CodeRange(low: 3, high: 3))
  }

  @Test func `a cap leaves the farthest on each side`() {
    let ranges = [CodeRange<Float>](repeating: CodeRange(low: -1, high: 1), count: 6)
    let row: [Float] = [2, -3, 5, 0, 4, -2]
    #expect(outsideColumns(row, ranges) == [0, 1, 2, 4, 5])
    #expect(outsideColumns(row, ranges, cap: 1) == [1, 2])
    #expect(outsideColumns(row, ranges, cap: 2) == [1, 2, 4, 5])
    #expect(outsideColumns([7, 7, 7, 0, 0, 0], ranges, cap: 2) == [0, 1], "the lower columns")
    // The code's number: 21 of 4,096 on each side at 1%.
    #expect(outlierCap(width: 4096, sparsity: 0.99) == 21)
  }
}

@Suite struct KVQuantLevelTests {
  @Test func `the published uniform path makes zeros of equal numbers, and ours does not`() {
    let range = CodeRange<Float>(low: 3, high: 3)
    #expect(Levels.even(bits: 4, equal: .zero).rounded(3, in: range) == 0)
    #expect(Levels.even(bits: 4, offset: .rounded, equal: .zero).rounded(3, in: range) == 0)
    #expect(Levels.even(bits: 4).rounded(3, in: range) == 3)
    #expect(Levels.codebook([-1, 0.5, 1]).rounded(3, in: range) == 3)
    // So near each other that a level's reciprocal overflows.
    let low = Float.leastNonzeroMagnitude
    #expect(Levels.even(bits: 4).rounded(0, in: CodeRange(low: 0, high: low)) == 0)
  }

  @Test(arguments: 2...5)
  func `there are 2^bits levels, the ends are exact, and rounding twice is rounding once`(
    _ bits: Int
  ) {
    let numbers = Tensor<Double>.normal(shape: [500], seed: 8, stream: 2).elements
    let entries = kMeans(numbers.map { max(-1, min(1, $0 / 2)) }, size: 1 << bits)
    for levels in [Levels.codebook(entries), .even(bits: bits)] {
      for range in [CodeRange(low: -2.5, high: 1.75), CodeRange(low: 1000, high: 1000.5)] {
        var seen = Set<Double>()
        for x in numbers {
          let y = range.centre + x * range.half
          let once = levels.rounded(y, in: range)
          #expect(levels.rounded(once, in: range) == once)
          #expect(levels.code(y, in: range) < 1 << bits)
          seen.insert(once)
        }
        #expect(seen.count == 1 << bits)
      }
    }
    let range = CodeRange(low: -3.0, high: 4)
    let even = Levels<Double>.even(bits: bits)
    #expect(even.rounded(-3, in: range) == -3 && even.rounded(4, in: range) == 4)
    // Half a step is the most that is lost; beyond the ends it is the end.
    let step = 7 / Double((1 << bits) - 1)
    for y in stride(from: -3, through: 4, by: 0.01) {
      #expect(abs(even.rounded(y, in: range) - y) <= step / 2 + 1e-12)
    }
    #expect(even.rounded(99, in: range) == 4 && even.rounded(-99, in: range) == -3)
  }

  @Test func `a number takes the nearest entry, the first of two, the last beyond the end`() {
    let entries: [Float] = [-1, -0.5, 0.5, 1]
    #expect([-9, -0.75, 0, 0.8, 9].map { nearest($0, among: entries) } == [0, 0, 1, 3, 3])
    #expect(nearest(.infinity, among: entries) == 3 && nearest(-.infinity, among: entries) == 0)
  }

  @Test func `the entries of k-means are the means of the numbers next to them`() {
    let numbers = Tensor<Double>.normal(shape: [2000], seed: 4, stream: 0).elements
    let entries = kMeans(numbers, size: 8, iterations: 1000)
    for (i, e) in entries.enumerated() {
      let own = numbers.filter { nearest($0, among: entries) == i }
      #expect(abs(own.reduce(0, +) / Double(own.count) - e) < 1e-12)
    }
    func loss(_ entries: [Double]) -> Double {
      numbers.reduce(0) { sum, x in
        let e = entries[Int(nearest(x, among: entries))]
        return sum + (x - e) * (x - e)
      }
    }
    let (low, high) = (numbers.min() ?? 0, numbers.max() ?? 0)
    let even = (0..<8).map { low + (high - low) * Double($0) / 7 }
    #expect(loss(entries) < 0.5 * loss(even), "dense where numbers are")
    #expect(loss(kMeans(numbers, size: 8, iterations: 3)) >= loss(entries))
    // The order of the numbers is nothing, and a weight is a number that comes so often.
    #expect(kMeans(Array(numbers.reversed()), size: 8, iterations: 1000) == entries)
    let heavy = kMeans([0.0, 1, 2, 9], weights: [3, 1, 1, 2], size: 2)
    #expect(heavy == kMeans([0.0, 0, 0, 1, 2, 9, 9], size: 2))
    // Few numbers, equal ones, none.
    #expect(Set(kMeans([1.0, 2], size: 4)) == [1, 2])
    #expect(kMeans([Float](repeating: 3, count: 9), size: 4) == [3, 3, 3, 3])
    #expect(kMeans([Float](), size: 4) == [0, 0, 0, 0])
  }

  @Test func `Q-Norm gives entries the mean and spread of the numbers`() {
    let numbers = Tensor<Double>.normal(shape: [3000], seed: 6, stream: 0).elements
      .filter { abs($0) < 1 }.map { $0 * 0.7 + 0.1 }
    let entries = kMeans(numbers, size: 4)
    let levels = Levels.codebook(entries, norm: qNorm(of: numbers, rounded: entries))
    let coded = numbers.map { levels.rounded($0, in: CodeRange(low: -1, high: 1)) }
    func moments(_ x: [Double]) -> (Double, Double) {
      let mean = x.reduce(0, +) / Double(x.count)
      return (mean, (x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(x.count)).squareRoot())
    }
    #expect(abs(moments(coded).0 - moments(numbers).0) < 1e-12)
    #expect(abs(moments(coded).1 - moments(numbers).1) < 1e-12)
    let plain = numbers.map {
      Levels.codebook(entries).rounded($0, in: CodeRange(low: -1, high: 1))
    }
    #expect(moments(plain).1 < moments(numbers).1 - 1e-3, "without it the spread shrinks")
  }
}

@Suite struct KVQuantTests {
  @Test(arguments: forms, Layer.all)
  func `a step is full attention over the rows that are read, keys rotated afterwards`(
    _ text: String, _ layer: Layer
  ) throws {
    for prompt in [1, 2, 9, 70] {
      let rows = Rows(layer, tokens: prompt + 6)
      let run = try Run(text, rows, prompt: prompt)
      let cache = try #require(run.cache as? KVQuantCache)
      for (i, step) in run.steps.enumerated() {
        let visible = layer.shape.visible(length: prompt + i + 1)
        #expect(step.attended == Array(repeating: Array(visible), count: layer.H))
        for m in 0..<layer.M {
          // What later steps add changes no earlier row.
          let held = cache.rows(head: m, visible)
          let angles = layer.shape.rotary.rotations(
            positions: Array(visible), length: visible.upperBound)
          let keys = angles.rotate(held.keys)
          for h in m * layer.H / layer.M..<(m + 1) * layer.H / layer.M {
            let exact = fullAttention(
              query: rows.queries[h].row(prompt + i), keys: keys, values: held.values)
            #expect(step.attention.row(h) == exact, "prompt \(prompt), step \(i), head \(h)")
          }
        }
      }
    }
  }

  @Test(arguments: Layer.all)
  func `with every row exact it is full attention, bit for bit`(_ layer: Layer) throws {
    for prompt in [1, 2, 63, 64, 65, 130] {
      let rows = Rows(layer, tokens: prompt + 4)
      let full = try Run("full", rows, prompt: prompt)
      let run = try Run("kvquant:first=1000", rows, prompt: prompt)
      #expect(run.steps.map(\.attention) == full.steps.map(\.attention))
    }
  }

  @Test(arguments: forms, Layer.few)
  func `outliers and first rows are exact, other numbers within half the widest gap of levels`(
    _ text: String, _ layer: Layer
  ) throws {
    var rows = Rows(layer, tokens: 60)
    // One number of a key and one of a value far from all others.
    rows.keysBefore[0][20, 1] = 300
    rows.values[layer.M - 1][30, 2] = -500
    let cache = try heldPrompt(text, rows, prompt: 60).cache
    let isSparse = !text.contains("sparsity=1")
    for m in 0..<layer.M {
      let held = cache.rows(head: m, 0..<60)
      for t in cache.exactTokens {
        #expect(held.keys.row(t) == rows.keysBefore[m].row(t))
        #expect(held.values.row(t) == rows.values[m].row(t))
      }
      if !isSparse { continue }
      // Standard normals: no gap of levels is wider than 5. The channel of the far key is left
      // out: one of its two quantiles lies between that number and the next.
      for t in 0..<60 {
        for c in 0..<layer.d {
          #expect(abs(held.values[t, c] - rows.values[m][t, c]) < 2.5)
          if m == 0 && c == 1 { continue }
          #expect(abs(held.keys[t, c] - rows.keysBefore[m][t, c]) < 2.5)
        }
      }
    }
    if isSparse {
      #expect(cache.rows(head: 0, 20..<21).keys[0, 1] == 300)
      #expect(cache.rows(head: layer.M - 1, 30..<31).values[0, 2] == -500)
    }
  }

  @Test(arguments: forms, Layer.few)
  func `buffers are the formula, with the outliers that were found`(
    _ text: String, _ layer: Layer
  ) throws {
    let method = try cacheMethod(text)
    let option = { name in method.options.first { $0.name == name }?.value ?? "" }
    let bits = try #require(Int(option("bits")))
    let isSparse = option("sparsity") != "1.0"
    let tables =
      option("codebook") == "even" ? 0 : 2 * ((1 << bits) + (option("norm") == "on" ? 2 : 0))
    for prompt in promptLengths + [63, 64, 65, 100] {
      let (cache, resident) = try heldPrompt(text, Rows(layer, tokens: prompt), prompt: prompt)
      #expect(
        resident
          == bytes(cache, layer, bits: bits, hasOutliers: isSparse, tables: tables))
      let known = method.bytes(tokens: prompt, layer: layer.shape)
      #expect(known.isUpperBound == isSparse && known.host == 0)
      #expect(isSparse ? resident <= known.device : resident == known.device, "prompt \(prompt)")
      // Random numbers all differ: unless outliers are capped the bound is reached, but for a
      // number on each side of a channel where a quantile is one of the numbers.
      let slack = 2 * layer.M * layer.d * 6
      if !text.contains("cap=on") { #expect(resident >= known.device - slack, "prompt \(prompt)") }
    }
    let run = try Run(text, Rows(layer, tokens: 90), prompt: 20)
    let cache = try #require(run.cache as? KVQuantCache)
    #expect(
      run.residentBytes.last
        == bytes(cache, layer, bits: bits, hasOutliers: isSparse, tables: tables))
    #expect(run.hostBytes.allSatisfy { $0 == 0 } && run.events.isEmpty)
    // The peak is a prompt beside its codes, or a step's blocks: one byte less is not enough.
    let tight = try Run(text, Rows(layer, tokens: 90), prompt: 20, capacity: run.peakBytes)
    #expect(tight.steps.map(\.attention) == run.steps.map(\.attention))
    #expect(throws: DeviceTierError.self) {
      _ = try Run(text, Rows(layer, tokens: 90), prompt: 20, capacity: run.peakBytes - 1)
    }
  }

  @Test func `equal vectors come back as they are, whatever the levels`() throws {
    let layer = Layer(4, 2, 8)
    var rows = Rows(layer, tokens: 30)
    for t in 0..<30 {
      rows.keysBefore[1][t, 3] = -7  // a channel
      for c in 0..<8 { (rows.values[0][t, c], rows.values[1][t, c]) = (3, 3) }  // every token
    }
    for text in forms {
      let cache = try heldPrompt(text, rows, prompt: 30).cache
      #expect((0..<30).allSatisfy { cache.rows(head: 1, 0..<30).keys[$0, 3] == -7 }, "\(text)")
      for m in 0..<2 {
        #expect(cache.rows(head: m, 0..<30).values.elements.allSatisfy { $0 == 3 }, "\(text)")
      }
    }
  }

  @Test func `three bits and one percent are about a ninth of full attention's bytes`() throws {
    // M d = 1,024 numbers a token and side; the bound of outliers included.
    let layer = Layer(8, 8, 128)
    let full = try cacheMethod("full").bytes(tokens: 4096, layer: layer.shape).device
    let ours = try cacheMethod("kvquant").bytes(tokens: 4096, layer: layer.shape).device
    #expect(Double(ours) / Double(full) < 0.12 && Double(ours) / Double(full) > 0.1)
  }

  @Test func `a number that is none is an error, in a prompt and in a step`() throws {
    let layer = Layer(4, 2, 8)
    for place in [5, 25] {
      var rows = Rows(layer, tokens: 30)
      rows.values[1][place, 3] = .nan
      let error = #expect(throws: ScoreError.self) {
        _ = try Run("kvquant", rows, prompt: 20)
      }
      #expect(error?.head == 2 && error?.token == place && error?.step == max(0, place - 19))
    }
  }

  @Test func `a calibration's ranges and codebooks are the ones that count`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 30)
    let shape = [2, 8]
    let tensors: [String: Tensor<Double>] = [
      "lower": Tensor(repeating: -1, shape: shape), "upper": Tensor(repeating: 1, shape: shape),
      "key_codebook_2": Tensor(shape: [4], elements: [-1, 0, 0.5, 1]),
      "value_codebook_2": Tensor(shape: [4], elements: [-1, -0.5, 0.5, 1]),
      "key_norm_2": Tensor(shape: [2], elements: [1, 0]),
      "value_norm_2": Tensor(shape: [2], elements: [0.5, 0]),
    ]
    try withCalibration("kvquant", tensors) { path in
      let text = "kvquant:bits=2,first=0,calibration=\(path)"
      let cache = try heldPrompt(text, rows, prompt: 30).cache
      for m in 0..<2 {
        for (a, b) in zip(cache.rows(head: m, 0..<30).keys.elements, rows.keysBefore[m].elements) {
          #expect(abs(b) > 1 ? a == b : [-1, 0, 0.5, 1].contains(a))
        }
      }
      let method = try cacheMethod(text)
      #expect(method.bytes(tokens: 30, layer: layer.shape).isUpperBound)
      #expect(try cacheMethod(method.description).description == method.description)
      // With Q-Norm values go half as far from their middle.
      let narrow = try heldPrompt(text + ",norm=on", rows, prompt: 30).cache
      #expect(narrow.rows(head: 0, 0..<30).values != cache.rows(head: 0, 0..<30).values)
      #expect(narrow.rows(head: 0, 0..<30).keys == cache.rows(head: 0, 0..<30).keys)
      #expect(
        methodError { _ = try cacheMethod("kvquant:sparsity=0.9,calibration=\(path)") }
          == "kvquant: sparsity is the calibration file's; drop one of them")
      let other = methodError {
        _ = try cacheMethod("kvquant:bits=3,calibration=\(path)").makeCache(for: layer.shape)
      }
      #expect(other.contains("layers.3.key_codebook_3"))
    }
    for (name, entries, part) in [
      ("key_codebook_2", [1.0, 0.5, 0, -1], "layers.3.key_codebook_2 is no codebook"),
      ("value_codebook_2", [-1, 0, 1, 3e38], "layers.3.value_codebook_2 is no codebook"),
      ("value_norm_2", [3e38, 0], "layers.3.value_norm_2 moves a codebook beyond any number"),
    ] {
      var bad = tensors
      bad[name] = Tensor(shape: [entries.count], elements: entries)
      try withCalibration("kvquant", bad) { path in
        let text = "kvquant:bits=2,norm=on,calibration=\(path)"
        let line = methodError { _ = try cacheMethod(text).makeCache(for: layer.shape) }
        #expect(line.contains(part))
      }
    }
    var swapped = tensors
    swapped["lower"] = Tensor(repeating: 2, shape: shape)
    try withCalibration("kvquant", swapped) { path in
      let line = methodError {
        _ = try cacheMethod("kvquant:bits=2,calibration=\(path)").makeCache(for: layer.shape)
      }
      #expect(line.contains("a lower threshold of layer 3 is above the upper one"))
    }
  }

  @Test func `collected stretches give the thresholds of all rows, and leave first rows out`() {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 50)
    var collector = RowCollector(first: 2)
    for part in [0..<20, 20..<50] {
      collector.add(
        PromptRows(
          queries: rows.queries.map { $0.rows(part) }, keys: rows.keys.map { $0.rows(part) },
          keysBeforeRotary: rows.keysBefore.map { $0.rows(part) },
          values: rows.values.map { $0.rows(part) }))
    }
    let ranges = collector.ranges(sparsity: 0.9)
    let all = sideBySide(rows.keysBefore)
    #expect(ranges == channelRanges(all, sparsity: 0.9))
    let kept = Array(2..<20) + Array(22..<50)
    let numbers = collector.numbers(ranges, sparsity: 0.9)
    #expect(numbers.keys == channelNumbers(all.gather(rows: kept), ranges))
    #expect(
      numbers.values
        == tokenNumbers(sideBySide(rows.values).gather(rows: kept), sparsity: 0.9))
    #expect(numbers.keys.allSatisfy { abs($0) <= 1 } && numbers.values.allSatisfy { abs($0) <= 1 })
  }

  @Test(arguments: [
    ("bits=1", "bits=1 is not a whole number from 2 to 5"), ("sparsity=1.5", "is not from 0 to 1"),
    ("codebook=nf", "is none of: kmeans, even"),
    ("norm=on,codebook=even", "norm has no effect with codebook=even; drop one of them"),
    ("cap=on,sparsity=1", "cap has no effect where there are no outliers; drop one of them"),
    ("calibration=/nowhere", "kvquant: /nowhere"),
  ])
  func `an option that has no meaning is one line`(_ options: String, _ part: String) {
    let line = methodError { _ = try cacheMethod("kvquant:\(options)") }
    #expect(line.contains(part) && !line.contains("\n"), "\(line)")
  }
}
