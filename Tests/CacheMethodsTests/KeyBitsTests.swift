// key-bits: exact with all bits, better with more, two stages in one, bytes of every part.

import CacheMethods
import Foundation
import LRQK
import Tensors
import Testing
import TieredMemory
import Transformers

/// The older tokens that each step of a method chose, by head; rows are not rotated again.
private func sets(_ text: String, _ rows: Rows, prompt: Int) throws -> [[[Int]]] {
  let cache = try cacheMethod(text).makeCache(for: rows.layer.unrotated)
  return try Run(cache, rows, prompt: prompt).steps.map(\.attended)
}

/// Queries and keys of a small trained model, after RoPE: 400 tokens of a recorded layer.
private func captured(_ layer: Int, tokens l: Int = 400) throws -> Rows {
  let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  let file = try SafetensorsFile(
    path: folder.path + "/ReplayTests/Captures/needle-layer\(layer).safetensors")
  var rows = Rows(Layer(4, 2, 32), tokens: l)
  func heads(_ name: String) throws -> [Tensor<Float>] {
    let all: Tensor<Float> = try file.tensor(name)
    return (0..<all.shape[1]).map { all.slice(0).slice($0).rows(0..<l) }
  }
  rows.setQueries(try heads("Q"))
  rows.setKeys(try heads("K"))
  rows.values = try heads("V")
  return rows
}

/// How much of the best sets other ones have, from 0 to 1.
private func found(_ sets: [[[Int]]], of best: [[[Int]]]) -> Double {
  let pairs = zip(sets.joined(), best.joined())
  let shared = pairs.reduce(0) { $0 + Set($1.0).intersection($1.1).count }
  return Double(shared) / Double(best.joined().reduce(0) { $0 + $1.count })
}

@Suite struct KeyBitsTests {
  @Test(arguments: [Layer(4, 2, 8), Layer(3, 3, 16), Layer(4, 1, 20, window: 17)])
  func `the keys in 32 bits are exact top-k, to the last bit`(_ layer: Layer) throws {
    let rows = Rows(layer, tokens: 40)
    let exact = try Run("topk:k=6,w=4", rows, prompt: 20)
    let run = try Run("key-bits:bits=32,k=6,w=4", rows, prompt: 20)
    #expect(run.steps.map(\.attended) == exact.steps.map(\.attended))
    #expect(run.steps.map(\.attention) == exact.steps.map(\.attention))
    #expect(run.events == exact.events)
  }

  /// At full rank W_Q W_Kᵀ = 1, so that q W_Q · k W_K = q · k but for rounding.
  @Test(arguments: ["closed-form", "random", "random,seed=5"])
  func `a map of full rank in 32 bits keeps the exact order`(_ map: String) throws {
    for layer in [Layer(4, 2, 8), Layer(3, 3, 16)] {
      let rows = Rows(layer, tokens: 60)
      let exact = try Run("topk:k=6,w=4", rows, prompt: 40).steps.map(\.attended)
      func run(_ rank: Int) throws -> [[[Int]]] {
        try Run("key-bits:map=\(map),rank=\(rank),bits=32,k=6,w=4", rows, prompt: 40).steps
          .map(\.attended)
      }
      #expect(try run(layer.d) == exact)
      #expect(try run(layer.d / 4) != exact, "and a smaller rank does not")
    }
  }

  @Test func `taking off the mean of all keys never changes the order of exact scores`() throws {
    // Multiples of 1/16, and of 1/512 for a mean of 32: every product and sum is exact in Float.
    for seed in 1...5 {
      let rows = Rows.onGrid(Layer(4, 2, 16), tokens: 60, seed: UInt64(seed))
      let exact = try sets("topk:k=6,w=4", rows, prompt: 32)
      #expect(try sets("key-bits:bits=32,centred=true,k=6,w=4", rows, prompt: 32) == exact)
      // For few bits it does: keys around a far point are all the same until it is taken off.
      let far = rows.with(keys: { $0.map { $0 + 512 } })
      let off = try sets("key-bits:bits=8,centred=true,k=6,w=4", far, prompt: 32)
      let on = try sets("key-bits:bits=8,centred=false,k=6,w=4", far, prompt: 32)
      #expect(found(off, of: exact) > found(on, of: exact) + 0.2)
    }
  }

