// InfiniGen: the skew changes no score, the threshold is a promise, and the guess is the hint's.

import CacheMethods
import Tensors
import Testing
import TieredMemory
import Transformers

@Suite struct SkewTests {
  private func draw(_ rows: Int, _ d: Int, stream: UInt64) -> Tensor<Double> {
    var x = Tensor<Double>.normal(shape: [rows, d], seed: 11, stream: stream)
    for t in 0..<rows {
      for j in 0..<d { x[t, j] *= Double(1 + j) }
    }
    return x
  }

  @Test func `the skew is orthogonal and changes no score`() throws {
    let (q, k) = (draw(50, 8, stream: 0), draw(30, 8, stream: 1))
    let A = SkewOrder.reversed.apply(try RowMoments(of: q).rightSingularVectors())
    #expect(distanceFromOrthogonal(A) < 1e-12)
    let plain = matmul(q, transposed: k, in: .reference)
    let skewed = matmul(
      matmul(q, A, in: .reference), transposed: matmul(k, A, in: .reference), in: .reference)
    let largest = plain.elements.map(abs).max() ?? 0
    for (x, y) in zip(plain.elements, skewed.elements) { #expect(abs(x - y) < 1e-13 * largest) }
  }

  @Test
  func `the official order by both singular values is the reversed one, whatever the keys are`()
    throws
  {
    let q = draw(50, 8, stream: 0)
    let (_, sq, _) = try q.singularValueDecomposition()
    for stream in 1..<6 {
      let (_, sk, _) = try draw(40, 8, stream: UInt64(stream)).singularValueDecomposition()
      let products = zip(sq, sk).map { $0 * $1 }
      let order = products.indices.sorted { products[$0] < products[$1] }
      #expect(order == [7, 6, 5, 4, 3, 2, 1, 0], "nothing of the keys is left in it")
    }
    let vectors = try RowMoments(of: q).rightSingularVectors()
    let reversed = SkewOrder.reversed.apply(vectors)
    #expect(reversed == vectors.gather(columns: [7, 6, 5, 4, 3, 2, 1, 0]))
    #expect(SkewOrder.descending.apply(vectors) == vectors)
  }

  @Test func `the order of the columns changes the choice at ties alone`() throws {
    let q = draw(50, 8, stream: 0)
    let vectors = try RowMoments(of: q).rightSingularVectors()
    func columns(_ order: SkewOrder) throws -> Set<Int> {
      let skewed = matmul(q, order.apply(vectors), in: .reference)
      let chosen = try partialColumns([skewed], count: 3)
      return Set(order == .reversed ? chosen.map { 7 - $0 } : chosen)
    }
    #expect(try columns(.reversed) == columns(.descending))
    // A tie: the lower column wins, and that is another direction in another order.
    let tied = Tensor<Double>(rows: [[1, -1, 2]])
    let turned = tied.gather(columns: [2, 1, 0])
    #expect(try partialColumns([tied], count: 2) == [0, 2])
    #expect(try partialColumns([turned], count: 2).map { 2 - $0 }.sorted() == [1, 2])
  }

  @Test func `partial columns have the largest magnitudes, over all rows of all heads`() throws {
    let heads = [
      Tensor<Float>(rows: [[1, -5, 0], [1, 5, 0]]), Tensor<Float>(rows: [[0, 0, -9]]),
    ]
    #expect(try partialColumns([heads[0]], count: 2) == [0, 1])
    #expect(try partialColumns(heads, count: 2) == [1, 2])
    #expect(try partialColumns(heads, count: 3) == [0, 1, 2])
  }

  @Test func `the count is the mean over the heads of rows above their own threshold`() {
    let scores = [[5, 4.5, 4, 0], [9, 8.5, 8.5, 8.25]]
    #expect(speculatedCount(scores, alpha: 1, cap: 9) == 3, "2 and 4")
    #expect(speculatedCount([scores[0], [9, 0, 0, 0]], alpha: 1, cap: 9) == 1, "2 and 1, cut")
    #expect(
      speculatedCount([[5.0, 4]], alpha: 1, cap: 9) == 1, "a row at the threshold is not above")
    #expect(speculatedCount(scores, alpha: 1, cap: 2) == 2)
    #expect(speculatedCount(scores, alpha: 1e30, cap: 9) == 4)
    #expect(speculatedCount(scores, alpha: 0, cap: 9) == 0)
  }
}

@Suite struct InfiniGenTests {
  private let exactly = "infinigen:speculation=own,ratio=1,alpha=1000"

