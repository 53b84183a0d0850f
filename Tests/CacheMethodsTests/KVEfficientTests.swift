// KV-Efficient VLA: limits, merged rows, budgets, and what the published code does otherwise.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

/// A gate by plain loops: g of a chunk, given its tokens and what each has received.
private typealias PlainGate = (_ tokens: [Int], _ received: [Double]) -> Double

/// The method by plain loops in Double, for the group of key/value head `m`: the tokens that its
/// rows stand for, and the group's answers, at each step.
private func plain(
  _ rows: Rows, _ m: Int, prompt l: Int, w: Int, chunk C: Int, alpha: Double, corrected: Bool,
  gate: PlainGate
) -> [(attended: [Int], answers: [[Double]])] {
  typealias Row = (tokens: [Int], key: [Double], value: [Double])
  let (layer, d) = (rows.layer, rows.layer.d)
  let heads = m * layer.H / layer.M..<(m + 1) * layer.H / layer.M
  let W = min(w, layer.window ?? w)
  func row(_ j: Int) -> Row {
    ([j], rows.keys[m].row(j).map(Double.init), rows.values[m].row(j).map(Double.init))
  }
  func mean(_ x: [[Double]]) -> [Double] {
    (0..<d).map { c in x.reduce(0) { $0 + $1[c] } / Double(x.count) }
  }
  var received: [Int: Double] = [:]
  /// Attention of query t over `held`; rows of one token remember what they received.
  func see(_ t: Int, _ held: [Row]) -> [[Double]] {
    let each = heads.map { h in
      softmax(
        held.map { row in
          let s = zip(rows.queries[h].row(t), row.key).reduce(0) { $0 + Double($1.0) * $1.1 }
          return s / Double(d).squareRoot() + (corrected ? log(Double(row.tokens.count)) : 0)
        })
    }
    for (i, row) in held.enumerated() where row.tokens.count == 1 {
      received[row.tokens[0], default: 0] += each.reduce(0) { $0 + $1[i] } / Double(each.count)
    }
    return each.map { a in
      (0..<d).map { c in zip(a, held).reduce(0) { $0 + $1.0 * $1.1.value[c] } }
    }
  }
  var (merged, next) = ([Row](), 0)
  func judge(_ length: Int) {
    while length - W >= (next + 1) * C {
      let tokens = Array(next * C..<(next + 1) * C)
      if gate(tokens, tokens.map { received[$0] ?? 0 }) >= alpha {
        merged.append(
          (tokens, mean(tokens.map { row($0).key }), mean(tokens.map { row($0).value })))
      }
      next += 1
    }
    let first = rows.visible(length - 1).lowerBound
    merged.removeAll { $0.tokens[0] < first }
  }
  for t in 0..<l {
    let before = received
    _ = see(t, rows.visible(t).map(row))
    // Chunks that have left the window are judged by what they had until then.
    for j in 0..<max(0, t + 1 - W) / C * C { received[j] = before[j] }
  }
  judge(l)
  return (l..<rows.keys[0].rows).map { t in
    judge(t + 1)
    let held = merged + (next * C...t).filter(rows.visible(t).contains).map(row)
    let answers = see(t, held)
    return (held.flatMap(\.tokens), answers)
  }
}

/// The mass gate by plain loops.
private func plainMass(_ layer: Layer, w: Int) -> PlainGate {
  { tokens, received in
    let W = min(w, layer.window ?? w)
    var even = 0.0
    for t in tokens[0]..<tokens[tokens.count - 1] + W {
      let seen = layer.shape.visible(length: t + 1)
      even += Double(tokens.count { seen.contains($0) }) / Double(seen.count)
    }
    let sum = received.reduce(0, +)
    return sum / (sum + even)
  }
}

@Suite struct KVEfficientTests {
  @Test(arguments: Layer.all)
  func `chunks of one row that all stay, or a window for every row, are full attention`(
    _ layer: Layer
  ) throws {
    for gate in ["gate=mass", "gate=keep-all"] {
      for merge in ["plain", "corrected"] {
        let alpha = gate == "gate=mass" ? ",alpha=0" : ""
        try expectFullAttention(
          "kv-efficient-vla:w=4,chunk=1\(alpha),\(gate),merge=\(merge)", layer)
      }
      try expectFullAttention("kv-efficient-vla:w=30,chunk=3,\(gate)", layer)
      try expectFullAttention("kv-efficient-vla:budget=30,chunk=3,\(gate)", layer)
    }
  }