  @Test(arguments: [0, 2])
  func `on a recorded layer more bits find more of the best rows`(_ layer: Int) throws {
    let rows = try captured(layer)
    let best = try sets("topk:k=40,w=8", rows, prompt: 340)
    for map in ["none", "closed-form", "random"] {
      let recalls = try [1, 2, 3, 4, 8, 16, 32].map { bits in
        found(
          try sets("key-bits:map=\(map),bits=\(bits),k=40,w=8", rows, prompt: 340), of: best)
      }
      for (fewer, more) in zip(recalls[..<5], recalls[1..<5]) {
        #expect(fewer < more, "\(map): \(recalls)")
      }
      #expect(recalls[5] > 0.99 && recalls[6] > 0.999, "\(map): \(recalls)")
    }
  }

  @Test func `on a recorded layer a larger rank finds more at 4 bits`() throws {
    let rows = try captured(0)
    let best = try sets("topk:k=40,w=8", rows, prompt: 340)
    let recalls = try [4, 8, 16, 32].map { rank in
      found(
        try sets("key-bits:map=closed-form,rank=\(rank),k=40,w=8", rows, prompt: 340), of: best)
    }
    #expect(zip(recalls, recalls.dropFirst()).allSatisfy { $0 < $1 }, "\(recalls)")
  }

  @Test(arguments: [
    "bits=4", "map=random,rank=5,bits=8", "map=closed-form,bits=3,centred=true",
    "bits=4,group=mean", "bits=4,group=max,transfers=per-key-value-head",
  ])
  func `a first choice that leaves nothing out changes nothing, and a narrow one does`(
    _ text: String
  ) throws {
    let rows = Rows(Layer(4, 2, 8), tokens: 60)
    let one = try Run("key-bits:\(text),k=6,w=4", rows, prompt: 30)
    let two = try Run("key-bits:\(text),first=1,first-k=100,k=6,w=4", rows, prompt: 30)
    #expect(one.steps.map(\.attended) == two.steps.map(\.attended))
    #expect(one.steps.map(\.attention) == two.steps.map(\.attention))
    let narrow = try Run("key-bits:\(text),first=1,first-k=2,k=6,w=4", rows, prompt: 30)
    #expect(narrow.steps.map(\.attended) != one.steps.map(\.attended))
  }

  @Test func `two stages are the few bits' best of which the more bits choose`() throws {
    let rows = Rows(Layer(2, 2, 8), tokens: 50)
    let two = try Run("key-bits:bits=4,first=1,first-k=3,k=6,w=4", rows, prompt: 30)
    let coarse = try Run("key-bits:bits=1,k=18,w=4", rows, prompt: 30)
    for (both, first) in zip(two.steps, coarse.steps) {
      for (chosen, among) in zip(both.attended, first.attended) {
        #expect(Set(among).isSuperset(of: chosen) && chosen.count == 10)
      }
    }
  }