  @Test(arguments: [Layer(4, 2, 8), Layer(3, 3, 16), Layer(4, 1, 20, window: 17)])
  func `with all columns and no threshold the choice is exact top-k`(_ layer: Layer) throws {
    let rows = Rows(layer, tokens: 40)
    let exact = try Run("topk:k=6,w=4", rows, prompt: 20).steps.map(\.attended)
    for more in ["", ",skew=none", ",order=descending", ",partial=per-key-value-head"] {
      let run = try Run("\(exactly),k=6,w=4\(more)", rows, prompt: 20)
      #expect(run.steps.map(\.attended) == exact, "\(more)")
    }
  }

  @Test(arguments: [Float(0.5), 1, 2])
  func `a row that is left out has less than e^-α of the largest weight`(_ alpha: Float) throws {
    let layer = Layer(1, 1, 8)
    let rows = Rows(layer, tokens: 40)
    let run = try Run("infinigen:speculation=own,ratio=1,alpha=\(alpha),k=100", rows, prompt: 20)
    var sizes: Set<Int> = []
    for (i, step) in run.steps.enumerated() {
      let t = 20 + i
      let q = rows.queries[0].row(t)
      let p = (0..<t).map { j in
        zip(q, rows.keys[0].row(j)).reduce(Float(0)) { $0 + $1.0 * $1.1 } / Float(8).squareRoot()
      }
      let threshold = (p.max() ?? 0) - alpha
      // Away from the threshold by more than the rounding of a skewed score, all is decided.
      for j in 0..<t where abs(p[j] - threshold) > 1e-5 {
        #expect(step.attended[0].contains(j) == (p[j] > threshold), "token \(j) of \(t)")
      }
      sizes.insert(step.attended[0].count)
    }
    #expect(sizes.count > 2, "the number follows the scores")
  }

  @Test func `every head gets as many rows`() throws {
    let rows = Rows(Layer(4, 2, 8), tokens: 40)
    let run = try Run("infinigen:ratio=0.5,alpha=1,k=12", rows, prompt: 20)
    for step in run.steps {
      #expect(Set(step.attended.map(\.count)).count == 1)
      #expect(step.attended[0].count <= 13)
    }
    #expect(Set(run.steps.map { $0.attended[0].count }).count > 1)
  }

