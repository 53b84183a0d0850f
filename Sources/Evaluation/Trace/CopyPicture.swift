// What the demo draws of an answer: a strip over the prompt for every token that was written.
//
// In:  a trace, the head that copies, the prompt's needles, a number of columns.
// Out: rows of numbers and words; text and SVG draw the same ones.
//
//   column c of C over a prompt of l tokens      tokens floor(c l / C) ..< floor((c + 1) l / C)
//   height of a column                           attended tokens of it / tokens of it
//
// Where a prompt has fewer tokens than columns, there is a column for each token.

/// The strips of one answer under one method.
package struct CopyPicture: Equatable, Sendable {
  /// One written token.
  package struct Row: Equatable, Sendable {
    /// The text that was written.
    package let written: String
    /// By column, the share of its tokens that the head attended to.
    package let heights: [Double]
    /// The column of the token that the head landed on.
    package let column: Int
    /// That token's text.
    package let landed: String
    package let look: CopyLook
    /// Whether that token is one of the needle that was asked for.
    package let isOnNeedle: Bool
  }

  package let place: HeadPlace
  package let rows: [Row]
  /// Columns with tokens of the needle that was asked for.
  package let asked: Set<Int>
  /// Columns with tokens of other needles.
  package let others: Set<Int>
  package let columns: Int

  /// The strips of the head at `place` for what steps from `first` on wrote, `ending` tokens left
  /// out; `asked` and `needles` are tokens of the prompt.
  package init(
    _ trace: GenerationTrace, _ place: HeadPlace, from first: Int, ending: Set<Int>,
    asked: Set<Int>, needles: Set<Int>, columns wanted: Int
  ) {
    precondition(wanted >= 1, "\(wanted) columns")
    let (length, columns) = (trace.promptTokens, min(wanted, trace.promptTokens))
    let edges = (0...columns).map { $0 * length / columns }
    func column(_ token: Int) -> Int { (edges.firstIndex { $0 > token } ?? columns) - 1 }
    self.place = place
    self.columns = columns
    self.asked = Set(asked.map(column))
    others = Set(needles.subtracting(asked).map(column))
    rows = trace.looks(of: place, from: first).compactMap { look in
      if ending.contains(trace.tokens[look.written]) { return nil }
      var counts = [Int](repeating: 0, count: columns)
      for token in look.attended where token < length { counts[column(token)] += 1 }
      return Row(
        written: trace.pieces[look.written],
        heights: counts.indices.map { Double(counts[$0]) / Double(edges[$0 + 1] - edges[$0]) },
        column: column(look.landed), landed: trace.pieces[look.landed], look: look,
        isOnNeedle: asked.contains(look.landed))
    }
  }

  /// Of the rows whose head looked at one token, those on the needle that was asked for.
  package var sure: (onNeedle: Int, all: Int) {
    let sure = rows.filter(\.look.isSure)
    return (sure.count(where: \.isOnNeedle), sure.count)
  }
}
