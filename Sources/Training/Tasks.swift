// The tasks that a recipe can name.
//
// In:  a name; the tokenizer; the weight of tokens that nobody asks for.
// Out: texts of exactly so many tokens, with the weight of each as a target.
//
//   repeats       random segments that come again at random distances; asked for: every token of a
//                 repeat but its first. What a model learns from it is to look back (induction).
//   prose         sentences of the evaluation's haystack; every token asked for.
//   niah_..., vt, cwe, fwe, qa_...
//                 samples of the evaluation (Evaluation's RulerTask), the answer written out and
//                 asked for; what comes before it has the background's weight.
//
// Samples for training have another seed than those for scoring, which have the seeds that the
// command line gives: 2^40 and more are reserved for training.

import Evaluation
import Tensors
public import Transformers

/// The first seed of samples that are trained on.
public let trainingSeeds: UInt64 = 1 << 40

/// The task of this name.
///
/// Throws where there is none.
public func trainingTask(
  _ name: String, tokenizer: Tokenizer, endID: Int, background: Double
) throws -> any TrainingTask {
  switch name {
  case "repeats":
    // All but the special tokens.
    return RepeatsTask(tokens: tokenizer.specialIDs.count..<tokenizer.vocabularySize, background: 0)
  case "prose": return ProseTask(form: PromptForm(tokenizer))
  default:
    guard let task = RulerTask(rawValue: name) else {
      throw EvaluationError(
        "there is no task '\(name)'; there are: repeats, prose, "
          + RulerTask.allCases.map(\.rawValue).joined(separator: ", "))
    }
    return RulerTrainingTask(
      task: task, form: PromptForm(tokenizer), endID: endID, background: Float(background))
  }
}

/// Random segments, some of which come again.
struct RepeatsTask: TrainingTask {
  /// The tokens that segments are made of.
  let tokens: Range<Int>
  /// The weight of tokens that cannot be known.
  let background: Float

  func text(length: Int, _ numbers: RandomNumbers) -> (tokens: [Int], weights: [Float]) {
    var (text, weights): ([Int], [Float]) = ([], [])
    var segments: [[Int]] = []
    var i = 0
    func draw(_ bound: Int) -> Int {
      defer { i += 1 }
      return numbers.integer(below: bound, i)
    }
    while text.count <= length {
      if !segments.isEmpty && draw(2) == 1 {
        let segment = segments[draw(segments.count)]
        text += segment
        weights += [background] + Array(repeating: 1, count: segment.count - 1)
      } else {
        let segment = (0..<4 + draw(13)).map { _ in tokens.lowerBound + draw(tokens.count) }
        segments.append(segment)
        text += segment
        weights += Array(repeating: background, count: segment.count)
      }
    }
    return (Array(text.prefix(length + 1)), Array(weights.prefix(length + 1)))
  }
}

/// Sentences, all of them to be learned.
struct ProseTask: TrainingTask {
  let form: PromptForm

  func text(length: Int, _ numbers: RandomNumbers) -> (tokens: [Int], weights: [Float]) {
    // A word has at least one token.
    let sentences = prose(words: length + 1, seed: numbers.bits(0))
    let tokens = form.encode(sentences)
    return (Array(tokens.prefix(length + 1)), Array(repeating: 1, count: length + 1))
  }
}

/// A sample of the evaluation with its answer, and an end-of-text token; what is left over has no
/// weight.
struct RulerTrainingTask: TrainingTask {
  let task: RulerTask
  let form: PromptForm
  let endID: Int
  let background: Float

  func text(length: Int, _ numbers: RandomNumbers) throws -> (tokens: [Int], weights: [Float]) {
    // What an answer needs is known once there is one: answers of a task differ by a few tokens.
    var limit = task.tokensToGenerate / 3
    func made() throws -> (RulerSample, [Int]) {
      let generator = RulerGenerator(
        seed: trainingSeeds | numbers.bits(0) >> 24, form: form, answerLimit: limit)
      let sample = try generator.sample(task, length: length + 1, index: 0)
      return (sample, form.encode(sample.answer) + [endID])
    }
    var (sample, answer) = try made()
    while answer.count > limit {
      limit = answer.count
      (sample, answer) = try made()
    }
    var tokens = sample.tokens + answer
    var weights =
      Array(repeating: background, count: sample.tokens.count)
      + Array(repeating: 1, count: answer.count)
    weights += Array(repeating: 0, count: length + 1 - tokens.count)
    tokens += Array(repeating: endID, count: length + 1 - tokens.count)
    return (tokens, weights)
  }
}
