// Docs/json.md against what the commands print: every key, its type, and whether it may be absent.
//
// In:  the page's tables; the output of every command that prints JSON.
// Out: a failure for a key that is printed and not listed, listed and never printed, absent where
//      the page does not say so, or of another type.

import Foundation
import Testing

/// The tables of Docs/json.md, by heading.
private struct JSONPage {
  struct Row {
    let type: String
    let mayBeAbsent: Bool
  }
  /// Rows by key, by heading.
  private(set) var tables: [String: [String: Row]] = [:]

  init() throws {
    var heading = ""
    for line in try committed("Docs/json.md").split(separator: "\n") {
      if let title = line.wholeMatch(of: #/#+ (.*)/#) { heading = String(title.1) }
      if let row = line.wholeMatch(of: #/\| `([^`]+)` \| (.*?) \| (.*) \|/#) {
        tables[heading, default: [:]][String(row.1)] = Row(
          type: String(row.2), mayBeAbsent: row.3.contains("absent"))
      }
    }
  }
}

/// Compares values with the tables of one heading.
private struct PageComparison {
  let page: JSONPage
  /// The heading's own keys, and those that it borrows.
  let rows: [String: JSONPage.Row]
  private(set) var faults: Set<String> = []
  private(set) var seen: Set<String> = []
  /// Keys of the objects that commands share, by heading.
  private(set) var seenOfShared: [String: Set<String>] = [:]

  init(_ page: JSONPage, _ headings: [String]) {
    self.page = page
    rows = headings.reduce(into: [:]) { rows, heading in
      rows.merge(page.tables[heading] ?? [:]) { $1 }
    }
  }

  /// Keys that no output had.
  var unseen: Set<String> { Set(rows.keys).subtracting(seen) }

  /// An object whose keys stand in the tables behind `prefix`.
  mutating func compare(_ object: [String: AnyJSON], behind prefix: String = "") {
    let here = rows.filter { key, _ in
      key.hasPrefix(prefix) && !key.dropFirst(prefix.count).contains(".")
    }
    for (name, value) in object {
      let key = prefix + (here[prefix + "*"] == nil ? name : "*")
      guard let row = here[key] else {
        faults.insert("\(key) is not on the page")
        continue
      }
      seen.insert(key)
      compare(value, row.type, key)
    }
    for (key, row) in here where !row.mayBeAbsent && !key.hasSuffix("*") {
      if object[String(key.dropFirst(prefix.count))] == nil { faults.insert("\(key) is absent") }
    }
  }

  private mutating func compare(_ value: AnyJSON, _ type: String, _ key: String) {
    switch (value, type) {
    case (.object(let object), "object"): compare(object, behind: key + ".")
    case (.list(let list), "list of objects"):
      for case .object(let object) in list { compare(object, behind: key + "[].") }
    case (.list(let list), _) where type.hasPrefix("list of "):
      let element = String(type.dropFirst("list of ".count))
      for value in list {
        compare(
          value,
          element.hasPrefix("list")
            ? element.replacing("lists", with: "list") : String(element.dropLast()), key)
      }
    case (.object(let object), _) where type.hasPrefix("["):
      let heading = String(type.dropFirst().prefix { $0 != "]" })
      var shared = PageComparison(page, [heading])
      shared.compare(object)
      faults.formUnion(shared.faults.map { "\(key): \($0)" })
      seenOfShared[heading, default: []].formUnion(shared.seen)
    case (.string, "string"), (.boolean, "boolean"), (.integer, "integer"): break
    case (.integer, "number"), (.number, "number"): break
    case (.string(let text), "number") where ["Infinity", "-Infinity", "NaN"].contains(text): break
    default: faults.insert("\(key) is no \(type)")
    }
  }
}

@Suite struct JSONPageTests {
  @Test(arguments: JSONRuns.all)
  func `the page lists what is printed, and what it lists is printed`(_ runs: JSONRuns) throws {
    var comparison = PageComparison(try JSONPage(), runs.headings)
    #expect(!comparison.rows.isEmpty)
    for object in try runs.objects() { comparison.compare(object, behind: runs.rowsBehind) }
    #expect(comparison.faults.isEmpty, "\(comparison.faults.sorted())")
    // Lines without their object show a part of the keys.
    #expect(
      comparison.unseen.isSubset(of: JSONRuns.rare) || !runs.rowsBehind.isEmpty,
      "\(comparison.unseen.sorted())")
    // What commands share is printed in full by the first of them.
    if runs.headings == JSONRuns.all[0].headings {
      #expect(Set(comparison.seenOfShared.keys) == ["options", "budget", "ledger"])
      for (heading, seen) in comparison.seenOfShared {
        #expect(seen == Set(comparison.page.tables[heading, default: [:]].keys), "\(heading)")
      }
    }
  }

  @Test func `every command that prints JSON is on the page`() throws {
    let text = try committed("Docs/json.md")
    for command in LeafCommand.all where command.options.flatMap(\.spellings).contains("--json") {
      #expect(text.contains("lrqk \(command.testDescription) --json"), "\(command)")
    }
    for command in ["ruler", "sweep", "compare", "perplexity"] {
      #expect(text.contains("lrqk \(command) --format json"))
    }
    let tested = Set(JSONRuns.all.flatMap(\.headings))
    #expect(tested.isSubset(of: Set(try JSONPage().tables.keys)))
  }

  @Test func `a page that is wrong is found to be wrong`() throws {
    var comparison = PageComparison(try JSONPage(), ["lrqk tokenize"])
    comparison.compare(["ids": .list([.string("1")]), "more": .boolean])
    #expect(
      comparison.faults == ["ids is no integer", "more is not on the page", "decoded is absent"])
    #expect(comparison.unseen == ["decoded"])
  }
}

extension JSONRuns {
  /// Keys that some of these runs do not print: a code that broke down, a model that was converted,
  /// another program's times.
  fileprivate static let rare: Set = [
    "first_non_finite_code", "converted", "comparison", "results[].prompt_comparison",
    "results[].step_comparison",
  ]
}
