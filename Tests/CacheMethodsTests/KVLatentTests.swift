// KV-Latent's mathematics: slices and frequencies, and heads whose keys and values differ in width.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

/// Integers from -3 to 3 or so, (rows, columns): sums and products of few of them are exact.
private func integers(_ rows: Int, _ columns: Int, seed: UInt64) -> Tensor<Float> {
  Tensor.normal(shape: [rows, columns], seed: seed).map { $0.rounded() }
}

/// The columns 0, r, 2r and so on alone, zeros elsewhere.
private func only(_ ratio: Int, of x: Tensor<Float>) -> Tensor<Float> {
  var sparse = x
  for i in 0..<x.rows {
    for j in 0..<x.columns where j % ratio != 0 { sparse[i, j] = 0 }
  }
  return sparse
}

/// What each query head answers, over plain rows of one width.
private func plain(
  _ q: Tensor<Float>, _ k: [Tensor<Float>], _ v: [Tensor<Float>]
) -> Tensor<Float> {
  let slots = (0..<Int32(k[0].rows)).map { $0 }
  return Tensor(
    rows: (0..<q.rows).map { h in
      let m = h / (q.rows / k.count)
      return attention(
        query: q.row(h), keys: k[m].elements, values: v[m].elements, slots: slots)
    })
}

private func attend(
  _ heads: NarrowAttention<Float>, _ q: Tensor<Float>, _ k: [Tensor<Float>], _ v: [Tensor<Float>]
) throws -> Tensor<Float> {
  try heads.attend(
    queries: heads.widened(queries: q), parts: (k + v).map(\.elements))
}

@Suite struct KVLatentTests {
  private let H = 4
  private let M = 2
  private let d = 16
  private let l = 9

  @Test func `slices take every r-th row or column of the whole matrix`() {
    let w = Tensor<Float>(rows: (0..<6).map { i in (0..<4).map { Float(10 * i + $0) } })
    #expect(everyRow(2, of: w) == w.gather(rows: [0, 2, 4]))
    #expect(everyColumn(2, of: w) == w.gather(columns: [0, 2]))
    #expect(everyRow(1, of: w) == w && everyColumn(1, of: w) == w)
  }

  @Test func `ratio 1 with RoPE's own frequencies is the identity, to the last bit`() throws {
    let heads = NarrowAttention<Float>(
      queryHeads: H, keyValueHeads: M, keyWidth: d, valueWidth: d)
    let q = Tensor<Float>.normal(shape: [H, d], seed: 1)
    let k = (0..<M).map { Tensor<Float>.normal(shape: [l, d], seed: 2, stream: UInt64($0)) }
    let v = (0..<M).map { Tensor<Float>.normal(shape: [l, d], seed: 3, stream: UInt64($0)) }
    #expect(try attend(heads, q, k, v) == plain(q, k, v))
    #expect(heads.widened(queries: q) == q && heads.numbersPerToken == 2 * M * d)
  }

  @Test func `channels of values that are zero cost nothing to drop`() throws {
    let (q, r) = (integers(H, d, seed: 1), 4)
    let k = (0..<M).map { integers(l, d, seed: 2 + UInt64($0)) }
    let v = (0..<M).map { only(r, of: integers(l, d, seed: 5 + UInt64($0))) }
    let heads = NarrowAttention<Float>(
      queryHeads: H, keyValueHeads: M, keyWidth: d, valueWidth: d / r)
    let narrow = try attend(heads, q, k, v.map { everyColumn(r, of: $0) })
    #expect(narrow.gather(columns: Array(0..<d / r)) == everyColumn(r, of: plain(q, k, v)))
    // Behind d_vo an answer is zero.
    #expect(narrow.gather(columns: Array(d / r..<d)).elements.allSatisfy { $0 == 0 })
  }

