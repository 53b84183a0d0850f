// What a safetensors file says about itself, checked.
//
// In:  the bytes of a file.
// Out: the list of its tensors (name, format, shape, where the bytes lie) and its metadata.
//
//   byte 0      8 bytes: n, length of the header (little-endian)
//   byte 8      n bytes: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...,
//                         "__metadata__": {"key": "text", ...}}, then spaces
//   byte 8 + n  data: the tensors' elements, row-major, little-endian
//
// After these checks nothing about the file can surprise: every byte of the data belongs to exactly
// one tensor, and every size has been multiplied without overflow. A reader that merely looks
// tensors up would not need that; but a file with two tensors on the same bytes, or with bytes that
// no tensor claims, was not written by a sane writer, and the official library refuses it too.
//
// Stricter than the official library in three places: an entry may hold no key beyond its three;
// a dtype that we cannot read refuses the file and not only the tensor; names that are
// the same text in another Unicode spelling count as duplicates.
//
// Next: SafetensorsFile.swift reads tensors through this list.

/// The checked header of a safetensors file.
struct SafetensorsHeader: Sendable {
  typealias Problem = SafetensorsError.Problem

  /// What the header says of one tensor.
  struct Entry: Sendable {
    let name: String
    let format: StorageFormat
    let shape: [Int]
    /// Where the elements lie, in bytes from the start of the file.
    let bytes: Range<Int>

    /// Where the elements at `places` lie.
    func bytes(of places: Range<Int>) -> Range<Int> {
      let (start, width) = (bytes.lowerBound, format.byteWidth)
      precondition(
        places.lowerBound >= 0 && places.upperBound <= bytes.count / width,
        "elements \(places) of \(bytes.count / width)")
      return start + width * places.lowerBound..<start + width * places.upperBound
    }
  }

  /// The tensors in the order of their bytes.
  let entries: [Entry]

  /// The free text pairs that the writer left.
  let metadata: [String: String]

  /// How deep arrays and objects may lie in one another.
  private static let depthLimit = 8

  /// Names in safetensors that this package does not read.
  static let unsupported: Set<String> = [
    "I8", "I16", "U16", "U32", "U64", "C64", "F4", "F6_E2M3", "F6_E3M2", "F8_E5M2", "F8_E4M3",
    "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ",
  ]

  /// Reads and checks the header of `file`.
  init(_ file: FileBytes) throws(Problem) {
    // 1. The frame: header and data must fit the file.
    if file.count < 8 { throw .tooShort(bytes: file.count) }
    let claimed = file.words(in: 0..<8) { (word: UInt64) in word }[0]
    if claimed > UInt64(SafetensorsFile.headerLimit) { throw .headerTooLong(bytes: claimed) }
    if claimed > UInt64(file.count - 8) {
      throw .headerBeyondFile(bytes: claimed, available: file.count - 8)
    }
    let dataStart = 8 + Int(claimed)
    let dataCount = file.count - dataStart

    // 2. The header is a JSON object that starts at once.
    let text = file.words(in: 8..<dataStart) { (byte: UInt8) in byte }
    if text.first != UInt8(ascii: "{") { throw .headerIsNoObject }
    let json: JSONValue
    do {
      json = try JSONValue(parsing: text, depthLimit: Self.depthLimit)
    } catch {
      throw .syntax(error)
    }
    guard case .object(let members) = json else { throw .headerIsNoObject }
    try Self.checkNames(members)

    // 3. Each member by itself.
    var entries: [Entry] = []
    var metadata: [String: String] = [:]
    for member in members {
      if member.key == "__metadata__" {
        metadata = try Self.metadata(member.value)
      } else {
        entries.append(
          try Self.entry(
            member.key, member.value, dataStart: dataStart, dataCount: dataCount))
      }
    }

    // 4. All together: end to end, from the first byte of the data to the last.
    entries.sort {
      ($0.bytes.lowerBound, $0.bytes.upperBound) < ($1.bytes.lowerBound, $1.bytes.upperBound)
    }
    var end = dataStart
    for entry in entries {
      let begin = entry.bytes.lowerBound
      if begin < end {
        throw .overlap(
          tensor: entry.name, begin: begin - dataStart, previousEnd: end - dataStart)
      }
      if begin > end {
        throw .hole(tensor: entry.name, begin: begin - dataStart, previousEnd: end - dataStart)
      }
      end = entry.bytes.upperBound
    }
    if end < file.count { throw .trailingBytes(file.count - end) }

    self.entries = entries
    self.metadata = metadata
  }

  /// The keys differ as JSON, byte for byte; they must also differ as names, which Swift compares
  /// by canonical equivalence: one accented letter spelt in two ways is one name.
  private static func checkNames(_ members: [JSONValue.Member]) throws(Problem) {
    var names: Set<String> = []
    for member in members where !names.insert(member.key).inserted {
      throw .duplicateName(member.key)
    }
  }

  private static func metadata(_ value: JSONValue) throws(Problem) -> [String: String] {
    if value.isNull { return [:] }  // the official library reads null as "none"
    guard case .object(let members) = value else { throw .badMetadata(key: nil) }
    try checkNames(members)
    var metadata: [String: String] = [:]
    for member in members {
      guard case .string(let text) = member.value else { throw .badMetadata(key: member.key) }
      metadata[member.key] = text
    }
    return metadata
  }

  /// Checks one tensor's entry against itself and the size of the data.
  private static func entry(
    _ name: String, _ value: JSONValue, dataStart: Int, dataCount: Int
  ) throws(Problem) -> Entry {
    guard case .object(let members) = value else {
      throw .badEntry(tensor: name, reason: "its entry is not an object")
    }
    var fields: [String: JSONValue] = [:]
    for member in members { fields[member.key] = member.value }
    for field in ["dtype", "shape", "data_offsets"] where fields[field] == nil {
      throw .badEntry(tensor: name, reason: "no \(field)")
    }
    if let extra = members.first(where: {
      !["dtype", "shape", "data_offsets"].contains($0.key)
    }) {
      throw .badEntry(tensor: name, reason: "unknown key \(shown(extra.key))")
    }

    guard case .string(let dtype)? = fields["dtype"] else {
      throw .badEntry(tensor: name, reason: "dtype is not a string")
    }
    guard let format = StorageFormat(rawValue: dtype) else {
      if unsupported.contains(dtype) { throw .unsupportedFormat(tensor: name, dtype: dtype) }
      throw .unknownFormat(tensor: name, dtype: dtype)
    }

    guard let shape = naturals(fields["shape"]) else { throw .badShape(tensor: name) }
    guard let needed = format.byteCount(shape: shape) else { throw .shapeOverflow(tensor: name) }

    guard let offsets = naturals(fields["data_offsets"]), offsets.count == 2 else {
      throw .badOffsets(tensor: name)
    }
    let (begin, end) = (offsets[0], offsets[1])
    if begin > end { throw .offsetsReversed(tensor: name, begin: begin, end: end) }
    if end > dataCount {
      throw .offsetsBeyondData(tensor: name, end: end, available: dataCount)
    }
    if end - begin != needed {
      throw .sizeMismatch(tensor: name, needed: needed, found: end - begin)
    }
    return Entry(
      name: name, format: format, shape: shape, bytes: dataStart + begin..<dataStart + end)
  }

  /// A JSON list of integers from 0 up, or nil.
  private static func naturals(_ value: JSONValue?) -> [Int]? {
    guard case .array(let elements)? = value else { return nil }
    var numbers: [Int] = []
    for element in elements {
      guard case .integer(let number) = element, number >= 0 else { return nil }
      numbers.append(number)
    }
    return numbers
  }
}
