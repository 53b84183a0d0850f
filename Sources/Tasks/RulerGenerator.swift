// Samples of any task, as long as a length allows.
//
// In:  a task, a length L, a sample's number; a seed, and how the model reads a text.
// Out: the sample with the most units of haystack for which
//
//        tokens(frame(text) + prefix) + tokens to generate <= L
//
// Units grow in the task's steps. The search counts the whole prompt every time, since the counts
// of its pieces need not add up. It looks first where a straight line through two counts reaches L,
// and so takes about five counts instead of one for every step. It is an error where even the least
// sample does not fit (upstream loops forever there).

/// Makes samples of a seed in a model's own tokens.
package struct RulerGenerator: Sendable {
  /// Chooses the samples.
  package let seed: UInt64
  /// How the model reads a text.
  package let form: PromptForm
  /// The prose of the haystacks.
  package let haystack: Haystack
  /// Whether vt and cwe begin with a worked example, as upstream.
  package let hasExamples: Bool
  /// Most tokens of an answer, instead of the task's own number; nil for that.
  package let answerLimit: Int?
  private var questions: [RulerTask: QuestionSource] = [:]

  /// The samples of a seed in a model's own tokens.
  package init(
    seed: UInt64, form: PromptForm, haystack: Haystack = Haystack(),
    questions: [QuestionSet] = [], hasExamples: Bool = true, answerLimit: Int? = nil
  ) {
    precondition(answerLimit ?? 1 >= 1, "an answer of at least one token")
    self.answerLimit = answerLimit
    self.seed = seed
    self.form = form
    self.haystack = haystack
    self.hasExamples = hasExamples
    for set in questions { self.questions[set.task] = .set(set) }
  }

  /// Most tokens of an answer.
  package func tokensToGenerate(_ task: RulerTask) -> Int { answerLimit ?? task.tokensToGenerate }

  /// Where the questions of a task come from.
  package func source(_ task: RulerTask) -> QuestionSource { questions[task] ?? .standIn }

  /// Sample number `index`.
  ///
  /// Throws where the task does not fit the length, where a file has no such question, and where a
  /// chat template fails.
  package func sample(_ task: RulerTask, length: Int, index: Int) throws -> RulerSample {
    precondition(index >= 0 && length >= 1, "sample \(index) of \(length) tokens")
    let stream = SampleStream(seed: seed, task: task, length: length, index: index)
    let family = try family(task, length: length, index: index, stream: stream)
    let found = try largest(family, room: length - tokensToGenerate(task)) { $0.tokens.count }
    guard let found else { throw misfit(task, length, try candidate(family, family.floor)) }
    return try finished(found, family, task, length, index)
  }

  /// Sample number `index` with the least haystack: whether it can be made says whether any can.
  ///
  /// It costs one count of a short prompt. Throws what `sample` throws for this task and length.
  package func smallestSample(_ task: RulerTask, length: Int, index: Int) throws -> RulerSample {
    precondition(index >= 0 && length >= 1, "sample \(index) of \(length) tokens")
    let stream = SampleStream(seed: seed, task: task, length: length, index: index)
    let family = try family(task, length: length, index: index, stream: stream)
    // Where the least number of units makes no sense, only the search knows the answer.
    if !family.isUsable(family.floor) { return try sample(task, length: length, index: index) }
    let least = try candidate(family, family.floor)
    if family.floor > family.most || least.tokens.count > length - tokensToGenerate(task) {
      throw misfit(task, length, least)
    }
    return try finished(least, family, task, length, index)
  }

  /// What does not fit: tasks at lengths, in the order of the run.
  ///
  /// Everything is tried with its smallest samples, which `check` may look at. Throws at the first
  /// misfit unless those are passed over, and at every other error.
  package func misfits(
    _ tasks: [RulerTask], lengths: [Int], samples: Int, passingOver: Bool,
    check: (RulerSample) throws -> Void = { _ in }
  ) throws -> [(task: RulerTask, length: Int, error: MisfitError)] {
    var misfits: [(task: RulerTask, length: Int, error: MisfitError)] = []
    for task in tasks {
      for length in lengths {
        do {
          for index in 0..<samples {
            try check(try smallestSample(task, length: length, index: index))
          }
        } catch let misfit as MisfitError where passingOver {
          misfits.append((task, length, misfit))
        }
      }
    }
    return misfits
  }

  /// Sample number `index` with `units` units of haystack, whether or not that fits the length.
  ///
  /// Throws as above, and where the haystack has not so many units.
  package func sample(
    _ task: RulerTask, length: Int, index: Int, units: Int
  ) throws -> RulerSample {
    precondition(index >= 0 && length >= 1, "sample \(index) of \(length) tokens")
    let stream = SampleStream(seed: seed, task: task, length: length, index: index)
    let family = try family(task, length: length, index: index, stream: stream)
    if units < family.floor || units > family.most {
      throw TaskError(
        "\(task.rawValue): \(units) units; there are \(family.floor) to \(family.most)")
    }
    return try finished(try candidate(family, units), family, task, length, index)
  }

  /// Every question that the text of `sample` can answer, as whole prompts.
  ///
  /// One for each key of a needle task, in the order of the text; the sample's own of any other
  /// task. `sample` is one of this generator's.
  package func questions(about sample: RulerSample) throws -> [TextQuestion] {
    let (task, length, index) = (sample.task, sample.length, sample.index)
    let stream = SampleStream(seed: seed, task: task, length: length, index: index)
    guard
      let family = try family(task, length: length, index: index, stream: stream) as? NeedleFamily
    else {
      return [
        TextQuestion(
          key: nil, prompt: sample.prompt, tokens: sample.tokens, references: sample.references)
      ]
    }
    let draft = family.draft(sample.units)
    let before = draft.text.text.utf8.dropLast(draft.questionBytes)
    let context = String(decoding: before, as: UTF8.self)
    return try family.questions.map { one in
      let prompt = try form.frame(context + one.question) + one.prefix
      return TextQuestion(
        key: one.key, prompt: prompt, tokens: form.encode(prompt), references: one.references)
    }
  }

  /// A text to learn from, of at most `length` tokens with its answers, `ends` tokens after each.
  ///
  /// Throws where the smallest one does not fit.
  package func lesson(_ kind: LessonKind, length: Int, ends: Int) throws -> Lesson {
    let stream = SampleStream(seed: seed, name: "lesson")
    let family: any SampleFamily =
      switch kind {
      case .task(let task): try self.family(task, length: length, index: 0, stream: stream)
      case .needles(let sizes, let further):
        NeedleFamily(sizes, length: length, stream: stream, haystack: haystack, further: further)
      case .chains(let chains, let hops):
        VariableFamily(
          length: length, stream: stream, chains: chains, hops: hops, floor: 1,
          hasExample: hasExamples
        ) {
          form.encode($0).count
        }
      case .counts(let words):
        FrequentWordsFamily(
          asked: words,
          room: max(0, length - form.encode(FrequentWordsFamily.template(asked: words)).count),
          stream: stream)
      case .ranked(let words): CommonWordsFamily(ranked: words, stream: stream)
      }
    let found = try largest(family, room: length) { Lesson($0.draft, $0.tokens, form, ends).size }
    guard let found else {
      throw MisfitError("a lesson of \(length) tokens: the smallest one does not fit")
    }
    return Lesson(found.draft, found.tokens, form, ends)
  }

  private func finished(
    _ found: Candidate, _ family: any SampleFamily, _ task: RulerTask, _ length: Int, _ index: Int
  ) throws -> RulerSample {
    let (text, framed) = (found.draft.text, try form.frame(found.draft.text.text))
    // Where the text stands within its frame; a template may have changed it.
    let place = firstOccurrence(of: Array(text.text.utf8), in: Array(framed.utf8))
    let question = place.map { $0 + text.text.utf8.count - found.draft.questionBytes }
    return RulerSample(
      task: task, length: length, index: index, text: text.text,
      prefix: found.draft.prefix, prompt: framed + found.draft.prefix, tokens: found.tokens,
      references: found.draft.references, answer: found.draft.answer.text,
      questionStart: question ?? framed.utf8.count,
      needles: text.marks.flatMap { mark in
        place.map { [mark.lowerBound + $0..<mark.upperBound + $0] } ?? []
      },
      units: found.units, step: family.step, tokensToGenerate: tokensToGenerate(task))
  }

  private func family(
    _ task: RulerTask, length: Int, index: Int, stream: SampleStream
  ) throws -> any SampleFamily {
    switch task {
    case .variableTracking:
      return VariableFamily(length: length, stream: stream, hasExample: hasExamples) {
        form.encode($0).count
      }
    case .commonWords:
      return CommonWordsFamily(length: length, stream: stream, hasExample: hasExamples)
    case .frequentWords:
      let template = try form.encode(form.frame(FrequentWordsFamily.template())).count
      return FrequentWordsFamily(
        room: max(0, length - template - tokensToGenerate(task)), stream: stream)
    case .question1, .question2:
      return try QuestionFamily(
        source(task), task: task, length: length, index: index, stream: stream)
    default:
      guard let sizes = task.needles else { preconditionFailure("\(task) hides no needles") }
      return NeedleFamily(sizes, length: length, stream: stream, haystack: haystack)
    }
  }

  // MARK: The search

  private typealias Candidate = (units: Int, draft: Draft, tokens: [Int])

  private func candidate(_ family: any SampleFamily, _ units: Int) throws -> Candidate {
    let draft = family.draft(units)
    return (units, draft, form.encode(try form.frame(draft.text.text) + draft.prefix))
  }

  private func misfit(_ task: RulerTask, _ length: Int, _ smallest: Candidate) -> MisfitError {
    MisfitError(
      "\(task.rawValue) does not fit \(length) tokens: the smallest prompt has "
        + "\(smallest.tokens.count) and an answer up to \(tokensToGenerate(task)); take a larger "
        + "length or leave the task out")
  }

  /// The largest candidate that fits and whose next one does not; nil if the smallest does not fit.
  private func largest(
    _ family: any SampleFamily, room: Int, size: (Candidate) throws -> Int
  ) throws -> Candidate? {
    let (floor, step) = (family.floor, family.step)
    if floor > family.most { return nil }
    var low = try candidate(family, floor)
    let least = try size(low)
    if least > room { return nil }
    var points = [(units: floor, tokens: least)]  // the latest two counts
    // The first number of steps that is known not to fit, or that is not to be had.
    var high = (family.most - floor) / step + 1
    var lowSteps = 0
    while lowSteps + 1 < high {
      let guess: Int
      if points.count == 1 {
        guess = min(8, high - 1)
      } else {
        let (a, b) = (points[points.count - 2], points[points.count - 1])
        let slope = max(Double(b.tokens - a.tokens) / Double(b.units - a.units), 1e-3)
        let units = Double(b.units) + Double(room - b.tokens) / slope
        guess = Int((units - Double(floor)) / Double(step))
      }
      let steps = min(max(guess, lowSteps + 1), high - 1)
      let next = try candidate(family, floor + steps * step)
      let count = try size(next)
      points.append((next.units, count))
      if count <= room {
        (low, lowSteps) = (next, steps)
      } else {
        high = steps
      }
    }
    // Numbers that make no sense are passed over, downwards.
    while !family.isUsable(low.units) {
      if lowSteps == 0 { return nil }
      lowSteps -= 1
      low = try candidate(family, floor + lowSteps * step)
    }
    return low
  }
}

/// A question about the text of a sample.
package struct TextQuestion: Sendable {
  /// What is asked for; nil where it is the sample's own question.
  package let key: String?
  /// The framed text, the question and the answer's prefix.
  package let prompt: String
  /// The prompt's token ids.
  package let tokens: [Int]
  /// What has to be found in the answer.
  package let references: [String]
}

/// Where `part` begins in `whole`; nil where it does not occur.
func firstOccurrence(of part: [UInt8], in whole: [UInt8]) -> Int? {
  if part.isEmpty { return 0 }
  if part.count > whole.count { return nil }
  for start in 0...whole.count - part.count where whole[start] == part[0] {
    if whole[start..<start + part.count].elementsEqual(part) { return start }
  }
  return nil
}

/// A task that a length is too short for.
package struct MisfitError: Error, Equatable, CustomStringConvertible {
  /// One line: which task, how much it needs.
  package let description: String

  package init(_ description: String) { self.description = description }
}
