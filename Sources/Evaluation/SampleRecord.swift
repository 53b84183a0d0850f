// What is kept of one sample under one cache method: a line of the log.
//
// In:  a sample, an answer.
// Out: everything that a table needs, and the texts to look at; nothing that depends on the clock.

import CacheMethods
import Foundation
import Tasks

/// An answer, and what its cache held and moved.
package struct RulerAnswer: Sendable, Equatable {
  /// The generated text, special tokens left out.
  package var prediction: String
  /// How many tokens were generated.
  package var tokens: Int
  /// Whether an end-of-text token ended it.
  package var isEnded: Bool
  /// The ids of the generated tokens; empty for an answer that is a text alone.
  package var ids: [Int] = []
  /// Decode steps: the first token comes out of the prompt's own pass.
  package var steps = 0
  /// Bytes on the device at the end.
  package var residentBytes = 0
  /// The most that the device held.
  package var peakBytes = 0
  /// Bytes on the host at the end.
  package var hostBytes = 0
  /// Bytes that all decode steps moved, both ways.
  package var movedBytes = 0
  /// Rows that were needed from the host and lay on the device.
  package var hitRows = 0
  /// Rows that were copied from the host.
  package var missedRows = 0
  /// Mean recall against the exact best tokens (RecallProbe); nil where it was not asked for.
  package var recall: Double?
  /// Mean share of exact attention (RecallProbe); nil where it was not asked for.
  package var attentionMass: Double?
  /// Share of looks that the needles got (AttentionShare); nil where it was not asked for, or
  /// where there are no needles.
  package var needleRecall: Double?

  /// An answer of a text, without a cache's figures.
  package init(prediction: String, tokens: Int = 0, isEnded: Bool = true) {
    self.prediction = prediction
    self.tokens = tokens
    self.isEnded = isEnded
  }
}

/// A line of the log.
package struct SampleRecord: Sendable, Equatable, Codable {
  /// The task's name.
  package let task: String
  /// Tokens of prompt and answer together, at most.
  package let length: Int
  /// Number of the sample.
  package let sample: Int
  /// The method with all its options.
  package let cache: String
  /// FNV-1a of the prompt.
  package let promptHash: String
  /// Tokens of the prompt.
  package let promptTokens: Int
  /// Units of haystack.
  package let units: Int
  /// What had to be found.
  package let references: [String]
  /// What was generated.
  package let prediction: String
  /// Tokens of the answer.
  package let answerTokens: Int
  /// "end-of-text" or "limit".
  package let finished: String
  /// From 0 to 1.
  package let score: Double
  /// Whether nothing is left of the prediction after cleaning.
  package let isNull: Bool
  /// How many decode steps ran.
  package let steps: Int
  /// Bytes on the device at the end.
  package let residentBytes: Int
  /// The most that the device held.
  package let peakBytes: Int
  /// Bytes on the host at the end.
  package let hostBytes: Int
  /// Bytes that all decode steps moved, both ways.
  package let movedBytes: Int
  /// Rows that were needed from the host and lay on the device.
  package let hitRows: Int
  /// Rows that were copied from the host.
  package let missedRows: Int
  /// Mean recall against the exact best tokens; nil where it was not asked for.
  package let recall: Double?
  /// Mean share of exact attention; nil where it was not asked for.
  package let attentionMass: Double?
  /// Share of looks that the needles got; nil where it was not asked for.
  package let needleRecall: Double?

  /// Scores an answer.
  init(_ sample: RulerSample, _ method: any CacheMethod, _ answer: RulerAnswer) {
    task = sample.task.rawValue
    length = sample.length
    self.sample = sample.index
    cache = method.description
    promptHash = sample.promptHash
    promptTokens = sample.tokens.count
    units = sample.units
    references = sample.references
    prediction = answer.prediction
    answerTokens = answer.tokens
    finished = answer.isEnded ? "end-of-text" : "limit"
    score = Tasks.score(answer.prediction, sample.references, sample.task.metric)
    isNull = cleaned(answer.prediction).isEmpty
    steps = answer.steps
    residentBytes = answer.residentBytes
    peakBytes = answer.peakBytes
    hostBytes = answer.hostBytes
    movedBytes = answer.movedBytes
    hitRows = answer.hitRows
    missedRows = answer.missedRows
    recall = answer.recall
    attentionMass = answer.attentionMass
    needleRecall = answer.needleRecall
  }
}
