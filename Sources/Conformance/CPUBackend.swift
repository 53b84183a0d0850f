// The package's own kernels as candidates: what the rest of the package runs, in Float.
//
// In:  a case.
// Out: its outputs, by the functions that a cache or a model calls.
//
// Nothing is written twice here: each line goes to the module that does the work.

import LRQK
import Tensors
import TieredMemory
import Transformers

/// LRQK, TieredMemory and Transformers in Float.
package struct CPUBackend: KernelBackend {
  package let name = "cpu"

  /// The package's own code.
  package init() {}

  package func outputs(of example: KernelCase) throws -> [NamedTensor] {
    let x = Arguments(example)
    switch example.kernel {
    case "sweep-rowwise": return try sweepRows(x)
    case "sweep-gram": return try sweepGrams(x)
    case "decode-codes": return try decodeCodes(x)
    case "proxy-scores": return try proxyScores(x)
    case "top-k": return try topK(x)
    case "plan": return plan(x)
    case "gather": return try gather(x)
    case "sparse-attention", "dense-attention": return try attend(x)
    case "decode-step": return try decodeSteps(x)
    case "rope": return rope(x)
    case "rms-norm": return norm(x)
    case "lrkv-attention": return try attendFactored(x)
    default: throw NotRun("\(name) has no kernel \(example.kernel)")
    }
  }

  // MARK: Prefill

  private func weights(_ x: Arguments) throws -> SweepWeights {
    try SweepWeights(queries: x.parameter("lambda_Q"), keys: x.parameter("lambda_K"))
  }

  private func sweepRows(_ x: Arguments) throws -> [NamedTensor] {
    let new = try rowwiseSweep(
      queries: x["Q"], keys: x["K"], from: InitialCodes(queries: x["A_Q"], keys: x["A_K"]),
      weights: try weights(x))
    return named([
      ("B_Q", ["rank", "width"], new.queryBasis), ("B_K", ["rank", "width"], new.keyBasis),
      ("W_Q", ["width", "rank"], new.queryMap), ("W_K", ["width", "rank"], new.keyMap),
      ("A_Q", ["query", "rank"], new.queryCodes), ("A_K", ["token", "rank"], new.keyCodes),
    ])
  }

  private func sweepGrams(_ x: Arguments) throws -> [NamedTensor] {
    func double(_ name: String) -> Tensor<Double> { x[name].converted() }
    let new = try gramSweep(
      queryGram: double("G_Q"), keyGram: double("G_K"), queryMap: double("W_Q"),
      keyMap: double("W_K"), weights: try weights(x))
    func float(_ tensor: Tensor<Double>) -> Tensor<Float> { tensor.converted() }
    return named([
      ("B_Q", ["rank", "width"], float(new.queryBasis)),
      ("B_K", ["rank", "width"], float(new.keyBasis)),
      ("W_Q", ["width", "rank"], float(new.queryMap)),
      ("W_K", ["width", "rank"], float(new.keyMap)),
    ])
  }

  // MARK: Decode

  private func decodeCodes(_ x: Arguments) throws -> [NamedTensor] {
    let (q, k, A, K) = (x["q"], x["k"], x.slices("A_Omega"), x.slices("K_Omega"))
    let new = try LRQK.decodeCodes(
      query: q, key: k, queryBasis: x["B_Q"], keyBasis: x["B_K"],
      selected: zip(A, K).map { (codes: $0, keys: $1) },
      iterations: try AlternationIterations(Int(x.parameter("alternations")), tolerance: 0),
      weights: try AlternationWeights(
        selfProduct: x.parameter("lambda_1"), selectedProducts: x.parameter("lambda_2")))
    return named([
      ("q_hat", ["head", "rank"], new.queryCodes), ("k_hat", ["key", "rank"], new.keyCode),
      ("B_Q", ["rank", "width"], new.queryBasis), ("B_K", ["rank", "width"], new.keyBasis),
    ])
  }

  private func proxyScores(_ x: Arguments) throws -> [NamedTensor] {
    var device = DeviceTier()
    let codes = try CodeStore(x["A_K"], label: "A_K", on: &device)
    let q_hat = x["q_hat"]
    let scores = (0..<q_hat.rows).flatMap { codes.scores(q_hat.row($0), tokens: codes.count) }
    return named([
      (
        "scores", ["head", "candidate"],
        Tensor(shape: [q_hat.rows, codes.count], elements: scores)
      )
    ])
  }

  private func topK(_ x: Arguments) throws -> [NamedTensor] {
    let (scores, k) = (x["scores"], Int(x.parameter("k")))
    let indices = try (0..<scores.rows).flatMap { h in
      try Tensors.topK(scores.row(h), count: k).indices
    }
    return [NamedTensor("selected", [("head", scores.rows), ("place", k)], integers: indices)]
  }

  private func plan(_ x: Arguments) -> [NamedTensor] {
    let (resident, needed) = (x.integers("resident"), x.integers("needed"))
    var pool = SlotPool(residents: resident, reserving: Int(x.parameter("reserved")))
    let plan = pool.update(to: needed)
    var after = resident
    for (slot, token) in resident.enumerated() where plan.freedTokens.contains(token) {
      after[slot] = -1
    }
    for (token, slot) in zip(plan.missedTokens, plan.missedSlots) { after[slot] = token }
    let empty = Array(repeating: -1, count: needed.count - plan.misses)
    let places = [("place", needed.count)]
    return [
      NamedTensor("missed", places, integers: plan.missedTokens + empty),
      NamedTensor("slots", places, integers: plan.missedSlots + empty),
      NamedTensor("after", [("slot", resident.count)], integers: after),
    ]
  }

  private func gather(_ x: Arguments) throws -> [NamedTensor] {
    let (K_host, V_host, K, V) = (x["K_host"], x["V_host"], x["K"], x["V"])
    var host = HostStore<Float>(width: K.columns)
    host.append(keys: K_host, values: V_host)
    var device = DeviceTier()
    var keys = try device.allocate("K", holding: K.elements)
    var values = try device.allocate("V", holding: V.elements)
    host.gather(
      tokens: x.integers("tokens"), slots: x.integers("slots"), intoKeys: &keys, values: &values)
    return named([
      ("K", ["slot", "width"], Tensor(shape: K.shape, elements: keys.elements)),
      ("V", ["slot", "width"], Tensor(shape: V.shape, elements: values.elements)),
    ])
  }

  private func attend(_ x: Arguments) throws -> [NamedTensor] {
    let (q, K, V) = (x["q"], x.slices("K"), x.slices("V"))
    let all = Array(0..<K[0].rows)
    let chosen = x.contains("slots") ? x.integers("slots") : (0..<q.rows).flatMap { _ in all }
    let n = chosen.count / q.rows
    let slots = (0..<q.rows).map { h in chosen[h * n..<(h + 1) * n].map(Int32.init) }
    let out = try attention(
      queries: q, keys: K.map(\.elements), values: V.map(\.elements), slots: slots)
    return named([("out", ["head", "width"], out)])
  }

  private func decodeSteps(_ x: Arguments) throws -> [NamedTensor] {
    var layer = try DecodeStepArguments(x)
    layer.parameters.solver = .rowwise
    var cache = try LRQKCache<Float>(
      queryHeads: layer.queries.count, keyValueHeads: layer.keys.count, width: layer.width,
      parameters: layer.parameters)
    var tiers = Tiers()
    try cache.prefill(
      queries: layer.queries, keys: layer.keys, values: layer.values, initial: layer.initial,
      tiers: &tiers)
    return try layer.decode { q, k, v in
      let step = try cache.decode(queries: q, keys: k, values: v, tiers: &tiers)
      return (step.selected, step.missedRows, step.attention)
    }
  }

  // MARK: Decoder

  private func rope(_ x: Arguments) -> [NamedTensor] {
    let (heads, cosines, sines) = (x.slices("x"), x["cosines"], x["sines"])
    let rotated = heads.enumerated().flatMap { t, rows in
      Rotations(
        cosines: cosines.rows(t..<t + 1), sines: sines.rows(t..<t + 1),
        widths: [2 * cosines.columns]
      ).rotate(rows).elements
    }
    return [NamedTensor("y", x.axes("x"), reals: rotated.map(Double.init))]
  }

  private func norm(_ x: Arguments) -> [NamedTensor] {
    let norm = RMSNorm(weights: x.numbers("weight"), epsilon: x.parameter("epsilon"))
    return named([("y", ["token", "width"], norm(x["x"]))])
  }

  private func attendFactored(_ x: Arguments) throws -> [NamedTensor] {
    let (q, K, V) = (x["q"], x["K"], x["V"])
    let (B_K, B_V) = (x.slices("B_K"), x.slices("B_V"))
    let (d, r) = (q.columns, B_K[0].columns)
    let positions = LRKVPositions.sharedOnly
    let factors = LRKVFactors(
      keyFactors: Tensor(stacking: B_K), valueFactors: Tensor(stacking: B_V), positions: positions,
      angles: RotaryTable(positions.rotary(width: d, rank: r, base: 10_000)))
    // Queries of the materialised form, [q, q B_h] √(1 + r/d).
    let factor = (1 + Float(r) / Float(d)).squareRoot()
    let queries = (0..<q.rows).map { h in
      let own = q.rows(h..<h + 1)
      return (own.elements + matmul(own, B_K[h], in: .reference).elements).map { $0 * factor }
    }
    func residuals(_ name: String) -> [[Float]] {
      let tokens = x.slices(name)
      return (0..<q.rows).map { h in tokens.flatMap { $0.row(h) } }
    }
    let out = try factors.attend(
      queries: Tensor(rows: queries),
      parts: [K.elements, V.elements] + residuals("R_K") + residuals("R_V"))
    return named([("out", ["head", "width"], out.gather(columns: Array(0..<d)))])
  }
}
