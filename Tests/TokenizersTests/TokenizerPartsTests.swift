// The parts of a tokenizer one by one, in tokenizers of 256 bytes that are made for it.

import Tensors
import TestSupport
import Testing
import Tokenizers

/// Where a pre-tokenizer cuts: each piece gets a "|" in front.
private func pieces(_ text: String, _ preTokenizer: String) throws -> String {
  let visible = #"{"type":"Metaspace","replacement":"|","prepend_scheme":"always","split":false}"#
  let tokenizer = try Tokenizer(
    json: tinyJSON(
      preTokenizer: #"{"type":"Sequence","pretokenizers":[\#(preTokenizer),\#(visible)]}"#),
    name: "test")
  return tokenizer.decode(tokenizer.encode(text))
}

/// A Split by a pattern.
private func split(
  _ pattern: String, behavior: String = "Isolated", invert: Bool = false
) -> String {
  #"{"type":"Split","pattern":{"Regex":\#(jsonQuoted(pattern))},"#
    + #""behavior":"\#(behavior)","invert":\#(invert)}"#
}

/// What a normalizer makes of a text.
private func normalized(_ text: String, _ normalizer: String) throws -> String {
  let tokenizer = try Tokenizer(json: tinyJSON(normalizer: normalizer), name: "test")
  return tokenizer.decode(tokenizer.encode(text))
}

/// What a decoder makes of tokens that are spelled out.
private func decoded(_ tokens: [String], _ decoder: String) throws -> String {
  let entries = tokens.enumerated().map { "\(jsonQuoted($1)):\($0)" }
  let model = #"{"type":"BPE","vocab":{\#(entries.joined(separator: ","))},"merges":[]}"#
  let tokenizer = try Tokenizer(json: tinyJSON(decoder: decoder, model: model), name: "test")
  let whole = tokenizer.decode(Array(tokens.indices))
  #expect(streamed(tokenizer, Array(tokens.indices), skipping: true) == whole)
  return whole
}

@Suite struct `Tokenizer patterns` {
  @Test(
    arguments: [
      // Alternatives in their order, not the longest.
      ("ab|abc", "abcab", "|ab|c|ab"),
      // Greedy, and giving back.
      ("a+ab", "aaab", "|aaab"), ("a{2,3}", "aaaaaa", "|aaa|aaa"), ("a{2}", "aaaaa", "|aa|aa|a"),
      ("a{,2}b", "aaab", "|a|aab"), ("x?ab?", "xaab", "|xa|ab"), ("a{2,}b", "aaaab", "|aaaab"),
      // Possessive: nothing is given back.
      ("a++ab|b", "aaab", "|aaa|b"), ("a?+a|b", "ab", "|a|b"),
      // Lookahead.
      ("a(?=b)", "aab", "|a|a|b"), ("a(?!b)", "aab", "|a|ab"),
      // Groups, nested and repeated.
      ("(?:ab|c){2}", "abcab", "|abc|ab"), ("(a(b|c))?d", "acdd", "|acd|d"),
      // Ignoring case, and the long s, which folds into "s".
      ("'(?:(?i:S))", "'s'S'ſ's", "|'s|'S|'ſ|'s"),
      ("(?i:[j-l])x", "KxkxK\u{212A}x", "|Kx|kx|K|\u{212A}x"),
      // Classes.
      (#"[^\s\p{L}]+"#, "ab12_c", "|ab|12_|c"), (#"[\d\-x]+"#, "a1-x", "|a|1-x"),
      ("[a-cx-]+", "d-bxd", "|d|-bx|d"),
      (#"[\x{e9}\u0041]"#, "aéA", "|a|é|A"), (#"\P{L}|[\p{^Lu}]"#, "1aA", "|1|a|A"),
      (#"[\S]+\.?"#, "a.b", "|a.b"),
      // Letters and numbers beyond ASCII.
      (#"\p{N}{1,3}"#, "1234x½Ⅷ٣४", "|123|4|x|½Ⅷ٣|४"),
      (#"\p{Lu}\p{M}*"#, "aA\u{301}", "|a|A\u{301}"),
    ])
  func `cut where Oniguruma cuts`(_ pattern: String, _ text: String, _ expected: String) throws {
    #expect(try pieces(text, split(pattern)) == expected, "\(pattern)")
  }

  @Test func `scalars that Unicode 17 assigned are no letters yet`() throws {
    // U+16EA0 (17.0) against U+10C80 (8.0), both uppercase letters; U+295 was Ll until 17.0.
    #expect(try pieces("\u{16EA0}a", split(#"\p{L}+"#)) == "|\u{16EA0}|a")
    #expect(try pieces("\u{10C80}a", split(#"\p{L}+"#)) == "|\u{10C80}a")
    #expect(try pieces("\u{295}a", split(#"\p{Ll}+"#)) == "|\u{295}a")
  }

  @Test(
    arguments: [
      "^a", "a$", "a*?", "a+?", "a??", "a{2}?", "(?<=a)b", "(?<!a)b", "(?>a)", "(?<n>a)", #"\b"#,
      #"\w"#,
      #"\1"#, #"\h"#, #"\p{Han}"#, #"\p{}"#, #"\p{L"#, "[[:alpha:]]", "[a[b]]", "[a&&b]", "[]",
      "[b-a]", "[a",
      "(a", "a)", "*a", "{2}", "a{", "a{2", "a{,}", "a{3,2}", "(?:ab)+", "(?:ab){9}", "(?=a)*",
      #"\x{110000}"#,
      #"\x{D800}"#, #"\u12"#, "a\\", #"(?i:é)"#, "(?i:ss)", "(?i:[^a])", "(?i)a", "a{2}+",
      "(*FAIL)",
      String(repeating: "(", count: 50_000), String(repeating: "a", count: 20_000),
      "((((((a{1,8}){8}){8}){8}){8}){8})",
    ])
  func `what is not supported is an error in one line`(_ pattern: String) throws {
    do throws(TokenizerError) {
      _ = try Tokenizer(json: tinyJSON(preTokenizer: split(pattern)), name: "test")
      Issue.record("accepted \(pattern)")
    } catch {
      #expect(error.description.hasPrefix("test: pre_tokenizer.pattern.Regex: not supported"))
      #expect(!error.description.utf8.contains(10))
    }
  }

  @Test(
    arguments: [
      // No published pattern is like these: letters that are looked at again and again.
      ("a+(?=a*a*a*a*b)", "a", ""), ("(a*a*a*a*)b", "a", ""), ("a+a+a+a+c|b", "ab", "b"),
      ("(?:a|aa)(?:a|aa)(?:a|aa)(?:a|aa)b", "a", ""), (#"\s+\s+\s+(?=\S)x"#, "\t", ""),
      ("a*a*a*(?!b)c", "aab", ""), ("a{0,90}a{0,90}b", "a", ""), ("[ab]*a*[ab]+c", "ab", ""),
    ])
  func `no pattern hangs on a long text`(
    _ pattern: String, _ unit: String, _ match: String
  ) throws {
    // A matcher that tries everything again would need years.
    let text = String(repeating: unit, count: 4000)
    let cut = try pieces(text, split(pattern, behavior: match.isEmpty ? "Removed" : "Isolated"))
    #expect(cut.utf8.filter { $0 == UInt8(ascii: "|") }.count == (match.isEmpty ? 1 : 8000))
    #expect(cut.replacing("|", with: "") == text)
  }

  @Test func `matches are the same once the matcher remembers what has failed`() throws {
    // The alternative in front never matches and tries so much that the matcher begins to remember.
    let tiring = "[abc ]*[abc ]*[abc ]*#|"
    var dice = SeededNumbers(seed: 5)
    for pattern in [
      "a+(?=a*b)|b", "a*a*b|a", "(a|ab)(c|bcd)?", "[ab]{1,3}c?|c+", #"\s+(?!\S)|\s+"#, "a?a?a?b+",
      "(?:ab|a){1,3}(?!c)|.", "a++b|a", "a*", "(?=a*c)[ac]+|b", "[^b]*b|c{2}", "a*(?!a*b)b*|c",
    ] {
      for _ in 0..<60 {
        let text = (0..<dice.below(60)).map { _ in ["a", "b", "c", " "][dice.below(4)] }.joined()
        #expect(
          try pieces(text, split(pattern)) == pieces(text, split(tiring + pattern)),
          "\(pattern) on '\(text)'")
      }
    }
  }

  @Test(
    arguments: [
      // Inverted, the two dashes between two matches are one.
      ("Removed", "|a|b", "|a|b"), ("Isolated", "|a|-|-|b|-", "|a|--|b|-"),
      ("Contiguous", "|a|--|b|-", "|a|--|b|-"), ("MergedWithPrevious", "|a-|-|b-", "|a--|b-"),
      ("MergedWithNext", "|a|-|-b|-", "|a|--b|-"),
    ])
  func `matches are treated as the behavior says`(
    _ behavior: String, _ expected: String, _ inverted: String
  ) throws {
    #expect(try pieces("a--b-", split("-", behavior: behavior)) == expected)
    #expect(try pieces("a--b-", split("[^-]", behavior: behavior, invert: true)) == inverted)
  }
}

@Suite struct `Tokenizer parts` {
  @Test func `digits are cut out alone or together`() throws {
    let digits = { (alone: Bool) in #"{"type":"Digits","individual_digits":\#(alone)}"# }
    #expect(try pieces("a12b٣½", digits(true)) == "|a|1|2|b|٣|½")
    #expect(try pieces("a12b٣½", digits(false)) == "|a|12|b|٣½")
  }

  @Test func `composition follows Unicode 9`() throws {
    let nfc = #"{"type":"NFC"}"#
    for (text, expected) in [
      ("e\u{301}", "\u{E9}"), ("\u{212B}", "\u{C5}"), ("a\u{308}\u{323}", "\u{1EA1}\u{308}"),
      ("\u{1100}\u{1161}\u{11A8}", "\u{AC01}"), ("\u{D264}\u{11BF}\u{0F72}", "\u{D27C}\u{0F72}"),
      ("\u{30B}\u{F81}", "\u{F71}\u{F80}\u{30B}"), ("\u{958}", "\u{915}\u{93C}"),
      ("\u{344}", "\u{308}\u{301}"), ("\u{FB01}", "\u{FB01}"),
      // U+16D68 composes since 16.0, U+1DFA has a combining class since 14.0: not in 9.0.
      ("\u{16D67}\u{16D67}", "\u{16D67}\u{16D67}"), ("a\u{1DFA}\u{323}", "a\u{1DFA}\u{323}"),
    ] {
      #expect(numbers(try normalized(text, nfc)) == numbers(expected), "\(numbers(text))")
    }
  }

  @Test func `normalizers prepend and replace`() throws {
    let llama =
      #"{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"_"},"#
      + #"{"type":"Replace","pattern":{"String":" "},"content":"_"}]}"#
    #expect(try normalized("a b  c", llama) == "_a_b__c")
    #expect(try normalized("", llama) == "")
    let squeeze = #"{"type":"Replace","pattern":{"Regex":"\\s{2,}"},"content":" "}"#
    #expect(try normalized("a \n b c", squeeze) == "a b c")
  }

  @Test func `metaspace puts its character in front as its scheme says`() throws {
    for (scheme, expected) in [
      ("always", "_a_b<t>_c"), ("first", "_a_b<t>c"), ("never", "a_b<t>c"),
    ] {
      let json = tinyJSON(
        preTokenizer: #"{"type":"Metaspace","replacement":"_","prepend_scheme":"\#(scheme)"}"#,
        addedTokens: added("<t>"))
      let tokenizer = try Tokenizer(json: json, name: "test")
      #expect(tokenizer.decode(tokenizer.encode("a b<t>c")) == expected)
    }
  }

  @Test func `added tokens take white space and keep to words as they say`() throws {
    for (options, text, expected) in [
      ("", "a <t> b", [97, 32, 256, 32, 98]), (#""lstrip":true"#, "a  <t> b", [97, 256, 32, 98]),
      (#""rstrip":true"#, "a <t>\n b", [97, 32, 256, 98]),
      (#""single_word":true"#, "<t>a<t> <t>", [60, 116, 62, 97, 60, 116, 62, 32, 256]),
      (#""single_word":true"#, "-<t>-", [45, 256, 45]),
    ] {
      let tokenizer = try Tokenizer(
        json: tinyJSON(addedTokens: added("<t>", options: options)), name: "test")
      #expect(tokenizer.encode(text) == expected, "\(options)")
    }
  }

  @Test func `of added tokens the leftmost counts, then the longest`() throws {
    let tokens = added("ab", "bcd", "abc", "b")
    let tokenizer = try Tokenizer(json: tinyJSON(addedTokens: tokens), name: "test")
    #expect(tokenizer.encode("abcd") == [258, 100])
    #expect(tokenizer.encode("abd") == [256, 100])
    #expect(tokenizer.encode("bcdb") == [257, 259])
  }

  @Test func `decoders do what they say, at once and streamed`() throws {
    let strip = { (start: Int, stop: Int) in
      #"{"type":"Strip","content":" ","start":\#(start),"stop":\#(stop)}"#
    }
    #expect(try decoded(["  a ", " b", "c  "], strip(1, 0)) == " a bc  ")
    #expect(try decoded([" a  ", "b "], strip(0, 1)) == " a b")
    #expect(try decoded(["   "], strip(1, 1)) == " ")
    let fused = { (step: String) in
      #"{"type":"Sequence","decoders":[{"type":"Fuse"},\#(step)]}"#
    }
    #expect(try decoded(["  ", " a", "b  ", " "], fused(strip(1, 2))) == "  ab ")
    let replace = #"{"type":"Replace","pattern":{"String":"aba"},"content":"c"}"#
    #expect(try decoded(["abab", "a", "ab"], replace) == "cbaab")
    #expect(try decoded(["abab", "a", "aba", "ab"], fused(replace)) == "cbacab")
    let metaspace = #"{"type":"Metaspace","replacement":"_","prepend_scheme":"always"}"#
    #expect(try decoded(["_a_", "_b"], metaspace) == "a b")
    #expect(try decoded(["a", "b"], "null") == "a b")
    // A run of bytes that is no UTF-8 is as many replacement characters as it has bytes.
    let bytes = #"{"type":"ByteFallback"}"#
    #expect(try decoded(["<0xC3>", "<0xA9>", "x", "<0xc3>"], bytes) == "éx\u{FFFD}")
    #expect(try decoded(["<0xC3>", "<0xA9>", "<0xFF>"], bytes) == "\u{FFFD}\u{FFFD}\u{FFFD}")
    // In the byte alphabet it is one for each beginning of a character that breaks off.
    let level = #"{"type":"ByteLevel"}"#
    #expect(try decoded(["ðŁ", "Ã", "©", "日"], level) == "\u{FFFD}é日")
  }

  @Test func `unknown characters become bytes, the unknown token, or nothing`() throws {
    let model = { (options: String) in
      #"{"type":"BPE","vocab":{"a":0,"<unk>":1,"<0xC3>":2,"<0xA9>":3},"merges":[]\#(options)}"#
    }
    for (options, expected) in [
      ("", [0, 0]), (#","unk_token":"<unk>""#, [0, 1, 1, 1, 0]),
      (#","unk_token":"<unk>","fuse_unk":true"#, [0, 1, 0]),
      // The unknown token waits behind the bytes: the library's order.
      (#","unk_token":"<unk>","byte_fallback":true"#, [0, 2, 3, 1, 1, 0]),
    ] {
      let tokenizer = try Tokenizer(json: tinyJSON(model: model(options)), name: "test")
      #expect(tokenizer.encode("a中éba") == expected, "\(options)")
    }
  }

  @Test func `the template puts special tokens around the text`() throws {
    let template =
      #"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"q","type_id":0}},"#
      + #"{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"q","type_id":0}}],"pair":[],"#
      + #""special_tokens":{"q":{"id":"q","ids":[1,2],"tokens":["x","y"]}}}"#
    let tokenizer = try Tokenizer(json: tinyJSON(postProcessor: template), name: "test")
    #expect(tokenizer.encode("a") == [1, 2, 97, 1, 2])
    #expect(tokenizer.encode("a", addingSpecialTokens: false) == [97])
  }
}

/// `added_tokens` with these contents, numbered from 256.
private func added(_ contents: String...) -> String { list(contents.map { ($0, "") }) }

/// `added_tokens` with one token that has further options.
private func added(_ content: String, options: String) -> String { list([(content, options)]) }

private func list(_ tokens: [(content: String, options: String)]) -> String {
  let entries = tokens.enumerated().map { index, token in
    let flags = ["single_word", "lstrip", "rstrip", "normalized", "special"]
      .filter { !token.options.contains("\"\($0)\"") }.map { "\"\($0)\":false" }
    let options = flags + (token.options.isEmpty ? [] : [token.options])
    return "{\"id\":\(256 + index),\"content\":\(jsonQuoted(token.content)),"
      + options.joined(separator: ",") + "}"
  }
  return "[" + entries.joined(separator: ",") + "]"
}
