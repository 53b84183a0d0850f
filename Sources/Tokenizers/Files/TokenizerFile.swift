// tokenizer.json as a tree of parts that know where they stand.
//
// In:  the JSON of a file and its name.
// Out: members of the type that is asked for, or an error that names the file and the place.
//
// The format is that of Hugging Face's `tokenizers` library, version "1.0". Every key of every part
// is either read or an error: an option that we do not know would otherwise be an option that we
// silently ignore. A key whose value is null counts as absent, as in the library.

internal import Tensors

/// A tokenizer's text: every part works on Unicode scalars, whose equality is exact.
///
/// (Swift compares strings by canonical equivalence; a vocabulary holds "é" in both spellings.)
typealias Scalars = [Unicode.Scalar]

/// One JSON value of a tokenizer file, and its place.
struct TokenizerPart {
  let file: String
  /// Such as `pre_tokenizer.pretokenizers[0]`; empty for the whole file.
  let place: String
  let value: JSONValue

  /// The largest file that is read, in bytes. (The largest published ones have some 35 MB.)
  static let fileLimit = 200_000_000

  /// How deep arrays and objects may lie in one another.
  static let depthLimit = 32

  /// Reads a file from its bytes.
  init(parsing bytes: [UInt8], name: String) throws(TokenizerError) {
    do {
      value = try JSONValue(parsing: bytes, depthLimit: Self.depthLimit)
    } catch {
      throw TokenizerError(file: name, reason: "\(error); not the JSON of a tokenizer")
    }
    file = name
    place = ""
  }

  private init(file: String, place: String, value: JSONValue) {
    self.file = file
    self.place = place
    self.value = value
  }

  /// An error about this part.
  func fault(_ reason: String) -> TokenizerError {
    TokenizerError(file: file, reason: place.isEmpty ? reason : "\(place): \(reason)")
  }

  /// Refuses a part that is no object or has other keys than these.
  func allow(_ keys: String...) throws(TokenizerError) {
    guard let members = value.objectValue else { throw fault("not an object") }
    for member in members where !keys.contains(where: { $0.utf8.elementsEqual(member.key.utf8) }) {
      throw fault("unknown key \(shown(member.key)); this package would ignore it")
    }
  }

  /// The member `key`; nil where it is absent or null.
  func member(_ key: String) -> TokenizerPart? {
    guard let value = value[key], !value.isNull else { return nil }
    return TokenizerPart(
      file: file, place: place.isEmpty ? key : "\(place).\(key)", value: value)
  }

  /// The members of this object in their order, those that are null included.
  func members() throws(TokenizerError) -> [(key: String, part: TokenizerPart)] {
    guard let members = value.objectValue else { throw fault("not an object") }
    return members.map { member in
      let key = shown(member.key).dropFirst().dropLast()
      return (
        member.key,
        TokenizerPart(
          file: file, place: place.isEmpty ? "\(key)" : "\(place).\(key)", value: member.value)
      )
    }
  }

  /// The member `key`, which must be there.
  func required(_ key: String) throws(TokenizerError) -> TokenizerPart {
    guard let member = member(key) else { throw fault("no \(key)") }
    return member
  }

  /// The elements of this array.
  func elements() throws(TokenizerError) -> [TokenizerPart] {
    guard let elements = value.arrayValue else { throw fault("not a list") }
    return elements.enumerated().map { index, element in
      TokenizerPart(file: file, place: "\(place)[\(index)]", value: element)
    }
  }

  /// The text of this part, which has to be a string.
  func string() throws(TokenizerError) -> String {
    guard let text = value.stringValue else { throw fault("not a string") }
    return text
  }

  /// This string as scalars.
  func scalars() throws(TokenizerError) -> Scalars { Scalars(try string().unicodeScalars) }

  /// This string of a single scalar.
  func scalar() throws(TokenizerError) -> Unicode.Scalar {
    let text = try scalars()
    guard text.count == 1 else { throw fault("not a single character") }
    return text[0]
  }

  /// This integer, from 0 up to `limit`.
  func natural(upTo limit: Int) throws(TokenizerError) -> Int {
    guard let integer = value.intValue, integer >= 0, integer <= limit else {
      throw fault("not an integer from 0 to \(limit)")
    }
    return integer
  }

  /// This token id.
  func tokenID() throws(TokenizerError) -> Int { try natural(upTo: Int(Int32.max)) }

  /// The truth of the member `key`; `fallback`, where there is one, if it is absent.
  func flag(_ key: String, default fallback: Bool? = nil) throws(TokenizerError) -> Bool {
    guard let member = member(key) else {
      if let fallback { return fallback }
      throw fault("no \(key)")
    }
    guard let truth = member.value.boolValue else { throw member.fault("not true or false") }
    return truth
  }

  /// The name of this component's kind: its member `type`.
  func type() throws(TokenizerError) -> String { try required("type").string() }

  /// An error: a component of a kind that is not here.
  func unsupported(_ type: String, known: String) -> TokenizerError {
    fault("type \(shown(type)) is not supported; supported are \(known)")
  }
}

/// Text from a file as an error message shows it.
func quoted(_ text: Scalars) -> String { shown(String(text)) }

extension String {
  /// The string of these scalars.
  init(_ scalars: Scalars) {
    var view = UnicodeScalarView()
    view.append(contentsOf: scalars)
    self.init(view)
  }
}
