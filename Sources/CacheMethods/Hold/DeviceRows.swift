// Keys and values on the device, for one row form.
//
// In:  rows of a prompt or of a token, and the slots that they go to.
// Out: device buffers K and V, a held row a slot, row-major, as the attention routines read them.
//
// The methods that hold plain rows share this file. Rows are held as they are or in a form
// (RowFormat.swift): then a held row is its words, and `readKeys` gives what they stand for.
// (TieredMemory's RowStore adds hit and miss to the same two buffers.)

import TieredMemory
import Tensors
import Transformers

/// Whose rows are held, and in what form.
struct HeadForm: Sendable {
  /// The key/value head.
  let head: Int
  /// Numbers of one key and of one value, d.
  let width: Int
  /// From rows to words; nil: rows are held as they are.
  let packing: RowPacking?

  /// Rows of `width` numbers of key/value head `head`.
  init(width: Int, _ form: (any RowForm)?, head: Int) {
    self.head = head
    self.width = width
    packing = form.map { RowPacking($0, width: width) }
  }

  /// Elements of a held key or value.
  func words(_ part: RowPart) -> Int { packing?.words(part) ?? width }

  /// What is held of the rows (n, d) of tokens `first`, `first` + 1 and so on, (n, words).
  func held(_ part: RowPart, _ rows: Tensor<Float>, first: Int) throws -> Tensor<Float> {
    guard let packing else { return rows }
    let words = try packing.pack(part, rows.elements.span, head: head, first: first)
    return Tensor(shape: [rows.rows, packing.words(part)], elements: words)
  }
}

/// K and V of one row holder on the device.
struct DeviceRows: Sendable {
  /// Whose rows they are.
  let form: HeadForm
  /// K, a held key a slot, row-major.
  private(set) var keys: DeviceBuffer<Float>
  /// V, a held value a slot, row-major.
  private(set) var values: DeviceBuffer<Float>

  /// Puts rows (n, d) of tokens 0 ..< n into slots 0 ..< n.
  init(
    _ label: String, _ form: HeadForm, keys: Tensor<Float>, values: Tensor<Float>,
    on device: inout DeviceTier
  ) throws {
    try self.init(
      label, form, heldKeys: form.held(.key, keys, first: 0).elements,
      values: form.held(.value, values, first: 0).elements, on: &device)
  }

  /// Puts rows that are in their form already into slots 0, 1, 2 and so on.
  init(
    _ label: String, _ form: HeadForm, heldKeys: [Float], values: [Float],
    on device: inout DeviceTier
  ) throws(DeviceTierError) {
    self.form = form
    keys = try device.allocate("K \(label)", holding: heldKeys)
    self.values = try device.allocate("V \(label)", holding: values)
  }

  /// Slots that there are.
  var slots: Int { keys.count / form.words(.key) }
  /// Bytes of a held key and value.
  var rowBytes: Int {
    (form.words(.key) + form.words(.value)) * MemoryLayout<Float>.stride
  }
  /// All held keys, (slots, words).
  var heldKeys: Tensor<Float> {
    Tensor(shape: [slots, form.words(.key)], elements: keys.elements)
  }
  /// All held values, (slots, words).
  var heldValues: Tensor<Float> {
    Tensor(shape: [slots, form.words(.value)], elements: values.elements)
  }

  /// Adds slots until there are `count` of them.
  mutating func grow(to count: Int, on device: inout DeviceTier) throws(DeviceTierError) {
    if count <= slots { return }
    try resize(to: count, on: &device)
  }

  /// Keeps the first `count` slots and gives the others back.
  mutating func shrink(to count: Int, on device: inout DeviceTier) throws(DeviceTierError) {
    try resize(to: count, on: &device)
  }

  private mutating func resize(
    to count: Int, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    try device.resize(&keys, count: count * form.words(.key), fill: 0)
    try device.resize(&values, count: count * form.words(.value), fill: 0)
  }

  /// Writes the row (d) of `token`, a copy within the device.
  mutating func write(slot: Int, token: Int, key: [Float], value: [Float]) throws {
    guard let packing = form.packing else {
      write(slot: slot, heldKey: key[...], value: value[...])
      return
    }
    write(
      slot: slot,
      heldKey: try packing.pack(.key, key.span, head: form.head, first: token)[...],
      value: try packing.pack(.value, value.span, head: form.head, first: token)[...])
  }

