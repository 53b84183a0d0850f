// lrqk demo, on the model that comes with the package.

import Foundation
import Testing

@Suite struct DemoTests {
  private static let model = ReplayToolTests.root.appendingPathComponent("Examples/Models/needles")
    .path

  /// The lines "NAME: 4 of 4 right" as numbers.
  private func counts(_ page: String) -> [(right: Int, of: Int)] {
    page.matches(of: #/: (\d+) of (\d+) right/#).compactMap { match in
      Int(match.output.1).flatMap { right in Int(match.output.2).map { (right, $0) } }
    }
  }

  @Test func `the shipped model finds its needles, with full attention and with both presets`()
    throws
  {
    let found = try run("lrqk", ["demo", "--model", Self.model])
    #expect(found.status == 0, "\(found.error)")
    let counts = counts(found.output)
    #expect(counts.count == 3)
    #expect(counts.allSatisfy { $0 == (1, 1) }, "\(found.output)")
    // No terminal, no colour; and the needles stand in the page.
    #expect(!found.output.contains("\u{1B}"))
    #expect(found.output.matches(of: #/One of the special magic numbers for /#).count == 4)
  }

  @Test func `a cache that has dropped the needles cannot find them`() throws {
    let found = try run(
      "lrqk",
      [
        "demo", "--model", Self.model, "--seed", "2", "--cache", "streaming:sinks=4,w=60",
      ])
    #expect(found.status == 0, "\(found.error)")
    let counts = counts(found.output)
    #expect(counts.count == 2 && counts[0].right == 1 && counts[1].right == 0, "\(found.output)")
  }

  @Test(
    arguments: [
      (["--model", "/nowhere"], 65, "/nowhere"), (["--task", "needle"], 64, "needle"),
      (["--task", "vt,cwe"], 64, "one task"), (["--length", "3"], 64, "--length 3"),
      (["--length", "100"], 64, "niah_multikey_1"), (["--cache", "lrqk:q=3"], 64, "q"),
    ])
  func `bad choices get one line`(_ arguments: [String], _ status: Int, _ part: String) throws {
    let model = arguments.contains("--model") ? [] : ["--model", Self.model]
    let found = try run("lrqk", ["demo"] + model + arguments)
    #expect(Int(found.status) == status && found.error.contains(part), "\(found.error)")
    #expect(found.error.split(separator: "\n").count == 1 && found.output.isEmpty)
  }
}
