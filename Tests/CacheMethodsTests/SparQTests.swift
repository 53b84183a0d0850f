// SparQ: partial logits, one set for a group, the mean value, and what a scan costs.

import CacheMethods
import Tensors
import Testing
import TieredMemory
import Transformers

@Suite struct SparQTests {
  @Test func `with all channels the logits are exact, divided by the root of d`() throws {
    let q = Tensor<Double>.normal(shape: [12], seed: 1).elements
    let columns = try sparqColumns([q], rank: 12)
    #expect(columns == Array(0..<12))
    #expect(sparqQuery(q, columns: columns) == q)
    #expect(sparqDivisor(q, columns: columns) == Double(12).squareRoot())
    #expect(sparqDivisor([3, 0, 1, 0], columns: [0]) == Double(4 * 3 / 4.0).squareRoot())
    #expect(sparqDivisor([0, 0, 0, 0] as [Float], columns: [0]) == 2, "no channel says anything")
  }

  @Test(arguments: Layer.all, ["host", "device"])
  func `with all channels and a set for each head it is exact top-k`(
    _ layer: Layer, _ keys: String
  ) throws {
    let rows = Rows(layer, tokens: 40)
    let options = "k=6,w=4,transfers=per-query-head"
    let sparq = try Run(
      "sparq:r=64,keys=\(keys),reallocate=off,group=own,\(options)", rows, prompt: 12)
    let exact = try Run("topk:\(options)", rows, prompt: 12)
    #expect(sparq.steps.map(\.attended) == exact.steps.map(\.attended))
    #expect(sparq.steps.map(\.attention) == exact.steps.map(\.attention))
    #expect(sparq.residentBytes.count == exact.residentBytes.count)
  }

  @Test func `the channels are those with the largest sum of |q| over the group`() throws {
    let (a, b): ([Float], [Float]) = ([4, -3, 0, 1], [-1, 0, 5, 1])
    #expect(try sparqColumns([a, b], rank: 2) == [0, 2])
    #expect(try sparqColumns([a.map { 3 * $0 }, b], rank: 2) == [0, 1], "a head that is larger")
    #expect(try sparqColumns([[1, 1, 1, 1]], rank: 2) == [0, 1], "ties to the lower channel")
  }

