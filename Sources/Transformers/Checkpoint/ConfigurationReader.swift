// Reading one JSON object of settings, key by key.
//
// In:  a JSON object; then one question per key: which kind, which range, what if it is absent.
// Out: checked values, or a ConfigurationError that names the key.
//
// The reader remembers which keys were asked for. `finish` refuses every other key: a setting that
// nothing has read may change what the model computes. An explicit null counts as absent.

package import Tensors

/// The members of one JSON object, and which of them have been read.
package struct ConfigurationReader {
  /// The longest settings file that is read, in bytes.
  static let fileLimit = 4_000_000

  /// The path, for errors.
  package let file: String
  /// What stands before a key in errors: "" or "rope_scaling.".
  private let prefix: String
  private let object: JSONValue
  private var read: Set<String> = []
  /// What a user should know about how the object was read, a line each.
  private(set) var notes: [String] = []

  /// Reads the file at `path`; it must hold an object.
  package init(path: String) throws(ConfigurationError) {
    let bytes: [UInt8]
    do {
      bytes = try readFile(at: path, limit: Self.fileLimit)
    } catch {
      throw ConfigurationError(file: path, key: nil, problem: .unreadable(error))
    }
    try self.init(bytes: bytes, file: path)
  }

  /// Reads the text of an object; errors call it `file`.
  package init(bytes: [UInt8], file: String) throws(ConfigurationError) {
    let json: JSONValue
    do {
      json = try JSONValue(parsing: bytes, depthLimit: 16)
    } catch {
      throw ConfigurationError(file: file, key: nil, problem: .syntax(error))
    }
    try self.init(json, file: file, prefix: "")
  }

  /// Reads an object that lies in `file` under `prefix`.
  package init(_ json: JSONValue, file: String, prefix: String) throws(ConfigurationError) {
    guard json.objectValue != nil else {
      let key = prefix.isEmpty ? nil : String(prefix.dropLast())
      throw ConfigurationError(file: file, key: key, problem: .wrongKind(expected: "an object"))
    }
    self.file = file
    self.prefix = prefix
    object = json
  }

  /// The error for `key`.
  package func fault(_ key: String, _ problem: ConfigurationError.Problem) -> ConfigurationError {
    ConfigurationError(file: file, key: prefix + key, problem: problem)
  }

  /// Whether the key is there at all, if only with null.
  package func has(_ key: String) -> Bool { object[key] != nil }

  /// The value of a key; nil where it is absent or null.
  package mutating func value(_ key: String) -> JSONValue? {
    read.insert(key)
    return object[key].flatMap { $0.isNull ? nil : $0 }
  }

  /// A value of some kind; nil where it is absent or null.
  private mutating func value<Kind>(
    _ key: String, _ expected: String, _ kind: (JSONValue) -> Kind?
  ) throws(ConfigurationError) -> Kind? {
    guard let json = value(key) else { return nil }
    guard let found = kind(json) else { throw fault(key, .wrongKind(expected: expected)) }
    return found
  }

  /// An integer in a range; nil where it is absent or null.
  package mutating func integer(
    _ key: String, in range: ClosedRange<Int>
  ) throws(ConfigurationError) -> Int? {
    guard let found = try value(key, "an integer", \.intValue) else { return nil }
    if !range.contains(found) {
      throw fault(
        key,
        .outOfRange(value: "\(found)", allowed: "from \(range.lowerBound) to \(range.upperBound)"))
    }
    return found
  }

  /// A finite number above `lowest` and at most `highest`; nil where it is absent or null.
  package mutating func number(
    _ key: String, above lowest: Double, upTo highest: Double = 1e12
  ) throws(ConfigurationError) -> Double? {
    guard let found = try value(key, "a number", \.doubleValue) else { return nil }
    if !(found > lowest && found <= highest) {
      throw fault(
        key, .outOfRange(value: "\(found)", allowed: "above \(lowest) and at most \(highest)"))
    }
    return found
  }

  /// true or false; nil where it is absent or null.
  package mutating func flag(_ key: String) throws(ConfigurationError) -> Bool? {
    try value(key, "true or false", \.boolValue)
  }

  /// Text; nil where it is absent or null.
  package mutating func text(_ key: String) throws(ConfigurationError) -> String? {
    try value(key, "a string", \.stringValue)
  }

  /// A list of strings; nil where it is absent or null.
  package mutating func texts(_ key: String) throws(ConfigurationError) -> [String]? {
    try value(key, "a list of strings") { allOrNil($0.arrayValue?.map(\.stringValue)) }
  }

  /// A list of positive numbers; nil where it is absent or null.
  mutating func positiveNumbers(_ key: String) throws(ConfigurationError) -> [Double]? {
    try value(key, "a list of positive numbers") {
      allOrNil($0.arrayValue?.map { $0.doubleValue.flatMap { $0 > 0 && $0 <= 1e12 ? $0 : nil } })
    }
  }

  /// One token id or a list of them, of which −1 means none; nil where it is absent or null.
  mutating func tokens(_ key: String) throws(ConfigurationError) -> Set<Int>? {
    try value(key, "a token id or a list of them") { json in
      allOrNil((json.arrayValue ?? [json]).map { $0.intValue.flatMap { $0 >= -1 ? $0 : nil } })
        .map { Set($0).subtracting([-1]) }
    }
  }

  /// An object within this one; nil where it is absent or null.
  package mutating func object(_ key: String) throws(ConfigurationError) -> ConfigurationReader? {
    guard let json = value(key) else { return nil }
    return try ConfigurationReader(json, file: file, prefix: "\(prefix)\(key).")
  }

  /// `value`, or an error that says that the key is missing.
  package func require<Value>(_ key: String, _ value: Value?) throws(ConfigurationError) -> Value {
    guard let value else { throw fault(key, .missing) }
    return value
  }

  /// Whether the object has no members.
  var isEmpty: Bool { object.objectValue?.isEmpty ?? true }

  /// Keys that nothing has asked for, in the order of the file.
  var unreadKeys: [String] {
    (object.objectValue ?? []).map(\.key).filter { !read.contains($0) }
  }

  /// Adds a line about `key` for the user.
  mutating func note(_ key: String, _ sentence: String) {
    notes.append("\(file): \(shown(prefix + key)) \(sentence)")
  }

  /// Takes over what an object within this one had to say.
  mutating func addNotes(of inner: ConfigurationReader) { notes += inner.notes }

  /// Refuses keys that were not read; with `passingNulls` those alone that have a value.
  package func finish(passingNulls: Bool = false) throws(ConfigurationError) {
    for key in unreadKeys where !passingNulls || object[key]?.isNull != true {
      throw fault(key, .unknownKey)
    }
  }
}

/// The elements without their optionality, if none is nil.
private func allOrNil<Element>(_ elements: [Element?]?) -> [Element]? {
  guard let elements else { return nil }
  let present = elements.compactMap { $0 }
  return present.count == elements.count ? present : nil
}
