// A sample with its answers written out: what a model learns from.
//
// In:  a task, or sizes that no task of the evaluation has; a draft with further questions.
// Out: a text in turns, each given and then answered; which bytes of an answer need the context.
//
//   given  answer ■  given  answer ■  ...        ■ one end-of-text token after every answer
//
// The first turn is a prompt as the evaluation has it. The others ask more about the same context:
// every question is a thing to learn, and a long context costs the same for one as for many.

/// What a lesson is about.
package enum LessonKind: Sendable {
  /// A task as it is scored.
  case task(RulerTask)
  /// Needles of any number, with further questions.
  case needles(NeedleSizes, FurtherQuestions?)
  /// Variable tracking with so many chains, each asked for, of so many hops.
  case chains(Int, hops: Int)
  /// Frequent words with so many asked for, the most frequent first; one to ten.
  case counts(Int)
  /// Common words with so many asked for, the most common first.
  case ranked(Int)
}

/// A text to learn from.
package struct Lesson: Sendable {
  /// Given, then answered.
  package struct Turn: Sendable {
    /// Tokens that are given.
    package let given: [Int]
    /// Tokens of the answer, without an end.
    package let answer: [Int]
    /// The first token of everything that had to be found, as places in `answer`: what follows it
    /// can be copied, the first one has to be looked up.
    package let found: [Int]
  }

  /// In their order.
  package let turns: [Turn]
  /// Tokens of all turns and their ends.
  package let size: Int
  /// The tokens of the first turn that are haystack, ascending; none where all of it may be asked
  /// for.
  ///
  /// Nil where the tokenizer does not give the text back byte by byte, so that no place can be
  /// told.
  package let haystack: [Int]?
  /// The tokens of the haystack that are needles.
  package let needles: [Int]

  /// `prompt` are the tokens of the draft's prompt; `ends` follow each answer.
  init(_ draft: Draft, _ prompt: [Int], _ form: PromptForm, _ ends: Int) {
    func turn(_ given: [Int], _ answer: MarkedText) -> Turn {
      let tokens = form.encode(more: answer.text)
      let places = answer.marks.compactMap { mark in
        form.tokens(
          covering: [mark.lowerBound..<mark.lowerBound + 1], of: answer.text, ids: tokens)?.first
      }
      return Turn(given: given, answer: tokens, found: places)
    }
    turns =
      [turn(prompt, draft.answer)]
      + draft.followUps.map { turn(form.encode(more: $0.given), $0.answer) }
    size = turns.reduce(0) { $0 + $1.given.count + $1.answer.count + ends }
    func covering(_ ranges: [Range<Int>]) -> [Int]? {
      if draft.haystack.isEmpty { return [] }
      return form.tokens(covering: ranges, of: draft.text.text + draft.prefix, ids: prompt)
    }
    haystack = covering([draft.haystack])
    needles = covering(draft.text.marks) ?? []
  }
}
