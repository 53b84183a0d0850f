// fwe: which three words of a coded text are the most frequent ones?
//
// In:  M, the tokens that are left for the coded text, and a stream of choices.
// Out: a draft for any number N.
//
//   vocabulary   max(5, M / 50) different random words of six letters; the first is replaced by
//                "..."
//   counts       rank k appears floor(N k^-α / ζ(α)) times, α = 2: 61 %, 15 %, 6.8 %, 3.8 %, ...
//   asked for    ranks 2, 3 and 4 (rank 1 is the noise)
//
// N grows from M / 6 in steps of M / 32. Source: RULER's freq_words_extraction.py. Ours: an N at
// which rank 4 appears as often as rank 5 is passed over, so that the answer is unique.

/// One sample of frequent words.
struct FrequentWordsFamily: SampleFamily {
  let floor: Int
  let step: Int
  private let stream: SampleStream
  private let vocabulary: [String]

  init(room: Int, stream: SampleStream) {
    self.stream = stream
    floor = max(1, room / 6)
    step = max(1, room / 32)
    var draws = stream.draws("vocabulary")
    var words: Set<String> = []
    var list: [String] = []
    while list.count < max(5, room / 50) {
      let word = draws.letters(6, from: "a")
      if words.insert(word).inserted { list.append(word) }
    }
    list[0] = "..."
    vocabulary = list
  }

  /// How often each rank appears.
  func counts(_ units: Int) -> [Int] {
    // ζ(2) = π² / 6.
    let norm = Double.pi * Double.pi / 6
    return vocabulary.indices.map { Int(Double(units) / (Double(($0 + 1) * ($0 + 1)) * norm)) }
  }

  func isUsable(_ units: Int) -> Bool {
    let n = counts(units)
    return n[1] > n[2] && n[2] > n[3] && n[3] > n[4]
  }

  func draft(_ units: Int) -> Draft {
    var draws = stream.draws("order")
    var words = zip(vocabulary, counts(units)).flatMap { Array(repeating: $0, count: $1) }
    draws.shuffle(&words)
    let asked = Array(vocabulary[1...3])
    return Draft(
      text: MarkedText([Self.instruction + words.joined(separator: " ") + Self.question]),
      prefix: Self.prefix, references: asked,
      answer: MarkedText(" \(enumeration(asked)).", marking: asked))
  }

  /// Everything but the coded text.
  static var template: String { instruction + question + prefix }

  private static let instruction =
    "Read the following coded text and track the frequency of each coded word. "
    + "Find the three most frequently appeared coded words. "
  private static let question =
    "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. "
    + "What are the three most frequently appeared words in the above coded text?"
  private static let prefix =
    " Answer: According to the coded text above, the three most frequently appeared words are:"
}
