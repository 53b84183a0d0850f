// Tokenizers that are trained here.

import Testing
import Tokenizers

@Suite struct BytePairTrainingTests {
  private let pattern = #"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"#

  private func trained(_ texts: [String], size: Int) throws -> Tokenizer {
    let json = try trainedTokenizer(
      texts: texts, vocabularySize: size, pattern: pattern, specialTokens: ["<s>", "</s>"])
    return try Tokenizer(json: json, name: "trained")
  }

  @Test func `the most frequent pair comes first, then the pairs that it makes`() throws {
    // " lo" and " low" occur 5 times, " ne" 3 times.
    let tokenizer = try trained(
      [String(repeating: " low", count: 5) + String(repeating: " new", count: 3)], size: 263)
    let merges = (258..<tokenizer.vocabularySize).map { tokenizer.token(withID: $0) }
    // " l", "lo" and "ow" occur 5 times: the space has the lowest id. Then "ow", and so on.
    #expect(merges == ["Ġl", "ow", "Ġlow", "Ġn", "ew"])
    #expect(tokenizer.decode(tokenizer.encode(" low new")) == " low new")
    #expect(tokenizer.encode(" low").count == 1)
  }

  @Test func `every text comes back, and special tokens are known`() throws {
    let tokenizer = try trained(["the cat sat on the mat, the 123 hats"], size: 280)
    for text in ["the cat", "Größe 45\n", "", "日本 <s> x"] {
      #expect(tokenizer.decode(tokenizer.encode(text), skippingSpecialTokens: false) == text)
    }
    #expect(tokenizer.encode("<s>a</s>").first == 0)
    #expect(tokenizer.encode("a</s>").last == 1)
    // Digits stay single.
    #expect(tokenizer.encode("123", addingSpecialTokens: false).count == 3)
  }

  @Test func `it ends where no pair occurs twice`() throws {
    #expect(try trained(["ab"], size: 1000).vocabularySize == 258)
  }

  @Test func `a pattern that is not supported is an error`() {
    #expect(throws: TokenizerError.self) {
      _ = try trainedTokenizer(
        texts: ["a"], vocabularySize: 300, pattern: "(?<=a)b", specialTokens: [])
    }
  }
}
