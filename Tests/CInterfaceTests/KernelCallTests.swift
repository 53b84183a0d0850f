// Every plain function of lrqk.h gives the bits of the Swift function that it stands for.

import CLRQK
import LRQK
import Tensors
import Testing
import TieredMemory
import Transformers

@Suite struct KernelCallTests {
  // Mutually different sizes, so that no two axes can be mixed up unseen.
  private let l = 37
  private let d = 12
  private let r = 5

  @Test(arguments: [37, 111], [1.0, 0.25])
  func `a rowwise sweep`(queryRows l_q: Int, lambda: Double) throws {
    let (Q, K) = (normals(l_q, d, stream: 1), normals(l, d, stream: 2))
    let (A_Q, A_K) = (normals(l_q, r, stream: 3), normals(l, r, stream: 4))
    var (B_Q, B_K, W_Q, W_K) = (room(r * d), room(r * d), room(d * r), room(d * r))
    var (A_Q2, A_K2) = (room(l_q * r), room(l * r))
    let answer = unsafe call {
      unsafe lrqk_sweep_rowwise(
        Int64(l_q), Int64(l), Int64(d), Int64(r), Q.elements, K.elements, A_Q.elements,
        A_K.elements, lambda, 2, &B_Q, &B_K, &W_Q, &W_K, &A_Q2, &A_K2, $0, $1)
    }
    #expect(answer.isOK, "\(answer)")
    let weights = try SweepWeights(queries: lambda, keys: 2)
    let start = InitialCodes(queries: A_Q, keys: A_K)
    let sweep = try rowwiseSweep(queries: Q, keys: K, from: start, weights: weights)
    #expect(bits(B_Q) == sweep.queryBasis.bits && bits(B_K) == sweep.keyBasis.bits)
    #expect(bits(W_Q) == sweep.queryMap.bits && bits(W_K) == sweep.keyMap.bits)
    #expect(bits(A_Q2) == sweep.queryCodes?.bits && bits(A_K2) == sweep.keyCodes?.bits)

    // And it is the sweep of prefill: its codes are those of a prompt with one sweep.
    var parameters = try Parameters(.paper, rank: r, selected: 1, recent: 1)
    parameters.solver = .rowwise
    parameters.sweeps?.start = .given
    parameters.sweeps?.iterations = try SweepIterations(1, tolerance: 0)
    parameters.sweeps?.weights = weights
    let prompt = try factorizePrompt(
      queries: [Q], keys: [K], parameters: parameters, initial: [start])[0].factorization
    #expect(bits(A_K2) == prompt.keyCodes.bits && bits(A_Q2) == prompt.queryCodes?.bits)
    #expect(bits(W_K) == prompt.keyMap?.bits && bits(W_Q) == prompt.queryMap?.bits)
  }

