// Every option of every command, as the tool itself lists them: what is given twice, what is
// misspelt, what begins with a dash. A new option is covered when it is there.

import Foundation
import Testing

/// A command as `lrqk --experimental-dump-help` describes it.
private struct Form: Decodable {
  struct Name: Decodable {
    let kind: String
    let name: String
    var written: String { (kind == "long" ? "--" : "-") + name }
  }
  struct Argument: Decodable {
    let kind: String
    let isRepeating: Bool
    let parsingStrategy: String
    let names: [Name]?
  }
  let commandName: String
  let subcommands: [Form]?
  let arguments: [Argument]?
}

/// A command without commands below, by its words, and its options.
struct LeafCommand: CustomTestStringConvertible, Sendable {
  struct Option: Sendable {
    let spellings: [String]
    let isFlag: Bool
    let isRepeating: Bool
    let isFreeText: Bool
  }
  let words: [String]
  let options: [Option]
  var testDescription: String { words.joined(separator: " ") }

  static let all: [LeafCommand] = {
    struct Dump: Decodable { let command: Form }
    guard let text = try? run("lrqk", ["--experimental-dump-help"]).output,
      let root = try? JSONDecoder().decode(Dump.self, from: Data(text.utf8)).command
    else { return [] }
    func leaves(_ form: Form, _ words: [String]) -> [LeafCommand] {
      let below = (form.subcommands ?? []).filter { $0.commandName != "help" }
      if !below.isEmpty { return below.flatMap { leaves($0, words + [$0.commandName]) } }
      let options = (form.arguments ?? []).filter { argument in
        argument.kind != "positional"
          && !(argument.names ?? []).contains { ["help", "version"].contains($0.name) }
      }
      return [
        LeafCommand(
          words: words,
          options: options.map {
            Option(
              spellings: ($0.names ?? []).map(\.written), isFlag: $0.kind == "flag",
              isRepeating: $0.isRepeating, isFreeText: $0.parsingStrategy == "unconditional")
          })
      ]
    }
    return leaves(root, [])
  }()
}

private func isOneLine(_ found: Outcome) -> Bool {
  found.output.isEmpty && found.error.hasPrefix("lrqk: ")
    && found.error.filter(\.isNewline).count == 1
}

@Suite struct ArgumentTests {
  @Test func `there are commands and options to test`() {
    #expect(LeafCommand.all.count > 20)
    #expect(LeafCommand.all.reduce(0) { $0 + $1.options.count } > 150)
  }

  @Test(arguments: LeafCommand.all)
  func `what takes one value says so when it is given twice, under any of its names`(
    _ command: LeafCommand
  ) throws {
    for option in command.options {
      let (first, last) = (option.spellings[0], option.spellings[option.spellings.count - 1])
      // The value that begins with a dash is the first one's: else it were no second time.
      let (one, two) = option.isFlag ? ([first], [last]) : ([first, "-1"], ["\(last)=1"])
      let found = try run("lrqk", command.words + one + two)
      let isTwice =
        found.error.contains("\(first) is given twice")
        || found.error.contains("\(first) and \(last) set the same")
      #expect(isTwice == !option.isRepeating, "\(first): \(found.error)")
      if isTwice { #expect(found.status == 64 && isOneLine(found), "\(found.error)") }
      for sentence in ["Missing value", "looks like an option", "has no option"] {
        #expect(!found.error.contains(sentence), "\(first): \(found.error)")
      }
    }
  }

  @Test(arguments: LeafCommand.all)
  func `a misspelt option is named with the nearest one, whatever else is missing`(
    _ command: LeafCommand
  ) throws {
    guard let option = command.options.flatMap(\.spellings).first(where: { $0.count > 6 }) else {
      return
    }
    var wrong = Array(option)
    wrong.swapAt(4, 5)
    let found = try run("lrqk", command.words + [String(wrong), "1"])
    #expect(found.status == 64 && isOneLine(found), "\(found.error)")
    if String(wrong) != option {
      #expect(found.error.contains("did you mean \(option)?"), "\(found.error)")
    }
  }

  @Test(arguments: LeafCommand.all)
  func `an option's name is no value unless the value is free text`(
    _ command: LeafCommand
  ) throws {
    let valued = command.options.filter { !$0.isFlag }
    for option in valued.filter(\.isFreeText) + valued.suffix(1) {
      let name = option.spellings[option.spellings.count - 1]
      let swallowed = try run("lrqk", command.words + [name, name])
      #expect(
        swallowed.error.contains("looks like an option") == !option.isFreeText,
        "\(name): \(swallowed.error)")
    }
  }

