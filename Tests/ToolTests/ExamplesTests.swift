// The examples print what is committed beside them.
//
// After a wanted change:  swift run factorise-prompt > Examples/FactorisePrompt/output.txt

import Testing

@Suite struct ExamplesTests {
  @Test(arguments: [
    ("lrqk-in-one-page", "Examples/LRQKInOnePage/output.txt"),
    ("factorise-prompt", "Examples/FactorisePrompt/output.txt"),
    ("one-decode-step", "Examples/OneDecodeStep/output.txt"),
  ])
  func `an example prints its committed text`(_ name: String, _ path: String) throws {
    let found = try run(name)
    #expect(found.status == 0)
    #expect(found.error == "")
    let difference = firstDifference(found.output, try committed(path))
    #expect(difference == nil, "\(difference ?? "")")
  }

  /// Two texts of one method: every number of the page stands in `lrqk explain`, to the printed
  /// place.
  @Test func `the page with the whole method has the numbers of lrqk explain`() throws {
    let page = try run("lrqk-in-one-page").output
    let explain = try run("lrqk", ["explain"])
    #expect(explain.status == 0)
    let decimals = #/-?\d+\.\d{3,}/#
    let found = page.matches(of: decimals).map { String($0.output) }
    #expect(found.count > 40)
    let shown = Set(explain.output.matches(of: decimals).map { String($0.output) })
    let missing = found.filter { !shown.contains($0) }
    #expect(missing.isEmpty, "not in lrqk explain: \(missing)")
    for sentence in ["Selected: 1 2 3.", "Selected: 1 4 6.", "misses           4 6", "128 bytes"] {
      #expect(explain.output.contains(sentence), "\(sentence)")
    }
    for sentence in ["selected 1 2 3", "selected 1 4 6", "misses 4 6", "128 bytes"] {
      #expect(page.contains(sentence), "\(sentence)")
    }
  }
}