  @Test func `a Gram sweep, which is the rowwise one but for rounding`() throws {
    let (Q, K) = (normals(l, d, stream: 1), normals(l, d, stream: 2))
    let (X_Q, X_K) = (normals(d, r, stream: 5), normals(d, r, stream: 6))
    let (G_Q, G_K) = (Q.gram(in: .reference), K.gram(in: .reference))
    var (B_Q, B_K, W_Q, W_K) = (room(r * d), room(r * d), room(d * r), room(d * r))
    let answer = unsafe call {
      unsafe lrqk_sweep_gram(
        Int64(d), Int64(r), G_Q.elements, G_K.elements, X_Q.elements, X_K.elements, 0.5, 2, &B_Q,
        &B_K, &W_Q, &W_K, $0, $1)
    }
    #expect(answer.isOK, "\(answer)")
    let sweep = try gramSweep(
      queryGram: G_Q.converted(), keyGram: G_K.converted(), queryMap: X_Q.converted(),
      keyMap: X_K.converted(), weights: SweepWeights(queries: 0.5, keys: 2))
    #expect(bits(B_Q) == sweep.queryBasis.converted(to: Float.self).bits)
    #expect(bits(B_K) == sweep.keyBasis.converted(to: Float.self).bits)
    #expect(bits(W_Q) == sweep.queryMap.converted(to: Float.self).bits)
    #expect(bits(W_K) == sweep.keyMap.converted(to: Float.self).bits)

    // In Double both ways agree to rounding, about condition times 1e-16.
    let (wideQ, wideK) = (Q.converted(to: Double.self), K.converted(to: Double.self))
    func codes(_ rows: Tensor<Double>, _ map: Tensor<Float>) -> Tensor<Double> {
      matmul(rows, map.converted(), in: .reference)
    }
    let rows = try rowwiseSweep(
      queries: wideQ, keys: wideK,
      from: InitialCodes(queries: codes(wideQ, X_Q), keys: codes(wideK, X_K)),
      weights: SweepWeights(queries: 0.5, keys: 2))
    let grams = try gramSweep(
      queryGram: wideQ.gram(in: .reference), keyGram: wideK.gram(in: .reference),
      queryMap: X_Q.converted(), keyMap: X_K.converted(),
      weights: SweepWeights(queries: 0.5, keys: 2))
    for (a, b) in [
      (rows.queryMap, grams.queryMap), (rows.keyMap, grams.keyMap),
      (rows.queryBasis, grams.queryBasis), (rows.keyBasis, grams.keyBasis),
    ] {
      let relative = ((a - b).squaredNorm / b.squaredNorm).squareRoot()
      #expect(
        relative < 1e-14 * max(rows.conditioning.worst, grams.conditioning.worst), "\(relative)")
    }
  }

  @Test(arguments: [1, 3])
  func `codes of a new token`(G: Int) throws {
    let n = 9
    let (q, k) = (normals(G, d, stream: 1), normals(1, d, stream: 2))
    let (B_Q, B_K) = (normals(r, d, stream: 3), normals(r, d, stream: 4))
    let (A, K) = (normals(G, n, r, stream: 5), normals(G, n, d, stream: 6))
    var (q_hat, k_hat, B_Q2, B_K2) = (room(G * r), room(r), room(r * d), room(r * d))
    let answer = unsafe call {
      unsafe lrqk_decode_codes(
        Int64(G), Int64(n), Int64(d), Int64(r), q.elements, k.elements, B_Q.elements,
        B_K.elements, A.elements, K.elements, 2, 0.25, 4, &q_hat, &k_hat, &B_Q2, &B_K2, $0, $1)
    }
    #expect(answer.isOK, "\(answer)")
    let token = try decodeCodes(
      query: q, key: k, queryBasis: B_Q, keyBasis: B_K,
      selected: (0..<G).map { (codes: A.slice($0), keys: K.slice($0)) },
      iterations: AlternationIterations(2, tolerance: 0),
      weights: AlternationWeights(selfProduct: 0.25, selectedProducts: 4))
    #expect(bits(q_hat) == token.queryCodes.bits && bits(k_hat) == token.keyCode.bits)
    #expect(bits(B_Q2) == token.queryBasis.bits && bits(B_K2) == token.keyBasis.bits)
    if G == 1 {
      // The projection: q_hat B_Q' = q, and k_hat B_K' = k but for the 1e-6 beside a square.
      let again = matmul(token.queryCodes, token.queryBasis, in: .reference)
      #expect(((again - q).squaredNorm / q.squaredNorm).squareRoot() < 1e-4)
    }
  }

  @Test func `proxy scores and the k largest`() throws {
    let (H, c, k) = (3, 70, 11)
    let (A_K, q_hat) = (normals(c, r, stream: 1), normals(H, r, stream: 2))
    var scores = room(H * c)
    let scored = unsafe call {
      unsafe lrqk_proxy_scores(
        Int64(H), Int64(c), Int64(r), A_K.elements, q_hat.elements, &scores, $0, $1)
    }
    #expect(scored.isOK, "\(scored)")
    #expect(bits(scores) == matmul(q_hat, transposed: A_K, in: .reference).bits)

    scores[5] = scores[9]  // a tie
    scores[c + 2] = -.infinity
    var indices = [Int32](repeating: 0, count: H * k)
    var gaps = room(H)
    let chosen = unsafe call {
      unsafe lrqk_top_k(Int64(H), Int64(c), Int64(k), scores, &indices, &gaps, $0, $1)
    }
    #expect(chosen.isOK, "\(chosen)")
    for h in 0..<H {
      let best = try topK(Array(scores[h * c..<(h + 1) * c]), count: k)
      #expect(indices[h * k..<(h + 1) * k].map(Int.init) == best.indices)
      #expect(gaps[h] == best.gap)
    }
    var withoutGaps = indices
    let again = unsafe call {
      unsafe lrqk_top_k(Int64(H), Int64(c), Int64(k), scores, &withoutGaps, nil, $0, $1)
    }
    #expect(again.isOK && withoutGaps == indices)
  }

  @Test func `planning step after step is one pool's history`() throws {
    let (S, k) = (14, 6)
    var pool = SlotPool(reserving: 0)
    var resident = [Int32](repeating: -1, count: S)
    for step in 0..<200 {
      // Six of 30 tokens, by the ranks of a step's normals.
      let draw = normals(30, stream: UInt64(1000 + step))
      let needed = try topK(draw.elements, count: k).indices
      var count: Int64 = -1
      var (missed, slots) = (
        [Int32](repeating: 0, count: k), [Int32](repeating: 0, count: k)
      )
      var after = resident
      let answer = unsafe call {
        unsafe lrqk_plan(
          Int64(S), Int64(k), resident, needed.map(Int32.init), &count, &missed, &slots, &after,
          $0, $1)
      }
      #expect(answer.isOK, "\(answer)")
      // What a pool that remembers would do, as long as slots are as many.
      let plan = pool.update(to: needed)
      #expect(Int(count) == plan.misses)
      #expect(missed.prefix(plan.misses).map(Int.init) == plan.missedTokens)
      #expect(missed.dropFirst(plan.misses).allSatisfy { $0 == -1 })
      #expect(slots.prefix(plan.misses).map(Int.init) == plan.missedSlots)
      #expect(Set(after.filter { $0 >= 0 }.map(Int.init)) == Set(needed))
      resident = after
    }
  }

  @Test func `gathered rows are the host's, and no other slot is touched`() {
    let (S, m) = (8, 3)
    let (K, V) = (normals(l, d, stream: 1), normals(l, d, stream: 2))
    var (K_dev, V_dev) = (room(S * d), room(S * d))
    for i in K_dev.indices { (K_dev[i], V_dev[i]) = (.nan, Float(i)) }
    let (tokens, slots): ([Int32], [Int32]) = ([36, 0, 7], [2, 7, 0])
    let answer = unsafe call {
      unsafe lrqk_gather(
        Int64(l), Int64(d), Int64(m), Int64(S), K.elements, V.elements, tokens, slots, &K_dev,
        &V_dev, $0, $1)
    }
    #expect(answer.isOK, "\(answer)")
    for slot in 0..<S {
      let row = slot * d..<(slot + 1) * d
      if let i = slots.firstIndex(of: Int32(slot)) {
        #expect(Array(K_dev[row]) == K.row(Int(tokens[i])))
        #expect(Array(V_dev[row]) == V.row(Int(tokens[i])))
      } else {
        #expect(K_dev[row].allSatisfy { $0.isNaN })
        #expect(Array(V_dev[row]) == row.map { Float($0) })
      }
    }
  }

  @Test func `sparse and dense attention`() throws {
    let (H, M, n) = (6, 2, 10)
    let q = normals(H, d, stream: 1)
    let (K, V) = (normals(M, l, d, stream: 2), normals(M, l, d, stream: 3))
    let slots = (0..<H * n).map { Int32(($0 * 5 + $0 / n) % l) }
    var out = room(H * d)
    let sparse = unsafe call {
      unsafe lrqk_sparse_attention(
        Int64(H), Int64(M), Int64(l), Int64(n), Int64(d), q.elements, K.elements, V.elements,
        slots, &out, $0, $1)
    }
    #expect(sparse.isOK, "\(sparse)")
    for h in 0..<H {
      let expected = attention(
        query: q.row(h), keys: K.slice(h / 3).elements, values: V.slice(h / 3).elements,
        slots: Array(slots[h * n..<(h + 1) * n]))
      #expect(bits(Array(out[h * d..<(h + 1) * d])) == bits(expected), "head \(h)")
    }
    let dense = unsafe call {
      unsafe lrqk_dense_attention(
        Int64(H), Int64(M), Int64(l), Int64(d), q.elements, K.elements, V.elements, &out, $0, $1)
    }
    #expect(dense.isOK, "\(dense)")
    for h in 0..<H {
      let expected = fullAttention(query: q.row(h), keys: K.slice(h / 3), values: V.slice(h / 3))
      #expect(bits(Array(out[h * d..<(h + 1) * d])) == bits(expected), "head \(h)")
    }
  }

  @Test func `attention over LRKV's factors is attention over the keys they make`() throws {
    let H = 3
    let q = normals(H, d, stream: 1)
    let (K, V) = (normals(l, d, stream: 2), normals(l, d, stream: 3))
    let (C_K, C_V) = (normals(l, H, r, stream: 4), normals(l, H, r, stream: 5))
    let (U_K, U_V) = (normals(H, r, d, stream: 6), normals(H, r, d, stream: 7))
    var out = room(H * d)
    let answer = unsafe call {
      unsafe lrqk_lrkv_attention(
        Int64(H), Int64(l), Int64(d), Int64(r), q.elements, K.elements, V.elements, C_K.elements,
        C_V.elements, U_K.elements, U_V.elements, &out, $0, $1)
    }
    #expect(answer.isOK, "\(answer)")
    let swift = try factoredAttention(
      queries: q, keys: K, values: V, keyCodes: C_K, valueCodes: C_V, keyFactors: U_K,
      valueFactors: U_V)
    #expect(bits(out) == swift.bits)
    for h in 0..<H {
      // The same in Double, with keys and values built.
      func built(_ X: Tensor<Float>, _ C: Tensor<Float>, _ U: Tensor<Float>) -> Tensor<Double> {
        let codes = Tensor(joiningRows: (0..<l).map { C.slice($0).rows(h..<h + 1) })
        return X.converted(to: Double.self)
          + matmul(codes.converted(to: Double.self), U.slice(h).converted(), in: .reference)
      }
      let expected = fullAttention(
        query: q.row(h).map(Double.init), keys: built(K, C_K, U_K), values: built(V, C_V, U_V))
      // Scores here are up to about 30; an error of 30 ulp in one moves a weight by 2e-6 of itself.
      for j in 0..<d {
        #expect(abs(Double(out[h * d + j]) - expected[j]) < 1e-4, "head \(h), column \(j)")
      }
    }
  }

  @Test func `rotary embedding and norm`() throws {
    let (n, H) = (4, 3)
    let x = normals(n, H, d, stream: 1)
    let positions: [Int32] = [0, 5, 100_000, 7]
    var y = room(n * H * d)
    let rotated = unsafe call {
      unsafe lrqk_rope(Int64(n), Int64(H), Int64(d), 10_000, x.elements, positions, &y, $0, $1)
    }
    #expect(rotated.isOK, "\(rotated)")
    let rotary = RotaryEmbedding(rotatedWidth: d, base: 10_000)
    for t in 0..<n {
      let rotations = rotary.rotations(positions: [Int(positions[t])], length: 1)
      #expect(
        bits(Array(y[t * H * d..<(t + 1) * H * d])) == rotations.rotate(x.slice(t)).bits,
        "token \(t)")
    }
    let (rows, weight) = (normals(n, l, stream: 2), normals(l, stream: 3))
    var z = room(n * l)
    let normed = unsafe call {
      unsafe lrqk_rms_norm(
        Int64(n), Int64(l), rows.elements, weight.elements, 1e-5, &z, $0, $1)
    }
    #expect(normed.isOK, "\(normed)")
    #expect(bits(z) == RMSNorm(weights: weight.elements, epsilon: 1e-5)(rows).bits)
  }
}