  @Test func `equal values come out whatever is chosen`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 60)
    var cache = try cacheMethod("sparq:r=2,k=3,w=2").makeCache(for: layer.shape)
    var tiers = Tiers()
    let value = Tensor<Float>.normal(shape: [8], seed: 2).elements
    var prompt = rows.prompt(30)
    prompt.values = prompt.values.map { _ in Tensor(rows: Array(repeating: value, count: 30)) }
    try cache.prefill(prompt, tiers: &tiers)
    for t in 30..<60 {
      var token = rows.token(t)
      token.values = Tensor(rows: [value, value])
      let step = try cache.decode(token, tiers: &tiers)
      for h in 0..<4 {
        // Five roundings of a weighted sum and two of the mix: 1e-6 is 8 units in the last place.
        for (x, y) in zip(step.attention.row(h), value) { #expect(abs(x - y) <= 1e-6 * abs(y)) }
      }
    }
  }

  @Test func `the mean of equal values is that value, also after values left`() throws {
    var device = DeviceTier()
    let rows = Tensor<Float>(repeating: 0.1, shape: [1000, 3])
    var mean = try MeanValue(rows, label: "test", on: &device)
    #expect(mean.mean == [0.1, 0.1, 0.1] && device.residentBytes == 3 * 8)
    for _ in 0..<999 { mean.remove([0.1, 0.1, 0.1]) }
    #expect(mean.count == 1 && mean.mean == [0.1, 0.1, 0.1])
  }

  @Test func `with everything chosen the share is 1 and attention is full, bit for bit`() throws {
    for layer in Layer.all {
      let rows = Rows(layer, tokens: 30)
      for text in ["sparq:r=2,k=40,w=4", "sparq:r=2,k=1,w=40,keys=device"] {
        for prompt in [1, 9, 29] {
          let full = try Run("full", rows, prompt: prompt)
          let run = try Run(text, rows, prompt: prompt)
          #expect(run.steps.map(\.attention) == full.steps.map(\.attention))
          #expect(run.steps.map(\.attended) == full.steps.map(\.attended))
          #expect(run.events.allSatisfy { $0.reason != .scan || $0.rows == 1 })
        }
      }
    }
    #expect(abs(sparqShare([1.0, 2, 3], chosen: [0, 1, 2]) - 1) < 1e-15)
  }

  @Test(arguments: Layer.all, ["host", "device"])
  func `a group has one set, by summed logits, and the mean of what is in sight`(
    _ layer: Layer, _ keys: String
  ) throws {
    let rows = Rows(layer, tokens: 45)
    let (r, G) = (3, layer.H / layer.M)
    let run = try Run("sparq:r=\(r),keys=\(keys),k=6,w=4", rows, prompt: 21)
    for (i, step) in run.steps.enumerated() {
      let t = 21 + i
      let visible = layer.shape.visible(length: t + 1)
      let older = visible.lowerBound..<max(visible.lowerBound, t - 3)
      for m in 0..<layer.M {
        // A plain recount in Double.
        let heads = Array(m * G..<(m + 1) * G)
        let q = heads.map { rows.queries[$0].row(t).map(Double.init) }
        let size = (0..<layer.d).map { c in q.reduce(0) { $0 + abs($1[c]) } }
        let R = size.indices.sorted { (-size[$0], $0) < (-size[$1], $1) }.prefix(r)
        let logits = q.map { q in
          let part = R.reduce(0) { $0 + abs(q[$1]) } / q.reduce(0) { $0 + abs($1) }
          return visible.map { j in
            R.reduce(0) { $0 + q[$1] * Double(rows.keys[m][j, $1]) }
              / (Double(layer.d) * part).squareRoot()
          }
        }
        let sums = older.map { j in logits.reduce(0) { $0 + $1[j - visible.lowerBound] } }
        let order = sums.indices.sorted { (-sums[$0], $0) < (-sums[$1], $1) }
        let best = order.prefix(6).map { older.lowerBound + $0 }.sorted()
        let chosen = best + Array(older.upperBound...t)
        let mean = (0..<layer.d).map { c in
          visible.reduce(0) { $0 + Double(rows.values[m][$1, c]) } / Double(visible.count)
        }
        for (g, h) in heads.enumerated() {
          #expect(step.attended[h] == chosen, "token \(t), head \(h)")
          let exact = rows.attention(h, t, over: chosen).map(Double.init)
          let weights = softmax(logits[g])
          let share = chosen.reduce(0) { $0 + weights[$1 - visible.lowerBound] }
          let mixed = zip(exact, mean).map { share * $0 + (1 - share) * $1 }
          // Values are of size 1; Float's roundings of some dozen operations.
          for (x, y) in zip(step.attention.row(h), mixed) { #expect(abs(Double(x) - y) < 2e-6) }
        }
      }
    }
  }

  @Test func `a scan of the host's keys is in the ledger, one of the device's is memory`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 40)
    let host = try Run("sparq:r=3,k=6,w=4", rows, prompt: 20)
    let scans = host.events.filter { $0.reason == .scan }
    #expect(scans.count == 2 * 20, "one a key/value head and step, none for the prompt")
    for (n, scan) in scans.enumerated() {
      let older = 21 + n / 2 - 4
      #expect(scan.step == n / 2 + 1 && scan.head == n % 2 && scan.direction == .hostToDevice)
      #expect(scan.rows == older && scan.bytes == older * 3 * 4)
    }
    let device = try Run("sparq:r=3,keys=device,k=6,w=4", rows, prompt: 20)
    #expect(device.events == host.events.filter { $0.reason != .scan })
    #expect(device.steps.map(\.attention) == host.steps.map(\.attention))
    for i in 0...20 {
      #expect(device.residentBytes[i] - host.residentBytes[i] == 2 * (20 + i) * 8 * 4)
    }
    // A head that reads its own channels scans for itself.
    let own = try Run("sparq:r=3,group=own,k=6,w=4", rows, prompt: 20)
    #expect(own.events.count { $0.reason == .scan } == 4 * 20)
  }

  @Test func `in a sliding window each value that goes out of sight is read once`() throws {
    let layer = Layer(4, 2, 8, window: 12)
    let run = try Run("sparq:r=3,k=3,w=4", Rows(layer, tokens: 40), prompt: 20)
    let values = run.events.filter { $0.reason == .scan && $0.bytes == 8 * 4 && $0.rows == 1 }
    #expect(values.count == 2 * 20)
    // A window within the ring: the value is on the device still.
    let inRing = try Run(
      "sparq:r=3,k=3,w=4", Rows(Layer(4, 2, 8, window: 3), tokens: 40), prompt: 20)
    #expect(inRing.events.allSatisfy { $0.reason != .scan })
  }

  @Test(arguments: Layer.all)
  func `bytes are those of the buffers, at every step`(_ layer: Layer) throws {
    for text in [
      "sparq:r=3,k=6,w=4", "sparq:r=3,keys=device,k=6,w=4", "sparq:r=3,reallocate=off,k=6,w=4",
      "sparq:r=3,keys=device,group=own,k=6,w=4,transfers=per-query-head",
      "sparq:r=3,group=own,k=6,w=4",
    ] {
      let method = try cacheMethod(text)
      for prompt in promptLengths {
        let run = try Run(text, Rows(layer, tokens: 40), prompt: prompt)
        for (i, resident) in run.residentBytes.enumerated() {
          let bytes = method.bytes(tokens: prompt + i, layer: layer.shape)
          #expect(bytes.isUpperBound ? resident <= bytes.device : resident == bytes.device)
          #expect(!bytes.isUpperBound || text.contains("own"), "a group's rows are one set")
        }
        let codes = run.liveBuffers.filter {
          $0.label.hasPrefix("keys of") || $0.label.hasPrefix("values of")
        }.reduce(0) { $0 + $1.bytes }
        #expect(codes == method.bytes(tokens: prompt, layer: layer.shape).deviceCodes)
      }
    }
  }

  @Test func `a shift of all keys changes no order of the logits over fixed channels`() throws {
    // Integers: nothing rounds before the division.
    let keys = Tensor<Double>.normal(shape: [40, 6], seed: 9).map { ($0 * 8).rounded() }
    let q = Tensor<Double>.normal(shape: [6], seed: 10).map { ($0 * 8).rounded() }.elements
    let columns = try sparqColumns([q], rank: 3)
    let read = sparqQuery(q, columns: columns)
    func best(_ shift: Double) throws -> [Int] {
      let scores = (0..<40).map { t in
        zip(read, keys.row(t)).reduce(0) { $0 + $1.0 * ($1.1 + shift) }
          / sparqDivisor(q, columns: columns)
      }
      return try topK(scores, count: 7).indices
    }
    #expect(try best(0) == best(5))
  }

  @Test func `a query that is not a number is an error`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 40)
    var cache = try cacheMethod("sparq:r=3,k=6,w=4").makeCache(for: layer.shape)
    var tiers = Tiers()
    try cache.prefill(rows.prompt(30), tiers: &tiers)
    var token = rows.token(30)
    token.queries[3, 2] = .nan
    let error = #expect(throws: ScoreError.self) { _ = try cache.decode(token, tiers: &tiers) }
    #expect(error?.head == 2 && error?.step == 1)
  }
}
