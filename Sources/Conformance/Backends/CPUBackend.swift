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
    let x = Inputs<Float>(example)
    var out = Outputs(of: example.kernel)
    switch example.kernel {
    case .sweepRowwise: try sweepRows(x, &out)
    case .sweepGram: try sweepGrams(x, &out)
    case .decodeCodes: try decodeCodes(x, &out)
    case .proxyScores: try proxyScores(x, &out)
    case .codeScores: codeScores(x, &out)
    case .topK: try topK(x, &out)
    case .plan: plan(x, &out)
    case .gather: try gather(x, &out)
    case .sparseAttention, .denseAttention: try attend(x, &out)
    case .decodeStep: try decodeSteps(x, &out)
    case .rope: rope(x, &out)
    case .rmsNorm: norm(x, &out)
    case .lrkvAttention: try attendFactored(x, &out)
    }
    return out.tensors
  }

  // MARK: Prefill

  private func weights(_ x: Inputs<Float>) throws -> SweepWeights {
    try SweepWeights(queries: x.number("lambda_Q"), keys: x.number("lambda_K"))
  }

  private func sweepRows(_ x: Inputs<Float>, _ out: inout Outputs) throws {
    let new = try rowwiseSweep(
      queries: x.tensor("Q"), keys: x.tensor("K"),
      from: InitialCodes(queries: x.tensor("A_Q"), keys: x.tensor("A_K")),
      weights: try weights(x))
    out.write("B_Q", new.queryBasis)
    out.write("B_K", new.keyBasis)
    out.write("W_Q", new.queryMap)
    out.write("W_K", new.keyMap)
    out.write("A_Q", new.queryCodes)
    out.write("A_K", new.keyCodes)
  }

  private func sweepGrams(_ x: Inputs<Float>, _ out: inout Outputs) throws {
    func double(_ name: String) -> Tensor<Double> { x.tensor(name).converted() }
    let new = try gramSweep(
      queryGram: double("G_Q"), keyGram: double("G_K"), queryMap: double("W_Q"),
      keyMap: double("W_K"), weights: try weights(x))
    out.write("B_Q", new.queryBasis.converted())
    out.write("B_K", new.keyBasis.converted())
    out.write("W_Q", new.queryMap.converted())
    out.write("W_K", new.keyMap.converted())
  }

  // MARK: Decode

  private func decodeCodes(_ x: Inputs<Float>, _ out: inout Outputs) throws {
    let (q, k, A, K) = (x.tensor("q"), x.tensor("k"), x.matrices("A_Omega"), x.matrices("K_Omega"))
    let new = try LRQK.decodeCodes(
      query: q, key: k, queryBasis: x.tensor("B_Q"), keyBasis: x.tensor("B_K"),
      selected: zip(A, K).map { (codes: $0, keys: $1) },
      iterations: try AlternationIterations(x.count("alternations"), tolerance: 0),
      weights: try AlternationWeights(
        selfProduct: x.number("lambda_1"), selectedProducts: x.number("lambda_2")))
    out.write("q_hat", new.queryCodes)
    out.write("k_hat", new.keyCode)
    out.write("B_Q", new.queryBasis)
    out.write("B_K", new.keyBasis)
  }

  private func proxyScores(_ x: Inputs<Float>, _ out: inout Outputs) throws {
    var device = DeviceTier()
    let codes = try CodeStore(x.tensor("A_K"), label: "A_K", on: &device)
    let q_hat = x.tensor("q_hat")
    let scores = codes.scores(q_hat, tokens: codes.count).elements
    out.write("scores", Tensor(shape: [q_hat.rows, codes.count], elements: scores))
  }

  // As CodedKeys of CacheMethods does, whose tests compare it with this.
  private func codeScores(_ x: Inputs<Float>, _ out: inout Outputs) {
    let (q_hat, codes) = (x.tensor("q_hat"), x.integers("codes"))
    let (l, r) = (codes.shape[0], q_hat.columns)
    let bytes = codes.elements.map { UInt8($0) }
    let slots = (0..<l).map(Int32.init)
    var integers = Array(repeating: Float(0), count: l * r)
    do {
      var rows = integers.mutableSpan
      PackedIntegers(bits: x.count("bits")).unpack(
        bytes.span, width: r, slots: slots.span, into: &rows)
    }
    var scores = matmul(
      q_hat, transposed: Tensor(shape: [l, r], elements: integers), in: .reference)
    for (t, scale) in x.integers("scales").elements.enumerated() {
      for h in 0..<q_hat.rows { scores[h, t] *= SixteenBitFloat.bfloat16.value(of: UInt16(scale)) }
    }
    out.write("scores", scores)
  }

  private func topK(_ x: Inputs<Float>, _ out: inout Outputs) throws {
    let (scores, k) = (x.tensor("scores"), x.count("k"))
    let indices = try (0..<scores.rows).flatMap { h in
      try Tensors.topK(scores.row(h), count: k).indices
    }
    out.write("selected", integers: Grid([scores.rows, k], indices))
  }

  private func plan(_ x: Inputs<Float>, _ out: inout Outputs) {
    let (resident, needed) = (x.integers("resident").elements, x.integers("needed").elements)
    var pool = SlotPool(residents: resident, reserving: x.count("reserved"))
    let plan = pool.update(to: needed)
    var after = resident
    for (slot, token) in resident.enumerated() where plan.freedTokens.contains(token) {
      after[slot] = -1
    }
    for (token, slot) in zip(plan.missedTokens, plan.missedSlots) { after[slot] = token }
    let empty = Array(repeating: -1, count: needed.count - plan.misses)
    out.write("missed", integers: Grid([needed.count], plan.missedTokens + empty))
    out.write("slots", integers: Grid([needed.count], plan.missedSlots + empty))
    out.write("after", integers: Grid([resident.count], after))
  }

  private func gather(_ x: Inputs<Float>, _ out: inout Outputs) throws {
    let (K, V) = (x.tensor("K"), x.tensor("V"))
    var host = HostStore<Float>(width: K.columns)
    host.append(keys: x.tensor("K_host"), values: x.tensor("V_host"))
    var device = DeviceTier()
    var keys = try device.allocate("K", holding: K.elements)
    var values = try device.allocate("V", holding: V.elements)
    host.gather(
      tokens: x.integers("tokens").elements, slots: x.integers("slots").elements,
      intoKeys: &keys, values: &values)
    out.write("K", Tensor(shape: K.shape, elements: keys.elements))
    out.write("V", Tensor(shape: V.shape, elements: values.elements))
  }

  private func attend(_ x: Inputs<Float>, _ out: inout Outputs) throws {
    let (q, K, V) = (x.tensor("q"), x.matrices("K"), x.matrices("V"))
    let all = Array(0..<K[0].rows)
    let chosen =
      x.contains("slots") ? x.integers("slots").elements : (0..<q.rows).flatMap { _ in all }
    let n = chosen.count / q.rows
    let slots = (0..<q.rows).map { h in chosen[h * n..<(h + 1) * n].map(Int32.init) }
    let answers = try attention(
      queries: q, keys: K.map(\.elements), values: V.map(\.elements), slots: slots)
    out.write("out", answers)
  }

  private func decodeSteps(_ x: Inputs<Float>, _ out: inout Outputs) throws {
    var layer = try DecodeStepInputs(x)
    layer.parameters.solver = .rowwise
    var cache = try LRQKCache<Float>(
      queryHeads: layer.queries.count, keyValueHeads: layer.keys.count, width: layer.width,
      parameters: layer.parameters)
    var tiers = Tiers()
    try cache.prefill(
      queries: layer.queries, keys: layer.keys, values: layer.values, initial: layer.initial,
      tiers: &tiers)
    try layer.decode(into: &out) { q, k, v in
      let step = try cache.decode(queries: q, keys: k, values: v, tiers: &tiers)
      return (step.selected, step.missedRows, step.attention)
    }
  }

  // MARK: Decoder

  private func rope(_ x: Inputs<Float>, _ out: inout Outputs) {
    let (heads, cosines, sines) = (x.matrices("x"), x.tensor("cosines"), x.tensor("sines"))
    let rotated = heads.enumerated().flatMap { t, rows in
      Rotations(
        cosines: cosines.rows(t..<t + 1), sines: sines.rows(t..<t + 1),
        widths: [2 * cosines.columns]
      ).rotate(rows).elements
    }
    out.write("y", Tensor(shape: x.tensor("x").shape, elements: rotated))
  }

  private func norm(_ x: Inputs<Float>, _ out: inout Outputs) {
    let norm = RMSNorm(weights: x.tensor("weight").elements, epsilon: x.number("epsilon"))
    out.write("y", norm(x.tensor("x")))
  }

  private func attendFactored(_ x: Inputs<Float>, _ out: inout Outputs) throws {
    let (q, K, V) = (x.tensor("q"), x.tensor("K"), x.tensor("V"))
    let (B_K, B_V) = (x.matrices("B_K"), x.matrices("B_V"))
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
      let tokens = x.matrices(name)
      return (0..<q.rows).map { h in tokens.flatMap { $0.row(h) } }
    }
    let answers = try factors.attend(
      queries: Tensor(rows: queries),
      parts: [K.elements, V.elements] + residuals("R_K") + residuals("R_V"))
    out.write("out", answers.gather(columns: Array(0..<d)))
  }
}