  @Test(arguments: [
    (["dmo"], "lrqk demo"), (["generat", "--prompt", "x"], "lrqk generate"),
    (["golden", "verfiy"], "lrqk golden verify"), (["bench", "genrate"], "generate"),
    (["help", "repaly"], "lrqk replay"), (["generate", "--promt", "x"], "--prompt"),
    (["generate", "-temperature", "1"], "--temperature"), (["replay", "a", "-k8"], "-k 8"),
    (["generate", "\u{2014}prompt", "x"], "--prompt"), (["replay", "-a.safetensors"], "./-a"),
    (["generate", "--prompt", "two", "words"], "quotes"), (["golden", "show", "a", "b"], "'b'"),
    (["--json"], "--help"), (["dance"], "--help"),
  ])
  func `a word that cannot be meant is met halfway`(_ arguments: [String], _ part: String) throws {
    let found = try run("lrqk", arguments)
    #expect(found.status == 64 && isOneLine(found), "\(found.error)")
    #expect(found.error.contains(part), "\(found.error)")
  }

  @Test(arguments: ["- milk", "-5 degrees", "---", "--", "-", "--text", "--model=x", "-h", ""])
  func `free text may be anything`(_ text: String) throws {
    let tokenize = ["tokenize", "--model", ModelToolTests.tokenizer]
    let apart = try run("lrqk", tokenize + ["--text", text])
    let joined = try run("lrqk", tokenize + ["--text=\(text)"])
    let piped = try run(
      "lrqk", tokenize + ["--json-lines"],
      input: Array(try JSONSerialization.data(withJSONObject: text, options: .fragmentsAllowed)))
    #expect(apart.status == 0 && joined.status == 0, "\(apart.error)\(joined.error)")
    #expect(apart.output == joined.output && apart.output == piped.output)
  }

  @Test(arguments: ["--prompt", "--system"], ["- be brief", "---", "-1", "--chat"])
  func `prompts and system messages may begin with a dash`(_ name: String, _ text: String) throws {
    let others = name == "--prompt" ? [] : ["--prompt", "x", "--chat"]
    let found = try run("lrqk", ["generate", "--model", "/nowhere", name, text] + others)
    #expect(found.status == 65 && found.error.contains("/nowhere"), "\(found.error)")
  }

  @Test(arguments: [
    (["generate", "--model", "m", "--prompt", "x", "--temperature", "-1"], "-1"),
    (["generate", "--model", "m", "--prompt", "x", "--temperature", "1", "--seed", "-1"], "whole"),
    (["explain", "--seed", "-3"], "whole number from 0"),
    (["explain", "--tokens", "-8"], "--tokens -8"),
    (["ruler", "--model", "m", "--samples", "-2"], "--samples -2"),
    (["bench", "decode", "--runs", "-1"], "--runs -1"),
    (["generate", "--model", "m", "--prompt", "x", "--seed", "1"], "--seed has no effect"),
  ])
  func `a number below zero is told what is wrong with it`(
    _ arguments: [String], _ part: String
  ) throws {
    let found = try run("lrqk", arguments)
    #expect(found.status == 64 && isOneLine(found), "\(found.error)")
    #expect(found.error.contains(part), "\(found.error)")
  }

  @Test func `a folder whose name begins with a dash is looked for`() throws {
    let found = try run("lrqk", ["inspect", "--model", "-nowhere"])
    #expect(found.status == 65 && found.error.contains("-nowhere"), "\(found.error)")
  }

  @Test func `help is printed unless a word before it cannot be meant`() throws {
    for arguments in [["generate", "--promt", "--help"], ["generate", "--json", "--json", "-h"]] {
      #expect(try run("lrqk", arguments).status == 64)
    }
    let found = try run("lrqk", ["generate", "--json", "--help"])
    #expect(found.status == 0 && found.output.contains("--prompt"))
  }

  @Test func `the methods are listed, each option once, the same way everywhere`() throws {
    let list = try run("lrqk", ["methods"])
    #expect(list.status == 0 && list.error.isEmpty)
    for part in ["\nlrqk-no-hit-miss ", "\n  preset=paper ", "\nstreaming ", "\n  sinks=4 "] {
      #expect(list.output.contains(part), "\(part)")
    }
    #expect(list.output.split(separator: "\n").allSatisfy { $0.count <= 120 })
    for command in [
      ["generate"], ["ruler"], ["sweep"], ["perplexity"], ["demo"], ["inspect"],
      ["bench", "generate"], ["bench", "select"],
    ] {
      let help = try run("lrqk", command + ["--cache", "help"])
      // What `lrqk convert` can do stands behind the cache methods.
      #expect(help.status == 0 && help.output.hasSuffix("\n"), "\(command): \(help.error)")
      #expect(list.output.hasPrefix(help.output + "\nFor lrqk convert --method:\n"))
    }
    let wrong = try run(
      "lrqk", ["generate", "--model", "m", "--prompt", "x", "--cache", "streamin:w=3"])
    #expect(wrong.status == 64 && isOneLine(wrong))
    #expect(wrong.error.contains("did you mean streaming?") && wrong.error.contains("lrqk methods"))
  }
}
