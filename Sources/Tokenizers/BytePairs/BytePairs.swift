// Byte-pair encoding: a word becomes tokens by merging neighbours.
//
// In:  a word (what the pre-tokenizer cut), as scalars.
// Out: token ids.
//
//   symbols = the word's scalars, each as a token of the vocabulary
//   while some pair of neighbours has a merge:
//     take the pair whose merge has the lowest rank, the leftmost of them; replace it by its token
//
// A queue of the possible merges, lowest rank first and then leftmost, makes this O(n log n): each
// merge removes a symbol and adds at most two candidates. A candidate whose pair has changed since
// it was queued is passed over. Symbols form a linked list over their first positions.
//
// Sennrich et al. 2016 (Neural machine translation of rare words with subword units); the rules for
// unknown characters are those of Hugging Face's `tokenizers`, which this file must agree with.

internal import Tensors

/// The model of a tokenizer: vocabulary and merges.
struct BytePairModel: Sendable {
  let vocabulary: Vocabulary

  /// Rank and result of each pair of ids that merges, both packed.
  private let merges: [UInt64: UInt64]

  /// The token for characters that the vocabulary lacks; without one they vanish.
  private let unknown: Int?
  /// Whether neighbouring unknown characters share one unknown token.
  private let fusesUnknown: Bool
  /// Whether a character that the vocabulary lacks becomes the tokens of its bytes.
  private let fallsBackToBytes: Bool
  /// Whether a word that is a token as a whole is taken as it is.
  private let ignoresMerges: Bool

  /// Reads `model`; `isByteLevel`: whether words are characters that stand for bytes.
  ///
  /// Files from before there were types have none; merges make them byte-pair encodings.
  init(_ part: TokenizerPart, isByteLevel: Bool) throws(TokenizerError) {
    if part.member("type") != nil || part.member("merges") == nil {
      let type = try part.type()
      if type != "BPE" { throw part.unsupported(type, known: "BPE") }
    }
    try part.allow(
      "type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
      "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges")
    if let dropout = part.member("dropout"), dropout.value.doubleValue != 0 {
      throw dropout.fault("not supported: it drops merges at random; set it to null")
    }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
      if let member = part.member(key), try !member.string().isEmpty {
        throw member.fault("not supported; only null and \"\" are")
      }
    }
    vocabulary = try Vocabulary(try part.required("vocab"))
    merges = try Self.merges(try part.required("merges"), vocabulary)
    fusesUnknown = try part.flag("fuse_unk", default: false)
    fallsBackToBytes = try part.flag("byte_fallback", default: false)
    ignoresMerges = try part.flag("ignore_merges", default: false)
    if let member = part.member("unk_token") {
      unknown = vocabulary.ids[try member.scalars()]
      // The library asks for the token when it meets an unknown character; here none may come.
      let vocabulary = vocabulary
      let isNeverAsked =
        isByteLevel && ByteAlphabet.scalars.allSatisfy { vocabulary.singles[$0] != nil }
        || fallsBackToBytes && vocabulary.bytes.allSatisfy { $0 != nil }
      if unknown == nil && !isNeverAsked {
        throw member.fault("the vocabulary has no \(shown(try member.string()))")
      }
    } else {
      unknown = nil
    }
  }

  /// Reads `model.merges`: ["a b", ...] or [["a", "b"], ...], the first with rank 0.
  ///
  /// Of a pair that comes again the last rank counts, as in the library.
  private static func merges(
    _ part: TokenizerPart, _ vocabulary: Vocabulary
  ) throws(TokenizerError) -> [UInt64: UInt64] {
    guard let lines = part.value.arrayValue else { throw part.fault("not a list") }
    var merges: [UInt64: UInt64] = [:]
    merges.reserveCapacity(lines.count)
    var rank = 0
    for (index, line) in lines.enumerated() {
      func fault(_ reason: String) -> TokenizerError { part.fault("[\(index)]: \(reason)") }
      let halves: [Scalars]
      if let text = line.stringValue {
        if text.hasPrefix("#version") { continue }  // first line of a merges.txt; has no rank
        halves = text.unicodeScalars.split(separator: " ", omittingEmptySubsequences: false)
          .map { Scalars($0) }
      } else if let pair = line.arrayValue {
        halves = pair.compactMap { $0.stringValue.map { Scalars($0.unicodeScalars) } }
        if halves.count != pair.count { throw fault("not two strings") }
      } else {
        throw fault("neither a string nor a pair of strings")
      }
      if halves.count != 2 { throw fault("not two tokens") }
      var ids: [Int] = []
      for text in [halves[0], halves[1], halves[0] + halves[1]] {
        guard let id = vocabulary.ids[text] else {
          throw fault("the vocabulary has no \(quoted(text))")
        }
        ids.append(id)
      }
      merges[pack(ids[0], ids[1])] = pack(rank, ids[2])
      rank += 1
    }
    return merges
  }

  /// Appends the tokens of `word` to `ids`.
  func append(_ word: Scalars, to ids: inout [Int]) {
    if ignoresMerges, let id = vocabulary.ids[word] {
      ids.append(id)
      return
    }
    let symbols = symbols(of: word)
    if symbols.count < 2 { ids += symbols } else { merge(symbols, into: &ids) }
  }

  /// One token for each scalar, or those of its bytes, or the unknown one.
  ///
  /// An unknown token waits for its successors, with which it may fuse; tokens of bytes do not end
  /// the wait but known scalars do. So where both happen, the unknown token comes after the bytes:
  /// a quirk of the library, kept because ids must agree.
  private func symbols(of word: Scalars) -> [Int] {
    var symbols: [Int] = []
    symbols.reserveCapacity(word.count)
    var waiting: Int?
    for scalar in word {
      if let id = vocabulary.singles[scalar] {
        if let unknown = waiting { symbols.append(unknown) }
        waiting = nil
        symbols.append(id)
        continue
      }
      if fallsBackToBytes {
        let bytes = UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter
        let tokens = bytes.compactMap { vocabulary.bytes[Int($0)] }
        if tokens.count == bytes.count {
          symbols += tokens
          continue
        }
      }
      if let unknown {
        if waiting != nil && !fusesUnknown { symbols.append(unknown) }
        waiting = unknown
      }
    }
    if let unknown = waiting { symbols.append(unknown) }
    return symbols
  }

  /// Merges `symbols` until no merge applies and appends what is left.
  private func merge(_ symbols: [Int], into ids: inout [Int]) {
    precondition(symbols.count < Int(Int32.max), "a word of more than 2^31 symbols")
    // The list: symbol at each first position, -1 where a merge has swallowed it.
    var symbols = symbols
    var next = (1...symbols.count).map { Int32($0) }
    var previous = (0..<symbols.count).map { Int32($0) - 1 }
    next[symbols.count - 1] = -1

    var queue = LowestFirst()
    func candidate(_ left: Int, _ right: Int) -> UInt64? {
      merges[pack(symbols[left], symbols[right])]
    }
    for left in 0..<symbols.count - 1 {
      if let merge = candidate(left, left + 1) { queue.stage(pack(upper(merge), left)) }
    }
    queue.order()

    while let first = queue.pop() {
      let (rank, left) = (upper(first), lower(first))
      if symbols[left] < 0 || next[left] < 0 { continue }
      let right = Int(next[left])
      guard let merge = candidate(left, right), upper(merge) == rank else { continue }

      symbols[left] = lower(merge)
      symbols[right] = -1
      next[left] = next[right]
      if next[left] >= 0 {
        previous[Int(next[left])] = Int32(left)
        if let merge = candidate(left, Int(next[left])) { queue.push(pack(upper(merge), left)) }
      }
      if previous[left] >= 0 {
        let before = Int(previous[left])
        if let merge = candidate(before, left) { queue.push(pack(upper(merge), before)) }
      }
    }
    for symbol in symbols where symbol >= 0 { ids.append(symbol) }
  }
}

