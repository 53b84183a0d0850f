// vt, cwe, fwe and the questions obey their definitions.

import Tasks
import Testing

@Suite struct RulerTaskTests {
  @Test func `vt: a chain of four hops in order, and an example with its answer`() throws {
    for index in 0..<10 {
      let sample = try generator(seed: 2).sample(.variableTracking, length: 900, index: index)
      let links = sample.needleTexts
      #expect(links.count == 5 && Set(sample.references).count == 5)
      let first = try #require(links[0].wholeMatch(of: #/VAR ([A-Z]{5}) = ([0-9]{5})/#))
      let value = try #require(Int(first.2))
      #expect((10_000...99_998).contains(value))
      #expect(sample.references[0] == String(first.1))
      for n in 1..<5 {
        #expect(links[n] == "VAR \(sample.references[n]) = VAR \(sample.references[n - 1]) ")
      }
      #expect(
        zip(sample.needles, sample.needles.dropFirst()).allSatisfy {
          $0.upperBound <= $1.lowerBound
        })
      #expect(sample.prefix.hasSuffix("5 variables are assigned the value \(value), they are: "))
      #expect(sample.answer == sample.references.joined(separator: " "))
      // The example: names of three letters, 12345, the answer right behind its prefix.
      let example = try #require(
        sample.text.firstMatch(of: #/value 12345, they are: ([A-Z ]+)\n\n/#))
      let names = example.1.split(separator: " ")
      #expect(names.count == 5 && names.allSatisfy { $0.count == 3 })
      #expect(sample.text.contains("VAR \(names[0]) = 12345"))
      for n in 1..<5 { #expect(sample.text.contains("VAR \(names[n]) = VAR \(names[n - 1])")) }
      let exampleText = String(sample.text[..<example.range.upperBound])
      #expect(countingForm.encode(exampleText).count <= 900 / 4)
    }
  }

  @Test func `cwe: ten words 6 times and the others once, below 4096 tokens`() throws {
    try checkCommonWords(length: 1200, common: 6, rare: 1, example: (20, 3, 1))
  }

  @Test func `cwe: ten words 30 times and the others 3 times, from 4096 tokens on`() throws {
    try checkCommonWords(length: 5000, common: 30, rare: 3, example: (40, 10, 3))
  }

  private func checkCommonWords(
    length: Int, common: Int, rare: Int, example: (words: Int, common: Int, rare: Int)
  ) throws {
    let sample = try generator(seed: 4).sample(.commonWords, length: length, index: 1)
    let lists = sample.text.split(separator: "\n").map(String.init).filter { $0.hasPrefix("1. ") }
    #expect(lists.count == 2)
    func words(_ list: String) -> [String] {
      let cells = list.split(separator: " ").map(String.init)
      for n in stride(from: 0, to: cells.count, by: 2) { #expect(cells[n] == "\(n / 2 + 1).") }
      return stride(from: 1, to: cells.count, by: 2).map { cells[$0] }
    }
    func counts(_ words: [String]) -> [String: Int] {
      Dictionary(words.map { ($0, 1) }, uniquingKeysWith: +)
    }
    let found = counts(words(lists[1]))
    #expect(found.count == sample.units && sample.references.count == 10)
    for (word, count) in found {
      #expect(count == (sample.references.contains(word) ? common : rare), "\(word)")
    }
    let shown = counts(words(lists[0]))
    #expect(shown.count == example.words)
    #expect(shown.values.count { $0 == example.common } == 10)
    #expect(shown.values.count { $0 == example.rare } == example.words - 10)
    #expect(Set(shown.keys).isDisjoint(with: found.keys))
    // The example's answer is numbered and right.
    let answer = try #require(sample.text.firstMatch(of: #/in the list are:(( \d+\. \S+){10})\n/#))
    let named = answer.1.split(separator: " ").map(String.init).filter { !$0.hasSuffix(".") }
    #expect(Set(named) == Set(shown.filter { $0.value == example.common }.keys))
    // The answer to learn from begins with the word that comes for its second time last.
    let list = words(lists[1])
    let second = sample.references.map { word in list.indices.filter { list[$0] == word }[1] }
    let met = second.sorted(by: >).map { list[$0] }
    #expect(
      sample.answer == met.enumerated().map { " \($0 + 1). \($1)" }.joined() && met.count == 10)
  }

  @Test func `worked examples can be left away`() throws {
    for task in [RulerTask.variableTracking, .commonWords] {
      let plain = try generator(hasExamples: false).sample(task, length: 1200, index: 0)
      #expect(occurrences("Memorize", in: plain.text) == 1)
      #expect(occurrences(" Answer:", in: plain.prompt) == 1)
    }
  }

  @Test func `fwe: zeta shares, the most frequent code is dots, ranks 2 to 4 are asked for`() throws
  {
    // At short lengths ranks 4 and 5 tie for many sizes: both appear once where N is 40.
    for (length, index) in [(2000, 1), (5000, 2)]
      + stride(from: 200, to: 700, by: 9).map({ ($0, 0) })
    {
      guard
        let sample = try? generator(seed: 6).sample(.frequentWords, length: length, index: index)
      else {
        #expect(length < 300)  // no size below is without a tie
        continue
      }
      let counts = codedCounts(sample)
      let zeta = Double.pi * Double.pi / 6
      for (rank, word) in (["..."] + sample.references).enumerated() {
        let share = Double(sample.units) / (zeta * Double((rank + 1) * (rank + 1)))
        #expect(counts[word] == Int(share), "\(word)")
      }
      let others = counts.filter { $0.key != "..." && !sample.references.contains($0.key) }
      #expect((others.values.max() ?? 0) < (counts[sample.references[2]] ?? 0))
      #expect(others.keys.allSatisfy { $0.wholeMatch(of: #/[a-z]{6}/#) != nil })
    }
  }

  @Test func `the stand-in's questions can be answered from their documents`() throws {
    for index in 0..<20 {
      let one = try generator(seed: 8).sample(.question1, length: 800, index: index)
      #expect(one.needles.count == 1)
      #expect(one.needleTexts[0].contains(" is a \(one.references[0])."))
      let name = try #require(one.text.firstMatch(of: #/What is the trade of (.+)\?/#)).1
      #expect(one.needleTexts[0].contains("\n\(name)\n"))

      let two = try generator(seed: 8).sample(.question2, length: 800, index: index)
      #expect(two.needles.count == 2)
      let person = try #require(two.text.firstMatch(of: #/town where (.+) was born\?/#)).1
      let about = try #require(two.needleTexts.first { $0.contains("\n\(person)\n") })
      let town = try #require(about.firstMatch(of: #/was born in (\S+)\./#)).1
      let place = try #require(two.needleTexts.first { $0.contains("\n\(town)\n") })
      #expect(place.contains(" on the river \(two.references[0])."))
      for sample in [one, two] {
        let documents = sample.text.matches(of: #/(?:^|\n)Document (\d+):\n/#).compactMap {
          Int($0.1)
        }
        #expect(documents == Array(1...sample.units))
        #expect(occurrences("Only give me the answer", in: sample.text) == 2)
        #expect(sample.prefix == " Answer:")
      }
    }
    #expect(generator().source(.question1).description.contains("stand-in"))
    let line = try generator().sample(.question2, length: 800, index: 0)
      .json(source: generator().source(.question2))
    #expect(line.contains("stand-in"))
  }
}
