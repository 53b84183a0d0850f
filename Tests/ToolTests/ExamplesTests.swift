// The examples print what is committed beside them.
//
// After a wanted change:  swift run factorise-prompt > Examples/FactorisePrompt/output.txt

import Testing

@Suite struct ExamplesTests {
  @Test(arguments: [
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
}