  @Test func `channels of keys that are zero leave logits larger by the root of the ratio`() throws
  {
    let (q, r) = (integers(H, d, seed: 1), 4)
    let k = (0..<M).map { only(r, of: integers(l, d, seed: 2 + UInt64($0))) }
    let v = (0..<M).map { integers(l, d, seed: 5 + UInt64($0)) }
    let heads = NarrowAttention<Float>(
      queryHeads: H, keyValueHeads: M, keyWidth: d / r, valueWidth: d)
    let (sliced, slicedKeys) = (everyColumn(r, of: q), k.map { everyColumn(r, of: $0) })
    #expect(try attend(heads, sliced, slicedKeys, v) != plain(q, k, v))
    // √(d / d_qk) = 2 is exact, and so is every product of these integers.
    let halved = slicedKeys.map { $0.map { $0 / 2 } }
    #expect(try attend(heads, sliced, halved, v) == plain(q, k, v))
  }

  @Test func `a cache of one width sees the same heads, whichever part is the wider`() throws {
    for (keyWidth, valueWidth) in [(8, 16), (16, 8), (4, 20), (8, 8)] {
      let heads = NarrowAttention<Float>(
        queryHeads: H, keyValueHeads: M, keyWidth: keyWidth, valueWidth: valueWidth)
      let q = Tensor<Float>.normal(shape: [H, keyWidth], seed: 1)
      let k = (0..<M).map { Tensor<Float>.normal(shape: [l, keyWidth], seed: 2 + UInt64($0)) }
      let v = (0..<M).map { Tensor<Float>.normal(shape: [l, valueWidth], seed: 5 + UInt64($0)) }
      let narrow = try attend(heads, q, k, v)
      let wide = plain(
        heads.widened(queries: q), k.map { heads.widened(rows: $0) },
        v.map { heads.widened(rows: $0) })
      // Both divide by √W and skip zeros or add them: the same bits.
      #expect(narrow == wide)
      // In Double, with 1/√d_qk from the start.
      for h in 0..<H {
        let keys: Tensor<Double> = k[h / 2].converted()
        let scores = matmul(
          Tensor<Double>(shape: [1, keyWidth], elements: q.row(h).map { Double($0) }),
          transposed: keys, in: .reference
        ).elements.map { $0 / Double(keyWidth).squareRoot() }
        let weights = softmax(scores)
        for c in 0..<valueWidth {
          let exact = (0..<l).reduce(0.0) { $0 + weights[$1] * Double(v[h / 2][$1, c]) }
          #expect(abs(Double(narrow[h, c]) - exact) < 1e-5)
        }
      }
      #expect(heads.numbersPerToken == M * (keyWidth + valueWidth))
    }
  }

