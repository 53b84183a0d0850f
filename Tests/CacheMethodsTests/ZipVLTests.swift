// ZipVL as a cache: what the prompt attends among, what is packed when, its bytes.
//
// In:  random rows; tiny checkpoints.
// Out: every step against a cache written out here, which holds rows as the forms give them back
//      and packs them when and as the method says.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

/// The words of one row, read again.
private func readBack(_ form: any RowForm, _ part: RowPart, _ row: [Float]) throws -> [Float] {
  var words = [UInt32](repeating: 0, count: form.words(part, width: row.count))
  do {
    var span = words.mutableSpan
    try form.write(part, row.span, width: row.count, head: 0, first: 0, into: &span)
  }
  var result = row
  var span = result.mutableSpan
  form.read(
    part, words.span, width: row.count, head: 0, slots: [Int32(0)].span, tokens: [0].span,
    into: &span)
  return result
}

/// ZipVL written out over lists of rows.
private struct Witness {
  let rows: Rows
  let forms: (high: any RowForm, low: (any RowForm)?)
  let tau: Double
  let every: Int
  /// Of each key/value head, the rows of `tokens` as they are held.
  var keys, values: [[[Float]]]
  var tokens: [Int] = []
  var exact: [Int] = []

  init(
    _ rows: Rows, prompt l: Int, high: any RowForm, low: (any RowForm)?, tau: Double, every: Int,
    important: [Int]
  ) throws {
    (self.rows, forms, self.tau, self.every) = (rows, (high, low), tau, every)
    (keys, values) = (rows.keys.map { _ in [] }, rows.keys.map { _ in [] })
    for t in rows.visible(l - 1) { append(t) }
    try pack(tokens, important: important)
  }

  mutating func append(_ t: Int) {
    tokens.append(t)
    for m in keys.indices {
      keys[m].append(rows.keys[m].row(t))
      values[m].append(rows.values[m].row(t))
    }
  }

  mutating func remove(_ i: Int) {
    tokens.remove(at: i)
    for m in keys.indices {
      keys[m].remove(at: i)
      values[m].remove(at: i)
    }
  }

  mutating func pack(_ some: [Int], important: [Int]) throws {
    for t in some.reversed() {
      guard let i = tokens.firstIndex(of: t) else { continue }
      guard let form = important.contains(t) ? forms.high : forms.low else {
        remove(i)
        continue
      }
      for m in keys.indices {
        keys[m][i] = try readBack(form, .key, keys[m][i])
        values[m][i] = try readBack(form, .value, values[m][i])
      }
    }
    exact = []
  }

  /// Step `i`, of token t: answers of every query head, and the tokens.
  mutating func step(_ i: Int, token t: Int) throws -> (answers: Tensor<Float>, tokens: [Int]) {
    append(t)
    exact.append(t)
    while tokens[0] < rows.visible(t).lowerBound { remove(0) }
    exact = exact.filter(tokens.contains)
    var weights: [[Float]] = []
    let slots = tokens.indices.map(Int32.init)
    let answers = (0..<rows.layer.H).map { h in
      let m = h * rows.layer.M / rows.layer.H
      let K = Array(keys[m].joined())
      weights.append(
        Array(
          attentionWeights(query: rows.queries[h].row(t), keys: K, slots: slots)
            .suffix(exact.count)))
      return attention(
        query: rows.queries[h].row(t), keys: K, values: Array(values[m].joined()), slots: slots)
    }
    let seen = tokens
    if i % every == 0 {
      let a = exact.indices.map { j in
        weights.reduce(Float(0)) { $0 + $1[j] } / Float(weights.count)
      }
      let T = try importantTokens(
        a, seen: Array(repeating: 1, count: a.count), reaching: tau)
      try pack(exact, important: T.map { exact[$0] })
    }
    return (Tensor(rows: answers), seen)
  }
}

