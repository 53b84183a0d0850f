// What a run of tasks consists of, and its rows once the records are there.
//
// In:  tasks, lengths, a number of samples, methods; what does not fit.
// Out: the samples that have to be there; rows, tasks first, then lengths, then methods.
//
// The runner makes rows of the records that it has just computed, `lrqk merge` of those of several
// logs. Both come through here, so both print the same bytes.
//
// Source: ours.

package import CacheMethods
package import Tasks
import Transformers

/// A task that has no sample of a length.
package struct RulerMisfit: Codable, Sendable, Equatable {
  /// The task that does not fit.
  package let task: RulerTask
  /// Tokens of prompt and answer together, at most.
  package let length: Int
  /// One line: how much it needs.
  package let reason: String
}

/// Everything that a run's rows depend on but its records and the model.
package struct RulerPlan: Codable, Sendable, Equatable {
  /// The tasks, in the order of the table.
  package let tasks: [RulerTask]
  /// The lengths in tokens, in the order of the table.
  package let lengths: [Int]
  /// Samples of every task at every length.
  package let samples: Int
  /// The methods with all their options, in the order of the table.
  package let caches: [String]
  /// Tasks that do not fit, each with its length.
  package let misfits: [RulerMisfit]

  /// A plan of at least one sample and one method.
  init(
    _ tasks: [RulerTask], lengths: [Int], samples: Int, methods: [any CacheMethod],
    misfits: [RulerMisfit]
  ) {
    precondition(samples >= 1 && !methods.isEmpty, "\(samples) samples, \(methods.count) methods")
    self.tasks = tasks
    self.lengths = lengths
    self.samples = samples
    caches = methods.map(\.description)
    self.misfits = misfits
  }

  /// Whether a run can have this plan; one that was read from a damaged file may be none.
  var isSound: Bool {
    samples >= 1 && Evaluation.isSound(count: samples) && !caches.isEmpty
      && lengths.allSatisfy { $0 >= 1 && Evaluation.isSound(count: $0) }
  }

  /// Why a task does not fit a length; nil where it does.
  func misfit(_ task: RulerTask, _ length: Int) -> RulerMisfit? {
    misfits.first { $0.task == task && $0.length == length }
  }

  /// The tasks and lengths that have samples.
  var places: [(task: RulerTask, length: Int)] {
    tasks.flatMap { task in lengths.map { (task, $0) } }
      .filter { misfit($0.task, $0.length) == nil }
  }

  /// What the records of a run, or of a part of it, are about, in the order of the run.
  func keys(_ shard: Shard?) -> [SampleRecord.Key] {
    places.flatMap { task, length in
      ownSamples(shard, of: samples).flatMap { sample in
        caches.map { .init(task: task.rawValue, length: length, sample: sample, cache: $0) }
      }
    }
  }

  /// Whether a record about `key` belongs to a part of the run.
  func has(_ key: SampleRecord.Key, _ shard: Shard) -> Bool {
    key.sample < samples && shard.contains(key.sample) && caches.contains(key.cache)
      && places.contains { $0.task.rawValue == key.task && $0.length == key.length }
  }

  /// The rows of a run, or of a part of it; `record` has every record of it.
  ///
  /// `methods` are those of `caches`, `layers` the model's, or none.
  func rows(
    _ methods: [any CacheMethod], layers: [LayerShape], shard: Shard?,
    record: (SampleRecord.Key) -> SampleRecord?
  ) -> [RulerRow] {
    var rows: [RulerRow] = []
    for task in tasks {
      for length in lengths {
        for method in methods {
          if let misfit = misfit(task, length) {
            rows.append(RulerRow(task, length, method, shard, misfit: misfit.reason))
            continue
          }
          let cache = method.description
          let records = ownSamples(shard, of: samples).compactMap { sample in
            record(.init(task: task.rawValue, length: length, sample: sample, cache: cache))
          }
          rows.append(RulerRow(task, length, method, shard, records, layers: layers))
        }
      }
    }
    return rows
  }
}

/// What the picture of a sweep depends on besides the report.
package struct SweepPlan: Codable, Sendable, Equatable {
  /// How many of the methods each line of the picture has, in their order.
  package let lines: [Int]
  /// What was asked, in words under the title.
  package let measured: String

  /// The plan of these lines.
  package init(_ lines: [SweepLine], measured: String) {
    self.lines = lines.map(\.count)
    self.measured = measured
  }

  /// `methods` in lines again; nil where their number is another one.
  package func lines(of methods: [any CacheMethod]) -> [SweepLine]? {
    guard lines.allSatisfy({ 0...methods.count ~= $0 }), lines.reduce(0, +) == methods.count else {
      return nil
    }
    var rest = methods[...]
    return lines.map { count in
      defer { rest = rest.dropFirst(count) }
      return Array(rest.prefix(count))
    }
  }
}

/// What the head of a shard's log has beside what its samples depend on.
package struct RulerPart: Codable, Sendable, Equatable {
  /// Which part of the run the log holds.
  package var shard: Shard
  /// What the whole run consists of.
  package let plan: RulerPlan
  /// The model's folder, as given.
  package let modelFolder: String
  /// What a picture needs; nil where the run draws none.
  package let sweep: SweepPlan?

  /// A part of a run with this plan.
  package init(_ shard: Shard, of plan: RulerPlan, modelFolder: String, sweep: SweepPlan?) {
    self.shard = shard
    self.plan = plan
    self.modelFolder = modelFolder
    self.sweep = sweep
  }
}
