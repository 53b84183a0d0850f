// One sample of a task: a prompt, what must come out, and where in the prompt it stands.
//
// In:  a draft, which a task's generator makes for any number of units (words, lines, documents).
// Out: a finished sample, framed for the model and counted in its tokens.
//
//   prompt = frame(task text) + answer prefix
//
// The prefix stands after the assistant's header where a chat template frames the text: the model
// goes on with it. (Upstream dropped it for a while; scores differ.)

import Reports
import Tensors

/// Text that remembers which stretches of it matter.
struct MarkedText: Sendable, Equatable {
  private(set) var text = ""
  /// The stretches that matter, as UTF-8 offsets.
  private(set) var marks: [Range<Int>] = []

  /// Appends `more`; `isMarked` says that all of it matters.
  mutating func append(_ more: String, isMarked: Bool = false) {
    let start = text.utf8.count
    text += more
    if isMarked { marks.append(start..<start + more.utf8.count) }
  }

  /// Pieces with `separator` between them, those with numbers in `marked` marked.
  init(_ pieces: [String] = [], separator: String = "", marked: Set<Int> = []) {
    for (n, piece) in pieces.enumerated() {
      if n > 0 { text += separator }
      append(piece, isMarked: marked.contains(n))
    }
  }

  static func + (a: MarkedText, b: MarkedText) -> MarkedText {
    var sum = a
    let start = a.text.utf8.count
    sum.text += b.text
    sum.marks += b.marks.map { $0.lowerBound + start..<$0.upperBound + start }
    return sum
  }

  /// `text`, `parts` of it marked where each first occurs after the one before.
  init(_ text: String, marking parts: [String]) {
    self.text = text
    var rest = text[...]
    for part in parts {
      guard let found = rest.firstRange(of: part) else {
        preconditionFailure("'\(part)' does not stand in '\(rest)'")
      }
      let start = text.utf8.distance(from: text.startIndex, to: found.lowerBound)
      marks.append(start..<start + part.utf8.count)
      rest = rest[found.upperBound...]
    }
  }

  static func + (a: MarkedText, b: String) -> MarkedText { a + MarkedText([b]) }
}

/// A sample before it is framed and measured.
struct Draft: Sendable {
  /// Instruction, haystack, question; needles marked.
  var text: MarkedText
  /// UTF-8 bytes of `text` that are the question behind the haystack.
  var questionBytes = 0
  /// UTF-8 bytes of `text` that are the haystack, needles included; none where all of it may be
  /// asked for.
  var haystack = 0..<0
  /// What the answer begins with, given to the model.
  var prefix: String
  /// What has to be found in the answer.
  var references: [String]
  /// The answer that a perfect model goes on with; what had to be found marked.
  var answer: MarkedText
  /// Further questions on the same context, for lessons.
  var followUps: [FollowUp] = []
}

/// A further question on a context that stands already.
struct FollowUp: Sendable {
  /// Question and answer prefix, a line break in front.
  let given: String
  /// What a perfect model goes on with; what had to be found marked.
  let answer: MarkedText
}

/// A task's generator for one sample: the same sample with more or less haystack.
protocol SampleFamily: Sendable {
  /// The least number of units.
  var floor: Int { get }
  /// Units are floor, floor + step, floor + 2 step, ...
  var step: Int { get }
  /// The most units there are.
  var most: Int { get }
  /// The sample with so many units.
  func draft(_ units: Int) -> Draft
  /// Whether a number of units makes sense; others are passed over.
  func isUsable(_ units: Int) -> Bool
}

extension SampleFamily {
  var most: Int { 1 << 22 }
  func isUsable(_ units: Int) -> Bool { true }
}

/// One sample of a task at a length.
package struct RulerSample: Sendable {
  /// The task that it is a sample of.
  package let task: RulerTask
  /// Tokens that prompt and answer may have together.
  package let length: Int
  /// Number of the sample, from 0.
  package let index: Int
  /// Instruction, haystack and question, before any chat template.
  package let text: String
  /// What the answer begins with, given to the model.
  package let prefix: String
  /// The framed text and the prefix: what the model reads.
  package let prompt: String
  /// The prompt's token ids.
  package let tokens: [Int]
  /// What has to be found in the answer.
  package let references: [String]
  /// The answer that a perfect model goes on with, from right after the prompt.
  package let answer: String
  /// Where question and answer prefix begin, behind the haystack: a place in UTF-8 bytes of the
  /// prompt.
  package let questionStart: Int
  /// UTF-8 ranges of the prompt: needles, links of the chain, documents with the answer.
  package let needles: [Range<Int>]
  /// Words, lines, different words, coded words or documents of the haystack.
  package let units: Int
  /// Units by which haystacks grow.
  package let step: Int
  /// Most tokens of an answer.
  package let tokensToGenerate: Int

  /// FNV-1a of the prompt.
  package var promptHash: String { hexadecimal(fnv1a(prompt)) }

  /// The sample as one line of JSON; `source` says where questions come from.
  package func json(source: QuestionSource) throws -> String {
    struct Line: Encodable {
      let generator, task: String
      let length, sample: Int
      let prompt, promptHash: String
      let promptTokens, units: Int
      let answerPrefix, answer: String
      let references: [String]
      let needles: [[Int]]
      let questions: String?
    }
    return try jsonText(
      Line(
        generator: RulerTask.generator, task: task.rawValue, length: length, sample: index,
        prompt: prompt, promptHash: promptHash, promptTokens: tokens.count, units: units,
        answerPrefix: prefix, answer: answer, references: references,
        needles: needles.map { [$0.lowerBound, $0.upperBound] },
        questions: task.metric == .part ? source.description : nil),
      isPretty: false)
  }
}

/// "a", "a and b", "a, b, and c".
func enumeration(_ items: [String]) -> String {
  switch items.count {
  case 0, 1: items.first ?? ""
  case 2: "\(items[0]) and \(items[1])"
  default: items.dropLast().joined(separator: ", ") + ", and " + items[items.count - 1]
  }
}
