// Rows in a form: how they are written, and what is seen of them.
//
// In:  rows as they come; slots and tokens that are read.
// Out: elements to be held; attention, scores and rows as the form gives them back.
//
// The only file of ResidentRows that knows what held elements mean. Without a form they are the
// numbers themselves. With one, E is Float, and they are words (RowPacking.swift).

public import Tensors

extension ResidentRows {
  /// What is held of the next tokens' rows (n, d) of key/value head `m`.
  func held(_ part: RowPart, _ rows: Tensor<E>, head m: Int) throws -> [E] {
    guard let packing else { return rows.elements }
    let floats = same(rows.elements, as: [Float].self)
    return same(
      try packing.pack(part, floats.span, head: m, first: length), as: [E].self)
  }

  /// What is held of the next token's rows (H / G, d) of all key/value heads.
  func held(_ part: RowPart, _ rows: Tensor<E>) throws -> [E] {
    guard packing != nil else { return rows.elements }
    return try (0..<rows.rows).flatMap { try held(part, rows.rows($0..<$0 + 1), head: $0) }
  }

  /// The newest `n` tokens' keys or values as they are held, (n, d) of each key/value head.
  ///
  /// After `settle` they are in the ring. What a cache computes from rows it computes from these,
  /// so that it is the same whether a row is looked at now or later.
  public func newest(_ part: RowPart, _ n: Int) -> [Tensor<E>] {
    let tokens = Array(length - n..<length)
    return hosts.indices.map { m in
      let (x, own) = place(ofHolder: holders.firstHolder(ofKeyValueHead: m))
      let store = isSettled ? stores[x] : nil
      let slots = tokens.map { Int32(store?.ringSlot(ring.slot(of: $0), of: own) ?? $0) }
      let elements =
        part == .key
        ? prompt?[m].keys.elements ?? store?.keys.elements ?? []
        : prompt?[m].values.elements ?? store?.values.elements ?? []
      guard let packing else {
        let all = Tensor(shape: [elements.count / shape.width, shape.width], elements: elements)
        return all.gather(rows: slots.map(Int.init))
      }
      let rows = packing.rows(
        part, of: same(elements, as: [Float].self), head: m, slots: slots, tokens: tokens)
      return same(rows, as: Tensor<E>.self)
    }
  }

  /// True where rows are held in a form, so that they are not the numbers that came.
  public var hasForm: Bool { packing != nil }

  /// Held keys of tokens 0, 1, 2 and so on of key/value head `m`, (l, d).
  func readKeys(_ elements: [E], head m: Int) -> Tensor<E> {
    guard let packing else { return Tensor(shape: [length, shape.width], elements: elements) }
    let keys = packing.rows(.key, of: same(elements, as: [Float].self), head: m)
    return same(keys, as: Tensor<E>.self)
  }

  /// The value in slot `slot` of held `elements`, (d).
  func readValue(_ elements: [E], slot: Int, token: Int, head m: Int) -> [E] {
    guard let packing else {
      return Array(elements[slot * shape.width..<(slot + 1) * shape.width])
    }
    let value = packing.rows(
      .value, of: same(elements, as: [Float].self), head: m, slots: [Int32(slot)], tokens: [token])
    return same(value.elements, as: [E].self)
  }

  /// q · k of query head `h` for the rows `slots` of held `keys`.
  func packedScores(
    _ q: [E], ofQueryHead h: Int, keys: [E], slots: [Int32], tokens: [Int], _ packing: RowPacking
  ) -> [E] {
    let scores = packing.scores(
      queries: Tensor(shape: [1, q.count], elements: same(q, as: [Float].self)),
      keys: same(keys, as: [Float].self),
      head: h / shape.groupSize, slots: slots, tokens: tokens, scale: 1)
    return same(scores.elements, as: [E].self)
  }

  /// `attention` over packed rows.
  func packedAttention(
    _ q: Tensor<E>, over sets: [[Int]], _ packing: RowPacking
  ) throws -> Tensor<E> {
    let places = (0..<holders.count).map { place(ofHolder: $0).store }
    let keys = prompt?.map(\.keys.elements) ?? places.map { stores[$0].keys.elements }
    let values = prompt?.map(\.values.elements) ?? places.map { stores[$0].values.elements }
    let slots: [[Int32]] =
      if isSettled {
        sets.indices.map { h in
          self.slots(ofQueryHead: h, selected: sets[h], ring: visibleRing.map(ring.slot(of:))).slots
        }
      } else {
        Array(repeating: visible.map(Int32.init), count: shape.queryHeads)
      }
    let answer = try packing.attention(
      queries: same(q, as: Tensor<Float>.self), keyValueHeads: shape.keyValueHeads,
      keys: same(keys, as: [[Float]].self), values: same(values, as: [[Float]].self), slots: slots,
      tokens: attended(sets))
    return same(answer, as: Tensor<E>.self)
  }
}

/// `value`, whose type is B, as the compiler cannot know: E is Float where rows have a form.
///
/// Costs nothing whatever the size: between generic types a cast compares the types alone.
private func same<A, B>(_ value: A, as type: B.Type) -> B {
  guard let result = value as? B else {
    preconditionFailure("rows of \(A.self) have no form: \(B.self) is needed")
  }
  return result
}
