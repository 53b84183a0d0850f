// The evaluation's tasks as texts to learn from.
//
// In:  a task's name, a length.
// Out: a text with its answers and as many further questions as it draws, and weights.
//
//   niah_single_*, niah_multi*   RULER's own numbers of keys, values and keys asked for at once, or
//                                others, the more keys the longer the text; more keys are asked for
//   recital                      niah_multikey_2 whose questions are the needles' own beginnings
//   survey                       niah_multivalue whose answers look back distance by distance
//   chain                        vt as it is scored: one chain
//   values                       niah_multivalue as it is scored: four values of one key
//   counts, ranked               fwe and cwe with three to seven words, the most frequent first;
//                                up to eight and ten from 1024 tokens on
//   vt                           four hops, below 256 tokens one to four; the longer the text the
//                                more chains, all asked for; the example from 512 on
//   cwe, fwe, qa_1, qa_2         as they are scored
//
// Sizes that do not fit the length are drawn again.

import Tasks
import Tensors

/// Samples of one task, written out.
struct LessonTask: TrainingTask {
  /// What a lesson is about: a task of the evaluation, or one of our own.
  enum Subject: Sendable, Equatable {
    case own(OwnLesson)
    case task(RulerTask)

    init?(rawValue name: String) {
      if let own = OwnLesson(rawValue: name) {
        self = .own(own)
      } else if let task = RulerTask(rawValue: name) {
        self = .task(task)
      } else {
        return nil
      }
    }

    static var names: [String] {
      OwnLesson.allCases.map(\.rawValue) + RulerTask.allCases.map(\.rawValue)
    }
  }

  enum OwnLesson: String, CaseIterable { case recital, survey, chain, values, counts, ranked }

  let subject: Subject
  let form: PromptForm
  /// The token that ends an answer, and fills a text up.
  let end: Int
  let background: Float

  func text(length: Int, _ numbers: RandomNumbers) throws -> (tokens: [Int], weights: [Float]) {
    let (tokens, weights) = written(try lesson(of: length, length: length, numbers) { $0 })
    // The first token is not a target.
    let left = length + 1 - tokens.count
    return (
      tokens + Array(repeating: end, count: left),
      weights + Array(repeating: 0, count: left)
    )
  }

  func text(
    length: Int, _ thinning: HaystackThinning, _ numbers: RandomNumbers
  ) throws -> (tokens: [Int], weights: [Float], places: [Int])? {
    if !hasHaystack { return nil }
    var draws = RandomStream(seed: numbers.bits(2), name: "thinning")
    return try lesson(of: thinning.length, length: length, numbers) { lesson in
      let (tokens, weights) = written(lesson)
      guard let haystack = lesson.haystack else {
        throw TaskError(
          "thin_from: the tokenizer does not give texts back byte by byte, so that their sentences "
            + "cannot be found in the tokens; use one that does, or leave thin_from out")
      }
      guard
        let places = thinning.places(
          of: tokens, haystack: haystack, needles: lesson.needles, most: length + 1, &draws)
      else { return nil }
      let left = length + 1 - places.count
      return (
        places.map { tokens[$0] } + Array(repeating: end, count: left),
        places.map { weights[$0] } + Array(repeating: 0, count: left),
        places + (0..<left).map { tokens.count + $0 }
      )
    }
  }

  /// Whether there is haystack that is not asked for.
  private var hasHaystack: Bool {
    switch subject {
    case .own(.recital), .own(.counts), .own(.ranked): false
    case .own: true
    case .task(.variableTracking): true
    case .task(let task): task.needles.map { $0.haystack != .needles } ?? false
    }
  }

  /// The turns in a row, an end behind each answer, and what each token weighs.
  private func written(_ lesson: Lesson) -> (tokens: [Int], weights: [Float]) {
    var (tokens, weights): ([Int], [Float]) = ([], [])
    for turn in lesson.turns {
      tokens += turn.given + turn.answer + [end]
      weights += Array(repeating: background, count: turn.given.count)
      let start = weights.count
      weights += Array(repeating: copiedWeight, count: turn.answer.count + 1)
      for place in turn.found { weights[start + place] = 1 }
    }
    return (tokens, weights)
  }

