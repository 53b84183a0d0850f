// From tasks, lengths and cache methods to scores.
//
// In:  a generator of samples, something that answers them under several cache methods, a log.
// Out: a row for every task, length and method.
//
//   0. try the smallest sample of everything: what does not fit is found before anything runs
//   for every task, length, sample (those of a shard, where the run is one part of several):
//     1. make the sample; records that the log has already are taken from there
//     2. one pass of the prompt through the model, its rows to the caches of all other methods
//     3. every method decodes its own answer, greedily, in one batch
//     4. score, log
//
// The first token of an answer comes out of the prompt's own pass, which attends in full whatever
// the method: a method shows in the tokens after it. Where questions are decoded, the pass ends
// before the question, and the method answers for itself.

package import CacheMethods
package import Tasks
package import Tokenizers
package import Transformers

/// Runs tasks under cache methods.
package struct RulerRunner {
  /// One answer for each method; a model, or what a test puts in its place.
  package typealias Answering = (RulerSample, [any CacheMethod]) throws -> [RulerAnswer]

  /// Makes the samples.
  package let generator: RulerGenerator
  /// The cache methods that answer.
  package let methods: [any CacheMethod]
  private let answering: Answering
  /// Hears of every sample that is done: how many, of how many.
  package var onSample: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  /// Whether a task that does not fit a length becomes a row without a score instead of an error.
  package var passesOverMisfits = false
  /// Looks at every sample in its smallest form before anything runs, and throws where it will not
  /// do.
  package var checkSample: (RulerSample) throws -> Void = { _ in }
  /// The model's layers; without any, a method's notes and budgets are those of whole prompts.
  package var layers: [LayerShape] = []

  /// Runs `methods` on the samples of `generator`.
  package init(
    _ generator: RulerGenerator, methods: [any CacheMethod], answering: @escaping Answering
  ) {
    self.generator = generator
    self.methods = methods
    self.answering = answering
  }

  /// The rows, tasks first, then lengths, then methods; the log is opened when everything fits.
  package func run(
    _ tasks: [RulerTask], lengths: [Int], samples: Int,
    log openLog: @autoclosure () throws -> SampleLog = SampleLog()
  ) throws -> [RulerRow] {
    let plan = try plan(tasks, lengths: lengths, samples: samples)
    return try run(plan, log: try openLog())
  }

  /// Line 0 of the head: what the run consists of, and what does not fit.
  package func plan(
    _ tasks: [RulerTask], lengths: [Int], samples: Int
  ) throws -> RulerPlan {
    let misfits = try generator.misfits(
      tasks, lengths: lengths, samples: samples, passingOver: passesOverMisfits, check: checkSample)
    return RulerPlan(
      tasks, lengths: lengths, samples: samples, methods: methods,
      misfits: misfits.map {
        RulerMisfit(task: $0.task, length: $0.length, reason: $0.error.description)
      })
  }

  /// The rows of a plan, or those of a part of its samples.
  package func run(
    _ plan: RulerPlan, shard: Shard? = nil, log: SampleLog = SampleLog()
  ) throws -> [RulerRow] {
    precondition(plan.caches == methods.map(\.description), "a plan of these methods")
    let own = ownSamples(shard, of: plan.samples)
    var records: [SampleRecord.Key: SampleRecord] = [:]
    var done = 0
    for (task, length) in plan.places {
      for index in own {
        for record in try self.records(task, length, index, log) { records[record.key] = record }
        done += 1
        onSample(done, plan.places.count * own.count)
      }
    }
    return plan.rows(methods, layers: layers, shard: shard) { records[$0] }
  }

  /// One sample's record under every method.
  private func records(
    _ task: RulerTask, _ length: Int, _ index: Int, _ log: SampleLog
  ) throws -> [SampleRecord] {
    let sample = try generator.sample(task, length: length, index: index)
    var records = try methods.map { try log.record(of: sample, cache: $0.description) }
    let open = methods.indices.filter { records[$0] == nil }
    if !open.isEmpty {
      let answers = try answering(sample, open.map { methods[$0] })
      for (n, answer) in zip(open, answers) {
        let record = SampleRecord(sample, methods[n], answer)
        try log.add(record)
        records[n] = record
      }
    }
    return records.compactMap { $0 }
  }
}