  @Test func `the guess is the hint, and not the step's own query`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 40)
    func run(_ speculation: String, _ change: (inout TokenRows, Tensor<Float>) -> Void) throws
      -> [[[Int]]]
    {
      var tiers = Tiers()
      let text = "infinigen:speculation=\(speculation),ratio=0.5,alpha=1000,k=6"
      var cache = try cacheMethod(text).makeCache(for: layer.shape)
      try cache.prefill(rows.prompt(20), tiers: &tiers)
      return try (20..<40).map { t in
        var token = rows.token(t)
        change(&token, token.queries.map { -$0 })
        return try cache.decode(token, tiers: &tiers).attended
      }
    }
    let hinted = try run("previous-layer") { $0.hint = $1 }
    let turned = try run("own") { $0.queries = $1 }
    #expect(hinted == turned)
    #expect(try hinted != run("own") { _, _ in })
  }

  @Test func `a step without the guess that it needs is one line, but for the first layer`() throws
  {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 30)
    var tiers = Tiers()
    var token = rows.token(20)
    token.hint = nil
    var cache = try cacheMethod("infinigen:k=6").makeCache(for: layer.shape)
    #expect(cache.needs.contains(.hint))
    try cache.prefill(rows.prompt(20), tiers: &tiers)
    let line = methodError { _ = try cache.decode(token, tiers: &tiers) }
    #expect(line.contains("layer 3 has no guess from the layer before; give speculation=own"))
    #expect(try cacheMethod("infinigen:speculation=own").makeCache(for: layer.shape).needs == [])

    let first = LayerShape(
      layer: 0, queryHeads: 4, keyValueHeads: 2, width: 8, window: nil,
      rotary: layer.shape.rotary)
    let method = try cacheMethod("infinigen:k=6")
    var other = Tiers()
    var run = try method.makeCache(for: first)
    try run.prefill(rows.prompt(20), tiers: &other)
    #expect(other.device.residentBytes == method.bytes(tokens: 20, layer: first).device)
    #expect(!method.bytes(tokens: 20, layer: first).isUpperBound)
    let step = try run.decode(token, tiers: &other)
    #expect(step.attended == Array(repeating: Array(0...20), count: 4))
    #expect(method.attendedRows(tokens: 20, layer: first) == 20)
  }

  @Test func `equal queries of a group have the choice of one, and partial keys once`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 30)
    func run(_ partial: String) throws -> [[[Int]]] {
      var tiers = Tiers()
      let text = "infinigen:speculation=own,ratio=0.5,alpha=1000,k=6,partial=\(partial)"
      var cache = try cacheMethod(text).makeCache(for: layer.shape)
      var prompt = rows.prompt(20)
      prompt.queries = [0, 0, 2, 2].map { prompt.queries[$0] }
      try cache.prefill(prompt, tiers: &tiers)
      return try (20..<30).map { t in
        var token = rows.token(t)
        token.queries = token.queries.gather(rows: [0, 0, 2, 2])
        return try cache.decode(token, tiers: &tiers).attended
      }
    }
    #expect(try run("per-query-head") == run("per-key-value-head"))
  }

  @Test(
    arguments: [("per-query-head", 4), ("per-key-value-head", 2)],
    ["ratio=0.2", "ratio=0.5", "ratio=1", "ratio=0.5,skew=none"])
  func `what it chooses by takes (l + d) d' numbers a holder`(
    _ partial: (word: String, holders: Int), _ ratio: String
  ) throws {
    let layer = Layer(4, 2, 8)
    let text = "infinigen:\(ratio),alpha=1000,k=6,w=4,partial=\(partial.word)"
    let method = try cacheMethod(text)
    let columns = ratio.hasPrefix("ratio=0.2") ? 1 : ratio.hasPrefix("ratio=0.5") ? 4 : 8
    for prompt in promptLengths {
      let run = try Run(text, Rows(layer, tokens: 30), prompt: prompt)
      let codes = run.liveBuffers.filter {
        $0.label.hasPrefix("skew of") || $0.label.hasPrefix("partial K of")
      }
      #expect(codes.reduce(0) { $0 + $1.bytes } == partial.holders * (prompt + 8) * columns * 4)
      for (i, resident) in run.residentBytes.enumerated() {
        let bytes = method.bytes(tokens: prompt + i, layer: layer.shape)
        #expect(bytes.deviceCodes == partial.holders * (prompt + i + 8) * columns * 4)
        // Without a threshold in effect the bound is met.
        #expect(bytes.isUpperBound && resident == bytes.device)
      }
    }
  }

  @Test func `a threshold holds fewer rows than the bound`() throws {
    let layer = Layer(4, 2, 8)
    let run = try Run("infinigen:alpha=0.5,k=15", Rows(layer, tokens: 30), prompt: 30)
    let bound = try cacheMethod("infinigen:alpha=0.5,k=15").bytes(tokens: 30, layer: layer.shape)
    #expect(run.residentBytes[0] < bound.device)
  }

  @Test func `a calibrated skew is taken from the file, by holder`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 30)
    var moments = QueryMoments(layer: layer.shape)
    try moments.add(rows.prompt(20))
    func stack(_ parts: [RowMoments]) throws -> Tensor<Double> {
      Tensor(stacking: try parts.map { try $0.rightSingularVectors() })
    }
    try withCalibration(
      InfiniGenMethod.name,
      ["skew": stack(moments.heads), "group_skew": stack(moments.groups)]
    ) { path in
      for partial in ["per-query-head", "per-key-value-head"] {
        let text = "infinigen:ratio=0.5,alpha=1000,k=6,partial=\(partial)"
        let own = try Run(text, rows, prompt: 20)
        let calibrated = try Run("\(text),skew=\(path)", rows, prompt: 20)
        #expect(calibrated.steps.map(\.attended) == own.steps.map(\.attended))
      }
    }
  }

  @Test(arguments: [1, 2, 9, 29])
  func `with a budget for everything it is full attention, bit for bit`(_ prompt: Int) throws {
    for layer in Layer.few {
      let rows = Rows(layer, tokens: 30)
      let full = try Run("full", rows, prompt: prompt)
      let run = try Run("infinigen:alpha=1e30,k=40", rows, prompt: prompt)
      #expect(run.steps.map(\.attention) == full.steps.map(\.attention))
    }
  }

  @Test(arguments: [
    ("infinigen:ratio=0", "ratio=0.0 is no part of the columns"),
    ("infinigen:ratio=1.5", "ratio=1.5 is no part of the columns"),
    ("infinigen:alpha=-1", "alpha=-1 is not a finite number"),
    ("infinigen:speculation=none", "is none of: previous-layer, own"),
    ("infinigen:order=ascending", "is none of: reversed, descending"),
    ("infinigen:partial=own", "is none of: per-query-head, per-key-value-head"),
  ])
  func `a bad option is one line`(_ text: String, _ part: String) {
    let line = methodError { _ = try cacheMethod(text) }
    #expect(line.contains(part) && !line.contains("\n"), "\(line)")
  }
}
