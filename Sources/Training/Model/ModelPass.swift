// One forward pass of a model over sequences of one length, on a tape.
//
// In:  parameters on the tape, tokens of several sequences one after another, (n) with n = B L.
// Out: logits (rows, vocabulary) of all rows or of those that are asked for; `Tape.backward` then
//      finds every gradient.
//
//   x = embedding                                   (n, D)
//   x = x + attention(norm₁ x)                      every block
//   x = x + down(silu(gate norm₂ x) ⊙ up norm₂ x)
//   logits = norm(x) Wᵀ, W the embedding,           (n, vocabulary)
//            where there is no lm_head
//
// What differs between the variants is how keys and values are made; all attend alike. Training
// always makes them whole: that a cache can hold less is a matter of decoding (Transformers).

package import Tensors
package import Transformers

/// A model's parameters on a tape.
package struct ModelPass<E: Scalar> {
  let shape: ModelShape
  let tape: Tape<E>
  /// In the order of the parameters.
  package let leaves: [Variable<E>]
  private let places: [String: Int]

  /// Puts `parameters`, in their order, on `tape`.
  package init(_ shape: ModelShape, _ parameters: [Parameter<E>], on tape: Tape<E>) {
    self.shape = shape
    self.tape = tape
    leaves = parameters.map { tape.leaf($0.tensor) }
    places = Dictionary(uniqueKeysWithValues: parameters.enumerated().map { ($1.name, $0) })
  }

  /// The parameter of this name, which the shape has.
  private func parameter(_ name: String) -> Variable<E> {
    guard let place = places[name] ?? places[name + ".weight"] else {
      preconditionFailure("the model has no parameter \(name)")
    }
    return leaves[place]
  }

  /// Logits (n, vocabulary) of sequences of L tokens, one after another; with `rows`, of those
  /// alone, (rows, vocabulary): where the vocabulary is large, they are most of the work.
  ///
  /// `positions` are those of all n tokens; without them every sequence has 0 ..< L.
  package func logits(
    of tokens: [Int], sequenceLength L: Int, positions: [Int]? = nil, rows: [Int]? = nil
  ) -> Variable<E> {
    let rotations = rotations(positions ?? Array(0..<L))
    var x = embedded(tokens)
    for layer in 0..<shape.layers { x = block(layer, x, rotations, L) }
    if let rows { x = tape.embedding(x, of: rows) }
    return tape.linear(
      norm("model.norm", x), parameter(shape.tiesEmbeddings ? "model.embed_tokens" : "lm_head"))
  }

  /// Angles of these positions.
  package func rotations(_ positions: [Int]) -> Rotations<E> {
    shape.rotary.rotations(positions: positions, length: shape.contextLength, as: E.self)
  }

  /// The input of block 0, (n, D).
  package func embedded(_ tokens: [Int]) -> Variable<E> {
    tape.embedding(parameter("model.embed_tokens"), of: tokens)
  }

  /// What block `layer` makes of x (n, D).
  package func block(
    _ layer: Int, _ x: Variable<E>, _ rotations: Rotations<E>, _ L: Int
  ) -> Variable<E> {
    let block = "model.layers.\(layer)"
    let answers = attention(
      "\(block).self_attn", norm("\(block).input_layernorm", x), rotations, L)
    let x = tape.add(x, tape.linear(answers, parameter("\(block).self_attn.o_proj")))
    let h = norm("\(block).post_attention_layernorm", x)
    let gated = tape.gated(
      tape.linear(h, parameter("\(block).mlp.gate_proj")),
      tape.linear(h, parameter("\(block).mlp.up_proj")))
    return tape.add(x, tape.linear(gated, parameter("\(block).mlp.down_proj")))
  }

  private func norm(_ name: String, _ x: Variable<E>) -> Variable<E> {
    tape.rmsNorm(x, parameter(name), epsilon: E(shape.normEpsilon))
  }

  /// The heads' answers side by side, (n, H d).
  private func attention(
    _ name: String, _ x: Variable<E>, _ rotations: Rotations<E>, _ L: Int
  ) -> Variable<E> {
    let (H, d) = (shape.queryHeads, shape.headWidth)
    func project(_ part: String, _ x: Variable<E>) -> Variable<E> {
      tape.linear(x, parameter("\(name).\(part)"))
    }
    func rotate(_ x: Variable<E>, width: Int) -> Variable<E> {
      tape.rotated(x, by: rotations, headWidth: width)
    }
    switch shape.attention {
    case .grouped(let M):
      return tape.attention(
        rotate(project("q_proj", x), width: d), rotate(project("k_proj", x), width: d),
        project("v_proj", x),
        AttentionShape(queryHeads: H, keyValueHeads: M, width: d, sequenceLength: L))

    case .lowRank(let r):
      // K_h = K_shared + R_h B_hᵀ, then RoPE over the whole key; values alike, without RoPE.
      func rows(_ letter: String) -> Variable<E> {
        let shared = project("\(letter)_shared_proj", x)
        if r == 0 { return shared }
        let own = tape.headLinear(
          project("\(letter)_residual_proj", x),
          parameter("\(name).\(letter)_residual_factors"), heads: H)
        return tape.addToHeads(own, shared: shared)
      }
      return tape.attention(
        rotate(project("q_proj", x), width: d), rotate(rows("k"), width: d), rows("v"),
        AttentionShape(
          queryHeads: H, keyValueHeads: r == 0 ? 1 : H, width: d, sequenceLength: L))

    case .latent(let latent, let rotary):
      // q_h = [q_h^C, rotated q_h^R]; k_h = [k_h^C, rotated k^R], k^C and v from the normed latent.
      let q = project("q_proj", x)
      let whole = d + rotary
      let queries = tape.joinHeads(
        tape.headColumns(q, 0..<d, heads: H),
        rotate(tape.headColumns(q, d..<whole, heads: H), width: rotary), heads: H)
      let down = project("kv_a_proj_with_mqa", x)
      let c = norm("\(name).kv_a_layernorm", tape.headColumns(down, 0..<latent, heads: 1))
      let shared = rotate(
        tape.headColumns(down, latent..<latent + rotary, heads: 1), width: rotary)
      let up = project("kv_b_proj", c)
      return tape.attention(
        queries, tape.joinToHeads(tape.headColumns(up, 0..<d, heads: H), shared: shared, heads: H),
        tape.headColumns(up, d..<2 * d, heads: H),
        AttentionShape(
          queryHeads: H, keyValueHeads: H, width: whole, valueWidth: d, sequenceLength: L))

    case .narrow(let sizes):
      // Ordinary heads of their own two widths.
      return tape.attention(
        rotate(project("q_proj", x), width: sizes.keyWidth),
        rotate(project("k_proj", x), width: sizes.keyWidth), project("v_proj", x),
        AttentionShape(
          queryHeads: H, keyValueHeads: sizes.heads, width: sizes.keyWidth,
          valueWidth: sizes.valueWidth, sequenceLength: L))

    case .joined(let M, let sizes):
      // k' = [k_1 ... k_t] Ψ of a group, q' = q Ψ_i √(r/d), both after RoPE (SharedHeads.swift).
      let (m, r) = (sizes.heads, sizes.keyWidth)
      let basis = parameter("\(name).k_basis")
      let keys = tape.headBasis(rotate(project("k_proj", x), width: d), basis, heads: m)
      let queries = tape.headBasis(
        rotate(project("q_proj", x), width: d), tape.reshaped(basis, [M, d, r]), heads: H,
        factor: (E(r) / E(d)).squareRoot())
      return tape.attention(
        queries, keys, project("v_proj", x),
        AttentionShape(
          queryHeads: H, keyValueHeads: m, width: r, valueWidth: sizes.valueWidth,
          sequenceLength: L))
    }
  }
}