  @Test(arguments: ["bits=1", "bits=4", "bits=32", "bits=4,first=1,first-k=2"])
  func `ties go to the lower token`(_ text: String) throws {
    let rows = Rows.onGrid(Layer(4, 2, 16), tokens: 40)
    let one = rows.keys[0].row(3)
    let equal = rows.with(keys: { $0.mapRows { _ in one } })
    for step in try sets("key-bits:\(text),k=6,w=4", equal, prompt: 30) {
      for set in step { #expect(set.prefix(6) == [0, 1, 2, 3, 4, 5]) }
    }
  }

  // MARK: Bytes

  @Test(arguments: KeyCode.widths, Layer.few)
  func `every part has the bytes of its formula in buffers of its own`(
    _ bits: Int, _ layer: Layer
  ) throws {
    let (M, d) = (layer.M, layer.d)
    let scale = bits <= 8 ? 2 : 0
    for (map, rank) in [("none", d), ("random,rank=5", 5), ("closed-form,rank=7", 7)] {
      for first in [nil, 1] where first == nil || bits > 1 {
        let more = first == nil ? "" : ",first=1"
        let text = "key-bits:map=\(map),bits=\(bits),centred=true\(more),k=6,w=4"
        let method = try cacheMethod(text)
        for prompt in promptLengths {
          let run = try Run(text, Rows(layer, tokens: 30), prompt: prompt)
          func held(_ prefixes: String...) -> Int {
            run.liveBuffers.filter { b in prefixes.contains { b.label.hasPrefix($0) } }
              .reduce(0) { $0 + $1.bytes }
          }
          let codes = M * prompt * ((rank * bits + 7) / 8 + scale)
          #expect(held("codes of", "scales of codes of") == codes)
          let firstCodes = first == nil ? 0 : M * prompt * ((rank + 7) / 8 + 2)
          #expect(held("first codes of", "scales of first codes of") == firstCodes)
          let maps = map == "none" ? 0 : rank * d * 4 * (rank == 5 ? 1 : 2 * M)
          #expect(held("W_Q", "W_K", "rotation") == maps)
          #expect(held("mean") == M * d * 4)
          let all = method.bytes(tokens: prompt, layer: layer.shape)
          #expect(all.deviceCodes == codes + firstCodes + maps + M * d * 4)
          for (i, resident) in run.residentBytes.enumerated() {
            #expect(resident == method.bytes(tokens: prompt + i, layer: layer.shape).device)
          }
        }
      }
    }
  }

  // MARK: What is refused

  @Test(arguments: ["bits=32", "bits=16", "bits=4", "bits=2", "bits=1", "bits=8,first=1"])
  func `a key that is not a number is an error that names it`(_ text: String) throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 40)
    var tiers = Tiers()
    var cache = try cacheMethod("key-bits:\(text),k=6,w=4").makeCache(for: layer.shape)
    var prompt = rows.prompt(30)
    prompt.keys[1][9, 2] = .nan
    let early = #expect(throws: ScoreError.self) { try cache.prefill(prompt, tiers: &tiers) }
    #expect(early?.head == 2 && early?.token == 9 && early?.step == 0)
    // The closed form sees it while it is fitted.
    cache = try cacheMethod("key-bits:map=closed-form,\(text),k=6,w=4").makeCache(
      for: layer.shape)
    #expect(throws: LRQKError.self) { try cache.prefill(prompt, tiers: &tiers) }
  }

  @Test func `a rank above the width is an error when a layer is made`() throws {
    let method = try cacheMethod("key-bits:map=random,rank=9")
    let line = methodError { _ = try method.makeCache(for: Layer(4, 2, 8).shape) }
    #expect(line == "key-bits: rank=9 is more than the head width 8")
    _ = try method.makeCache(for: Layer(3, 3, 16).shape)
  }

  @Test(arguments: [
    ("rank=8", "rank has no effect with map=none, whose codes have the head's width"),
    ("rank=width", "rank has no effect with map=none"),
    ("map=random,rank=0", "rank=0 is not a whole number from 1"),
    ("map=svd", "map=svd is none of: none, closed-form, random"),
    ("bits=5", "bits=5 is none of: 32, 16, 8, 4, 3, 2, 1"),
    ("bits=08", "bits=08 is none of"),
    ("centred=on", "centred=on is none of: false, true"),
    ("seed=3", "seed has no effect with map=none, which draws nothing"),
    ("map=closed-form,seed=3", "seed has no effect with map=closed-form"),
    ("bits=1,estimator=rabitq", "estimator has no effect with map=none; it is for random"),
    ("map=random,estimator=plain", "estimator has no effect with no code of 1 bit"),
    ("map=random,bits=1,estimator=best", "estimator=best is none of: plain, rabitq"),
    ("first-k=3", "first-k has no effect with first=none"),
    ("first=4", "first=4 has to be fewer bits than bits=4"),
    ("bits=2,first=8", "first=8 has to be fewer bits than bits=2"),
    ("first=16,bits=32", "first=16 is none of: 8, 4, 3, 2, 1"),
    ("first=1,first-k=1", "first-k=1 is not a whole number from 2"),
    ("group=median", "is none of: own, mean, max, sum"),
  ])
  func `a bad option is one line`(_ text: String, _ part: String) {
    let line = methodError { _ = try cacheMethod("key-bits:\(text)") }
    #expect(line.hasPrefix("key-bits: ") && line.contains(part) && !line.contains("\n"), "\(line)")
  }
}
