// The tokenizer of a model that is trained here.
//
// In:  the size of the vocabulary; a text of the user's, if the recipe reads one.
// Out: tokenizer.json and tokenizer_config.json, trained on the tasks' own texts, on the user's
//      text, or on both.
//
// Words are cut as Llama 3 cuts them, numbers into groups of three digits; a space before the first
// group belongs to it. A token that is one of a thousand is found again by what it is, where a
// single digit occurs a hundred times in a text. Every word of the lists, alone and behind a
// hyphen, and every group of digits occurs often enough to become one token if the vocabulary has
// room: 5,120 tokens are enough; 4,096 hold all words and two thirds of the groups, the others have
// two tokens. Names of variables are spelled, a space before the first letter.

import Tasks
package import Tokenizers

/// The files of a tokenizer for models trained here.
package struct ModelTokenizer: Sendable {
  /// Names and bytes.
  package let files: [(name: String, bytes: [UInt8])]
  /// The tokenizer of these files.
  package let tokenizer: Tokenizer
  /// The token before every text.
  package static let beginID = 0
  /// The token that ends an answer.
  package static let endID = 1

  /// Cuts words, and groups of digits.
  private static let pattern =
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+| ?\p{N}{1,3}|"#
    + #" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#

  /// Tasks of random letters, which would fill the vocabulary with chance.
  private static let withoutWords: Set<RulerTask> = [
    .niahSingle3, .niahMultikey3, .frequentWords,
  ]

  /// Without the names of vt's variables, capital letters by chance as well.
  private static func withoutNames(_ text: String) -> String {
    text.replacing(#/\b(?!VAR)[A-Z]{3,5}\b/#, with: "1")
  }

  /// Trains one on `samples` texts of every task, at lengths of about 1,500 bytes, and on `text`.
  package init(
    vocabulary: Int, samples: Int = 12, seed: UInt64 = trainingSeeds, text: TrainingText? = nil
  ) throws {
    let texts = try Self.taskTexts(samples: samples, seed: seed)
    try self.init(vocabulary: vocabulary, texts: texts + (text.map { [$0.training] } ?? []))
  }

  /// Trains one on the training part of a text alone.
  package init(vocabulary: Int, of text: TrainingText) throws {
    try self.init(vocabulary: vocabulary, texts: [text.training])
  }

  /// What the tasks are made of: their texts, and every word and every group of digits.
  private static func taskTexts(samples: Int, seed: UInt64) throws -> [String] {
    let bytes = PromptForm(name: "bytes") { Array($0.utf8).map(Int.init) }
    let generator = RulerGenerator(seed: seed, form: bytes)
    var texts: [String] = []
    for task in RulerTask.allCases where !withoutWords.contains(task) {
      for index in 0..<samples {
        let length = task.hasExample || task.metric == .part ? 8000 : 2000
        let sample = try generator.sample(task, length: length, index: index)
        texts.append(withoutNames(sample.prompt + sample.answer))
      }
    }
    for (n, noun) in WordLists.nouns.enumerated() {
      let adjective = WordLists.adjectives[n % WordLists.adjectives.count]
      texts += Array(repeating: " \(adjective) \(noun) \(adjective)-\(noun)", count: 60)
    }
    for n in 0..<1000 {
      let group = String(n)
      let zeros = String(repeating: "0", count: 3 - group.count)
      texts += Array(repeating: " \(group)", count: 40)
      texts += Array(repeating: zeros + group, count: 40)
    }
    // A variable's name begins with one of these.
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" {
      texts += Array(repeating: " \(letter)", count: 60)
    }
    return texts + [prose(words: 4000, seed: seed)]
  }

  private init(vocabulary: Int, texts: [String]) throws {
    let json = try trainedTokenizer(
      texts: texts, vocabularySize: vocabulary, pattern: Self.pattern,
      specialTokens: ["<|begin|>", "<|end|>"],
      begin: Self.beginID)
    let configuration =
      #"{"bos_token": "<|begin|>", "eos_token": "<|end|>", "tokenizer_class": "#
      + "\"PreTrainedTokenizerFast\", \"model_max_length\": 1000000}\n"
    tokenizer = try Tokenizer(
      json: json, name: "tokenizer.json", configuration: Array(configuration.utf8))
    files = [("tokenizer.json", json), ("tokenizer_config.json", Array(configuration.utf8))]
  }
}
