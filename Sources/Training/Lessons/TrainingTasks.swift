// The tasks that a recipe can name.
//
// In:  a name; the tokenizer; the weight of tokens that are not asked for; the user's text, if any.
// Out: texts of exactly so many tokens, with the weight of each as a target.
//
//   repeats       random segments that come again at random distances (InductionTasks.swift)
//   pairs         short needles that come again: a key must find its value (InductionTasks.swift)
//   prose         sentences of the evaluation's haystack; every token asked for
//   text          the user's text; every token asked for (TrainingText.swift)
//   recital       needles among needles, then their beginnings once more (TaskTexts.swift)
//   survey        several values of a key, by how far back they stand (TaskTexts.swift)
//   chain         vt as it is scored, one chain (TaskTexts.swift)
//   values        niah_multivalue as it is scored, four values of one key (TaskTexts.swift)
//   counts        fwe with more words to find (TaskTexts.swift)
//   ranked        cwe with words of different frequency (TaskTexts.swift)
//   niah_..., vt, cwe, fwe, qa_...
//                 the evaluation's tasks with their answers, and further questions
//                 (TaskTexts.swift)
//
// Weights, by what a target is:
//
//   1      a token that has to be looked up: the first one of a value. A stage's accuracy counts
//          these.
//   9/10   the rest of an answer, which can be copied once its beginning is found, and its end
//   b      everything else (the recipe's background); 0 where chance alone decides
//
// A curriculum that counts all tokens of answers alike is misled: digits after the first ones are
// copied from what they follow, so that 85 % can be right where no key was ever found. One that
// counts only the first ones is misled as well: 97 % of them were right in a model that gave 3 of
// 24 answers whole. So both are counted, apart (Trainer.swift).
//
// Samples for training have another seed than those for scoring, which have the seeds that the
// command line gives: 2^40 and more are reserved for training.

import Tasks
import Tensors
package import Tokenizers

/// The first seed of samples that are trained on.
package let trainingSeeds: UInt64 = 1 << 40

/// The weight of the tokens of an answer that can be copied.
let copiedWeight: Float = 0.9

/// The task of this name; `text` is what the task of that name reads.
///
/// Throws where there is no task of this name, or no text for it.
package func trainingTask(
  _ name: String, tokenizer: Tokenizer, background: Double, text: TrainingText? = nil
) throws -> any TrainingTask {
  let form = PromptForm(tokenizer)
  switch name {
  case "repeats":
    // All but the special tokens; numbers of up to three digits, where the vocabulary has all
    // thousand: a token of a few would not say where to look.
    let all = (0..<tokenizer.vocabularySize).filter { !tokenizer.specialIDs.contains($0) }
    let digits = all.filter {
      let text = tokenizer.decode([$0])
      return text.last?.isNumber == true && text.drop { $0 == " " }.allSatisfy(\.isNumber)
    }
    return RepeatsTask(alphabets: digits.count < 1000 ? [all] : [all, digits])
  case "pairs", "updates": return PairsTask(form: form, areUpdates: name == "updates")
  case "prose": return ProseTask(form: form)
  case "text":
    guard let text else {
      throw TaskError("the task 'text' learns from a text of yours; name it with --text FILE")
    }
    return TextTask(text, tokenizer, begin: tokenizer.beginID ?? ModelTokenizer.beginID)
  default:
    guard let subject = LessonTask.Subject(rawValue: name) else {
      throw TaskError(
        "there is no task '\(name)'; there are: repeats, pairs, updates, prose, text, "
          + LessonTask.Subject.names.joined(separator: ", "))
    }
    guard let end = tokenizer.endID else {
      throw TaskError("the tokenizer names no eos_token, which ends an answer")
    }
    return LessonTask(subject: subject, form: form, end: end, background: Float(background))
  }
}

/// Sentences, all of them to be learned.
struct ProseTask: TrainingTask {
  let form: PromptForm

  func text(length: Int, _ numbers: RandomNumbers) throws -> (tokens: [Int], weights: [Float]) {
    // A word has at least one token.
    let sentences = prose(words: length + 1, seed: numbers.bits(0))
    let tokens = form.encode(sentences)
    return (Array(tokens.prefix(length + 1)), Array(repeating: 1, count: length + 1))
  }
}
