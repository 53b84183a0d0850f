// Sentences as lines: all the words, in order, no line too long.

import Reports
import Testing

@Suite struct FilledTextTests {
  private static let text = "Codes of two numbers  rank the tokens; (l, d) is a shape."

  @Test(arguments: 1...60) func `no word is lost and no line is too long`(_ width: Int) {
    let lines = filled(Self.text, width: width)
    #expect(lines.allSatisfy { $0.count <= width && !$0.isEmpty })
    #expect(lines.joined().filter { $0 != " " } == Self.text.filter { $0 != " " })
    if width >= 8 {  // the longest word
      let words = Self.text.split(separator: " ").joined(separator: " ")
      #expect(lines.joined(separator: " ") == words)
    }
  }

  @Test func `a line takes as many words as fit`() {
    #expect(filled("aa bb cc", width: 5) == ["aa bb", "cc"])
    #expect(filled("abcdef g", width: 4) == ["abcd", "ef g"])
    #expect(filled("", width: 4) == [""])
    #expect(filled("aa bb cc", width: 6, indent: 1, hanging: 2) == [" aa", "   bb", "   cc"])
  }
}
