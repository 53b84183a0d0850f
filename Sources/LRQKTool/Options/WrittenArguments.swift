// Arguments as they were written, looked at before ArgumentParser reads them.
//
// In:  the words of the command line; what every command takes, as ArgumentParser describes it.
// Out: the same words, where a value that begins with a dash is joined to its option (--text=-5);
//      or one line about the first word that cannot be meant.
//
// ArgumentParser alone keeps the last of two values and drops the first without a word, takes the
// text "- milk" for an option, and misses a required option before it names the misspelt one. The
// rules here are the same for every option of every command, those to come included:
//
//   - an option that takes one value is given once; one that repeats may come again (all are used)
//   - free text (parsing: .unconditional) is whatever follows its option
//   - any other value may begin with one dash (-1, -file), unless it is an option's name
//   - a word that is no option, no command and no argument is named, with the nearest that is
//   - `--cache help` lists the cache methods
//
// Whether a value makes sense is left to ArgumentParser and to the commands.

import ArgumentParser
import CacheMethods
import Foundation
import Tensors

/// A command, as ArgumentParser describes it.
private struct CommandForm: Decodable {
  let commandName: String
  let subcommands: [CommandForm]?
  let arguments: [ArgumentForm]?

  var options: [ArgumentForm] { (arguments ?? []).filter { $0.kind != .positional } }
  var positionals: [ArgumentForm] { (arguments ?? []).filter { $0.kind == .positional } }

  /// The option that is written so, one or two dashes included.
  func option(_ written: String) -> ArgumentForm? {
    options.first { $0.spellings.contains(written) }
  }
}

/// An option, a flag or an argument without a name.
private struct ArgumentForm: Decodable {
  enum Kind: String, Decodable { case positional, option, flag }
  struct Name: Decodable {
    let kind: String
    let name: String
  }

  let kind: Kind
  let isRepeating: Bool
  let parsingStrategy: String
  let names: [Name]?
  let valueName: String?

  var longNames: [String] { (names ?? []).filter { $0.kind == "long" }.map(\.name) }
  var spellings: [String] {
    (names ?? []).map { ($0.kind == "long" ? "--" : "-") + $0.name }
  }
  /// Whether the next word is the value whatever it looks like.
  var isFreeText: Bool { parsingStrategy == "unconditional" }
}

/// The command line without the program's name.
///
/// Throws where a word is not UTF-8: Swift would put other characters in the place of its bytes.
func givenArguments() throws -> [String] {
  try (1..<max(Int(CommandLine.argc), 1)).compactMap { n in
    guard let word = unsafe CommandLine.unsafeArgv[n] else { return nil }
    guard let text = unsafe String(validatingCString: word) else {
      throw ValidationError("argument \(n) is not UTF-8 text; write it in UTF-8")
    }
    return text
  }
}

/// `arguments` (without the program's name) as ArgumentParser shall read them.
///
/// Throws `ValidationError` for a word that cannot be meant, and `CleanExit` for `--cache help`.
func writtenArguments(_ arguments: [String]) throws -> [String] {
  // What ArgumentParser adds for shells and for this file.
  if ["--experimental-", "--generate-", "---"].contains(where: {
    arguments.first?.hasPrefix($0) ?? false
  }) {
    return arguments
  }
  var walk = ArgumentWalk(tool: try describedTool(), arguments)
  try walk.enterCommands()
  try walk.readWords()
  return walk.isHelpWanted ? arguments : walk.result
}

/// The whole tool as ArgumentParser describes it.
private func describedTool() throws -> CommandForm {
  struct Dump: Decodable { let command: CommandForm }
  do {
    _ = try LRQKCommand.parseAsRoot(["--experimental-dump-help"])
  } catch {
    let text = LRQKCommand.fullMessage(for: error)
    return try JSONDecoder().decode(Dump.self, from: Data(text.utf8)).command
  }
  preconditionFailure("--experimental-dump-help is answered by an error that holds the text")
}

private struct ArgumentWalk {
  private(set) var result: [String] = []
  private(set) var isHelpWanted = false
  private let root: CommandForm
  private var form: CommandForm
  /// "lrqk golden write".
  private var path: String
  private var rest: ArraySlice<String>
  /// How each option that was given is written, by `key`.
  private var given: [String: String] = [:]
  private var positionals = 0

  init(tool: CommandForm, _ arguments: [String]) {
    root = tool
    form = tool
    path = tool.commandName
    rest = arguments[...]
  }

