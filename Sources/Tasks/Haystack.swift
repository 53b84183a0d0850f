// The prose of the "essay" tasks: our endless one, or a user's file.
//
// In:  nothing, or a text.
// Out: the first N words of it, cut into sentences.
//
// Ours is drawn again for every sample. A file starts from its first word in every sample, as
// upstream's essays do, and is repeated where it is too short.

import Tensors

/// The stream names of one sample.
struct SampleStream: Sendable {
  let seed: UInt64
  let name: String

  init(seed: UInt64, task: RulerTask, length: Int, index: Int) {
    self.seed = seed
    name = "\(RulerTask.generator)/\(task.rawValue)/\(length)/\(index)"
  }

  init(seed: UInt64, name: String) { (self.seed, self.name) = (seed, name) }

  /// The stream for one purpose.
  func draws(_ purpose: String) -> RandomStream {
    RandomStream(seed: seed, name: "\(name)/\(purpose)")
  }
}

/// Where prose comes from.
package struct Haystack: Sendable {
  /// Words of a file; nil for our own prose.
  private let words: [String]?
  /// "generated prose", or the file's name and hash.
  package let description: String

  /// Bytes of the largest file that is read.
  static let fileLimit = 64 << 20

  /// Our own prose.
  package init() {
    words = nil
    description = "generated prose"
  }

  /// The words of a text file, a pipe or standard input (`-`).
  package init(file path: String) throws {
    let bytes = try readInput(at: path, limit: Self.fileLimit)
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw TaskError("\(path): not UTF-8 text")
    }
    try self.init(text: text, name: path)
  }

  /// The words of a text.
  init(text: String, name: String) throws(TaskError) {
    let words = text.split(whereSeparator: \.isWhitespace).map(String.init)
    if words.isEmpty { throw TaskError("\(name): there are no words in it") }
    self.words = words
    description = "file, fnv1a \(hexadecimal(fnv1a(text)))"
  }

  /// The first `count` words, as sentences; the last one may be cut short.
  func sentences(_ count: Int, _ stream: SampleStream) -> [String] {
    let source: [String]
    if let words {
      source = (0..<count).map { words[$0 % words.count] }
    } else {
      var prose = SyntheticProse(stream.draws("haystack"))
      source = Array(prose.words(count).prefix(count))
    }
    var sentences: [String] = []
    var first = 0
    for n in source.indices where n == count - 1 || Self.endsSentence(source[n]) {
      sentences.append(source[first...n].joined(separator: " "))
      first = n + 1
    }
    return sentences
  }

  /// Whether a word ends in a mark that ends sentences, quotes and brackets behind it aside.
  private static func endsSentence(_ word: String) -> Bool {
    let closing: Set<Character> = ["\"", "'", "\u{201D}", "\u{2019}", ")"]
    guard let last = word.last(where: { !closing.contains($0) }) else { return false }
    return ".!?".contains(last)
  }
}