  private mutating func write(slot: Int, heldKey: ArraySlice<Float>, value: ArraySlice<Float>) {
    let (K, V) = (form.words(.key), form.words(.value))
    precondition(heldKey.count == K && value.count == V, "rows of \(K) and \(V) elements")
    keys.elements.replaceSubrange(slot * K..<(slot + 1) * K, with: heldKey)
    values.elements.replaceSubrange(slot * V..<(slot + 1) * V, with: value)
  }

  /// Copies the row of slot `source` into slot `target`, within the device.
  mutating func copy(slot source: Int, to target: Int) {
    let (K, V) = (form.words(.key), form.words(.value))
    let key = Array(keys.elements[source * K..<(source + 1) * K])
    let value = Array(values.elements[source * V..<(source + 1) * V])
    write(slot: target, heldKey: key[...], value: value[...])
  }

  /// The rows of `slots` as they are held, in this order, (n, words) each.
  func held(_ slots: [Int32]) -> (keys: Tensor<Float>, values: Tensor<Float>) {
    func gather(_ elements: [Float], _ width: Int) -> Tensor<Float> {
      Tensor(
        shape: [slots.count, width],
        elements: slots.flatMap { elements[Int($0) * width..<(Int($0) + 1) * width] })
    }
    return (
      gather(keys.elements, form.words(.key)), gather(values.elements, form.words(.value))
    )
  }

  /// A copy of the rows of `slots`, as they are held, in slots 0, 1, 2 and so on.
  func gathered(
    _ slots: [Int], _ label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) -> DeviceRows {
    let rows = held(slots.map(Int32.init))
    return try DeviceRows(
      label, form, heldKeys: rows.keys.elements, values: rows.values.elements, on: &device)
  }

  /// The keys or values in `slots`, where `tokens` lie, (n, d): what the form gives back.
  func read(_ part: RowPart, _ slots: [Int32], tokens: [Int]) -> Tensor<Float> {
    guard let packing = form.packing else {
      let rows = held(slots)
      return part == .key ? rows.keys : rows.values
    }
    return packing.rows(
      part, of: part == .key ? keys.elements : values.elements, head: form.head, slots: slots,
      tokens: tokens)
  }

  /// softmax(q Kᵀ / √d) over the rows `slots`, where `tokens` lie: a weight for each of them.
  func weights(of q: [Float], slots: [Int32], tokens: [Int]) -> [Float] {
    guard let packing = form.packing else {
      return attentionWeights(query: q, keys: keys.elements, slots: slots)
    }
    return packing.weights(
      queries: Tensor(shape: [1, q.count], elements: q), keys: keys.elements, head: form.head,
      slots: slots,
      tokens: tokens
    ).elements
  }

  /// Σ weight · value over the rows `slots`, where `tokens` lie, (d).
  func sum(of weights: [Float], slots: [Int32], tokens: [Int]) -> [Float] {
    guard let packing = form.packing else {
      return weightedSum(weights, values: values.elements, width: form.width, slots: slots)
    }
    return packing.weightedSum(
      Tensor(shape: [1, weights.count], elements: weights), values: values.elements,
      head: form.head, slots: slots,
      tokens: tokens
    ).elements
  }

  /// Gives the device's memory back.
  mutating func free(on device: inout DeviceTier) {
    device.free(&keys)
    device.free(&values)
  }

  /// The rows of every key/value head of a prompt, tokens `t` in slots 0, 1, 2 and so on.
  static func heads(
    _ prompt: PromptRows, _ form: (any RowForm)? = nil, on device: inout DeviceTier
  ) throws -> [DeviceRows] {
    var heads: [DeviceRows] = []
    for (m, (K, V)) in zip(prompt.heldKeys(form), prompt.values).enumerated() {
      let head = HeadForm(width: K.columns, form, head: m)
      heads.append(try DeviceRows("rows of head \(m)", head, keys: K, values: V, on: &device))
    }
    return heads
  }
}

/// softmax(q Kᵀ / √d) V for every query head of a layer, (H, d).
///
/// `rows` are those of every row holder, and consecutive heads share a holder; `slots` and `tokens`
/// say for every query head which rows it attends to.
func attention(
  queries: Tensor<Float>, rows: [DeviceRows], keyValueHeads: Int, slots: [[Int32]], tokens: [[Int]]
) throws -> Tensor<Float> {
  let (keys, values) = (rows.map(\.keys.elements), rows.map(\.values.elements))
  guard let packing = rows.first?.form.packing else {
    return try attention(queries: queries, keys: keys, values: values, slots: slots)
  }
  return try packing.attention(
    queries: queries, keyValueHeads: keyValueHeads, keys: keys, values: values, slots: slots,
    tokens: tokens)
}