  /// The command's own words, as far as there are commands below.
  mutating func enterCommands() throws {
    while let below = form.subcommands, !below.isEmpty, let word = rest.first,
      !word.hasPrefix("-")
    {
      guard let next = below.first(where: { $0.commandName == word }) else {
        let near = nearestWord(to: word, among: below.map(\.commandName))
        throw ValidationError(
          "there is no command '\(path) \(word)'; "
            + (near.map { "did you mean '\(path) \($0)'?" } ?? "\(path) --help lists them"))
      }
      result.append(word)
      rest = rest.dropFirst()
      (form, path) = (next, path + " " + word)
      // `lrqk help generate`: the words after help are those of a command.
      if word == "help" { (form, path) = (root, root.commandName) }
    }
  }

  /// Options, values and arguments without a name.
  mutating func readWords() throws {
    while let word = rest.popFirst(), !isHelpWanted {
      if word == "--" {  // from here on nothing is an option
        result.append(word)
        while let word = rest.popFirst() { try takePositional(word) }
      } else if word.hasPrefix("-") && word != "-" {
        try takeOption(word)
      } else {
        try takePositional(word)
      }
    }
  }

  private mutating func takeOption(_ word: String) throws {
    let sides = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    let name = String(sides[0])
    guard let option = form.option(name) else { throw unknown(name) }
    if ["help", "version"].contains(where: option.longNames.contains) {
      isHelpWanted = true
      return
    }
    if let before = given.updateValue(name, forKey: key(option)), !option.isRepeating {
      throw ValidationError(
        before == name
          ? "\(name) is given twice; "
            + (option.kind == .flag ? "once is enough" : "it takes one value, so give it once")
          : "\(before) and \(name) set the same; give one of them, once")
    }
    if option.kind == .flag || sides.count == 2 {
      // --text= is an empty text; ArgumentParser would miss the value.
      result += option.kind == .option && sides[1].isEmpty ? [name, ""] : [word]
      try list(option, sides.count == 2 ? String(sides[1]) : nil)
      return
    }
    guard let value = rest.first else {
      result.append(word)  // ArgumentParser says what is missing
      return
    }
    if !option.isFreeText, value.hasPrefix("--") || form.option(value) != nil {
      throw ValidationError(
        "\(name) needs a value, and '\(value)' looks like an option; "
          + "if it is meant, write \(name)=\(value)")
    }
    rest = rest.dropFirst()
    try list(option, value)
    result += value.hasPrefix("-") ? ["\(name)=\(value)"] : [word, value]
  }

  private mutating func takePositional(_ word: String) throws {
    positionals += 1
    let known = form.positionals
    if positionals <= known.count || known.last?.isRepeating == true {
      result.append(word)
      return
    }
    // A long dash comes from copied text.
    if let dash = word.first, "\u{2013}\u{2014}".contains(dash) {
      throw unknown(word)
    }
    throw ValidationError(
      known.isEmpty
        ? "\(path) has no use for '\(word)': every value belongs to an option, and text with spaces "
          + "stands in quotes"
        : "\(path) takes \(known.count) argument\(known.count == 1 ? "" : "s") without a name, and "
          + "'\(word)' is one more")
  }

  /// One name for all spellings of an option, and for a flag and its opposite.
  private func key(_ option: ArgumentForm) -> String {
    let name = option.longNames.first ?? option.spellings.first ?? ""
    let plain = name.hasPrefix("no-") ? String(name.dropFirst(3)) : name
    return form.option("--" + plain) == nil ? name : plain
  }

  /// `--cache help` wants to know what there is.
  private func list(_ option: ArgumentForm, _ value: String?) throws {
    if option.longNames.contains("cache") && value == "help" { throw CleanExit.message(methodList) }
  }

  private func unknown(_ written: String) -> ValidationError {
    let name = String(written.drop { "-\u{2013}\u{2014}".contains($0) })
    let known = form.options.flatMap(\.longNames)
    var sentence = "\(path) has no option \(written)"
    if let short = form.option(String(written.prefix(2))), written.count > 2, short.kind == .option,
      !written.hasPrefix("--"), !known.contains(name)
    {
      return ValidationError("\(sentence); write \(written.prefix(2)) \(written.dropFirst(2))")
    }
    if let near = nearestWord(to: name, among: known) {
      sentence += "; did you mean --\(near)?"
    } else {
      sentence += "; \(path) --help lists them"
    }
    if !form.positionals.isEmpty && !written.hasPrefix("--") {
      sentence += "; a file of that name is ./\(written)"
    }
    return ValidationError(sentence)
  }
}
