// Options of the command line that are made from LRQK's table of choices.
//
// In:  the names of some choices, and what the user wrote.
// Out: the texts that were given, each of them readable; what they set is for the command.
//
// ArgumentParser finds the options of a type by its mirror, and fills them by decoding. So a type
// with a mirror made from the table, and with a decoder that asks for the same names, has them as
// if each were written down: help, "did you mean" and completions work as usual.

package import ArgumentParser
package import LRQK
import Tensors

/// Options made from some choices of the table.
package protocol TableOptions: ParsableArguments, CustomReflectable {
  /// The choices, in the order of help.
  static var choices: [Choice] { get }
  /// The choices that stand where none is given, for help; nil where they depend on the input.
  static var base: Parameters? { get }
  /// The text of every choice that was given, by name.
  var texts: [String: String] { get set }
}

extension TableOptions {
  package static var base: Parameters? { nil }

  package var customMirror: Mirror {
    Mirror(
      self,
      children: Self.choices.map { choice in
        ("_\(choice.name)", tableOption(choice, Self.base.flatMap { choice.write($0) }) as Any)
      })
  }

  package init(from decoder: any Decoder) throws {
    self.init()
    let given = try decoder.container(keyedBy: OptionName.self)
    for choice in Self.choices {
      let option = try given.decode(Option<String?>.self, forKey: OptionName(choice.name))
      texts[choice.name] = option.wrappedValue
    }
  }

  /// Sets what was given; an option without effect is a usage error.
  package func read(into parameters: inout Parameters) throws {
    for choice in Choice.inReadingOrder(Self.choices) {
      guard let text = texts[choice.name] else { continue }
      do throws(ChoiceError) {
        try choice.read(text, into: &parameters)
      } catch {
        throw ValidationError(choice.sentence(error, text, parameters))
      }
    }
  }
}

/// --solver, with a value that can be read.
private func tableOption(_ choice: Choice, _ defaultValue: String?) -> Option<String?> {
  let letter = choice.letter.flatMap(\.first)
  let words: [String] = if case .words(let words) = choice.form { words } else { [] }
  return Option(
    name: NameSpecification(
      (letter.map { [.customShort($0)] } ?? []) + [.customLong(choice.name)]),
    help: ArgumentHelp(
      sentence(choice) + (defaultValue.map { " (default: \($0))" } ?? "")),
    completion: words.isEmpty ? nil : .list(words)
  ) { text in
    if choice.misreading(text) != nil { throw ValidationError("'\(text)' \(choice.demand)") }
    return text
  }
}

/// "r, width of a code.", "How the prompt is factorised."; lambda_Q keeps its letter.
private func sentence(_ choice: Choice) -> String {
  if let letter = choice.letter { return "\(letter), \(choice.meaning)." }
  let isName = choice.meaning.prefix { $0 != " " }.contains("_")
  let first = String(choice.meaning.prefix(1))
  return (isName ? first : first.uppercased()) + choice.meaning.dropFirst() + "."
}

/// The name of an option as a key of the parser's container.
private struct OptionName: CodingKey {
  let stringValue: String
  var intValue: Int? { nil }

  init(_ name: String) { stringValue = name }
  init?(stringValue: String) { self.stringValue = stringValue }
  init?(intValue: Int) { nil }
}

/// A choice by its word: the raw value in kebab case.
func choice<C: CaseIterable & RawRepresentable<String>>(
  _ word: String, as type: C.Type
) throws -> C {
  guard let value = C.allCases.first(where: { optionWord($0.rawValue) == word }) else {
    let known = C.allCases.map { optionWord($0.rawValue) }.joined(separator: ", ")
    throw ValidationError("'\(word)' is none of: \(known)")
  }
  return value
}
