// Perplexity through a cache.

import CacheMethods
import Evaluation
import Foundation
import Tasks
import Tensors
import Testing
import Tokenizers
import Transformers

@Suite struct PerplexityTests {
  @Test func `full attention gives the losses of one pass over each window`() throws {
    let (decoder, tokenizer) = try Tiny.load()
    let text = try RulerGenerator(seed: 0, form: PromptForm(tokenizer))
      .sample(.niahSingle2, length: 500, index: 0).text
    let tokens = tokenizer.encode(text)
    let plan = try PerplexityWindows(tokens: tokens.count, context: 60, stride: 40, limit: 3)
    #expect(plan.count == 3)
    let methods = try ["full", "offload", "streaming:sinks=2,w=10"].map { try cacheMethod($0) }
    let rows = try Perplexity(decoder, tokenizer, methods: methods).run(tokens, plan)
    #expect(rows.allSatisfy { $0.tokens == 120 })

    var losses: [Double] = []
    for window in 0..<3 {
      let part = Array(tokens[window * 40..<window * 40 + 101])
      let logits = try decoder.prefill(part, logits: .all)
      for t in 60..<100 {
        let z = logits.row(t).map(Double.init)
        losses.append(log(z.reduce(0) { $0 + exp($1) }) - z[part[t + 1]])
      }
    }
    let mean = losses.reduce(0, +) / 120
    // A step's products are summed in another order than a prompt's: single precision, so 1e-4 is
    // far above what rounding does to losses near 6.
    #expect(abs(rows[0].meanNegativeLogLikelihood - mean) < 1e-4)
    #expect(abs(rows[0].perplexity - exp(rows[0].meanNegativeLogLikelihood)) < 1e-9)
    let bytes = (0..<3).reduce(0) {
      $0 + tokenizer.decode(Array(tokens[$1 * 40 + 61..<$1 * 40 + 101])).utf8.count
    }
    let bits = rows[0].meanNegativeLogLikelihood * 120 / log(2) / Double(bytes)
    #expect(abs(rows[0].bitsPerByte - bits) < 1e-9)
    // Reloading all rows at every step changes what moves, not what comes out.
    #expect(rows[1].meanNegativeLogLikelihood == rows[0].meanNegativeLogLikelihood)
    #expect(rows[1].movedBytesPerToken > 0 && rows[0].movedBytesPerToken == 0)
    #expect(rows[0].sameTopToken == 1 && rows[1].sameTopToken == 1)
    // A window of 12 tokens predicts otherwise.
    #expect(rows[2].meanNegativeLogLikelihood != rows[0].meanNegativeLogLikelihood)
    #expect(rows[2].sameTopToken < 1)
    for format in ReportFormat.allCases {
      #expect(try PerplexityReport(rows, plan).text(format).contains("streaming"))
    }
  }

  @Test func `windows cover the text, and a text that is too short is an error`() throws {
    // 100 + n 50 + 50 + 1 <= 301 for n = 0 ... 3.
    #expect(try PerplexityWindows(tokens: 301, context: 100, stride: 50, limit: nil).count == 4)
    #expect(try PerplexityWindows(tokens: 300, context: 100, stride: 50, limit: nil).count == 3)
    #expect(try PerplexityWindows(tokens: 301, context: 100, stride: 50, limit: 2).count == 2)
    #expect(throws: EvaluationError.self) {
      try PerplexityWindows(tokens: 150, context: 100, stride: 50, limit: nil)
    }
  }
}
