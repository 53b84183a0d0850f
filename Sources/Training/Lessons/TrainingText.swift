// A text of the user's to learn from, and the part of it that is never learned.
//
// In:  a file of UTF-8 text; a line ends as any system ends it.
// Out: its lines in two parts, one to train on, one to measure on; the task `text`.
//
//   lines      | 0 ... 1,215 | 1,216 ... 1,279 | 1,280 ... 2,495 | 2,496 ... 2,559 | ...
//   part       | training    | held out        | training        | held out        | ...
//
// Every twentieth block of 64 lines is held out. So both parts come from all over the text, and a
// neighbour of a held line is mostly held itself. A text of fewer than 1,280 lines has no such
// block: its last twentieth is held out.
//
// A text to learn from begins with the begin token and goes on from the beginning of a random line.
// Every token of it is a target of weight 1.
//
// Source: ours.

import Tasks
import Tensors
import Tokenizers

/// A user's text in two parts.
package struct TrainingText: Sendable {
  /// Lines of a block.
  static let block = 64
  /// One block of so many is held out.
  static let period = 20

  /// The lines to train on, each with a line feed.
  package let training: String
  /// The lines to measure on, each with a line feed.
  package let heldOut: String

  /// Splits a text.
  ///
  /// Throws a `TaskError` where there are fewer than 20 lines.
  package init(_ text: String) throws {
    let lines = text.split(whereSeparator: \.isNewline)
    guard lines.count >= Self.period else {
      throw TaskError(
        "\(lines.count) lines with text; \(Self.period) or more are needed, of which "
          + "one in \(Self.period) is held out to measure on")
    }
    let blocks = Self.block * Self.period
    let isHeld: (Int) -> Bool =
      lines.count >= blocks
      ? { $0 / Self.block % Self.period == Self.period - 1 }
      : { $0 >= lines.count - lines.count / Self.period }
    func joined(_ held: Bool) -> String {
      lines.indices.filter { isHeld($0) == held }.map { lines[$0] + "\n" }.joined()
    }
    training = joined(false)
    heldOut = joined(true)
  }
}

/// Windows of a user's text, all of whose tokens are to be learned.
struct TextTask: TrainingTask {
  /// The token before every window.
  let begin: Int
  /// The training part's tokens.
  private let tokens: [Int]
  /// The places of `tokens` at which a line begins, ascending.
  private let lineStarts: [Int]

  /// The training part of `text` in tokens.
  init(_ text: TrainingText, _ tokenizer: Tokenizer, begin: Int) {
    self.begin = begin
    var (tokens, starts): ([Int], [Int]) = ([], [])
    // Line by line: a line begins at a token of its own.
    for line in text.training.split(separator: "\n") {
      starts.append(tokens.count)
      tokens += tokenizer.encode(line + "\n", addingSpecialTokens: false)
    }
    (self.tokens, lineStarts) = (tokens, starts)
  }

  func text(length: Int, _ numbers: RandomNumbers) throws -> (tokens: [Int], weights: [Float]) {
    guard tokens.count >= length else {
      throw TaskError(
        "the text has \(tokens.count) tokens to train on, fewer than the \(length) of this stage")
    }
    // The last line from which so many tokens are left, or an earlier one.
    let fitting = lineStarts.prefix { $0 + length <= tokens.count }
    let start = fitting[numbers.integer(below: fitting.count, 0)]
    return (
      [begin] + tokens[start..<start + length], Array(repeating: 1, count: length + 1)
    )
  }
}