@Suite struct ZipVLTests {
  @Test(arguments: Layer.all)
  func `a prompt attends among important tokens only, others have no answer`(_ layer: Layer) throws
  {
    let l = 40
    let rows = Rows(layer, tokens: l, seed: 3)
    for tau in ["0.5", "0.9", "1"] {
      let cache = try cacheMethod("zipvl:probes=all,tau=\(tau)").makeCache(for: layer.shape)
      var attending = try #require(cache as? any PromptAttending)
      #expect(attending.needs == [.promptAttention])
      let answers = try attending.attend(to: rows.prompt(l))
      let a = try probedAttention(
        queries: rows.queries, keys: rows.keys, probes: Array(0..<l), window: layer.window)
      let T = try importantTokens(
        a, seen: sightings(of: l, by: Array(0..<l), window: layer.window),
        reaching: try #require(Double(tau)))
      if tau != "1" && layer.window != 1 { #expect(T.count < l) }
      #expect(answers.count == layer.H)
      for h in 0..<layer.H {
        let m = h * layer.M / layer.H
        for t in 0..<l {
          let seen = T.filter { rows.visible(t).contains($0) }
          if !T.contains(t) {
            #expect(answers[h].row(t) == [Float](repeating: 0, count: layer.d))
          } else {
            let own = rows.attention(h, t, over: seen)
            // The prompt's products are in library order: some roundings of values below 5.
            for c in 0..<layer.d { #expect(abs(answers[h][t, c] - own[c]) < 1e-5) }
          }
        }
        if T.count == l {
          #expect(
            answers[h]
              == causalAttention(
                queries: rows.queries[h], keys: rows.keys[m], values: rows.values[m],
                window: layer.window))
        }
      }
    }
  }

  @Test(
    arguments: [("int4", "int2"), ("int8", "int3"), ("f16", "f16"), ("f32", "int2"), ("int4", "")],
    [Layer(4, 2, 8), Layer(3, 3, 16), Layer(4, 1, 20, window: 17), Layer(2, 1, 8, window: 3)])
  func `every step is attention over rows packed when and as the method says`(
    _ words: (String, String), _ layer: Layer
  ) throws {
    let forms: [String: any RowForm] = [
      "int2": IntegerForm(PackedCodes(bits: 2)), "int3": IntegerForm(PackedCodes(bits: 3)),
      "int4": IntegerForm(PackedCodes(bits: 4)), "int8": IntegerForm(PackedCodes(bits: 8)),
      "f16": HalfForm(.float16), "f32": ExactForm(),
    ]
    let (l, tau) = (26, 0.8)
    let rows = Rows(layer, tokens: l + 25, seed: 4)
    let a = try probedAttention(
      queries: rows.queries.map { $0.rows(0..<l) }, keys: rows.keys.map { $0.rows(0..<l) },
      probes: Array(0..<l), window: layer.window)
    let T = try importantTokens(
      a, seen: sightings(of: l, by: Array(0..<l), window: layer.window), reaching: tau)
    var witness = try Witness(
      rows, prompt: l, high: try #require(forms[words.0]), low: forms[words.1], tau: tau, every: 6,
      important: T)
    let rest = words.1.isEmpty ? "rest=dropped" : "low=\(words.1)"
    let run = try Run(
      "zipvl:probes=all,tau=\(tau),every=6,high=\(words.0),\(rest)", rows, prompt: l)
    for (i, step) in run.steps.enumerated() {
      let expected = try witness.step(i + 1, token: l + i)
      #expect(step.attention == expected.answers, "step \(i + 1)")
      #expect(step.attended == Array(repeating: expected.tokens, count: layer.H))
    }
    #expect(run.events.isEmpty && run.hostBytes.allSatisfy { $0 == 0 })
  }

  @Test func `rows are packed at multiples of 100 steps, and only the last 100`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 20 + 205)
    let method = try cacheMethod("zipvl:high=int4,low=int4")
    let run = try Run("zipvl:high=int4,low=int4", rows, prompt: 20)
    let packed = method.bytes(tokens: 1, layer: layer.shape)
    #expect(!packed.isUpperBound, "as many bits for all: the number does not matter")
    for (i, resident) in run.residentBytes.enumerated() {
      let split = i / 100 * 100
      #expect(
        resident == (20 + split) * packed.device + (i - split) * layer.M * layer.rowBytes,
        "step \(i)")
    }
    // Without a split the first 100 steps are the same ones.
    let never = try Run("zipvl:high=int4,low=int4,every=1000", rows, prompt: 20)
    #expect(run.steps.prefix(100).map(\.attention) == never.steps.prefix(100).map(\.attention))
    #expect(run.steps[100].attention != never.steps[100].attention)
  }

  @Test(arguments: Layer.all)
  func `bytes are those of the important rows and of the others`(_ layer: Layer) throws {
    for prompt in promptLengths + [59] {
      let rows = Rows(layer, tokens: prompt)
      for text in ["probes=all,tau=0.7", "probes=all,tau=0.7,rest=dropped", "dense=4", "dense=3"] {
        let method = try cacheMethod("zipvl:\(text)")
        let a = try probedAttention(
          queries: rows.queries, keys: rows.keys, probes: Array(0..<prompt),
          window: layer.window)
        var T = try importantTokens(
          a, seen: sightings(of: prompt, by: Array(0..<prompt), window: layer.window),
          reaching: 0.7)
        let seen = layer.shape.visible(length: prompt)
        if text == "dense=4" { T = Array(seen) }  // these layers are number 3
        let bytes = method.bytes(tokens: prompt, layer: layer.shape)
        let run = try Run("zipvl:\(text)", rows, prompt: prompt)
        #expect(run.residentBytes[0] <= bytes.device)
        let high = IntegerForm(PackedCodes(bits: 4)), low = IntegerForm(PackedCodes(bits: 2))
        func row(_ form: IntegerForm) -> Int {
          4 * (form.words(.key, width: layer.d) + form.words(.value, width: layer.d))
        }
        let isDropped = text.hasSuffix("dropped")
        // With width 8 codes of 4 and of 2 bits fill one word: how many are important is no matter.
        #expect(
          bytes.isUpperBound == (text != "dense=4" && (isDropped || row(high) > row(low))))
        if text == "dense=3" { continue }
        let p = T.count { seen.contains($0) }
        let others = isDropped ? 0 : seen.count - p
        #expect(run.residentBytes[0] == layer.M * (p * row(high) + others * row(low)))
      }
    }
  }

  @Test(arguments: [false, true], Layer.few)
  func `halves are exact where rows are, and then every step is full attention`(
    _ isExactPrefill: Bool, _ layer: Layer
  ) throws {
    let shape = Layer(layer.H, layer.M, 16, window: layer.window)
    let rows = Rows.onGrid(shape, tokens: 60)
    var exact = rows
    exact.values = rows.values.map { $0.map { ($0 * 16).rounded() / 16 } }
    let method = try cacheMethod(
      "zipvl:high=f16,low=f16,tau=0.5,every=7,prefill=\(isExactPrefill ? "exact" : "sparse")")
    let run = try Run(method.makeCache(for: shape.unrotated), exact, prompt: 30)
    let full = try Run(cacheMethod("full").makeCache(for: shape.unrotated), exact, prompt: 30)
    #expect(run.steps.map(\.attention) == full.steps.map(\.attention))
    #expect(run.cache.needs == (isExactPrefill ? [] : [.promptAttention]))
  }

  @Test func `what is not a number is an error that names its token`() throws {
    var rows = Rows(Layer(2, 1, 8), tokens: 40)
    rows.keys[0][17, 3] = .nan
    let error = #expect(throws: ScoreError.self) { try Run("zipvl", rows, prompt: 40) }
    #expect(error?.layer == 3 && error?.step == 0)
    var values = Rows(Layer(2, 1, 8), tokens: 40)
    values.values[0][17, 3] = .infinity
    #expect(throws: RowFormError.self) { try Run("zipvl", values, prompt: 40) }
  }
}