  @Test(arguments: Layer.all)
  func `with alpha above 1 what is left is a sliding window, of W rows for chunks of one`(
    _ layer: Layer
  ) throws {
    let rows = Rows(layer, tokens: 40)
    for prompt in [1, 6, 7, 25] {
      let window = try Run("streaming:sinks=0,w=7,positions=original", rows, prompt: prompt)
      let ones = try Run("kv-efficient-vla:w=7,chunk=1,alpha=1.01", rows, prompt: prompt)
      #expect(ones.steps.map(\.attention) == window.steps.map(\.attention))
      #expect(ones.steps.map(\.attended) == window.steps.map(\.attended))
      // Longer chunks leave together, so up to C − 1 rows more are there.
      let run = try Run("kv-efficient-vla:w=7,chunk=4,alpha=2", rows, prompt: prompt)
      for (i, step) in run.steps.enumerated() {
        let l = prompt + i + 1
        let first = max(0, l - 7) / 4 * 4
        for set in step.attended {
          #expect(set == (first..<l).filter(layer.shape.visible(length: l).contains))
        }
      }
    }
  }

  @Test(arguments: [true, false])
  func `every step is that of plain loops, with each gate`(_ corrected: Bool) throws {
    let merge = corrected ? "corrected" : "plain"
    for layer in Layer.all {
      let rows = Rows(layer, tokens: 60)
      for prompt in [1, 8, 33] {
        var gates: [(text: String, alpha: Double, gate: PlainGate)] = [
          ("gate=keep-all", 0.5, { _, _ in 1 }),
          ("gate=mass,alpha=0.5", 0.5, plainMass(layer, w: 6)),
          ("gate=mass,alpha=0.47", 0.47, plainMass(layer, w: 6)),
        ]
        if layer.window == nil { gates.append(("gate=mass,alpha=0", 0, { _, _ in 1 })) }
        for (text, alpha, gate) in gates {
          let run = try Run(
            "kv-efficient-vla:w=6,chunk=4,merge=\(merge),\(text)", rows, prompt: prompt)
          for m in 0..<layer.M {
            let expected = plain(
              rows, m, prompt: prompt, w: 6, chunk: 4, alpha: alpha, corrected: corrected,
              gate: gate)
            for (step, plain) in zip(run.steps, expected) {
              for (g, answer) in plain.answers.enumerated() {
                let h = m * layer.H / layer.M + g
                #expect(step.attended[h] == plain.attended, "\(text), \(layer), \(prompt)")
                // Sums of up to 60 products of order 1 in Float.
                #expect(isNear(step.attention.row(h).map(Double.init), answer, 2e-5))
              }
            }
          }
        }
      }
    }
  }

  /// K and V share a decision, and a chunk that the gate did not see cannot be the one that goes:
  /// all later queries look at chunk 2 alone, so it stays and all others go.
  @Test func `the chunk that is judged is the chunk that is merged or removed`() throws {
    let layer = plainLayer(1, 1, 4)
    let (wanted, other): ([Float], [Float]) = ([8, 0, 0, 0], [0, 0, 0, 8])
    let keys = Tensor(rows: (0..<40).map { (8..<12).contains($0) ? wanted : other })
    let values = Tensor(rows: (0..<40).map { [Float($0), 1, 0, 0] })
    let queries = Tensor(rows: (0..<40).map { _ in wanted })
    for prompt in [1, 14, 30] {
      var tiers = Tiers()
      var cache = try cacheMethod("kv-efficient-vla:w=6,chunk=4").makeCache(for: layer)
      try cache.prefill(
        plainPrompt(
          queries: [queries.rows(0..<prompt)], keys: [keys.rows(0..<prompt)],
          values: [values.rows(0..<prompt)]), tiers: &tiers)
      var last: AttendedStep?
      for t in prompt..<40 {
        let (q, k) = (queries.rows(t..<t + 1), keys.rows(t..<t + 1))
        last = try cache.decode(
          TokenRows(
            queries: q, queriesBeforeRotary: q, keys: k, keysBeforeRotary: k,
            values: values.rows(t..<t + 1)), tiers: &tiers)
      }
      let chunks = Set((last?.attended[0] ?? []).filter { $0 < 32 }.map { $0 / 4 })
      #expect(chunks == [2], "prompt \(prompt)")
      // The logit of the mean is 32, of all others 0: its value is what the answer is.
      let answer = try #require(last?.attention.row(0))
      #expect(abs(answer[0] - 9.5) < 1e-4 && abs(answer[1] - 1) < 1e-5, "8, 9, 10, 11 / 4")
    }
  }

