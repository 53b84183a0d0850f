// ThinK: its scores are errors, and its old keys are keys with zeros.
//
// In:  small integers, over which every product and sum is exact; random rows.
// Out: the error that dropped channels make, equal to the sum of their scores where the queries'
//      channels are orthogonal; attention compared with full attention over keys with zeros.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

/// Integers from -4 to 4, (l, d).
private func integers(_ l: Int, _ d: Int, seed: UInt64) -> Tensor<Double> {
  let numbers = RandomNumbers(seed: seed)
  return Tensor(
    shape: [l, d], elements: (0..<l * d).map { Double(numbers.integer(below: 9, $0) - 4) })
}

/// 16 queries whose d <= 16 channels are orthogonal: columns of a Hadamard matrix, each scaled.
private func orthogonalQueries(_ d: Int, seed: UInt64) -> Tensor<Double> {
  let numbers = RandomNumbers(seed: seed, stream: 1)
  return Tensor(
    rows: (0..<16).map { i in
      (0..<d).map { c in
        let sign: Double = (i & c).nonzeroBitCount.isMultiple(of: 2) ? 1 : -1
        return sign * Double(1 + numbers.integer(below: 5, c))
      }
    })
}

/// ‖Q Kᵀ − Q_S K_Sᵀ‖², S all channels but `dropped`.
private func squaredError(_ q: Tensor<Double>, _ k: Tensor<Double>, without dropped: [Int])
  -> Double
{
  var sum = 0.0
  for t in 0..<q.rows {
    for j in 0..<k.rows {
      let missing = dropped.reduce(0) { $0 + q[t, $1] * k[j, $1] }
      sum += missing * missing
    }
  }
  return sum
}

/// Every set of `m` numbers below `d`, ascending.
private func subsets(_ m: Int, of d: Int) -> [[Int]] {
  if m == 0 { return [[]] }
  return (m - 1..<d).flatMap { last in subsets(m - 1, of: last).map { $0 + [last] } }
}

/// The steps of a method over rows without RoPE.
private func steps(_ text: String, _ rows: Rows, prompt: Int) throws -> [AttendedStep] {
  try Run(cacheMethod(text).makeCache(for: rows.layer.unrotated), rows, prompt: prompt).steps
}

@Suite struct ThinKTests {
  @Test(arguments: [(8, 16), (16, 32), (5, 1), (16, 7)])
  func `a score is the squared norm of what its channel adds to the scores`(_ d: Int, _ l: Int) {
    let (q, k) = (integers(16, d, seed: 1), integers(l, d, seed: 2))
    let scores = channelScores(queries: [q], keys: [k], last: 16, group: .own)[0]
    for c in 0..<d {
      let norm = squaredError(q, k, without: [c])
      #expect(abs(scores[c] * 16 * Double(l) - norm) <= 1e-12 * norm, "channel \(c)")
    }
  }

  @Test(arguments: [UInt64(1), 2, 3, 4])
  func `with orthogonal queries the error is the sum of the dropped scores, and the least`(
    _ seed: UInt64
  ) throws {
    let d = 7
    let (q, k) = (orthogonalQueries(d, seed: seed), integers(8, d, seed: seed + 10))
    let scores = channelScores(queries: [q], keys: [k], last: 16, group: .own)[0]
    for m in 0...d {
      let kept = try keptChannels(scores, dropping: m)
      let dropped = (0..<d).filter { !kept.contains($0) }
      #expect(kept.count == d - m)
      let sum = dropped.reduce(0) { $0 + scores[$1] } * 16 * 8  // powers of two: nothing rounds
      let error = squaredError(q, k, without: dropped)
      #expect(error == sum, "\(m) of \(d) dropped")
      for other in subsets(m, of: d) { #expect(error <= squaredError(q, k, without: other)) }
    }
  }

  @Test func `otherwise the error stays below the square of the norms' sum`() throws {
    let d = 12
    var isAnother = false
    for seed in UInt64(1)...6 {
      let (q, k) = (integers(16, d, seed: seed), integers(20, d, seed: seed + 10))
      let scores = channelScores(queries: [q], keys: [k], last: 16, group: .own)[0]
      let kept = try keptChannels(scores, dropping: 5)
      let dropped = (0..<d).filter { !kept.contains($0) }
      let norms = dropped.reduce(0) { $0 + (scores[$1] * 16 * 20).squareRoot() }
      let error = squaredError(q, k, without: dropped)
      #expect(error <= norms * norms)
      let sum = dropped.reduce(0) { $0 + scores[$1] } * 16 * 20
      isAnother = isAnother || abs(error - sum) > 0.01 * sum
    }
    #expect(isAnother, "without orthogonality the sum is not the error")
  }

  @Test func `channels that are 0 in all queries or in all keys go first and cost nothing`() throws
  {
    let layer = Layer(4, 2, 8)
    var rows = Rows(layer, tokens: 60)
    func clear(_ c: Int, _ x: Tensor<Float>) -> Tensor<Float> {
      x.mapRows { row in row.indices.map { $0 == c ? 0 : row[$0] } }
    }
    rows.setQueries(rows.queries.map { clear(5, $0) })
    rows.setKeys(rows.keys.map { clear(2, $0) })
    let kept = try channelScores(
      queries: rows.queries, keys: rows.keys, last: 32, group: .own
    ).map { try keptChannels($0, dropping: 2) }
    #expect(kept.allSatisfy { $0 == [0, 1, 3, 4, 6, 7] })
    for group in ["own", "mean", "max", "sum"] {
      let full = try steps("full", rows, prompt: 40)
      let pruned = try steps("think:ratio=0.25,recent=3,group=\(group)", rows, prompt: 40)
      #expect(pruned.map(\.attention) == full.map(\.attention), "a term of 0 changes no bit")
    }
  }

  @Test func `only the last queries score, all of them where there are fewer`() {
    let (q, k) = (integers(40, 6, seed: 3), integers(40, 6, seed: 4))
    func scores(_ n: Int) -> [[Double]] {
      channelScores(queries: [q], keys: [k], last: n, group: .own)
    }
    #expect(
      scores(32) == channelScores(queries: [q.rows(8..<40)], keys: [k], last: 99, group: .own))
    #expect(scores(40) == scores(1000) && scores(1) != scores(32))
  }

