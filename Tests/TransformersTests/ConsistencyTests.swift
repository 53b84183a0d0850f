// The decoder against itself: what must not matter, does not; what must not be seen, is not.

import Tensors
import Testing
import TieredMemory
import Transformers

@Suite struct ConsistencyTests {
  // Scalings that depend on the length are left out: there a prompt and single tokens differ by
  // definition (Decoder.swift).
  static let fixedRotations = [
    "llama2", "llama3", "llama-biases", "llama-yarn", "qwen2-sliding", "qwen3", "mistral",
    "phi3", "deepseek", "deepseek-halves", "lrkv", "lrkv-shared-only", "lrkv-rotated-residual",
    "lrkv-mqa",
  ]

  // The same bound, for the same reason, as in DecoderTests: only the order of sums differs.
  @Test("a prompt and its tokens one at a time have the same logits", arguments: fixedRotations)
  func stepByStep(_ name: String) throws {
    let model = try TinyCheckpoint(name)
    let state = model.exactState()
    var rows = [
      try model.decoder.prefill([model.tokens[0]], state: state, logits: .last)
    ]
    for token in model.tokens.dropFirst() {
      rows.append(try model.decoder.decode([token], states: [state]))
    }
    let whole = try model.decoder.prefill(model.tokens, logits: .all)
    let (error, scale) = difference(Tensor(joiningRows: rows), whole)
    #expect(error <= 2e-4 * scale, "\(name): \(error) of \(scale)")
    #expect(state.length == model.tokens.count)
    #expect(state.lastSteps.count == model.decoder.configuration.layers)
  }

  // Ten tokens are below StoredMatrix.manyRows, so that a row's bits do not depend on its
  // neighbours.
  @Test("the last row of all logits is the last logits", arguments: ["llama3", "qwen3", "phi3"])
  func lastRow(_ name: String) throws {
    let model = try TinyCheckpoint(name)
    let tokens = Array(model.tokens.prefix(10))
    let all = try model.decoder.prefill(tokens, logits: .all)
    let last = try model.decoder.prefill(tokens, logits: .last)
    let none = try model.decoder.prefill(tokens, logits: .none)
    #expect(all.rows == 10 && last.rows == 1 && none.shape == [0, all.columns])
    #expect(all.row(9) == last.row(0))
  }

  @Test(
    "sequences in a batch get the bits that each gets alone",
    arguments: [
      "llama3", "llama-dynamic-short", "qwen2-sliding", "phi3", "llama-biases", "lrkv", "deepseek",
    ])
  func batch(_ name: String) throws {
    let model = try TinyCheckpoint(name)
    let prompts = [3, 9, 14].map { Array(model.tokens.prefix($0)) }
    let together = prompts.map { _ in model.exactState() }
    let alone = prompts.map { _ in model.exactState() }
    for n in prompts.indices {
      _ = try model.decoder.prefill(prompts[n], state: together[n], logits: .none)
      _ = try model.decoder.prefill(prompts[n], state: alone[n], logits: .none)
    }
    for step in 0..<6 {
      let tokens = prompts.indices.map { 5 * step + 7 * $0 }
      let batch = try model.decoder.decode(tokens, states: together)
      for n in prompts.indices {
        let single = try model.decoder.decode([tokens[n]], states: [alone[n]])
        #expect(batch.row(n) == single.row(0), "\(name), step \(step), sequence \(n)")
      }
    }
  }

  @Test("a batch of more sequences than one product takes keeps the bits, too")
  func largeBatch() throws {
    let model = try TinyCheckpoint("llama3")
    let count = 2 * StoredMatrix.manyRows + 3
    func states() throws -> [DecodingState] {
      try (0..<count).map { n in
        let state = model.exactState()
        _ = try model.decoder.prefill([n % 50, 3], state: state, logits: .none)
        return state
      }
    }
    let (together, alone) = (try states(), try states())
    let batch = try model.decoder.decode(Array(0..<count), states: together)
    for n in 0..<count {
      let single = try model.decoder.decode([n], states: [alone[n]])
      #expect(batch.row(n) == single.row(0), "sequence \(n)")
    }
  }

  @Test("a token outside every window changes nothing that comes after, in a model of one layer")
  func window() throws {
    // mistral has windows of 8 tokens; without its second layer the last token sees 8 of 20.
    let folder = try CheckpointCopy(copying: "mistral")
    try folder.configure(["num_hidden_layers": "1"])
    try folder.rewriteWeights { name, tensor in
      name.contains("layers.1.") ? nil : (tensor, .float32)
    }
    let decoder = try Decoder(folder: folder.path)
    var tokens = Array(0..<20)
    let before = try decoder.prefill(tokens, logits: .last)
    tokens[11] = 50
    #expect(try decoder.prefill(tokens, logits: .last) == before, "8 tokens back: not seen")
    tokens[12] = 51
    #expect(try decoder.prefill(tokens, logits: .last) != before, "7 tokens back: seen")
  }

  @Test("later tokens change nothing that came before")
  func causal() throws {
    let model = try TinyCheckpoint("llama3")
    var tokens = Array(model.tokens.prefix(10))
    let before = try model.decoder.prefill(tokens, logits: .all)
    tokens[9] = (tokens[9] + 1) % 80
    let after = try model.decoder.prefill(tokens, logits: .all)
    #expect(before.rows(0..<9) == after.rows(0..<9))
    #expect(before.row(9) != after.row(9))
  }

  @Test("requests that cannot be answered say why")
  func errors() throws {
    let model = try TinyCheckpoint("llama3")
    #expect(throws: DecoderError.emptyPrompt) { try model.decoder.prefill([], logits: .last) }
    for token in [80, -1, Int.max] {
      #expect(
        throws: DecoderError.tokenOutsideVocabulary(token: token, place: 1, vocabulary: 80)
      ) { try model.decoder.prefill([0, token], logits: .last) }
    }
    let folder = try CheckpointCopy(copying: "llama2")
    try folder.rewriteWeights { name, tensor in
      var tensor = tensor
      if name == "model.embed_tokens.weight" { tensor[7, 3] = .nan }
      return (tensor, .float32)
    }
    let decoder = try Decoder(folder: folder.path)
    // Row 0 does not see token 2, but a masked weight is 0 and 0 times NaN is NaN, here as in the
    // library: every row of the block is affected.
    #expect(throws: DecoderError.notFiniteLogits(row: 0)) {
      try decoder.prefill([1, 2, 7, 4], logits: .all)
    }
    _ = try decoder.prefill([1, 2, 4], logits: .all)
  }
}
