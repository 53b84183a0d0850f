// lrqk demo, what is asked: a long text that hides needles, and a question about each of them.
//
// In:  a task of the evaluation, a length, a seed; the model's tokenizer.
// Out: the text's tokens, and for every question the tokens that follow them.
//
// Each question is tokenized with the whole text in front, as lrqk ruler does; what all prompts of
// a text begin with is passed through the model once. The questions are then taken by decode steps
// under each cache method, so that every key is looked up by the method itself.
//
// Next: DemoRun.swift.

import Evaluation
import Foundation
import Tasks
import Tokenizers

/// A text with its questions.
struct DemoText {
  let seed: UInt64
  let sample: RulerSample
  /// The tokens before the questions.
  let context: [Int]
  /// Tokens of the context that any needle covers.
  let needles: Set<Int>
  let questions: [DemoQuestion]

  /// The text of `seed`.
  init(_ task: RulerTask, length: Int, seed: UInt64, _ form: PromptForm) throws {
    let generator = RulerGenerator(seed: seed, form: form)
    let sample = try generator.sample(task, length: length, index: 0)
    func covered(_ ranges: [Range<Int>]) throws -> [Int] {
      guard let tokens = form.tokens(covering: ranges, of: sample.prompt, ids: sample.tokens)
      else {
        throw EvaluationError(
          "the tokenizer does not give the prompt back byte by byte, so nobody can say where the "
            + "question begins; lrqk ruler runs such a model")
      }
      return tokens
    }
    let end = try covered([sample.questionStart..<sample.prompt.utf8.count]).first
    let context = Array(sample.tokens[..<(end ?? sample.tokens.count)])
    (self.seed, self.sample, self.context) = (seed, sample, context)
    needles = Set(try covered(sample.needles))
    let bytes = Array(sample.prompt.utf8)
    questions = try generator.questions(about: sample).map { question in
      if !question.tokens.starts(with: context) || question.tokens.count == context.count {
        throw EvaluationError(
          "the question about \(question.key ?? "the text") changes how the text before it is "
            + "tokenized, so that the text cannot be read once for all questions")
      }
      let own = sample.needles.filter { range in
        let needle = String(decoding: bytes[range], as: UTF8.self)
        return question.references.contains { needle.contains($0) }
      }
      return DemoQuestion(
        key: question.key, given: Array(question.tokens[context.count...]),
        references: question.references, needle: Set(try covered(own)))
    }
  }

  /// The needles as a reader meets them: where they stand, in percent of the text, and their words.
  var placedNeedles: [(percent: Int, words: String)] {
    let bytes = Array(sample.prompt.utf8)
    return sample.needles.map { range in
      let words = String(decoding: bytes[range], as: UTF8.self)
        .replacing("\n", with: " ").trimmingCharacters(in: .whitespaces)
      return (100 * range.lowerBound / max(1, bytes.count), words)
    }
  }
}

/// A question about a text.
struct DemoQuestion {
  /// The needle's key; nil where the task has a question of another kind.
  let key: String?
  /// The question's tokens, and those of the answer's prefix.
  let given: [Int]
  /// What has to be found in the answer.
  let references: [String]
  /// Tokens of the context that the needle asked for covers.
  let needle: Set<Int>

  /// How many of the references stand in an answer.
  func right(in answer: String) -> Int { references.count { answer.contains($0) } }
}