/// Two numbers below 2^32 as one whose order is theirs, the first before the second.
private func pack(_ upper: Int, _ lower: Int) -> UInt64 { UInt64(upper) << 32 | UInt64(lower) }
private func upper(_ packed: UInt64) -> Int { Int(packed >> 32) }
private func lower(_ packed: UInt64) -> Int { Int(packed & 0xFFFF_FFFF) }

/// A binary heap: the smallest number comes out first.
private struct LowestFirst {
  private var numbers: [UInt64] = []

  /// Adds a number; `order` must follow before anything comes out.
  mutating func stage(_ number: UInt64) { numbers.append(number) }

  /// Makes a heap of the staged numbers. (A sorted array is one.)
  mutating func order() { numbers.sort() }

  mutating func push(_ number: UInt64) {
    numbers.append(number)
    var place = numbers.count - 1
    while place > 0 {
      let parent = (place - 1) / 2
      if numbers[parent] <= number { break }
      numbers[place] = numbers[parent]
      place = parent
    }
    numbers[place] = number
  }

  mutating func pop() -> UInt64? {
    guard let smallest = numbers.first, let last = numbers.popLast() else { return nil }
    if numbers.isEmpty { return smallest }
    var place = 0
    while true {
      var child = 2 * place + 1
      if child >= numbers.count { break }
      if child + 1 < numbers.count && numbers[child + 1] < numbers[child] { child += 1 }
      if last <= numbers[child] { break }
      numbers[place] = numbers[child]
      place = child
    }
    numbers[place] = last
    return smallest
  }
}