@Suite struct ZipVLDecoderTests {
  private static func folder(_ name: String) -> String {
    URL(filePath: #filePath).deletingLastPathComponent()
      .appending(path: "../TransformersTests/Fixtures/Checkpoints/\(name)").path()
  }

  private func logits(_ method: String, _ name: String) throws -> [Tensor<Float>] {
    let decoder = try Decoder(folder: Self.folder(name))
    let state = DecodingState(
      caches: try decoder.layerShapes.map { try cacheMethod(method).makeCache(for: $0) },
      tiers: Tiers())
    let ids = (0..<24).map { $0 * 7 % 61 }
    return [
      try decoder.prefill(ids, state: state, logits: .all),
      try decoder.decode([5], states: [state]), try decoder.decode([6], states: [state]),
    ]
  }

  @Test(arguments: ["llama3", "qwen2-sliding", "qwen3", "lrkv"])
  func `with tau of 1 and exact rows a model runs as with full attention, bit for bit`(
    _ name: String
  ) throws {
    let full = try logits("full", name)
    #expect(try logits("zipvl:tau=1,probes=all,high=f32,low=f32", name) == full)
    #expect(try logits("zipvl:tau=0.5,dense=100,high=f32", name) == full)
    #expect(try logits("zipvl:tau=0.5,prefill=exact,high=f32,low=f32", name) == full)
  }

  @Test func `a sparse prompt changes logits, of the prompt already`() throws {
    let full = try logits("full", "llama3")
    let sparse = try logits("zipvl:tau=0.5,high=f32,low=f32", "llama3")
    #expect(sparse[0] != full[0])
    let packed = try logits("zipvl:tau=0.5,prefill=exact", "llama3")
    #expect(packed[0] == full[0] && packed[1] != full[1])
  }
}
