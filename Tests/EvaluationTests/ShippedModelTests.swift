// The models that come with the package: the same numbers as elsewhere, and they find what is
// hidden.

import CacheMethods
import Evaluation
import Foundation
import Tasks
import Tensors
import TestSupport
import Testing
import Tokenizers
import Transformers

@Suite struct ShippedModelTests {
  private static let models = packageRoot.appendingPathComponent("Examples/Models")
  private static let folder = models.appendingPathComponent("needles").path

  @Test func `its tokens and logits are those of the transformers library`() throws {
    let path = Bundle.module.bundleURL.appendingPathComponent("Fixtures/needles-logits.safetensors")
      .path
    let file = try SafetensorsFile(path: path)
    let ids = try file.integers("input_ids").elements
    let expected: Tensor<Float> = try file.tensor("logits")
    let tokenizer = try Tokenizer(folder: Self.folder)
    let sample = try RulerGenerator(seed: 0, form: PromptForm(tokenizer))
      .sample(.niahMultikey2, length: 700, index: 0)
    #expect(sample.tokens == ids)
    let logits = try Decoder(folder: Self.folder).prefill(ids, logits: .all)
    let size = expected.elements.map(abs).max() ?? 0
    for n in 0..<4 {
      // The same bound as for the tiny checkpoints: only the order of sums differs.
      for (a, b) in zip(logits.row(ids.count - 4 + n), expected.row(n)) {
        #expect(abs(a - b) <= 2e-4 * size)
      }
    }
  }

  @Test func `it finds needles with full attention, with both presets, and not without the rows`()
    throws
  {
    let tokenizer = try Tokenizer(folder: Self.folder)
    let form = PromptForm(tokenizer)
    var answers = ModelAnswers(try Decoder(folder: Self.folder), tokenizer, form: form)
    answers.decodesQuestions = true
    let methods = try [
      "full", "lrqk:preset=paper,r=16,k=112,w=16", "lrqk:preset=recommended,r=16,k=112,w=16",
      "streaming:sinks=4,w=124",
    ].map { try cacheMethod($0) }
    let runner = RulerRunner(RulerGenerator(seed: 77, form: form), methods: methods) {
      try answers.answers($0, $1)
    }
    let tasks: [RulerTask] = [.niahSingle1, .niahSingle2, .niahMultikey1, .niahMultiquery]
    let rows = try runner.run(tasks, lengths: [1024], samples: 5)
    func mean(_ n: Int) -> Double {
      // Rows have the methods' order within every task.
      let scores = stride(from: n, to: rows.count, by: methods.count).compactMap { rows[$0].score }
      return scores.reduce(0, +) / Double(scores.count)
    }
    // 20 samples whose means were 100, 94, 100 and 1 when the model was new; its card has more.
    // With an eighth of the rows the recommended preset follows full attention; the released one
    // drifts where answers are long. A window of the newest 124 tokens holds a needle by chance
    // alone.
    #expect(mean(0) >= 90, "full: \(mean(0))")
    #expect(mean(1) >= 60 && mean(2) >= 80, "lrqk: \(mean(1)), \(mean(2))")
    #expect(mean(3) <= 20, "streaming: \(mean(3))")
  }

  @Test(arguments: [("plain-g1", 1), ("plain-g4", 4)])
  func `models with one or four query heads a key/value head answer plainly`(
    _ name: String, _ group: Int
  ) throws {
    let folder = Self.models.appendingPathComponent(name).path
    let tokenizer = try Tokenizer(folder: folder)
    let form = PromptForm(tokenizer)
    let decoder = try Decoder(folder: folder)
    #expect(decoder.layerShapes.allSatisfy { $0.queryHeads == group * $0.keyValueHeads })
    let answers = ModelAnswers(decoder, tokenizer, form: form)
    let runner = RulerRunner(
      RulerGenerator(seed: 78, form: form), methods: [try cacheMethod("full")]
    ) { try answers.answers($0, $1) }
    let tasks: [RulerTask] = [.niahSingle1, .niahSingle3, .niahMultikey1, .niahMultiquery]
    let scores = try runner.run(tasks, lengths: [1024], samples: 5).compactMap(\.score)
    // 20 samples; the cards have 92.5 and more for these tasks at 2,048 tokens.
    #expect(scores.count == 4 && scores.reduce(0, +) >= 360, "\(scores)")
    // Several values of a key: a list of them, and no survey.
    let sample = try RulerGenerator(seed: 78, form: form)
      .sample(.niahMultivalue, length: 512, index: 0)
    let answer = try answers.answers(sample, [cacheMethod("full")])[0].prediction
    #expect(answer.wholeMatch(of: #/( \d{7},?)+( and \d{7})?\./#) != nil, "\(answer)")
  }
}
