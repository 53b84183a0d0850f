// One layer whose rows lie in few bits: KVQuant's cache, and KVSink's.
//
// In:  the prompt, then one token at a time.
// Out: attention over what the codes say, and over exact rows.
//
//   prompt   some rows stay exact: the first ones, or the sinks; ranges and codebooks come from a
//            file or from the other rows; those are coded
//   a step   the new row is coded, then read back with all others, 64 at a time; keys are rotated
//            by their places when they are read
//
// With sinks the prompt waits, as it came, until all layers have passed: which tokens are sinks is
// seen in the input of one layer, and holds for all (SinkTokens.swift). Then every layer codes.
//
// An exact row is in no statistic: ranges, thresholds and codebooks are those of the sequence
// without it. Only where a prompt has no other rows do they come from the exact ones.

package import TieredMemory
package import Tensors
package import Transformers

/// One layer in few bits.
package struct KVQuantCache: KeyValueCache {
  let layer: LayerShape
  let scheme: KVQuantScheme
  /// What a calibration says; nil: the prompt does.
  let calibrated: KVQuantStatics?
  /// First rows that stay exact.
  let first: Int
  /// How sinks are found; nil: none are.
  let sinks: SinkRule?

  /// Tokens so far.
  package private(set) var length = 0
  package var hostBytes: Int { 0 }
  /// The rows that stay as they are.
  private var exact: ExactRows?
  /// Keys before RoPE and values of all other tokens.
  private var coded: (keys: CodedMatrix, values: CodedMatrix)?
  /// The prompt's keys before RoPE and values, (l, M d), while they wait.
  private var waiting: (keys: DeviceBuffer<Float>, values: DeviceBuffer<Float>)?
  /// The sinks, in the layer that sees them.
  private var found: [Int]?
  private var table: RotationTable
  private var step = 0

  init(
    _ layer: LayerShape, _ scheme: KVQuantScheme, calibrated: KVQuantStatics?, first: Int = 0,
    sinks: SinkRule? = nil
  ) {
    (self.layer, self.scheme, self.calibrated) = (layer, scheme, calibrated)
    (self.first, self.sinks) = (first, sinks)
    table = RotationTable(layer.rotary)
  }

  /// Keys before RoPE; with sinks all layers together, and in one of them the residual stream.
  package var needs: CacheNeeds {
    guard let sinks else { return .keysBeforeRotary }
    return sinks.layer + 1 == layer.layer
      ? [.keysBeforeRotary, .jointDecision, .residual] : [.keysBeforeRotary, .jointDecision]
  }

  /// The tokens whose rows are exact, ascending.
  package var exactTokens: [Int] { exact?.tokens ?? [] }
  /// Numbers of keys and of values that lie apart.
  package var outlierCounts: (keys: Int, values: Int) {
    (coded?.keys.outlierCount ?? 0, coded?.values.outlierCount ?? 0)
  }

  // MARK: The prompt

  package mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    length = layer.check(prompt)
    let (K, V) = (sideBySide(prompt.keysBeforeRotary), sideBySide(prompt.values))
    try checkFinite(K.elements, V.elements, firstToken: 0)
    table.append(0..<length, length: length)
    waiting = (
      try tiers.device.allocate("prompt's keys", holding: K.elements),
      try tiers.device.allocate("prompt's values", holding: V.elements)
    )
    guard let sinks else { return try hold(exact: Array(0..<min(first, length)), &tiers) }
    if sinks.layer + 1 == layer.layer {
      found = try sinks.tokens(prompt.residual, layer: layer.layer)
    }
  }

  /// The sinks of the layer that sees them become those of all.
  package static func settle(_ caches: inout [any KeyValueCache], tiers: inout Tiers) throws {
    let layers = caches.compactMap { $0 as? KVQuantCache }
    if layers.count == caches.count, layers.allSatisfy({ $0.waiting == nil }) { return }
    guard layers.count == caches.count, let found = layers.compactMap(\.found).first else {
      throw MethodError("kvsink: none of these layers sees the residual stream that tells sinks")
    }
    for (i, layer) in layers.enumerated() {
      var layer = layer
      try layer.hold(exact: found, &tiers)
      caches[i] = layer
    }
  }

  /// Codes the waiting prompt but for these tokens, which ascend.
  private mutating func hold(exact tokens: [Int], _ tiers: inout Tiers) throws {
    guard var prompt = waiting else { return }
    waiting = nil
    let (l, C) = (length, layer.keyValueHeads * layer.width)
    let K = Tensor(shape: [l, C], elements: prompt.keys.elements)
    let V = Tensor(shape: [l, C], elements: prompt.values.elements)
    let apart = Set(tokens)
    let others = (0..<l).filter { !apart.contains($0) }
    exact = try ExactRows(
      tokens, keys: K.gather(rows: tokens), values: V.gather(rows: tokens), on: &tiers.device)
    let (keys, values) = (K.gather(rows: others), V.gather(rows: others))
    let statics =
      calibrated
      ?? (others.isEmpty
        ? KVQuantStatics(keys: K, values: V, scheme)
        : KVQuantStatics(keys: keys, values: values, scheme))
    let sizes = CodedSizes(
      heads: layer.keyValueHeads, width: layer.width, bits: scheme.bits)
    coded = (
      try CodedMatrix(
        keys, sizes, levels: statics.keys, axis: keyAxis(statics), label: "keys",
        on: &tiers.device),
      try CodedMatrix(
        values, sizes, levels: statics.values, axis: .tokens(sparsity: scheme.sparsity),
        label: "values", on: &tiers.device)
    )
    tiers.device.free(&prompt.keys)
    tiers.device.free(&prompt.values)
  }

  private func keyAxis(_ statics: KVQuantStatics) -> CodedAxis {
    if scheme.keysPerToken { return .tokens(sparsity: scheme.sparsity) }
    let cap = outlierCap(
      width: layer.keyValueHeads * layer.width, sparsity: scheme.sparsity ?? 1)
    return .channels(
      statics.keyRanges, hasOutliers: scheme.sparsity != nil, cap: scheme.isCapped ? cap : nil)
  }

  // MARK: A step

  package mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    step += 1
    let (key, value) = (token.keysBeforeRotary.elements, token.values.elements)
    try checkFinite(key, value, firstToken: length)
    let isExact = sinks == nil && length < first
    if isExact {
      try exact?.append(length, key: key, value: value, on: &tiers.device)
    } else {
      try coded?.keys.append(key, on: &tiers.device)
      try coded?.values.append(value, on: &tiers.device)
    }
    length += 1
    table.append(length - 1..<length, length: length)

    let visible = layer.visible(length: length)
    var blocks: [DeviceBuffer<Float>] = []
    for m in 0..<layer.keyValueHeads {
      blocks.append(
        try tiers.device.allocate(
          "block of head \(m)", count: min(RowPacking.blockRows, visible.count) * layer.width, of: 0
        ))
    }
    let answers = try updateConcurrently(&blocks) { m, block in
      attend(token.queries, head: m, visible, &block.elements)
    }
    for m in blocks.indices { tiers.device.free(&blocks[m]) }
    return AttendedStep(
      attention: Tensor(joiningRows: answers),
      attended: Array(repeating: Array(visible), count: layer.queryHeads), hitRows: 0,
      missedRows: 0)
  }

  /// The answers of the query heads of key/value head `m`, (G, d).
  private func attend(
    _ queries: Tensor<Float>, head m: Int, _ visible: Range<Int>, _ block: inout [Float]
  ) -> Tensor<Float> {
    let (G, d) = (layer.groupSize, layer.width)
    return blockAttention(
      queries: queries.rows(m * G..<(m + 1) * G), over: visible, block: &block,
      keys: { tokens, block in
        read(.keys, head: m, tokens, &block)
        let before = Tensor(
          shape: [tokens.count, d], elements: Array(block[..<(tokens.count * d)]))
        let rotated = table.rotations(tokens).rotate(before)
        block.replaceSubrange(..<(tokens.count * d), with: rotated.elements)
      },
      values: { tokens, block in read(.values, head: m, tokens, &block) }
    ).answers
  }

  /// Writes the keys before RoPE, or the values, of some tokens into the beginning of `block`.
  private func read(
    _ side: Side, head m: Int, _ tokens: Range<Int>, _ block: inout [Float]
  ) {
    guard let coded, let exact else { preconditionFailure("rows are read after the prompt") }
    let matrix = side == .keys ? coded.keys : coded.values
    let d = layer.width
    var slot = tokens.lowerBound - exact.count(before: tokens.lowerBound)
    var out = block.mutableSpan
    for (i, t) in tokens.enumerated() {
      if exact.read(side, of: t, columns: m * d..<(m + 1) * d, into: &out, at: i * d) { continue }
      matrix.read(slot: slot, head: m, into: &out, at: i * d)
      slot += 1
    }
  }

  /// Keys before RoPE and values of head `m` as steps read them, (tokens, d) each.
  package func rows(head m: Int, _ tokens: Range<Int>) -> (
    keys: Tensor<Float>, values: Tensor<Float>
  ) {
    func part(_ side: Side) -> Tensor<Float> {
      var block: [Float] = zeros(tokens.count * layer.width)
      read(side, head: m, tokens, &block)
      return Tensor(shape: [tokens.count, layer.width], elements: block)
    }
    return (part(.keys), part(.values))
  }

  /// Throws where a number of tokens from `firstToken` on is NaN or infinite: codes would hide it.
  private func checkFinite(_ keys: [Float], _ values: [Float], firstToken: Int) throws {
    let C = layer.keyValueHeads * layer.width
    for list in [keys, values] where !Float.allFinite(list.span) {
      let place = list.firstIndex { !$0.isFinite } ?? 0
      throw ScoreError(
        layer: layer.layer, head: place % C / layer.width * layer.groupSize,
        token: firstToken + place / C, step: step)
    }
  }
}

/// Keys or values.
enum Side: Sendable { case keys, values }
