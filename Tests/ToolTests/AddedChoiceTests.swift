// A choice is one row of LRQK's table: added there, it is everywhere.
//
// The row is added for the time of a test. It sets a value that exists, so that no other line of
// the package has to know it.

import ArgumentParser
import CacheMethods
import Foundation
import LRQK
import LRQKTool
import Replay
import Tensors
import Testing

/// "products": the arithmetic of prefill under other words.
private let products = Choice(
  "products", "who multiplies: nearby, faraway", .words(["nearby", "faraway"]), parts: .prompt,
  silent: "nearby",
  read: { text, p in
    guard ["nearby", "faraway"].contains(text) else { throw ChoiceError.unknownWord }
    p.arithmetic = text == "nearby" ? .reference : .library
  }, write: { p, _ in p.arithmetic == .reference ? "nearby" : "faraway" })

private func golden(_ name: String) throws -> Recording {
  let tests = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "..")
  return try Recording(
    path: tests.appending(path: "ReplayTests/Golden/\(name).safetensors").path())
}

@Suite struct AddedChoiceTests {
  private func withRow(_ body: () throws -> Void) rethrows {
    try Choice.$added.withValue([products], operation: body)
  }

  @Test func `without the row it is nowhere`() {
    #expect(!methodList.contains("products="))
    #expect(throws: MethodError.self) { try cacheMethod("lrqk:products=nearby") }
    #expect(!AllChoices.helpMessage().contains("--products"))
    #expect(throws: (any Error).self) { try AllChoices.parse(["--products", "nearby"]) }
  }

  @Test func `a row of the table is an option of the LRQK methods`() throws {
    try withRow {
      #expect(methodList.contains("  products=nearby"))
      #expect(methodList.contains("who multiplies: nearby, faraway"))
      let method = try cacheMethod("lrqk:preset=recommended,products=faraway")
      #expect(method.description.contains("products=faraway"))
      #expect(try cacheMethod(method.description).description == method.description)
      let error = #expect(throws: MethodError.self) { try cacheMethod("lrqk:products=mine") }
      #expect(error?.description == "lrqk: products=mine is none of: nearby, faraway")
    }
  }

  @Test func `it is an option of the tool, with help, and of a replay, whose report shows it`()
    throws
  {
    try withRow {
      let help = AllChoices.helpMessage()
      #expect(help.contains("--products <products>") && help.contains("Who multiplies: nearby,"))
      let given = try AllChoices.parse(["--products", "faraway", "-r", "8"])
      #expect(given.texts == ["products": "faraway", "rank": "8"])
      let error = #expect(throws: (any Error).self) {
        try AllChoices.parse(["--products", "mine"])
      }
      let line = AllChoices.message(for: try #require(error))
      #expect(line.contains("'mine' is none of: nearby, faraway"), "\(line)")

      var options = ReplayOptions()
      for (name, text) in given.texts { options[name] = text }
      let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..")
      let recording = try Recording(
        path: root.appending(path: "Tests/ReplayTests/Golden/prefill-r8.safetensors").path())
      let (replay, plan) = try RecordedCall<Float>.prefill(recording, options)
      #expect(plan.parameters.arithmetic == .library)
      #expect(plan.parameters.words(.prompt).contains { $0 == ("products", "faraway") })
      let report = try JSONReport(recording, plan, replay).text(pretty: false)
      #expect(report.contains("\"products\":\"faraway\""))
    }
  }
}

@Suite struct ChoiceAgreementTests {
  @Test(arguments: ["rowwise", "gram", "spectral"], ["alternating", "linear"])
  func `a replay and a method refuse the same choices`(_ solver: String, _ map: String) throws {
    let recording = try golden("trajectory-gqa")
    for (name, text) in [
      ("initialization", "top"), ("sweeps", "3"), ("sweeps", "0"), ("sweep-tolerance", "0"),
      ("weighted-update", "jacobi"), ("weights", "2/2/1/1"), ("weights", "1/1/2/2"),
      ("weights", "1/1/1/1"), ("basis-update", "frozen"), ("basis-update", "damped:-1"),
      ("alternations", "3"), ("alternations", "0"), ("alternation-tolerance", "0"),
      ("map-refresh", "4"), ("map-refresh", "0"), ("ranks", "by-layer"), ("ranks", "uniform"),
      ("rank-energy", "relative"), ("counts", "pooled"), ("code-sharing", "per-key-value-head"),
      ("candidates", "all"), ("transfers", "per-key-value-head"), ("support", "group"),
      ("support", "own"), ("ridge", "0"), ("ridge", "-1"), ("on-breakdown", "proceed"),
    ] {
      let method = try? cacheMethod("lrqk:solver=\(solver),code-map=\(map),\(name)=\(text)")
      var options = ReplayOptions()
      (options.preset, options["solver"], options["code-map"]) = (.paper, solver, map)
      options[name] = text
      let plan = try? ReplayPlan(recording, options, width: 32)
      #expect((method == nil) == (plan == nil), "\(name)=\(text)")
    }
  }
}
