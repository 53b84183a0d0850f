// How the table of harmless keys is applied to a config.json.
//
// In:  a reader of the file; the table, HarmlessKeys.swift.
// Out: nothing, where every key of the table has a value under which it changes nothing; else an
//      error that names the key, the value, and the values that pass.
//
// A null passes everywhere: it says that nothing is asked for. Quantised weights have an error of
// their own, because they are the commonest reason for a file that cannot be followed.

package import Tensors

/// Keys that change nothing, under which values, and why.
package struct HarmlessKeys: Sendable {
  /// Names of the keys.
  package let keys: [String]
  /// The values under which they change nothing.
  package let values: HarmlessValues
  /// Why they change nothing, for the reader of the table and of an error.
  package let reason: String

  init(_ keys: [String], _ values: HarmlessValues, _ reason: String) {
    self.keys = keys
    self.values = values
    self.reason = reason
  }
}

/// The values under which a key changes nothing.
package enum HarmlessValues: Sendable {
  /// All of them.
  case any
  /// One of these, and null.
  case only([FixedValue])
}

/// A value that a key may have.
package enum FixedValue: Sendable {
  case text(String)
  case integer(Int)
  /// A number however it is written: 1 and 1.0 are one number.
  case number(Double)
  case flag(Bool)
  /// A value that says nothing: null, {} or [].
  case nothing

  package func matches(_ json: JSONValue) -> Bool {
    switch self {
    case .text(let text): json.stringValue?.utf8.elementsEqual(text.utf8) ?? false
    case .integer(let integer): json.intValue == integer
    case .number(let number): json.doubleValue == number
    case .flag(let flag): json.boolValue == flag
    case .nothing: json.objectValue?.isEmpty ?? json.arrayValue?.isEmpty ?? false
    }
  }

  var description: String {
    switch self {
    case .text(let text): shown(text)
    case .integer(let integer): "\(integer)"
    case .number(let number): number == number.rounded() ? "\(Int(number))" : "\(number)"
    case .flag(let flag): "\(flag)"
    case .nothing: "null"
    }
  }
}

extension ConfigurationReader {
  /// Marks every key of the table as known, and refuses one whose value would change something.
  mutating func checkHarmlessKeys() throws(ConfigurationError) {
    try checkQuantisation()
    for entry in harmlessKeys {
      for key in entry.keys {
        guard let json = value(key), case .only(let values) = entry.values else { continue }
        if !values.contains(where: { $0.matches(json) }) {
          let allowed = values.map(\.description).joined(separator: " or ")
          throw fault(
            key,
            .unsupported(
              value: json.brief, supported: "it has to be \(allowed) (\(entry.reason))"))
        }
      }
    }
  }

  /// Refuses weights that were quantised, and says by what.
  private mutating func checkQuantisation() throws(ConfigurationError) {
    for key in ["quantization_config", "quantization", "compression_config"] {
      guard let json = value(key), !FixedValue.nothing.matches(json) else { continue }
      let bits = (json["bits"]?.intValue).map { " to \($0) bits" } ?? ""
      let method =
        if let name = json["quant_method"]?.stringValue {
          " by \(shown(name))"
        } else if json["group_size"] != nil {
          " by MLX"
        } else if json["load_in_4bit"] != nil || json["load_in_8bit"] != nil {
          " by bitsandbytes"
        } else {
          ""
        }
      throw fault(
        key,
        .unsupported(
          value: "a checkpoint whose weights were quantised\(bits)\(method)",
          supported: "take the model in F32, F16 or BF16"))
    }
  }
}

extension JSONValue {
  /// The value as an error message shows it: scalars in full, others by their kind.
  var brief: String {
    switch self {
    case .object: "an object"
    case .array: "a list"
    case .string(let text): shown(text)
    case .integer(let integer): "\(integer)"
    case .number(let text): String(text.prefix(80))
    case .bool(let flag): "\(flag)"
    case .null: "null"
    }
  }
}