  @Test(arguments: [1, 2, 4])
  func `a pair of a narrow head is a pair of the wide one, turned alike`(_ ratio: Int) {
    let wide = RotaryEmbedding(rotatedWidth: d, base: 10_000)
    let narrow = RotaryEmbedding(rotatedWidth: d / ratio, base: 10_000)
    let rows = Tensor<Float>.normal(shape: [l, d], seed: 1)
    func rotated(_ rotary: RotaryEmbedding, _ x: Tensor<Float>) -> Tensor<Float> {
      rotary.rotations(positions: Array(0..<l), length: l).rotate(x)
    }
    #expect(
      rotated(narrow, everyColumn(ratio, of: rows))
        == everyColumn(ratio, of: rotated(wide, rows)))
  }

  @Test func `resampled frequencies leave the fast quarter out and double the slowest`() {
    let own = RotaryEmbedding(rotatedWidth: 16, base: 10_000)
    let resampled = RotaryEmbedding(rotatedWidth: 16, base: 10_000, scaling: .resampled)
    let f = resampled.frequencies(length: 1).map { Double($0) }
    let exponents = [4, 6, 8, 10, 12, 13, 14, 15].map { Double($0) / 16 }
    let decades = f.map { -log10($0) / 4 }
    #expect(zip(decades, exponents).allSatisfy { abs($0 - $1) < 1e-6 }, "\(decades)")
    // θ^(−1/4) is the largest; so ratio 1 is no identity with them.
    #expect(abs(f[0] - 0.1) < 1e-7)
    #expect(own.frequencies(length: 1) != resampled.frequencies(length: 1))
    #expect(own.frequencies(length: 1).count == 8 && f.count == 8)
  }

  @Test func `scores depend on the distance of two positions alone`() {
    let rotary = RotaryEmbedding(rotatedWidth: 8, base: 10_000, scaling: .resampled)
    let (q, k) = (
      Tensor<Double>.normal(shape: [1, 8], seed: 1), Tensor<Double>.normal(shape: [1, 8], seed: 2)
    )
    func score(_ s: Int, _ t: Int) -> Double {
      let q = rotary.rotations(positions: [s], length: 1, as: Double.self).rotate(q)
      let k = rotary.rotations(positions: [t], length: 1, as: Double.self).rotate(k)
      return zip(q.elements, k.elements).reduce(0) { $0 + $1.0 * $1.1 }
    }
    for shift in [1, 7, 100] {
      #expect(abs(score(5, 2) - score(5 + shift, 2 + shift)) < 1e-12)
    }
    #expect(abs(score(5, 2) - score(6, 2)) > 1e-3)
  }
}

@Suite struct KVLatentConversionTests {
  @Test(arguments: ConversionTests.models.filter { !$0.hasPrefix("qwen3") })
  func `ratio 1 with standard frequencies is the model, to the last bit`(_ name: String) throws {
    let folders = try ConversionFolders()
    let report = try folders.convert(name, "kvlatent:key=1,value=1,frequencies=standard")
    #expect(report.errors.joined().allSatisfy { $0 == 0 })
    let out = "\(folders.path)/out"
    let tokens = try ConversionFolders.prompt(name)
    let exact = try logits(ConversionFolders.tiny(name), tokens, prompt: 4, cache: "full")
    #expect(try logits(out, tokens, prompt: 4, cache: "full") == exact)
    let layers = try Decoder(folder: out).layerShapes
    #expect(layers.allSatisfy { ($0.factors == nil) == ($0.window != nil) })
    if layers.allSatisfy({ $0.factors != nil }) {
      #expect(difference(try logits(out, tokens, prompt: 4, cache: "factored"), exact) < 1e-5)
    }
  }

