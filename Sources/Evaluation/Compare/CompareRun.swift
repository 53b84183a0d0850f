// The run of a comparison: trials that find a k, then the answers of every method.
//
// In:  a plan; models one after another; two logs.
// Out: rows for every model, table, budget, method, task and length, and their means over tasks.
//
//   for every model, task and length:
//     1. make all samples; cells of equal device bytes from closed forms (ComparePlan.swift)
//     2. on the first sample: what `offload` moves, then trials of k (MovedBudget.swift)
//     3. for every sample: answers of all methods that have none in the log, some at a time after
//        one pass of the prompt
//     4. rows (ComparedRow.swift)
//
// Methods with equal texts answer once, in whatever tables they stand.

import CacheMethods
import Reports
package import Tasks
package import Transformers

/// A model that is compared, opened.
package struct ComparedModel {
  /// What the tables call it.
  package let name: String
  /// Makes its samples.
  package let generator: RulerGenerator
  /// Answers them; recall is measured by the run's own choice.
  package var answers: ModelAnswers
  /// The layers that caches are for.
  package let layers: [LayerShape]

  /// A model with its samples.
  package init(
    name: String, generator: RulerGenerator, answers: ModelAnswers, layers: [LayerShape]
  ) {
    (self.name, self.generator, self.answers, self.layers) = (name, generator, answers, layers)
  }
}

