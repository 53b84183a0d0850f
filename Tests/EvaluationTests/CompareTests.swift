// A comparison: which methods it has, what a budget becomes, what a run folder holds.

import CacheMethods
import Foundation
import Tasks
import TestSupport
import Testing
import TieredMemory
import Tokenizers
import Transformers

@testable import Evaluation

@Suite struct CompareTests {
  @Test func `every method has a line in the table or a reason why it is left out`() {
    let names = Set(ComparedMethod.table.map(\.name))
    for method in cacheMethods { #expect(names.contains(method.name), "\(method.name)") }
    #expect(names.isSubset(of: cacheMethods.map { $0.name }))
    let titles = ComparedMethod.table.map(\.title)
    #expect(Set(titles).count == titles.count)
  }

  @Test func `every text of the table names a method at the widths of models`() throws {
    for method in ComparedMethod.table {
      for width in [16, 64, 128] {
        for text in method.texts(width: width) {
          #expect(throws: Never.self) { _ = try cacheMethod(text) }
        }
      }
    }
  }

  @Test func `full attention, the oracle and the control are always there`() throws {
    for text in ["all", "quest", "lrqk recommended"] {
      let titles = try ComparePlan.methods(text).map(\.title)
      for name in ComparedMethod.always { #expect(titles.count { $0 == name } == 1, "\(text)") }
    }
    let titles = try ComparePlan.methods("lrqk", adding: ["quest:page=4"]).map(\.title)
    #expect(titles.contains("lrqk paper") && titles.contains("lrqk recommended"))
    #expect(titles.last == "quest:page=4")
    for (text, own) in [("quesst", []), ("smallkv", []), ("quest", ["quest:budget=25%"])] {
      #expect(throws: EvaluationError.self) { _ = try ComparePlan.methods(text, adding: own) }
    }
  }

  @Test(arguments: ["1/8", "3/16", "1/1"])
  func `a budget is written as it is read`(_ text: String) throws {
    #expect(ByteBudget(text)?.description == text)
    for wrong in ["8", "0/8", "9/8", "1/0", "1/", "-1/8", "1/2/3", ""] {
      #expect(ByteBudget(wrong) == nil)
    }
  }

  @Test(arguments: ["1/2", "1/4", "1/8", "1/16"], [180, 400, 2000])
  func `what is fitted stays within the budget, and the next larger choice would not`(
    _ text: String, _ tokens: Int
  ) throws {
    let layers = try Tiny.load().decoder.layerShapes
    let budget = try #require(ByteBudget(text))
    let bytes = try budget.layerBytes(length: tokens, layers: layers)
    let limit = bytes * layers.count
    var fitted = 0
    for line in ComparedMethod.table where line.obstacle(layers: layers) == nil {
      let found = try line.fitted(layerBytes: bytes, tokens: [tokens], layers: layers)
      if case .reference = line.sizing { continue }
      switch found {
      case .tooSmall(let sentence):
        #expect(sentence.hasPrefix("no setting fits: the smallest holds"), "\(line.title)")
      case .method(let method):
        fitted += 1
        let held = method.held(tokens: tokens, layers: layers)
        #expect(held <= limit, "\(line.title): \(method)")
        if case .settings = line.sizing {
          // No other setting lies between.
          for other in line.texts(width: layers[0].width) {
            let bytes = try cacheMethod(other).held(tokens: tokens, layers: layers)
            #expect(bytes <= held || bytes > limit, "\(line.title): \(other)")
          }
        } else if line.isFittedByMoves && !["quest", "shadowkv"].contains(line.name) {
          // One row more for every head is too much, unless the prompt has no more rows.
          let rows = method.attendedRows(tokens: tokens, layer: layers[0])
          if rows >= tokens { continue }
          let k = rows - method.recentTokens + 1
          let options = method.options.filter { $0.name != "budget" }
            .map { "\($0.name)=\($0.value)" }.joined(separator: ",")
          let larger = try cacheMethod("\(line.name):\(options),k=\(k)")
          #expect(larger.held(tokens: tokens, layers: layers) > limit, "\(line.title): \(larger)")
        }
      }
    }
    #expect(fitted >= 8, "\(fitted) methods fit")
  }

  @Test func `bisection finds the largest k of any growing cost`() {
    for most in [1, 2, 7, 64] {
      for cost in 0...most + 1 {
        // k moves k bytes a token; the limit is `cost`.
        var search = MovedBudget(limit: Double(cost), most: most)
        var asked = 0
        while let k = search.next {
          search.learn(Double(k))
          asked += 1
        }
        #expect(search.found == (cost == 0 ? nil : min(cost, most)), "\(cost) of \(most)")
        #expect(asked <= 8)
        if cost == 0 { #expect(search.least == 1) }
      }
    }
  }

  @Test(arguments: [false, true])
  func `measured bytes after the prompt stay within the device's budget`(_ decodes: Bool) throws {
    var comparison = TinyComparison()
    (comparison.methods, comparison.decodesQuestions) = ("all", decodes)
    comparison.budgets = ["1/2", "1/4", "1/8"]
    let (plan, model) = (try comparison.plan(), try comparison.model())
    let (decoder, _) = try Tiny.load()
    var measured = 0
    for task in plan.tasks {
      let sample = try model.generator.sample(task, length: 600, index: 0)
      let count = try model.answers.promptTokens(sample)
      let cells = try plan.cells(.device, length: 600, promptTokens: [count], layers: model.layers)
        .filter { $0.budget != nil && $0.method != nil }
      var generator = Generator(decoder, limit: 1) { n, layer in
        try #require(cells[n].method).makeCache(for: layer)
      }
      let prompt = Array(sample.tokens[..<count])
      for (cell, answer) in zip(cells, try generator.generate(prompt, sequences: cells.count)) {
        let held = answer.states[0].tiers.device.residentBytes
        let budget = try #require(cell.budgetBytes)
        #expect(Double(held) <= budget, "\(cell.title), \(count) tokens")
        measured += 1
      }
    }
    #expect(measured > 40)
  }

  @Test func `a comparison has what each method holds and moves, beside full attention`() throws {
    let report = try TinyComparison().report()
    let means = report.rows.filter { $0.tasks != nil }
    let full = try #require(means.first { $0.method == "full" })
    #expect(full.sameAnswers == 1 && full.firstDifference == nil)
    #expect(full.movedBytesPerToken == 0 && full.budget == "all" && full.passes == 1)
    let offload = try #require(means.first { $0.method == "offload" })
    #expect(offload.sameAnswers == 1 && offload.score == full.score)
    for table in ComparedTable.allCases {
      for budget in ["1/2", "1/4"] {
        for name in ["topk", "random"] {
          #expect(
            means.count { $0.table == table && $0.budget == budget && $0.method == name } == 1)
        }
      }
    }
    #expect(means.first { $0.method == "kvzip" }?.passes == 2)
    // What was fitted on the first sample moves no more than its budget there.
    let moved = report.rows.filter { $0.table == .moved && $0.tasks == nil && $0.score != nil }
    #expect(moved.contains { $0.budget != "all" })
    let oracle = means.filter { $0.method == "topk" && $0.table == .device }
    #expect(oracle.count == 2 && oracle.allSatisfy { $0.recall == 1 })
  }

  @Test func `no trial whose k was taken moved more than the budget`() throws {
    let folder = try newFolder()
    var comparison = TinyComparison()
    comparison.samples = 1
    let report = try comparison.report(folder.path)
    // With one sample the row is measured on the sample that k was fitted on.
    var checked = 0
    for row in report.rows where row.table == .moved && row.tasks == nil {
      guard let budget = row.budgetBytes, let moved = row.movedBytesPerToken else { continue }
      #expect(moved <= budget, "\(row.method), \(row.task), \(row.budget)")
      checked += 1
    }
    #expect(checked >= 8)
  }

  @Test(arguments: [0.1, 0.5, 0.95])
  func `a run that was killed goes on and ends with the same bytes`(_ part: Double) throws {
    let (whole, killed) = (try newFolder(), try newFolder())
    let comparison = TinyComparison()
    let report = try comparison.report(whole.path)
    for name in ["predictions.jsonl", "trials.jsonl"] {
      let bytes = try Data(contentsOf: URL(fileURLWithPath: "\(whole.path)/\(name)"))
      let head = try #require(bytes.firstIndex(of: 10)) + 1
      // Cut somewhere behind the head, within a line as a rule.
      let kept = head + Int(Double(bytes.count - head) * part)
      try bytes[..<kept].write(to: URL(fileURLWithPath: "\(killed.path)/\(name)"))
    }
    let resumed = try comparison.report(killed.path)
    for (a, b) in zip(try report.files(), try resumed.files()) {
      #expect(a.name == b.name && a.text == b.text, "\(a.name)")
    }
    for name in ["predictions.jsonl", "trials.jsonl"] {
      #expect(
        try Data(contentsOf: URL(fileURLWithPath: "\(whole.path)/\(name)"))
          == Data(contentsOf: URL(fileURLWithPath: "\(killed.path)/\(name)")), "\(name)")
    }
  }

  @Test func `the folder of another run is refused by the name of what differs`() throws {
    let folder = try newFolder()
    var first = TinyComparison()
    (first.samples, first.methods, first.tables) = (1, "quest", [.device])
    _ = try first.report(folder.path)
    func refusal(_ change: (inout TinyComparison) -> Void) -> String {
      var other = first
      change(&other)
      do { _ = try other.report(folder.path) } catch { return "\(error)" }
      return "accepted"
    }
    #expect(refusal { $0.seed = 9 }.contains(#"seed "0", here "9""#))
    #expect(refusal { $0.samples = 2 }.contains(#"samples "1", here "2""#))
    #expect(refusal { $0.budgets = ["1/3"] }.contains(#"budgets "1/2, 1/4", here "1/3""#))
    #expect(refusal { $0.methods = "loki" }.contains("methods "))
    #expect(
      refusal { $0.tables = [.device, .moved] }.contains(#"tables "device", here "device, moved""#))
    #expect(refusal { _ in } == "accepted")
  }
}
