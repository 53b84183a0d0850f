// The options of a method as they were written.
//
// In:  "r=16,k=240", and the options that the method has.
// Out: checked values, or an error of one line that names the option and says what exists.

import Tensors

/// Why a text does not name a cache method.
public struct MethodError: Error, Equatable, CustomStringConvertible {
  /// One line: what, and what there is instead.
  public let description: String

  /// An error of one line.
  public init(_ description: String) { self.description = description }
}

/// The options that a text gives to a method.
public struct MethodOptions: Sendable {
  let method: String
  private let values: [(name: String, value: String)]

  /// Reads pairs option=value for a method that has the options `known`; nil gives none.
  init(_ text: String?, method: String, known: [MethodOption]) throws(MethodError) {
    self.method = method
    var values: [(name: String, value: String)] = []
    for pair in text?.split(separator: ",", omittingEmptySubsequences: false) ?? [] {
      let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard sides.count == 2, !sides[0].isEmpty, !sides[1].isEmpty else {
        throw MethodError("\(method): '\(pair)' is not option=value")
      }
      let (name, value) = (String(sides[0]), String(sides[1]))
      guard known.contains(where: { $0.name == name }) else {
        throw MethodError(
          known.isEmpty
            ? "\(method) has no options, so no '\(name)'"
            : "\(method) has no option '\(name)'; "
              + (nearestWord(to: name, among: known.map(\.name)).map { "did you mean \($0)? It" }
                ?? "it")
              + " has: \(known.map(\.name).joined(separator: ", "))")
      }
      guard !values.contains(where: { $0.name == name }) else {
        throw MethodError("\(method): \(name) is given twice")
      }
      values.append((name, value))
    }
    self.values = values
  }

  /// The text given for an option.
  public func text(_ name: String) -> String? { values.first { $0.name == name }?.value }

  /// A whole number in `range`.
  public func integer(_ name: String, in range: ClosedRange<Int>) throws(MethodError) -> Int? {
    guard let text = text(name) else { return nil }
    guard let number = Int(text), range.contains(number) else {
      throw MethodError(
        "\(method): \(name)=\(text) is not a whole number from \(range.lowerBound) to "
          + "\(range.upperBound)")
    }
    return number
  }

  /// A finite number, 0 or larger.
  public func number(_ name: String) throws(MethodError) -> Double? {
    guard let text = text(name) else { return nil }
    guard let number = Double(text), number.isFinite, number >= 0 else {
      throw MethodError("\(method): \(name)=\(text) is not a finite number, 0 or larger")
    }
    return number
  }

  /// A choice by its word: the raw value in kebab case.
  public func choice<C: CaseIterable & RawRepresentable<String>>(
    _ name: String, of type: C.Type
  ) throws(MethodError) -> C? {
    guard let text = text(name) else { return nil }
    for choice in C.allCases where optionWord(choice.rawValue) == text { return choice }
    throw notAmong(name, C.allCases.map { optionWord($0.rawValue) })
  }

  /// The error for a word that is none of `words`.
  public func notAmong(_ name: String, _ words: [String]) -> MethodError {
    MethodError(
      "\(method): \(name)=\(text(name) ?? "") is none of: \(words.joined(separator: ", "))")
  }

  /// An error about this method.
  public func error(_ sentence: String) -> MethodError { MethodError("\(method): \(sentence)") }
}

/// Which of `methods` a text METHOD[:option=value,...] names, and the options that it gives.
///
/// A method or option that does not exist, an option given twice and a pair that is none are errors
/// of one line. `kind` is what errors call the methods.
func readMethod(
  _ text: String, among methods: [(name: String, options: [MethodOption])], kind: String
) throws(MethodError) -> (place: Int, given: MethodOptions) {
  let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
  let name = String(parts[0])
  guard let place = methods.firstIndex(where: { $0.name == name }) else {
    let known = methods.map(\.name)
    throw MethodError(
      "there is no \(kind) '\(name)'; "
        + (nearestWord(to: name, among: known).map { "did you mean \($0)? There" } ?? "there")
        + " are: \(known.joined(separator: ", ")) (lrqk methods lists their options)")
  }
  let given = try MethodOptions(
    parts.count > 1 ? String(parts[1]) : nil, method: name, known: methods[place].options)
  return (place, given)
}

/// Limits of the sizes that several methods have.
public enum Size {
  /// The most tokens that an option can ask for; more than any sequence here has.
  public static let most = 1 << 20
}

/// An option that is on or off.
enum Switch: String, Sendable, CaseIterable {
  case on
  case off
}
