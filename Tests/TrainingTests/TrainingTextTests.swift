import Tasks
import Tensors
import Testing
import Tokenizers

@testable import Training

struct TrainingTextTests {
  /// Line n says its number, in words of one letter.
  private static func lines(_ count: Int) -> [String] {
    (0..<count).map { n in
      String(n).map { digit in String(Array("abcdefghij")[digit.wholeNumberValue ?? 0]) }
        .joined(separator: " ")
    }
  }

  @Test(arguments: [20, 39, 40, 1279, 1280, 2559, 2560, 5000])
  func `every line is in one part, in order, and about one in twenty is held out`(
    _ count: Int
  ) throws {
    let lines = Self.lines(count)
    let text = try TrainingText(lines.joined(separator: "\n"))
    let (training, held) = (
      text.training.split(separator: "\n").map(String.init),
      text.heldOut.split(separator: "\n").map(String.init)
    )
    #expect(Set(training).isDisjoint(with: held) && Set(training).union(held) == Set(lines))
    let places = Dictionary(uniqueKeysWithValues: lines.enumerated().map { ($1, $0) })
    for part in [training, held] {
      let order = part.compactMap { places[$0] }
      #expect(order.count == part.count && order == order.sorted())
    }
    // Whole blocks: at most one block of 64 fewer than a twentieth; never more.
    #expect(held.count * 20 <= count && held.count >= max(1, count / 20 - 64))
  }

  @Test func `a line may end as other systems end it`() throws {
    let lines = Self.lines(60)
    let plain = try TrainingText(lines.joined(separator: "\n"))
    for end in ["\r\n", "\r"] {
      let text = try TrainingText(lines.map { $0 + end }.joined())
      #expect(text.training == plain.training && text.heldOut == plain.heldOut)
    }
  }

  @Test func `a long text loses lines from all over, a short one its end`() throws {
    let lines = Self.lines(2560)
    let held = try TrainingText(lines.joined(separator: "\n")).heldOut
    let blocks = Array(lines[1216..<1280] + lines[2496..<2560])
    #expect(held.split(separator: "\n").map(String.init) == blocks)
    let few = try TrainingText(Self.lines(60).joined(separator: "\n"))
    #expect(few.heldOut.split(separator: "\n").map(String.init) == Array(Self.lines(60)[57...]))
  }

  @Test func `windows begin at lines, hold the training part alone, and ask for every token`()
    throws
  {
    let lines = Self.lines(300)
    let text = try TrainingText(lines.joined(separator: "\n"))
    let made = try ModelTokenizer(vocabulary: 300, of: text)
    let task = try trainingTask("text", tokenizer: made.tokenizer, background: 0, text: text)
    var starts: Set<String> = []
    for index in 0..<200 {
      let (tokens, weights) = try task.text(
        length: 24, RandomNumbers(seed: 3, stream: UInt64(index)))
      #expect(tokens.count == 25 && weights == Array(repeating: 1, count: 25))
      #expect(tokens[0] == ModelTokenizer.beginID)
      let window = made.tokenizer.decode(Array(tokens.dropFirst()))
      #expect(("\n" + text.training).contains("\n" + window), "\(window)")
      starts.insert(String(window.prefix { $0 != "\n" }))
    }
    // 285 lines, 200 draws: 285 (1 - e^(-200/285)) = 144 different ones expected, deviation < 6.
    #expect(starts.count > 110, "\(starts.count) different lines")
  }

  @Test func `the last line that fits can begin a window, and nothing behind it`() throws {
    let text = try TrainingText(Self.lines(20).joined(separator: "\n"))
    let made = try ModelTokenizer(vocabulary: 300, of: text)
    let all = text.training.split(separator: "\n").flatMap {
      made.tokenizer.encode($0 + "\n", addingSpecialTokens: false)
    }
    let task = try trainingTask("text", tokenizer: made.tokenizer, background: 0, text: text)
    let whole = try task.text(length: all.count, RandomNumbers(seed: 1, stream: 0)).tokens
    #expect(whole == [ModelTokenizer.beginID] + all)
    #expect(throws: TaskError.self) {
      try task.text(length: all.count + 1, RandomNumbers(seed: 1, stream: 0))
    }
  }

  @Test func `the tokenizer of a text has its words`() throws {
    let text = try TrainingText(
      Array(repeating: "the harbour sleeps", count: 40).joined(separator: "\n"))
    let tokenizer = try ModelTokenizer(vocabulary: 300, of: text).tokenizer
    #expect(tokenizer.encode("the harbour sleeps", addingSpecialTokens: false).count == 3)
    let beside = try ModelTokenizer(vocabulary: 5120, samples: 3, text: text).tokenizer
    #expect(beside.encode(" sleeps", addingSpecialTokens: false).count == 1)
    #expect(beside.encode(" 123", addingSpecialTokens: false).count == 1)
  }

  @Test func `too few lines, and a task without its text, are told`() throws {
    #expect(throws: TaskError.self) { try TrainingText("one line\n\n\n") }
    let made = try ModelTokenizer(vocabulary: 600, samples: 1)
    #expect(throws: TaskError.self) {
      try trainingTask("text", tokenizer: made.tokenizer, background: 0)
    }
  }
}
