// The options of the LRQK methods: LRQK's table of choices, as texts of a method.
//
// In:  options as they were written.
// Out: checked `Parameters`, and the options in effect, so that they make the same parameters
//      again.
//
// Defaults are those of the preset `paper`, the released method, at the sizes of its cache class. A
// preset is where the other choices start from, and an option that is given wins over it.

import LRQK

/// Sizes and choices of an LRQK method.
public struct LRQKOptions: Sendable {
  private var preset = Preset.paper
  /// The choices, checked; k is `selected(tokens:)` where there is a budget.
  var parameters = Parameters(.paper, .released)
  /// What k and w come to together; nil where k is given, or nothing.
  private(set) var budget: Budget?
  /// In what form rows are held.
  private(set) var rows = RowFormat.exact

  /// `reuse` is what a method is, and codes to start from come with a call: neither is an option.
  private static var choices: [Choice] { Choice.all.filter { $0.name != "reuse" } }
  private static let given = "given"

  static var optionList: [MethodOption] {
    let start = LRQKOptions()
    return [
      MethodOption(
        "preset", "choices to start from: paper (released), recommended", defaultValue: "paper")
    ]
      + choices.map { choice in
        MethodOption(
          choice.letter ?? choice.name, choice.meaning,
          defaultValue: start.text(choice) ?? choice.silent ?? "")
      } + [RowBudget.budgetOption, RowFormat.option]
  }

  private init() {}

  init(_ given: MethodOptions) throws(MethodError) {
    if let preset = try given.choice("preset", of: Preset.self) { self.preset = preset }
    budget = try given.budget("budget", orNone: true)
    rows = try given.rowFormat()
    if budget != nil && given.text("k") != nil {
      throw given.error("budget and k say the same; give one")
    }
    var p = Parameters(preset, .released)
    for choice in Choice.inReadingOrder(Self.choices) {
      let name = choice.letter ?? choice.name
      guard let text = given.text(name) else { continue }
      try Self.checkNumber(choice, name, text, given)
      do throws(ChoiceError) {
        if text == Self.given { throw ChoiceError.unknownWord }
        try choice.read(text, into: &p)
      } catch {
        throw Self.sentence(
          error, choice, name, given, p.kinds.replacing("solver ", with: "solver="))
      }
    }
    parameters = p
    do { try p.check(width: p.rank) } catch { throw given.error("\(error)") }
  }

  /// Throws unless a number is one that a method takes.
  private static func checkNumber(
    _ choice: Choice, _ name: String, _ text: String, _ given: MethodOptions
  ) throws(MethodError) {
    switch choice.form {
    case .count(let range) where text != choice.silent: _ = try given.integer(name, in: range)
    case .number: _ = try given.number(name)
    default: break
    }
  }

  private static func sentence(
    _ error: ChoiceError, _ choice: Choice, _ name: String, _ given: MethodOptions,
    _ others: String
  ) -> MethodError {
    switch error {
    case .unknownWord, .noNumber:
      if case .words(let words) = choice.form {
        given.notAmong(name, words.filter { $0 != Self.given })
      } else {
        given.error(
          "\(name)=\(given.text(name) ?? "") is not lambda_Q/lambda_K/lambda_1/lambda_2, "
            + "four numbers")
      }
    case .refused(let sentence): given.error(sentence)
    case .noEffect: given.error("\(name) has no effect with \(others); drop one of them")
    case .partWithoutEffect(let part):
      given.error("\(part) of \(name) have no effect with \(others)")
    }
  }

  /// Everything in effect, in the order of `optionList`.
  var options: [(name: String, value: String)] {
    [("preset", preset.rawValue)]
      + Self.choices.compactMap { choice in
        choice.letter == "k" && budget != nil
          ? nil : text(choice).map { (choice.letter ?? choice.name, $0) }
      } + (budget.map { [("budget", $0.description)] } ?? []) + rows.options
  }

  /// The text of a choice in effect; commas separate options, so weights have slashes.
  private func text(_ choice: Choice) -> String? {
    choice.write(parameters)?.replacing(",", with: "/")
  }
}
