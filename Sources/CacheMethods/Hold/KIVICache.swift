// One layer under KIVI: codes of old rows, and new rows as they are.
//
// In:  a prompt, then one token at a time.
// Out: attention over what the codes say, and over the whole rows.
//
//   prompt   a = ⌊l / R⌋ R keys and b = l − R values become codes; the prompt's own attention has
//            seen them as they were
//   a step   1. the new row is added whole
//            2. R whole keys: all of them become codes, and none is whole
//            3. R + 1 whole values: the oldest becomes codes
//            4. attention, block after block (BlockAttention.swift)
//
// Keys are turned before they are coded: a row of codes is one channel of g tokens. They are turned
// back when they are read, g tokens at a time.

import TieredMemory
import Tensors
import Transformers

/// One layer in few bits, the newest rows whole.
struct KIVICache: KeyValueCache {
  let layer: LayerShape
  let sizes: KIVISizes
  private(set) var length = 0
  var hostBytes: Int { 0 }
  private var heads: [KIVIRows] = []
  private var step = 0

  init(_ layer: LayerShape, _ sizes: KIVISizes) { (self.layer, self.sizes) = (layer, sizes) }

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    let l = layer.check(prompt)
    var whole = try DeviceRows.heads(prompt, on: &tiers.device)
    for (m, (K, V)) in zip(prompt.keys, prompt.values).enumerated() {
      try checkFinite(K, V, head: m)
      heads.append(try KIVIRows(K, V, sizes, head: m, on: &tiers.device))
      whole[m].free(on: &tiers.device)
    }
    length = l
  }

  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    step += 1
    for m in heads.indices {
      let (key, value) = (token.keys.rows(m..<m + 1), token.values.rows(m..<m + 1))
      try checkFinite(key, value, head: m)
      try heads[m].append(key: key.row(0), value: value.row(0), on: &tiers.device)
    }
    length += 1
    let (visible, G) = (layer.visible(length: length), layer.groupSize)
    var blocks: [DeviceBuffer<Float>] = []
    for m in heads.indices {
      let rows = min(max(RowPacking.blockRows, sizes.group), length)
      blocks.append(
        try tiers.device.allocate("block of head \(m)", count: rows * layer.width, of: 0))
    }
    let answers = try updateConcurrently(&blocks) { m, block in
      blockAttention(
        queries: token.queries.rows(m * G..<(m + 1) * G), over: visible,
        block: &block.elements,
        keys: { heads[m].readKeys($0, into: &$1) },
        values: { heads[m].readValues($0, into: &$1) }
      ).answers
    }
    for m in blocks.indices { tiers.device.free(&blocks[m]) }
    return AttendedStep(
      attention: Tensor(joiningRows: answers),
      attended: Array(repeating: Array(visible), count: layer.queryHeads), hitRows: 0,
      missedRows: 0)
  }

  /// Keys and values of head `m` as steps read them, (tokens, d) each.
  func rows(head m: Int, _ tokens: Range<Int>) -> (keys: Tensor<Float>, values: Tensor<Float>) {
    var (keys, values): ([Float], [Float]) = (
      zeros(tokens.count * layer.width), zeros(tokens.count * layer.width)
    )
    heads[m].readKeys(tokens, into: &keys)
    heads[m].readValues(tokens, into: &values)
    let shape = [tokens.count, layer.width]
    return (Tensor(shape: shape, elements: keys), Tensor(shape: shape, elements: values))
  }

  /// Throws where a number of the rows after the first `length` is NaN or infinite: codes hide it.
  private func checkFinite(_ keys: Tensor<Float>, _ values: Tensor<Float>, head m: Int) throws {
    for rows in [keys, values] where !Float.allFinite(rows.elements.span) {
      let place = rows.elements.firstIndex { !$0.isFinite } ?? 0
      throw ScoreError(
        layer: layer.layer, head: m * layer.groupSize, token: length + place / layer.width,
        step: step)
    }
  }
}

/// The rows of one key/value head: codes of the old ones, Floats of the new ones.
private struct KIVIRows: Sendable {
  let sizes: KIVISizes
  let width: Int
  /// g tokens' keys a row: (groups, d · w(g)), channel after channel.
  private var keyCodes: RowQueue<UInt32>
  private var wholeKeys: RowQueue<Float>
  /// A token's value a row: (b, w(d)).
  private var valueCodes: RowQueue<UInt32>
  private var wholeValues: RowQueue<Float>