/// Runs a plan.
package struct CompareRun {
  /// What is compared.
  package let plan: ComparePlan
  private let records: ComparedLog
  private let trials: TrialLog
  /// Whether a task that does not fit a length is passed over with a row that says so.
  package var passesOverMisfits = false
  /// The part of the samples that is answered here; nil for all.
  package var shard: Shard?
  /// Whether every answer and trial has to be there already, from the folders of shards.
  package var onlyMerges = false
  /// Hears of every sample that is done: how many, of how many.
  package var onSample: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  /// Sequences that one pass of a prompt serves: more take more memory.
  static let batch = 32

  /// A run that writes into these logs and goes on from what they hold.
  package init(
    _ plan: ComparePlan, records: ComparedLog = ComparedLog(), trials: TrialLog = TrialLog()
  ) {
    (self.plan, self.records, self.trials) = (plan, records, trials)
  }

  /// Runs all models; `open` opens number n, when it is its turn.
  package func run(
    models: Int, open: (Int) throws -> ComparedModel
  ) throws -> (rows: [ComparedRow], leftOut: [ComparedRow.LeftOut]) {
    var rows: [ComparedRow] = []
    var leftOut: [ComparedRow.LeftOut] = []
    let own = ownSamples(shard, of: plan.samples)
    let total = models * plan.tasks.count * plan.lengths.count * own.count
    var done = 0
    for n in 0..<models {
      let model = try open(n)
      for (title, reason) in plan.leftOut(layers: model.layers) {
        leftOut.append(ComparedRow.LeftOut(model: model.name, method: title, reason: reason))
      }
      let misfits = try model.generator.misfits(
        plan.tasks, lengths: plan.lengths, samples: plan.samples, passingOver: passesOverMisfits,
        check: model.answers.check)
      for length in plan.lengths {
        var ofLength: [ComparedRow] = []
        for task in plan.tasks {
          if let misfit = misfits.first(where: { $0.task == task && $0.length == length }) {
            leftOut.append(
              ComparedRow.LeftOut(
                model: model.name, method: "all", reason: misfit.error.description))
            done += own.count
            continue
          }
          ofLength += try self.rows(model, task, length) {
            done += 1
            onSample(done, total)
          }
        }
        if shard == nil { rows += ComparedRow.withMeans(ofLength) }
      }
    }
    return (rows, leftOut)
  }

  /// The rows of one task at one length; a shard answers its samples and has none.
  private func rows(
    _ model: ComparedModel, _ task: RulerTask, _ length: Int, onSample: () -> Void
  ) throws -> [ComparedRow] {
    let samples = try (0..<plan.samples).map {
      try model.generator.sample(task, length: length, index: $0)
    }
    let cells = try self.cells(model, samples)
    var methods: [String: any CacheMethod] = [:]
    for cell in cells { if let method = cell.method { methods[method.description] = method } }
    let texts = methods.keys.sorted()
    var answers: [String: [ComparedRecord]] = [:]
    for sample in samples where shard?.contains(sample.index) ?? true {
      for (text, record) in try self.records(model, sample, texts.compactMap { methods[$0] }) {
        answers[text, default: []].append(record)
      }
      onSample()
    }
    if shard != nil { return [] }
    let full = answers[try cacheMethod(FullMethod.name).description] ?? []
    return try cells.map { cell in
      try ComparedRow(
        cell, model: model, task, length,
        cell.method.flatMap { answers[$0.description] } ?? [], full: full)
    }
  }

  /// All cells of a task's samples: with equal device bytes, and with equal moved bytes.
  package func cells(_ model: ComparedModel, _ samples: [RulerSample]) throws -> [ComparedCell] {
    // A question that is decoded is not part of the prompt: a cache is settled before it.
    let prompts = try samples.map { try model.answers.promptTokens($0) }
    let tokens = Array(Set(prompts)).sorted()
    return try plan.tables.flatMap { table in
      try plan.cells(
        table, length: samples[0].length, promptTokens: tokens, layers: model.layers)
        + (table == .moved ? try movedCells(model, samples[0], most: tokens.last ?? 1) : [])
    }
  }

  // MARK: Equal moved bytes

  /// The cells whose k is found by trials on `sample`.
  private func movedCells(
    _ model: ComparedModel, _ sample: RulerSample, most: Int
  ) throws -> [ComparedCell] {
    let methods = plan.usable(layers: model.layers).filter(\.isFittedByMoves)
    let offload = try trial(model, sample, [try cacheMethod(OffloadMethod.name)])[0]
    var cells: [ComparedCell] = []
    var searches: [(text: String, search: MovedBudget)] = []
    for budget in plan.budgets {
      for method in methods {
        var cell = ComparedCell(table: .moved, budget: budget, title: method.title, nil)
        cell.budgetBytes = offload.movedBytesPerToken.map { budget.part(of: $0) }
        cells.append(cell)
        searches.append(
          (
            method.texts(width: model.layers[0].width)[0],
            MovedBudget(limit: cell.budgetBytes ?? 0, most: most)
          ))
      }
    }
    while offload.steps > 0 {
      let open = searches.indices.filter { searches[$0].search.next != nil }
      if open.isEmpty { break }
      let asked = try open.map { n in
        try cacheMethod(searches[n].text.adding("k=\(searches[n].search.next ?? 1)"))
      }
      for (n, trial) in zip(open, try trial(model, sample, asked)) {
        searches[n].search.learn(trial.movedBytesPerToken)
      }
    }
    for n in cells.indices {
      let (text, search) = searches[n]
      if offload.steps == 0 {
        cells[n].note = "the first sample's answer has no decode step, so nothing can be fitted"
      } else if let k = search.found {
        cells[n].method = try cacheMethod(text.adding("k=\(k)"))
      } else {
        cells[n].note =
          "no k fits: k = 1 moves \(bytes(Int((search.least ?? 0).rounded()))) a token"
      }
    }
    return cells
  }

  /// What methods move on a sample, from the log or measured.
  private func trial(
    _ model: ComparedModel, _ sample: RulerSample, _ methods: [any CacheMethod]
  ) throws -> [ComparedTrial] {
    func logged(_ method: any CacheMethod) -> ComparedTrial? {
      trials.record(
        ComparedTrial.Key(
          model: model.name, task: sample.task.rawValue, length: sample.length,
          cache: method.description))
    }
    var answers = model.answers
    answers.measuresRecall = false
    var seen: Set<String> = []
    let open = methods.filter { logged($0) == nil && seen.insert($0.description).inserted }
    try checkThatAllIsThere(open, sample, model.name)
    for batch in batches(open) {
      for (method, answer) in zip(batch, try answers.answers(sample, batch)) {
        try trials.add(
          ComparedTrial(
            model: model.name, task: sample.task.rawValue, length: sample.length,
            cache: method.description, steps: answer.steps, movedBytes: answer.movedBytes))
      }
    }
    return methods.compactMap { logged($0) }
  }

  // MARK: Answers

  /// One sample's record under every method, by the method's text.
  private func records(
    _ model: ComparedModel, _ sample: RulerSample, _ methods: [any CacheMethod]
  ) throws -> [(String, ComparedRecord)] {
    func logged(_ method: any CacheMethod) throws -> ComparedRecord? {
      let key = ComparedRecord.Key(
        model: model.name,
        sample: SampleRecord.Key(
          task: sample.task.rawValue, length: sample.length, sample: sample.index,
          cache: method.description))
      guard let record = records.record(key) else { return nil }
      if record.sample.promptHash != sample.promptHash {
        throw EvaluationError(
          "\(records.path): \(model.name), \(sample.task.rawValue), length \(sample.length), sample "
            + "\(sample.index) was another prompt; choose another folder")
      }
      return record
    }
    var answers = model.answers
    answers.measuresRecall = true
    let open = try methods.filter { try logged($0) == nil }
    try checkThatAllIsThere(open, sample, model.name)
    for batch in batches(open) {
      for (method, answer) in zip(batch, try answers.answers(sample, batch)) {
        try records.add(
          ComparedRecord(
            model: model.name, sample: SampleRecord(sample, method, answer), answerIDs: answer.ids))
      }
    }
    return try methods.compactMap { method in
      try logged(method).map { (method.description, $0) }
    }
  }

  /// Requires, where shards are put together, that no method is left to run on a sample.
  private func checkThatAllIsThere(
    _ open: [any CacheMethod], _ sample: RulerSample, _ model: String
  ) throws {
    guard onlyMerges, let method = open.first else { return }
    throw EvaluationError(
      "no shard has \(model), \(sample.task.rawValue), length \(sample.length), sample "
        + "\(sample.index) under \(open.count) method\(open.count == 1 ? "" : "s"), first "
        + "\(method.brief); name the folders of all shards, and run unfinished ones again")
  }

  /// At most `batch` methods at a time.
  private func batches(_ methods: [any CacheMethod]) -> [[any CacheMethod]] {
    stride(from: 0, to: methods.count, by: Self.batch).map {
      Array(methods[$0..<min($0 + Self.batch, methods.count)])
    }
  }
}
