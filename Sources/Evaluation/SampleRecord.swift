// What is kept of one sample under one cache method: a line of the log.
//
// In:  a sample, an answer.
// Out: everything that a table needs, and the texts to look at; nothing that depends on the clock.

import CacheMethods
import Foundation

/// An answer, and what its cache held and moved.
public struct RulerAnswer: Sendable, Equatable {
  /// The generated text, special tokens left out.
  public var prediction: String
  /// Generated tokens.
  public var tokens: Int
  /// Whether an end-of-text token ended it.
  public var isEnded: Bool
  /// Decode steps: the first token comes out of the prompt's own pass.
  public var steps = 0
  /// Bytes on the device at the end, at most, and on the host at the end.
  public var residentBytes = 0
  /// The most that the device held.
  public var peakBytes = 0
  /// Bytes on the host at the end.
  public var hostBytes = 0
  /// Bytes that all decode steps moved, both ways.
  public var movedBytes = 0
  /// Rows that were needed from the host and lay on the device.
  public var hitRows = 0
  /// Rows that were copied from the host.
  public var missedRows = 0
  /// RecallProbe; nil where it was not asked for.
  public var recall: Double?
  /// RecallProbe; nil where it was not asked for.
  public var attentionMass: Double?
  /// AttentionTally of the needles; nil where it was not asked for, or where there are no needles.
  public var needleRecall: Double?

  /// An answer of a text; caches are filled in by who has any.
  public init(prediction: String, tokens: Int = 0, isEnded: Bool = true) {
    self.prediction = prediction
    self.tokens = tokens
    self.isEnded = isEnded
  }
}

/// A line of the log.
public struct SampleRecord: Sendable, Equatable, Codable {
  /// The task's name.
  public let task: String
  /// Tokens of prompt and answer together, at most.
  public let length: Int
  /// Number of the sample.
  public let sample: Int
  /// The method with all its options.
  public let cache: String
  /// FNV-1a of the prompt.
  public let promptHash: String
  /// Tokens of the prompt.
  public let promptTokens: Int
  /// Units of haystack.
  public let units: Int
  /// What had to be found.
  public let references: [String]
  /// What was generated.
  public let prediction: String
  /// Tokens of the answer.
  public let answerTokens: Int
  /// "end-of-text" or "limit".
  public let finished: String
  /// From 0 to 1.
  public let score: Double
  /// Whether nothing is left of the prediction after cleaning.
  public let isNull: Bool
  /// Decode steps.
  public let steps: Int
  /// See RulerAnswer.
  public let residentBytes: Int
  /// See RulerAnswer.
  public let peakBytes: Int
  /// See RulerAnswer.
  public let hostBytes: Int
  /// See RulerAnswer.
  public let movedBytes: Int
  /// See RulerAnswer.
  public let hitRows: Int
  /// See RulerAnswer.
  public let missedRows: Int
  /// See RulerAnswer.
  public let recall: Double?
  /// See RulerAnswer.
  public let attentionMass: Double?
  /// See RulerAnswer.
  public let needleRecall: Double?

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
    score = Evaluation.score(answer.prediction, sample.references, sample.task.metric)
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