  /// RandomStream sizes for texts of `length` until a lesson of `whole` tokens, and one more, is
  /// one that `make` makes something of.
  private func lesson<Result>(
    of whole: Int, length: Int, _ numbers: RandomNumbers, make: (Lesson) throws -> Result?
  ) throws -> Result {
    let generator = RulerGenerator(
      seed: trainingSeeds | numbers.bits(0) >> 24, form: form, hasExamples: length + 1 >= 512)
    var draws = RandomStream(seed: numbers.bits(1), name: "lesson")
    var tries = 0
    while true {
      do {
        let lesson = try generator.lesson(kind(length + 1, &draws), length: whole + 1, ends: 1)
        if let result = try make(lesson) { return result }
        throw MisfitError("a lesson that cannot be cut to \(length) tokens")
      } catch is MisfitError where tries < 400 {
        tries += 1
      }
    }
  }

  private func kind(_ L: Int, _ draws: inout RandomStream) -> LessonKind {
    /// `usual` in `percent` of cases, else uniform on the range.
    func size(_ usual: Int, _ percent: Int, else range: ClosedRange<Int>) -> Int {
      draws.below(100) < percent ? usual : range.lowerBound + draws.below(range.count)
    }
    func needles(
      _ sizes: NeedleSizes, further count: Int, form: FurtherQuestions.Form = .asked
    ) -> LessonKind {
      .needles(sizes, FurtherQuestions(count, form: form))
    }
    switch subject {
    case .own(.recital):
      let tokens = 20  // about as many as a needle has
      return needles(
        NeedleSizes(.needles), further: L / tokens * (30 + draws.below(25)) / 100,
        form: .recited)
    case .own(.survey):
      let values = size(4, 60, else: 2...6)
      let keys = size(1, 60, else: 1...3)
      return needles(
        NeedleSizes(.prose, keys: keys, values: values), further: keys - 1, form: .surveyed)
    case .own(.chain): return .task(.variableTracking)
    case .own(.values): return .task(.niahMultivalue)
    case .own(.counts): return .counts(3 + draws.below(L < 1024 ? 5 : 6))
    case .own(.ranked): return .ranked(3 + draws.below(L < 1024 ? 5 : 8))
    case .task(let task):
      switch task {
      case .niahSingle1:
        let keys = size(1, 50, else: 1...4)
        return needles(NeedleSizes(.noise, keys: keys), further: draws.below(keys))
      case .niahSingle2:
        return needles(NeedleSizes(.prose), further: 0)
      case .niahSingle3:
        let keys = size(1, 70, else: 1...2)
        return needles(NeedleSizes(.prose, value: .uuids, keys: keys), further: keys - 1)
      case .niahMultikey1:
        let keys = size(4, 40, else: 2...max(8, L / 64))
        return needles(NeedleSizes(.prose, keys: keys), further: keys - 1)
      case .niahMultikey2:
        let tokens = 38  // about as many as a question has
        let many = L / tokens * (15 + draws.below(45)) / 100
        return needles(NeedleSizes(.needles), further: size(0, 10, else: 0...max(0, many)))
      case .niahMultikey3:
        let many = L / 300
        return needles(
          NeedleSizes(.needles, key: .uuids, value: .uuids),
          further: size(0, 30, else: 0...max(0, many)))
      case .niahMultivalue:
        // As many values as not to tell by its place in the answer which one comes next: so the
        // step from one to the next is learned. Long texts mostly have RULER's four. No more than
        // 40 needles stand in prose.
        let values = size(4, L < 1024 ? 25 : 85, else: 2...9)
        let keys = size(1, 40, else: 1...min(40 / values, max(3, L / 150)))
        return needles(
          NeedleSizes(.prose, keys: keys, values: values), further: keys - 1)
      case .niahMultiquery:
        let queries = size(4, 60, else: 2...4)
        let keys = queries + size(0, 40, else: 0...max(3, L / 128))
        return needles(
          NeedleSizes(draws.below(5) == 0 ? .noise : .prose, keys: keys, queries: queries),
          further: L < 384 ? 0 : draws.below(L / 128))
      case .variableTracking:
        let hops = L < 256 ? 1 + draws.below(4) : 4
        return .chains(size(1, 30, else: 1...max(2, L / 128)), hops: hops)
      default: return .task(task)
      }
    }
  }
}
