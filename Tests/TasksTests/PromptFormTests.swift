// Frames, and which tokens cover which bytes.

import Tasks
import TestSupport
import Testing
import Tokenizers

@Suite struct PromptFormTests {
  @Test func `a needle's tokens cover its bytes and no others`() throws {
    let form = PromptForm(try Tokenizer(folder: tinyModel))
    let tokenizer = try Tokenizer(folder: tinyModel)
    for task in [RulerTask.niahMultikey1, .niahMultikey2] {
      let sample = try RulerGenerator(seed: 2, form: form).sample(task, length: 600, index: 0)
      for (range, text) in zip(sample.needles, sample.needleTexts) {
        let tokens = try #require(
          form.tokens(covering: [range], of: sample.prompt, ids: sample.tokens))
        #expect(tokens == Array(tokens[0]...tokens[tokens.count - 1]))
        let covered = tokenizer.decode(tokens.map { sample.tokens[$0] })
        // A space before a needle belongs to its first token; a line break does not.
        let before = Array(sample.prompt.utf8)[range.lowerBound - 1]
        #expect(covered == (before == UInt8(ascii: " ") ? " " : "") + text)
      }
    }
    #expect(countingForm.tokens(covering: [0..<1], of: "a", ids: [1]) == nil)
  }

  @Test func `a chat template frames the task, and the answer's prefix follows its header`() throws
  {
    let tokenizer = try Tokenizer(folder: tinyModel)
    let form = PromptForm(tokenizer) { "<user>\($0)</user><model>" }
    #expect(form.name == "chat")
    for task in [RulerTask.niahMultikey2, .question1, .variableTracking] {
      let sample = try RulerGenerator(seed: 7, form: form).sample(task, length: 900, index: 0)
      #expect(sample.prompt == "<user>\(sample.text)</user><model>\(sample.prefix)")
      #expect(sample.tokens == tokenizer.encode(sample.prompt, addingSpecialTokens: false))
      #expect(sample.tokens.count + task.tokensToGenerate <= 900)
      // The same needles as without the frame, where they stand now.
      #expect(!sample.needles.isEmpty)
      for text in sample.needleTexts {
        let isNeedle =
          text.hasPrefix("One of the special") && text.hasSuffix(".") || text.hasPrefix("Document ")
          || text.wholeMatch(of: #/VAR [A-Z]{5} = ([0-9]{5}|VAR [A-Z]{5} )/#) != nil
        #expect(isNeedle, "\(text)")
      }
    }
    let short = RulerGenerator(seed: 7, form: form, answerLimit: 16)
    let sample = try short.sample(.niahMultikey2, length: 900, index: 0)
    #expect(sample.tokensToGenerate == 16 && sample.tokens.count > 900 - 128)
    #expect(sample.tokens.count <= 900 - 16)
  }
}