  @Test func `equal keys in one row are exact with log C, and not without`() {
    let (d, C, n) = (6, 5, 12)
    let q = Tensor<Double>.normal(shape: [1, d], seed: 1).row(0)
    let key = Tensor<Double>.normal(shape: [1, d], seed: 2).row(0)
    let others = Tensor<Double>.normal(shape: [n - C, d], seed: 3)
    let values = Tensor<Double>.normal(shape: [n, d], seed: 4)
    let keys = Tensor(joiningRows: [Tensor(rows: Array(repeating: key, count: C)), others])
    let exact = fullAttention(query: q, keys: keys, values: values)

    let mergedKeys = Tensor(joiningRows: [Tensor(rows: [meanRow(keys.rows(0..<C))]), others])
    let mergedValues = Tensor(
      joiningRows: [Tensor(rows: [meanRow(values.rows(0..<C))]), values.rows(C..<n)])
    func merged(_ bonus: Double) -> (answer: [Double], weights: [Double]) {
      mergedAttention(
        query: q, keys: mergedKeys.elements, values: mergedValues.elements,
        slots: (0..<Int32(n - C + 1)).map { $0 }, bonus: [bonus])
    }
    let logC: [Double] = logarithms(ofCounts: [Int32(C)])
    #expect(isNear(merged(logC[0]).answer, exact, 1e-14))

    // The closed form of both: C e^s / (C e^s + Z) and e^s / (e^s + Z).
    func e(_ k: [Double]) -> Double {
      exp(zip(q, k).reduce(0) { $0 + $1.0 * $1.1 } / Double(d).squareRoot())
    }
    let (s, Z) = (e(key), (0..<n - C).reduce(0) { $0 + e(others.row($1)) })
    #expect(abs(merged(logC[0]).weights[0] - Double(C) * s / (Double(C) * s + Z)) < 1e-15)
    #expect(abs(merged(0).weights[0] - s / (s + Z)) < 1e-15)
    #expect(!isNear(merged(0).answer, exact, 1e-2))
  }

  /// At fbff2a0 a run of 400 steps that starts empty merges nothing, and one that starts with W
  /// rows merges 25 times. (W = 100, C = 16: a chunk leaves at every 16th step.)
  @Test func `decoding from an empty cache merges, as from a full one`() throws {
    let layer = Layer(1, 1, 8)
    for (prompt, chunks) in [(1, 18), (100, 25)] {
      let run = try Run(
        "kv-efficient-vla:gate=keep-all", Rows(layer, tokens: prompt + 400), prompt: prompt)
      let l = prompt + 400
      let rows = 100 + chunks + (l - 100) % 16
      #expect(run.residentBytes.last == rows * layer.rowBytes + 4 * chunks)
      #expect(run.steps.last?.attended[0] == Array(0..<l))
    }
  }

  @Test(arguments: Layer.all)
  func `rows are the window, the pending ones and one a chunk, and bytes are the buffers'`(
    _ layer: Layer
  ) throws {
    for text in [
      "kv-efficient-vla:w=6,chunk=4,gate=keep-all", "kv-efficient-vla:w=6,chunk=4,alpha=0",
      "kv-efficient-vla:w=3,chunk=5,alpha=1.5", "kv-efficient-vla:budget=9,chunk=3,gate=keep-all",
    ] {
      let method = try cacheMethod(text)
      for prompt in promptLengths + [16, 33] {
        let run = try Run(text, Rows(layer, tokens: prompt + 20), prompt: prompt)
        #expect(run.events.isEmpty && run.hostBytes.allSatisfy { $0 == 0 })
        let bytes = method.bytes(tokens: prompt, layer: layer.shape)
        #expect(!bytes.isUpperBound && run.residentBytes[0] == bytes.device, "\(text), \(prompt)")
        if text.contains("budget") { continue }  // settled by the prompt, so not by a later length
        for (i, resident) in run.residentBytes.enumerated() {
          #expect(resident == method.bytes(tokens: prompt + i, layer: layer.shape).device)
        }
      }
    }
    let bound = try cacheMethod("kv-efficient-vla:w=6,chunk=4").bytes(
      tokens: 33, layer: layer.shape)
    #expect(bound.isUpperBound == ((layer.window ?? 33) > 9), "a chunk may be in sight")
  }

  @Test func `a budget is the most rows, in all three forms`() throws {
    let layer = Layer(4, 2, 8)
    let rows = 2 * layer.rowBytes
    for (budget, most) in [("20", 20), ("40%", 24), ("\(20 * (rows + 2 * 4))B", 20)] {
      let text = "kv-efficient-vla:budget=\(budget),chunk=4,gate=mass,alpha=0"
      let run = try Run(text, Rows(layer, tokens: 60), prompt: 60)
      let held = run.liveBuffers.filter { $0.label.hasPrefix("K rows of head 0") }
      let count = (held.first?.bytes ?? 0) / (layer.rowBytes / 2)
      #expect(count <= most && count > most - 4, "\(budget): \(count)")
      #expect(
        try cacheMethod(text).attendedRows(tokens: 60, layer: layer.shape) == count)
    }
  }

  @Test func `a score that is not a number is an error`() throws {
    let layer = Layer(2, 1, 8)
    var rows = Rows(layer, tokens: 30)
    rows.keys[0][9, 3] = .nan
    for prompt in [20, 1] {
      #expect(throws: ScoreError.self) {
        _ = try Run("kv-efficient-vla:w=3,chunk=4", rows, prompt: prompt)
      }
    }
  }
}
