// lrqk demo, what is run: every question of every text under every method, then one again to look.
//
// In:  a decoder, texts with their questions (DemoText.swift), cache methods.
// Out: answers, counted right or wrong, with the bytes that were held and moved; and traces of one
//      question under all methods.
//
// A text passes through the model once; questions × methods go on from there side by side. Answers
// are greedy, so a question that runs again with recorders gives the same answer.
//
// Next: what a trace says (Evaluation/Trace/CopyingHead.swift), DemoPage.swift, DemoDrawing.swift.

import CacheMethods
import Evaluation
import Foundation
import Tasks
import Tokenizers
import Transformers

/// A cache method and what the page calls it.
struct DemoMethod {
  let name: String
  let method: any CacheMethod
  /// What stands behind its options.
  var remark: String?
  /// Whether the demo fails where this method loses what full attention found.
  var isJudged = false
}

/// An answer under one method.
struct DemoAnswer {
  let text: String
  let right: Int
  let wanted: Int
  let use: MemoryUse
  /// What is said of a method that left nothing out.
  let note: String?

  var isRight: Bool { right == wanted }
}

/// The answers of all methods to the questions of all texts.
struct DemoRun {
  let texts: [DemoText]
  let methods: [DemoMethod]
  /// By text, question and method.
  private(set) var answers: [[[DemoAnswer]]] = []

  init(
    _ decoder: Decoder, _ tokenizer: Tokenizer, _ texts: [DemoText], _ methods: [DemoMethod]
  ) throws {
    (self.texts, self.methods) = (texts, methods)
    let total = texts.reduce(0) { $0 + $1.questions.count } * methods.count
    let bar = ProgressBar(label: "answers", isWanted: nil)
    defer { bar.clear() }
    for text in texts {
      let plan = text.questions.flatMap { question in methods.map { (question, $0) } }
      var generator = Self.generator(decoder, tokenizer, text, methods) { cache, _, _ in cache }
      let found = try generator.generate(text.context, given: plan.map { $0.0.given })
      let judged = zip(plan, found).map { one, answer in
        Self.judged(answer, one.0, one.1, tokenizer, decoder)
      }
      answers.append(
        text.questions.indices.map { q in
          Array(judged[q * methods.count..<(q + 1) * methods.count])
        })
      bar.show(answers.reduce(0) { $0 + $1.count } * methods.count, of: total)
    }
  }

  /// One question again under all methods, every step recorded.
  func traces(
    _ decoder: Decoder, _ tokenizer: Tokenizer, text t: Int, question q: Int
  ) throws -> [GenerationTrace] {
    let (text, methods) = (texts[t], self.methods)
    var generator = Self.generator(decoder, tokenizer, text, methods) { cache, layer, method in
      TraceRecorder(cache, layer: layer, recent: method.recentTokens)
    }
    let given = methods.map { _ in text.questions[q].given }
    let found = try generator.generate(text.context, given: given)
    return try zip(methods, found).map { one, answer in
      try GenerationTrace(
        answer, one.method, tokenizer, model: decoder.configuration.architecture)
    }
  }

  /// A greedy generator whose sequence n has method n mod the number of methods.
  private static func generator(
    _ decoder: Decoder, _ tokenizer: Tokenizer, _ text: DemoText, _ methods: [DemoMethod],
    _ wrap: @escaping (any KeyValueCache, LayerShape, any CacheMethod) -> any KeyValueCache
  ) -> Generator {
    var generator = Generator(decoder, limit: text.sample.tokensToGenerate) { n, layer in
      let method = methods[n % methods.count].method
      return wrap(try method.makeCache(for: layer), layer, method)
    }
    generator.repetition = { repetitionWords(methods[$0 % methods.count].method, tokenizer) }
    return generator
  }

  private static func judged(
    _ answer: Generation, _ question: DemoQuestion, _ one: DemoMethod, _ tokenizer: Tokenizer,
    _ decoder: Decoder
  ) -> DemoAnswer {
    let text = tokenizer.decode(answer.tokens)
      .replacing("\n", with: " ").trimmingCharacters(in: .whitespaces)
    return DemoAnswer(
      text: text, right: question.right(in: text), wanted: question.references.count,
      use: MemoryUse(answer), note: answer.nothingLeftOut(by: one.method, decoder.layerShapes))
  }

  // MARK: Sums

  /// Right answers of method `m` over all texts, and how many were asked.
  func score(_ m: Int) -> (right: Int, of: Int) {
    let all = answers.flatMap { $0.map { $0[m] } }
    return (all.count(where: \.isRight), all.count)
  }

  /// The bytes of method `m`, of all its answers the largest figures.
  func memory(_ m: Int) -> (device: Int, host: Int, moved: Double) {
    let uses = answers.flatMap { $0.map { $0[m].use } }
    return (
      uses.map(\.residentBytes).max() ?? 0, uses.map(\.hostBytes).max() ?? 0,
      uses.map(\.movedBytesPerToken).max() ?? 0
    )
  }

  /// The questions that a judged method answers wrong where full attention, method 0, is right.
  var losses: [(text: Int, question: Int, method: Int)] {
    var losses: [(text: Int, question: Int, method: Int)] = []
    for (t, questions) in answers.enumerated() {
      for (q, given) in questions.enumerated() where given[0].isRight {
        for m in methods.indices where methods[m].isJudged && !given[m].isRight {
          losses.append((t, q, m))
        }
      }
    }
    return losses
  }

  /// The question that the picture shows: the first that was lost, else the sample's own.
  var shown: (text: Int, question: Int) {
    if let loss = losses.first { return (loss.text, loss.question) }
    let own = texts[0].questions.firstIndex { $0.references == texts[0].sample.references }
    return (0, own ?? 0)
  }
}
