// What a JSON text says.
//
// In:  what StrictJSON.swift has read.
// Out: values by kind and by key; nil where a value is of another kind, never a conversion.
//
// Keys are the same when their bytes are: "é" as one scalar and as two are two keys, and a
// vocabulary may hold both. (Swift's `==` on strings says that they are equal; nothing here uses
// it.) Numbers that are no 64-bit integer stay text until a Double is asked for: 1e-05 and
// 500000.0 of a configuration, and the 1000000000000000019884624838656 that stands for "no limit".

/// A JSON value; members of an object keep their order.
public enum JSONValue: Sendable {
  /// Members in the order of the file; no two keys have the same bytes.
  case object([Member])
  /// Elements in order.
  case array([JSONValue])
  /// Text, escapes resolved.
  case string(String)
  /// An integer that fits 64 bits.
  case integer(Int)
  /// Any other number (fraction, exponent, minus zero, beyond 64 bits), as written.
  case number(String)
  /// true or false.
  case bool(Bool)
  /// The word null of JSON.
  case null

  /// One `"key": value` of an object.
  public struct Member: Sendable {
    /// The key, escapes resolved.
    public let key: String
    /// The value that stands behind the key.
    public let value: JSONValue

    /// A key and its value.
    public init(_ key: String, _ value: JSONValue) {
      self.key = key
      self.value = value
    }
  }

  /// The value of the member `key` of an object; nil where there is none.
  ///
  /// Looks at each member.
  public subscript(key: String) -> JSONValue? {
    objectValue?.first { $0.key.utf8.elementsEqual(key.utf8) }?.value
  }

  /// The members of an object; nil for other values.
  public var objectValue: [Member]? {
    if case .object(let members) = self { members } else { nil }
  }

  /// The elements of an array; nil for other values.
  public var arrayValue: [JSONValue]? {
    if case .array(let elements) = self { elements } else { nil }
  }

  /// The text of a string; nil for other values.
  public var stringValue: String? {
    if case .string(let text) = self { text } else { nil }
  }

  /// An integer that fits 64 bits and is written as one; nil for other values.
  public var intValue: Int? {
    if case .integer(let integer) = self { integer } else { nil }
  }

  /// A number, rounded to the nearest Double; nil for other values and beyond Double's range.
  public var doubleValue: Double? {
    switch self {
    case .integer(let integer): Double(integer)
    case .number(let text): Double(text).flatMap { $0.isFinite ? $0 : nil }
    default: nil
    }
  }

  /// true or false; nil for other values.
  public var boolValue: Bool? {
    if case .bool(let truth) = self { truth } else { nil }
  }

  /// Whether this is null.
  public var isNull: Bool {
    if case .null = self { true } else { false }
  }
}

/// `text` as a JSON string, quotes included.
public func jsonQuoted(_ text: String) -> String {
  var quoted = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": quoted += "\\\""
    case "\\": quoted += "\\\\"
    case "\u{0}"..<"\u{20}", "\u{7F}":
      let hex = String(scalar.value, radix: 16)
      quoted += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
    default: quoted.unicodeScalars.append(scalar)
    }
  }
  return quoted + "\""
}

/// A name from a file as an error message shows it: on one line, quoted, not too long.
public func shown(_ name: String) -> String {
  let scalars = name.unicodeScalars
  return jsonQuoted(scalars.count > 80 ? String(scalars.prefix(80)) + "..." : name)
}