  /// Holds a prompt's rows (l, d).
  init(
    _ K: Tensor<Float>, _ V: Tensor<Float>, _ sizes: KIVISizes, head m: Int,
    on device: inout DeviceTier
  ) throws(DeviceTierError) {
    let (l, d, g) = (K.rows, K.columns, sizes.group)
    let (a, b) = (sizes.codedKeys(l), sizes.codedValues(l))
    (self.sizes, width) = (sizes, d)
    keyCodes = try RowQueue(
      "key codes of head \(m)",
      rows: stride(from: 0, to: a, by: g).flatMap { sizes.pack(keys: K.rows($0..<$0 + g)) },
      count: a / g, width: sizes.groupWords(d), on: &device)
    wholeKeys = try RowQueue(
      "new keys of head \(m)", rows: K.rows(a..<l).elements, count: l - a, width: d, on: &device)
    valueCodes = try RowQueue(
      "value codes of head \(m)", rows: sizes.pack(V.rows(0..<b).elements, width: d), count: b,
      width: sizes.valueWords(d), on: &device)
    wholeValues = try RowQueue(
      "new values of head \(m)", rows: V.rows(b..<l).elements, count: l - b, width: d,
      on: &device)
  }

  /// Adds a token's row; full ranges become codes.
  mutating func append(
    key: [Float], value: [Float], on device: inout DeviceTier
  ) throws(DeviceTierError) {
    let (g, R) = (sizes.group, sizes.residual)
    try wholeKeys.append(key, on: &device)
    try wholeValues.append(value, on: &device)
    if wholeKeys.count == R {
      let keys = Tensor(shape: [R, width], elements: wholeKeys.elements)
      for t in stride(from: 0, to: R, by: g) {
        try keyCodes.append(sizes.pack(keys: keys.rows(t..<t + g)), on: &device)
      }
      try wholeKeys.dropFirst(R, on: &device)
    }
    if wholeValues.count > R {
      try valueCodes.append(
        sizes.pack(Array(wholeValues.elements[..<width]), width: width), on: &device)
      try wholeValues.dropFirst(1, on: &device)
    }
  }

  /// Writes the keys of `tokens` into the beginning of `block`.
  func readKeys(_ tokens: Range<Int>, into block: inout [Float]) {
    let (d, g, coded) = (width, sizes.group, keyCodes.count * sizes.group)
    var turned: [Float] = zeros(d * g)
    let channels = [Int32](0..<Int32(d))
    for first in stride(from: tokens.lowerBound / g * g, to: min(tokens.upperBound, coded), by: g) {
      let start = first / g * keyCodes.width
      do {
        var out = turned.mutableSpan
        sizes.codes.unpack(
          keyCodes.elements.span.extracting(start..<start + keyCodes.width), width: g,
          slots: channels.span, into: &out)
      }
      for t in tokens.clamped(to: first..<min(first + g, coded)) {
        let place = (t - tokens.lowerBound) * d
        for c in 0..<d { block[place + c] = turned[c * g + t - first] }
      }
    }
    copy(wholeKeys.elements, from: coded, tokens, into: &block)
  }

  /// Writes the values of `tokens` into the beginning of `block`.
  func readValues(_ tokens: Range<Int>, into block: inout [Float]) {
    let old = tokens.clamped(to: 0..<valueCodes.count)
    if !old.isEmpty {
      var read: [Float] = zeros(old.count * width)
      let slots = old.map { Int32($0) }
      do {
        var out = read.mutableSpan
        sizes.codes.unpack(
          valueCodes.elements.span, width: width, slots: slots.span, into: &out)
      }
      block.replaceSubrange(..<read.count, with: read)
    }
    copy(wholeValues.elements, from: valueCodes.count, tokens, into: &block)
  }

  /// Copies the rows of those `tokens` that are whole; the first whole one is token `first`.
  private func copy(
    _ rows: [Float], from first: Int, _ tokens: Range<Int>, into block: inout [Float]
  ) {
    for t in max(tokens.lowerBound, first)..<max(tokens.upperBound, first) {
      let (place, row) = ((t - tokens.lowerBound) * width, (t - first) * width)
      for c in 0..<width { block[place + c] = rows[row + c] }
    }
  }
}

extension KIVISizes {
  /// The codes of g tokens' keys (g, d): d rows of g numbers.
  fileprivate func pack(keys: Tensor<Float>) -> [UInt32] {
    pack(keys.transposed().elements, width: group)
  }

  /// The codes of rows of `width` numbers.
  fileprivate func pack(_ rows: [Float], width: Int) -> [UInt32] {
    var words = [UInt32](repeating: 0, count: rows.count / width * codes.words(width: width))
    var out = words.mutableSpan
    codes.pack(rows.span, width: width, into: &out)
    return words
  }
}