  @Test(arguments: [(2, 1), (1, 2), (2, 2), (2, 4), (2, 8)])
  func `a cache holds two widths, and zeros alone fill the shorter one`(_ key: Int, _ value: Int)
    throws
  {
    let folders = try ConversionFolders()
    let report = try folders.convert("llama2", "kvlatent:key=\(key),value=\(value)")
    let out = "\(folders.path)/out"
    let decoder = try Decoder(folder: out)
    let (narrow, wide) = (8 / key + 8 / value, 2 * max(8 / key, 8 / value))
    #expect(report.layers.allSatisfy { $0.cachedNumbers == 4 * narrow })
    #expect(decoder.configuration.conversion?.layers == report.layers)
    #expect(decoder.configuration.rotary.rotatedWidth == 8 / key)
    #expect(decoder.configuration.rotary.scaling == .resampled)
    let tokens = try ConversionFolders.prompt("llama2")
    for (cache, numbers) in [("factored", narrow), ("full", wide)] {
      let method = try cacheMethod(cache)
      let state = DecodingState(
        caches: try decoder.layerShapes.map { try method.makeCache(for: $0) }, tiers: Tiers())
      _ = try decoder.prefill(tokens, state: state, logits: .none)
      #expect(
        state.tiers.device.residentBytes
          == 4 * 4 * numbers * tokens.count * decoder.layerShapes.count)
    }
    let full = try logits(out, tokens, prompt: 4, cache: "full")
    for cache in ["factored", "topk:k=99", "streaming:w=99", "shadowkv"] {
      #expect(difference(try logits(out, tokens, prompt: 4, cache: cache), full) < 1e-4, "\(cache)")
    }
  }

  @Test func `channels of values that are zero cost nothing`() throws {
    let folders = try ConversionFolders()
    // The odd rows of W_V are zero in a copy of the model.
    let (copy, source) = ("\(folders.path)/copy", ConversionFolders.tiny("llama2"))
    try FileManager.default.copyItem(atPath: source, toPath: copy)
    let file = try SafetensorsFile(path: "\(source)/model.safetensors")
    var writer = SafetensorsWriter()
    for name in file.names {
      var tensor: Tensor<Float> = try file.tensor(name)
      if name.hasSuffix("v_proj.weight") {
        for i in stride(from: 1, to: tensor.rows, by: 2) {
          for j in 0..<tensor.columns { tensor[i, j] = 0 }
        }
      }
      try writer.add(name, tensor, as: .float32)
    }
    try writer.write(to: "\(copy)/model.safetensors")
    let report = try folders.convert(copy, "kvlatent:key=1,value=2,frequencies=standard")
    #expect(report.errors.allSatisfy { $0 == [0, 0] })
    let tokens = try ConversionFolders.prompt("llama2")
    let exact = try logits(copy, tokens, prompt: 4, cache: "full")
    let found = try logits("\(folders.path)/out", tokens, prompt: 4, cache: "full")
    #expect(difference(found, exact) < 1e-5)
  }

  @Test(arguments: [
    ("qwen3", "kvlatent", "norms of queries and keys"),
    ("llama2", "kvlatent:key=3", "key=3 does not divide the width 8 of a head"),
    ("llama2", "kvlatent:value=5", "value=5 does not divide the width 8 of a head"),
    ("llama2", "kvlatent:key=8", "one of 8 channels does not keep the pairs of 8 rotated ones"),
    ("llama2", "kvlatent:key=4", "a rotated width that 4 divides, not 2"),
    ("llama31-layout4", "kvlatent", "take the place of plain RoPE"),
    ("llama-yarn", "kvlatent:frequencies=standard", "by the place of a pair"),
    ("llama2", "kvlatent:frequencies=fast", "is none of: resampled, standard"),
  ])
  func `what has no meaning is one line`(_ name: String, _ text: String, _ part: String) throws {
    let folders = try ConversionFolders()
    let line = errorLine { try folders.convert(name, text) }
    #expect(line.contains(part) && !line.contains("\n"), "\(line)")
  }

  @Test(arguments: [
    ("\"key_width\": 4", "\"key_width\": 3", "3 does not divide the source's 8"),
    ("\"key_width\": 4", "\"key_width\": 2", "a rotated width that 4 divides"),
    ("\"key_width\": 4", "\"key_width\": 9", "from 1 to 8"),
    ("\"value_width\": 4", "\"value_width\": 8", "has shape"),
    ("\"frequencies\": \"resampled\"", "\"frequencies\": \"fast\"", "one of resampled, standard"),
    ("\"form\": \"narrow-heads\"", "\"form\": \"joined-heads\"", "heads\" is missing"),
  ])
  func `a folder whose config.json is damaged is refused with one line`(
    _ old: String, _ new: String, _ part: String
  ) throws {
    let folders = try ConversionFolders()
    _ = try folders.convert("llama2", "kvlatent")
    let path = "\(folders.path)/out/config.json"
    let text = try String(contentsOfFile: path, encoding: .utf8)
    #expect(text.contains(old))
    try text.replacingOccurrences(of: old, with: new)
      .write(toFile: path, atomically: true, encoding: .utf8)
    let line = errorLine { _ = try Decoder(folder: "\(folders.path)/out") }
    #expect(line.contains(part) && !line.contains("\n"), "\(line)")
  }
}
