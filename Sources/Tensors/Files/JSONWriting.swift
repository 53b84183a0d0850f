// A JSON value as text again.
//
// In:  a value, perhaps one that was read.
// Out: its text; a member of the outermost object a line, everything within on that line.

extension JSONValue {
  /// The value on one line; numbers as they were written.
  package var text: String {
    switch self {
    case .object(let members):
      "{" + members.map { "\(jsonQuoted($0.key)): \($0.value.text)" }.joined(separator: ", ") + "}"
    case .array(let elements): "[" + elements.map(\.text).joined(separator: ", ") + "]"
    case .string(let string): jsonQuoted(string)
    case .integer(let integer): "\(integer)"
    case .number(let number): number
    case .bool(let flag): "\(flag)"
    case .null: "null"
    }
  }

  /// The text of a file: a line for every member of an object, and a line break at the end.
  package var fileText: String {
    guard case .object(let members) = self else { return text + "\n" }
    let lines = members.map { "  \(jsonQuoted($0.key)): \($0.value.text)" }
    return "{\n\(lines.joined(separator: ",\n"))\n}\n"
  }
}