  @Test(arguments: ["own", "mean"], Layer.few)
  func `a pruned cache is full attention over keys with zeros, and the scale is that of d`(
    _ group: String, _ layer: Layer
  ) throws {
    let (l, recent) = (30, 6)
    let rows = Rows(layer, tokens: 45)
    let run = try Run("think:ratio=0.5,recent=\(recent),group=\(group)", rows, prompt: l)
    let scores = channelScores(
      queries: rows.queries.map { $0.rows(0..<l) }, keys: rows.keys.map { $0.rows(0..<l) },
      last: 32, group: group == "own" ? .own : .mean, rows: layer.shape.visible(length: l))
    for h in 0..<layer.H {
      let m = h * layer.M / layer.H
      let kept = try keptChannels(scores[h * scores.count / layer.H], dropping: layer.d / 2)
      var keys = rows.keys[m]
      for t in 0..<l - recent {
        for c in 0..<layer.d where !kept.contains(c) { keys[t, c] = 0 }
      }
      for (i, step) in run.steps.enumerated() {
        let seen = Array(rows.visible(l + i))
        let expected = fullAttention(
          query: rows.queries[h].row(l + i), keys: keys.gather(rows: seen),
          values: rows.values[m].gather(rows: seen))
        #expect(step.attention.row(h) == expected, "head \(h), step \(i)")
        #expect(step.attended[h] == seen)
      }
    }
  }

  @Test(arguments: ["group=own", "group=mean", "group=max", "group=sum"], Layer.all)
  func `with no channel dropped it is full attention, bit for bit`(
    _ options: String, _ layer: Layer
  ) throws {
    let rows = Rows(layer, tokens: 40)
    // int(d · 0.04) is 0 for every width here.
    for text in ["think:ratio=0,recent=5,\(options)", "think:ratio=0.04,recent=0,\(options)"] {
      for prompt in [1, 2, 5, 6, 29] {
        let (full, run) = (
          try Run("full", rows, prompt: prompt), try Run(text, rows, prompt: prompt)
        )
        #expect(run.steps.map(\.attention) == full.steps.map(\.attention), "\(text), \(prompt)")
        #expect(run.steps.map(\.attended) == full.steps.map(\.attended))
      }
    }
  }

