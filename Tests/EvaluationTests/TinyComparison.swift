// A comparison on the tiny model, for the tests of comparisons.

import CacheMethods
import Foundation
import Tasks
import TestSupport
import Tokenizers
import Transformers

@testable import Evaluation

/// A comparison on the tiny model.
struct TinyComparison {
  var seed: UInt64 = 0
  var methods = "lrqk,quest,snapkv,kvzip,kivi,shadowkv"
  var tables: [ComparedTable] = [.device, .moved]
  var budgets = ["1/2", "1/4"]
  var samples = 2
  var decodesQuestions = false

  func plan() throws -> ComparePlan {
    ComparePlan(
      methods: try ComparePlan.methods(methods), budgets: budgets.compactMap { ByteBudget($0) },
      tables: tables, tasks: [.niahMultikey2, .variableTracking], lengths: [600], samples: samples)
  }

  func model() throws -> ComparedModel {
    let (decoder, tokenizer) = try Tiny.load()
    let generator = RulerGenerator(
      seed: seed, form: PromptForm(tokenizer), hasExamples: false, answerLimit: 8)
    var answers = ModelAnswers(decoder, tokenizer, form: generator.form)
    answers.decodesQuestions = decodesQuestions
    return ComparedModel(
      name: "tiny", generator: generator, answers: answers, layers: decoder.layerShapes)
  }

  func head() throws -> ComparedHead {
    let samples = LogHead(
      try model().generator, model: try modelHash(folder: Tiny.folder),
      decodedQuestions: decodesQuestions, recall: true, needleRecall: false)
    return ComparedHead(
      try plan(), models: [ComparedHead.Model(name: "tiny", samples: samples)], version: "1")
  }

  /// The report of a run that keeps its logs in `folder`, or in memory.
  func report(_ folder: String? = nil) throws -> CompareReport {
    let head = try head()
    let run = CompareRun(
      try plan(),
      records: try folder.map { try ComparedLog(path: $0 + "/predictions.jsonl", head: head) }
        ?? ComparedLog(),
      trials: try folder.map { try TrialLog(path: $0 + "/trials.jsonl", head: head) } ?? TrialLog())
    let (rows, leftOut) = try run.run(models: 1) { _ in try model() }
    return CompareReport(rows, leftOut: leftOut, head: head)
  }
}

/// A new folder that goes with the test.
func newFolder() throws -> TemporaryFile {
  let folder = TemporaryFile()
  try FileManager.default.createDirectory(
    atPath: folder.path, withIntermediateDirectories: true)
  return folder
}
