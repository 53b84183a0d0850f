// Short texts at the positions of long ones.
//
// In:  a text of L tokens; a span S ≥ L; the tokens behind which a text may be pulled apart.
// Out: its positions: 0, 1, 2, ... with jumps behind some of those tokens, the last one below S.
//
// Heads that compare contents have to do so at every distance that RoPE will rotate them by.
// Distances are cheap. A text of 256 tokens whose sentences stand up to 2,048 places apart costs an
// eighth of one that long, and all of it is worth reading. Long texts then teach the rest: to
// choose among more tokens.
//
// Source: positional skip-wise training (PoSE, Zhu et al., arXiv 2309.10400), which pulls a text
// apart at chance places for language models. Ours: only between sentences, so that heads that look
// a few tokens back find there what they find in a text as it is.

package import Tensors

/// How far texts are pulled apart.
package struct PositionGaps: Sendable {
  /// S, the positions that a text may reach.
  package let span: Int
  /// The last tokens of sentences and lines.
  package let borders: Set<Int>

  /// Most jumps of a text.
  static let jumps = 8

  /// Texts pulled apart behind these tokens, to positions below `span`.
  package init(span: Int, borders: Set<Int>) {
    self.span = span
    self.borders = borders
  }

  /// The position of every token; `numbers` say where it jumps, and how far.
  package func positions(of tokens: [Int], _ numbers: RandomNumbers) -> [Int] {
    precondition(1...span ~= tokens.count, "\(tokens.count) tokens on \(span) positions")
    let places = tokens.indices.dropLast().filter { borders.contains(tokens[$0]) }
    var next = 0
    func draw(_ bound: Int) -> Int {
      defer { next += 1 }
      return numbers.integer(below: bound, next)
    }
    var steps = [Int](repeating: 1, count: tokens.count)
    steps[0] = 0
    var left = draw(span - tokens.count + 1)
    for _ in 0..<draw(Self.jumps + 1) where !places.isEmpty {
      let part = draw(left + 1)
      steps[places[draw(places.count)] + 1] += part
      left -= part
    }
    var position = 0
    return steps.map { step in
      position += step
      return position
    }
  }
}