  @Test(arguments: [1, 7, 31, 32])
  func `a prompt of no more than the recent rows stays whole, however long the answer`(
    _ prompt: Int
  ) throws {
    let rows = Rows(Layer(4, 2, 8), tokens: prompt + 50)
    let (full, run) = (
      try Run("full", rows, prompt: prompt), try Run("think:ratio=0.9", rows, prompt: prompt)
    )
    #expect(run.steps.map(\.attention) == full.steps.map(\.attention))
    let longer = Rows(Layer(4, 2, 8), tokens: 50)
    #expect(
      try Run("think:ratio=0.9", longer, prompt: 33).steps.map(\.attention)
        != Run("full", longer, prompt: 33).steps.map(\.attention), "one old row is narrow")
  }

  @Test(arguments: ["group=mean", "group=own", "recent=0", "ratio=0", "ratio=0.99"], Layer.all)
  func `bytes are those of the buffers, also when rows have gone out of sight`(
    _ options: String, _ layer: Layer
  ) throws {
    let text = "think:" + (options.hasPrefix("recent") ? options : "recent=4,\(options)")
    let method = try cacheMethod(text)
    for prompt in promptLengths + [59] {
      let run = try Run(text, Rows(layer, tokens: prompt + 20), prompt: prompt)
      let bytes = method.bytes(tokens: prompt, layer: layer.shape)
      #expect(run.residentBytes[0] == bytes.device && run.liveBuffers.count > 0)
      #expect(run.events.isEmpty && run.hostBytes.allSatisfy { $0 == 0 } && !bytes.isUpperBound)
      if layer.window == nil {
        for (i, resident) in run.residentBytes.enumerated() {
          #expect(resident == bytes.device + i * layer.M * layer.rowBytes, "a whole row a step")
        }
      } else if options == "group=mean" {
        // In the end every row in sight came after the prompt.
        let bits = layer.M * 4
        let seen = layer.shape.visible(length: prompt + 20).count
        #expect(run.residentBytes[20] == layer.M * seen * layer.rowBytes + bits)
      }
    }
  }

  @Test func `narrow keys are as much smaller as there are fewer channels`() throws {
    let layer = Layer(4, 2, 20)
    func bytes(_ text: String) throws -> Int {
      try cacheMethod(text).bytes(tokens: 72, layer: layer.shape).device
    }
    // 40 old rows: 12 of 20 channels, for each of 2 holders or 4; a word of bits for each.
    let full = try bytes("full")
    #expect(full == 2 * 72 * 160)
    #expect(try full - bytes("think:ratio=0.4") == 2 * 40 * 8 * 4 - 2 * 4)
    #expect(try full - bytes("think:ratio=0.4,group=own") == 40 * 4 * (2 * 20 - 4 * 12) - 4 * 4)
    let run = try Run("think:ratio=0.4", Rows(layer, tokens: 72), prompt: 72)
    let sizes = Dictionary(grouping: run.liveBuffers, by: { $0.label.prefix(6) })
    #expect(sizes["narrow"]?.map(\.bytes) == [40 * 12 * 4, 40 * 12 * 4])
    #expect(sizes["whole "]?.map(\.bytes) == [32 * 20 * 4, 32 * 20 * 4])
    #expect(sizes["values"]?.map(\.bytes) == [72 * 20 * 4, 72 * 20 * 4])
  }

  @Test func `equal queries in a group make every rule one head's choice`() {
    let k: [Tensor<Float>] = normalHeads(2, 60, 8, seed: 3)
    let q = normalHeads(2, 60, 8, seed: 4, of: Float.self).flatMap { [$0, $0] }
    func scores(_ group: GroupReduction) -> [[Float]] {
      channelScores(queries: q, keys: k, last: 32, group: group)
    }
    let own = scores(.own)
    #expect(own[0] == own[1] && own[2] == own[3] && own[0] != own[2])
    #expect(scores(.mean) == [own[0], own[2]] && scores(.max) == [own[0], own[2]])
    #expect(scores(.sum) == [own[0].map { $0 * 2 }, own[2].map { $0 * 2 }])
  }

  @Test func `a shift of all keys and a rotation change the channels`() throws {
    let (q, k): ([Tensor<Double>], [Tensor<Double>]) = (
      normalHeads(1, 50, 16, seed: 7), normalHeads(1, 50, 16, seed: 8)
    )
    func kept(_ q: [Tensor<Double>], _ k: [Tensor<Double>]) throws -> [Int] {
      try keptChannels(
        channelScores(queries: q, keys: k, last: 32, group: .own)[0], dropping: 8)
    }
    let plain = try kept(q, k)
    let lowest = try #require((0..<16).first { !plain.contains($0) })
    let shift = (0..<16).map { $0 == lowest ? 50.0 : 0 }
    #expect(try kept(q, k.map { $0.shifted(by: shift) }).contains(lowest))
    #expect(try kept(q.map(\.hadamard), k.map(\.hadamard)) != plain)
    let halves = (q.map { $0.scalingRows { _ in 0.5 } }, k.map { $0.scalingRows { _ in 2 } })
    #expect(try kept(halves.0, halves.1) == plain, "reciprocal scales change nothing")
  }

  @Test func `of equal scores the later channels go`() throws {
    #expect(try keptChannels([1.0, 1, 1, 1], dropping: 3) == [0])
    #expect(try keptChannels([0.0, 2, 0, 2], dropping: 1) == [0, 1, 3])
    #expect(droppedChannels(0.4, of: 20) == 8 && droppedChannels(0.99, of: 20) == 19)
    #expect(droppedChannels(0.29, of: 100) == 28, "cut in Double, as the official code does")
  }

  @Test func `a key that is not a number is an error that names its token`() throws {
    var rows = Rows(Layer(2, 1, 8), tokens: 40)
    rows.keys[0][17, 3] = .nan
    let error = #expect(throws: ScoreError.self) { try Run("think", rows, prompt: 40) }
    #expect(error?.token == 17 && error?.layer == 3)
  }

  @Test(arguments: [
    ("ratio=1", "think: ratio=1.0 drops every channel; it is below 1"),
    ("ratio=-0.1", "think: ratio=-0.1 is not a finite number, 0 or larger"),
    ("recent=-1", "think: recent=-1 is not a whole number from 0 to 1048576"),
    ("queries=0", "think: queries=0 is not a whole number from 1 to 1048576"),
    ("group=min", "think: group=min is none of: own, mean, max, sum"),
  ])
  func `options without a meaning are refused in one line`(_ option: String, _ line: String) {
    #expect(throws: MethodError(line)) { try cacheMethod("think:\(option)") }
  }
}
