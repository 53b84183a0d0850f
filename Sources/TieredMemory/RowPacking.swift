// From rows to words and back, for stores whose elements are Floats.
//
// In:  a form, and the width of a layer's rows.
// Out: what stores hold: `keyWords` and `valueWords` elements a row.
//
// Stores copy elements and never compute with them. So the words of a packed row are held in place
// of Floats, bit pattern for bit pattern: one implementation of ring, hit and miss, flush and
// ledger serves exact and packed rows, and the exact way is as it was. Such an element may look
// like anything, NaN included; only this file turns it into a word, and only a form knows what it
// means.

package import Tensors

/// A form for rows of one width.
package struct RowPacking: Sendable {
  /// How rows are held.
  package let form: any RowForm
  /// Numbers of one key and of one value, d.
  package let width: Int
  /// Elements of a held key.
  package let keyWords: Int
  /// Elements of a held value.
  package let valueWords: Int
  /// Rows that are unpacked at a time.
  package static let blockRows = 64

  /// `form` for rows of `width` numbers.
  package init(_ form: any RowForm, width: Int) {
    self.form = form
    self.width = width
    keyWords = form.words(.key, width: width)
    valueWords = form.words(.value, width: width)
    precondition(keyWords >= 1 && valueWords >= 1, "a row is at least one word")
  }

  /// Elements of a held key or value.
  package func words(_ part: RowPart) -> Int { part == .key ? keyWords : valueWords }

  /// The elements that stand for rows (n, d) of tokens `first`, `first` + 1 and so on.
  ///
  /// Throws `RowFormError` for a NaN or an infinity.
  package func pack(
    _ part: RowPart, _ rows: Span<Float>, head: Int, first: Int
  ) throws -> [Float] {
    if !Float.allFinite(rows) {
      let bad = rows.indices.first { !rows[$0].isFinite } ?? 0
      throw RowFormError(
        "\(form.name) holds finite numbers only: \(part.rawValue) of token \(first + bad / width), "
          + "key/value head \(head), has \(rows[bad])")
    }
    var words = [UInt32](repeating: 0, count: rows.count / width * self.words(part))
    do {
      var span = words.mutableSpan
      try form.write(part, rows, width: width, head: head, first: first, into: &span)
    }
    return words.map { Float(bitPattern: $0) }
  }

  /// The rows `slots` of held `elements`, at most a block of them, (n, d).
  ///
  /// `tokens` are those that lie there.
  package func unpack(
    _ part: RowPart, _ elements: Span<Float>, head: Int, slots: Span<Int32>, tokens: Span<Int>,
    into rows: inout MutableSpan<Float>
  ) {
    precondition(slots.count == tokens.count && slots.count <= Self.blockRows, "a block of rows")
    unsafe elements.withUnsafeBufferPointer { elements in
      unsafe elements.withMemoryRebound(to: UInt32.self) { words in
        let words = unsafe Span(_unsafeElements: words)
        form.read(
          part, words, width: width, head: head, slots: slots, tokens: tokens, into: &rows)
      }
    }
  }

  /// Calls `body` with every block of the rows `slots`: their places among `slots`, and their
  /// numbers, (n, d).
  package func forEachBlock(
    _ part: RowPart, of elements: [Float], head: Int, slots: [Int32], tokens: [Int],
    _ body: (_ places: Range<Int>, _ rows: Span<Float>) -> Void
  ) {
    var block: [Float] = zeros(min(slots.count, Self.blockRows) * width)
    for start in stride(from: 0, to: slots.count, by: Self.blockRows) {
      let places = start..<min(start + Self.blockRows, slots.count)
      if places.count * width < block.count { block.removeLast(block.count - places.count * width) }
      do {
        var span = block.mutableSpan
        unpack(
          part, elements.span, head: head, slots: slots.span.extracting(places),
          tokens: tokens.span.extracting(places), into: &span)
      }
      body(places, block.span)
    }
  }

  /// The rows `slots`, (n, d), all at once: for readers that want a copy.
  package func rows(
    _ part: RowPart, of elements: [Float], head: Int, slots: [Int32], tokens: [Int]
  ) -> Tensor<Float> {
    var all: [Float] = zeros(slots.count * width)
    forEachBlock(part, of: elements, head: head, slots: slots, tokens: tokens) { places, rows in
      var out = all.mutableSpan
      let first = places.lowerBound * width
      for i in rows.indices { out[first + i] = rows[i] }
    }
    return Tensor(shape: [slots.count, width], elements: all)
  }

  /// The rows of tokens 0 ..< n, which lie in slots 0 ..< n, (n, d).
  package func rows(_ part: RowPart, of elements: [Float], head: Int) -> Tensor<Float> {
    let n = elements.count / words(part)
    return rows(
      part, of: elements, head: head, slots: (0..<n).map(Int32.init), tokens: Array(0..<n))
  }
}
