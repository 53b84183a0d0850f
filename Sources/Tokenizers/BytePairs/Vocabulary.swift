// Tokens and their numbers.
//
// In:  `model.vocab` of tokenizer.json: {"token": id, ...}.
// Out: id of a text, text of an id; quick answers for single scalars and for bytes.
//
// Ids need not be dense, so nothing here is as large as the largest id.

internal import Tensors

/// The tokens of the model, without the added ones.
struct Vocabulary: Sendable {
  /// id of each token.
  private(set) var ids: [Scalars: Int] = [:]

  /// Token of each id.
  private(set) var texts: [Int: Scalars] = [:]

  /// id of each token that is one scalar.
  private(set) var singles: [Unicode.Scalar: Int] = [:]

  /// id of the tokens `<0x00>` to `<0xFF>`, where there are such.
  private(set) var bytes: [Int?] = []

  /// Reads `model.vocab` of tokenizer.json.
  init(_ part: TokenizerPart) throws(TokenizerError) {
    guard let members = part.value.objectValue else { throw part.fault("not an object") }
    ids.reserveCapacity(members.count)
    texts.reserveCapacity(members.count)
    for member in members {
      let text = Scalars(member.key.unicodeScalars)
      guard let id = member.value.intValue, id >= 0, id <= Int(Int32.max) else {
        throw part.fault("the id of \(quoted(text)) is no integer from 0 to \(Int32.max)")
      }
      if let other = texts.updateValue(text, forKey: id) {
        throw part.fault("\(quoted(other)) and \(quoted(text)) have the same id \(id)")
      }
      ids[text] = id
      if text.count == 1 { singles[text[0]] = id }
    }
    bytes = (0..<256).map { ids[byteToken(UInt8($0))] }
  }
}

/// The token that stands for one byte where no token covers a character: `<0x0A>`.
func byteToken(_ byte: UInt8) -> Scalars {
  let hex = String(byte, radix: 16, uppercase: true)
  return Scalars("<0x\(hex.count == 1 ? "0" : "")\(hex)>".unicodeScalars)
}