/// A model that answers samples.
package struct ModelAnswers {
  private let decoder: Decoder
  private let tokenizer: Tokenizer
  private let form: PromptForm
  /// Whether decode steps take the question, under each method.
  package var decodesQuestions = false
  /// Whether attended tokens are compared with the exact best ones.
  package var measuresRecall = false
  /// Whether attended tokens are compared with the needles.
  package var measuresNeedles = false

  /// Answers with a decoder; `form` is the generator's.
  package init(_ decoder: Decoder, _ tokenizer: Tokenizer, form: PromptForm) {
    self.decoder = decoder
    self.tokenizer = tokenizer
    self.form = form
  }

  /// Line 0 of the head: throws where this model cannot be asked for such a sample.
  package func check(_ sample: RulerSample) throws {
    let vocabulary = decoder.configuration.vocabulary
    if let token = sample.tokens.first(where: { $0 >= vocabulary }) {
      throw EvaluationError(
        "\(sample.task.rawValue): the tokenizer gives a prompt's token the number \(token), and "
          + "the model has only \(vocabulary) tokens; take the tokenizer of this model")
    }
    _ = try needleTokens(sample)
    if decodesQuestions { _ = try firstQuestionToken(sample) }
  }

  /// Tokens that pass through the model at once: the prompt, without a question that is decoded.
  package func promptTokens(_ sample: RulerSample) throws -> Int {
    decodesQuestions ? try firstQuestionToken(sample) : sample.tokens.count
  }

  /// Lines 2 and 3 of the head: greedy answers, one for each method.
  package func answers(
    _ sample: RulerSample, _ methods: [any CacheMethod]
  ) throws -> [RulerAnswer] {
    let needles = try needleTokens(sample)
    var generator = Generator(decoder, limit: sample.tokensToGenerate) { n, layer in
      let method = methods[n]
      var cache = try method.makeCache(for: layer)
      if !needles.isEmpty { cache = AttentionShare(cache) }
      return measuresRecall
        ? RecallProbe(cache, layer: layer, recent: method.recentTokens) : cache
    }
    generator.repetition = { [tokenizer] in repetitionWords(methods[$0], tokenizer) }
    var prompt = sample.tokens
    if decodesQuestions {
      let start = try firstQuestionToken(sample)
      generator.given = Array(prompt[start...])
      prompt.removeSubrange(start...)
    }
    return try generator.generate(prompt, sequences: methods.count).map {
      answer($0, needles)
    }
  }

  /// The tokens that needles cover, where they are measured; none otherwise.
  private func needleTokens(_ sample: RulerSample) throws -> [Int] {
    if !measuresNeedles || sample.needles.isEmpty { return [] }
    guard
      let tokens = form.tokens(covering: sample.needles, of: sample.prompt, ids: sample.tokens)
    else {
      throw EvaluationError(
        "needle recall: the tokenizer does not give the prompt back byte by byte, which leaves "
          + "open which tokens the needles are; leave --needle-recall away")
    }
    return tokens
  }

  /// The first token that is not of the haystack.
  private func firstQuestionToken(_ sample: RulerSample) throws -> Int {
    let tokens = form.tokens(
      covering: [sample.questionStart..<sample.prompt.utf8.count], of: sample.prompt,
      ids: sample.tokens)
    guard let first = tokens?.first else {
      throw EvaluationError(
        "decoded questions: the tokenizer does not give the prompt back byte by byte, which "
          + "leaves open where the question begins; leave --decode-questions away")
    }
    return first
  }

  private func answer(_ generation: Generation, _ needles: [Int]) -> RulerAnswer {
    let use = MemoryUse(generation)
    var answer = RulerAnswer(
      prediction: tokenizer.decode(generation.tokens), tokens: generation.tokens.count,
      isEnded: generation.isEnded)
    answer.ids = generation.tokens
    answer.steps = generation.steps
    answer.residentBytes = use.residentBytes
    answer.peakBytes = use.peakBytes
    answer.hostBytes = use.hostBytes
    answer.movedBytes = use.movedBytes()
    answer.hitRows = use.hitRows
    answer.missedRows = use.missedRows
    answer.recall = use.recall
    answer.attentionMass = use.mass
    answer.needleRecall = use.share(of: needles)
    return answer
  }
}
