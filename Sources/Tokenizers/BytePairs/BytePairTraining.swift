// A byte-level tokenizer for a new model: which pairs of tokens become one.
//
// In:  texts, the pattern that cuts words, special tokens, the size of the vocabulary.
// Out: tokenizer.json, as Llama 3's and Qwen's are laid out.
//
// Byte-pair encoding (Sennrich, Haddow and Birch, arXiv 1508.07909). Every word begins as the
// characters of its bytes (ByteAlphabet.swift); then, until the vocabulary is full,
//
//   1. count every pair of neighbours, over all words with their frequencies
//   2. the most frequent pair becomes a token (of equals, the one with the lowest ids), and a merge
//   3. join it wherever it stands
//
// Only words that hold the pair change, so a merge costs what those words cost.

import Tensors

/// The tokenizer.json of a byte-level tokenizer trained on `texts`.
///
/// Ids: special tokens, the 256 bytes, merges in their order. Training ends early where no pair
/// occurs twice. `begin`, the number of a special token, stands before every text where one is
/// given. Throws where the reader of tokenizer.json does not support the pattern.
public func trainedTokenizer(
  texts: some Sequence<String>, vocabularySize: Int, pattern: String, specialTokens: [String],
  begin: Int? = nil
) throws(TokenizerError) -> [UInt8] {
  let specials = specialTokens.map { Scalars($0.unicodeScalars) }
  precondition(
    vocabularySize >= specials.count + 256 && Set(specials).count == specials.count,
    "a vocabulary of \(vocabularySize) holds 256 bytes and \(specials.count) special tokens")
  let split =
    #"{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":\#(jsonQuoted(pattern))},"#
    + #""behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"#
    + #""trim_offsets":true,"use_regex":false}]}"#
  let preTokenizer = try PreTokenizer(
    TokenizerPart(parsing: Array(split.utf8), name: "the pattern"))

  var trainer = BytePairTrainer(specials: specials)
  for text in texts {
    for word in preTokenizer.cut(TextPiece(text: Scalars(text.unicodeScalars), isFirst: true)) {
      trainer.add(word.text)
    }
  }
  trainer.train(to: vocabularySize)
  return Array(trainer.json(preTokenizer: split, begin: begin).utf8)
}

/// Words, pairs and merges while they are counted.
private struct BytePairTrainer {
  private struct Pair: Hashable {
    let left: Int
    let right: Int
  }

  private let specials: [Scalars]
  private var tokens: [Scalars]
  private var ids: [Scalars: Int] = [:]
  private var merges: [Pair] = []
  /// How often each different word occurs.
  private var frequencies: [Scalars: Int] = [:]

  init(specials: [Scalars]) {
    self.specials = specials
    tokens = specials + ByteAlphabet.scalars.map { [$0] }
    for (id, token) in tokens.enumerated() { ids[token] = id }
  }

  mutating func add(_ word: Scalars) { frequencies[word, default: 0] += 1 }

  mutating func train(to size: Int) {
    // Words in a fixed order, so that the result does not depend on hashing.
    let words = frequencies.sorted { $0.key.lexicographicallyPrecedes($1.key) }
    var symbols = words.map { word in word.key.map { ids[[$0]] ?? 0 } }
    var counts: [Pair: Int] = [:]
    var places: [Pair: Set<Int>] = [:]
    func count(_ n: Int, _ sign: Int) {
      for (left, right) in zip(symbols[n], symbols[n].dropFirst()) {
        let pair = Pair(left: left, right: right)
        counts[pair, default: 0] += sign * words[n].value
        places[pair, default: []].insert(n)
      }
    }
    for n in words.indices { count(n, 1) }
    while tokens.count < size {
      let best = counts.max {
        ($0.value, $1.key.left, $1.key.right) < ($1.value, $0.key.left, $0.key.right)
      }
      guard let pair = best?.key, best?.value ?? 0 >= 2 else { return }
      let text = tokens[pair.left] + tokens[pair.right]
      let id = ids[text] ?? tokens.count
      if id == tokens.count {
        ids[text] = id
        tokens.append(text)
      }
      merges.append(pair)
      for n in places.removeValue(forKey: pair) ?? [] {
        count(n, -1)
        symbols[n] = Self.joined(symbols[n], pair, id)
        count(n, 1)
      }
      counts[pair] = nil
    }
  }

  /// `symbols` with every occurrence of the pair, from the left, as one.
  private static func joined(_ symbols: [Int], _ pair: Pair, _ id: Int) -> [Int] {
    var result: [Int] = []
    var i = 0
    while i < symbols.count {
      if i + 1 < symbols.count, symbols[i] == pair.left, symbols[i + 1] == pair.right {
        result.append(id)
        i += 2
      } else {
        result.append(symbols[i])
        i += 1
      }
    }
    return result
  }

  func json(preTokenizer: String, begin: Int?) -> String {
    func text(_ token: Scalars) -> String { jsonQuoted(String(String.UnicodeScalarView(token))) }
    let vocabulary = tokens.enumerated().map { "\(text($1)): \($0)" }
    let pairs = merges.map { "[\(text(tokens[$0.left])), \(text(tokens[$0.right]))]" }
    let added = specials.enumerated().map { id, token in
      #"{"id": \#(id), "content": \#(text(token)), "single_word": false, "lstrip": false, "#
        + #""rstrip": false, "normalized": false, "special": true}"#
    }
    let template = begin.map { id in
      let token = text(specials[id])
      let sequence = #"{"Sequence": {"id": "A", "type_id": 0}}"#
      let special = #"{"SpecialToken": {"id": \#(token), "type_id": 0}}"#
      return #"{"type": "TemplateProcessing", "single": [\#(special), \#(sequence)], "#
        + #""pair": [\#(special), \#(sequence), {"Sequence": {"id": "B", "type_id": 0}}], "#
        + #""special_tokens": {\#(token): {"id": \#(token), "ids": [\#(id)], "#
        + #""tokens": [\#(token)]}}}"#
    }
    return """
      {
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [\(added.joined(separator: ", "))],
        "normalizer": null,
        "pre_tokenizer": \(preTokenizer),
        "post_processor": \(template ?? "null"),
        "decoder": {"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
        "model": {
          "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
          "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
          "ignore_merges": false,
          "vocab": {\(vocabulary.joined(separator: ", "))},
          "merges": [\(pairs.joined(separator: ", "))]
        }
      }

      """
  }
}
