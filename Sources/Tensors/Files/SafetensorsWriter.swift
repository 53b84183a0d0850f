// Writing safetensors files.
//
// In:  tensors with names and formats, metadata.
// Out: the bytes of a file, or the file itself.
//
// The bytes are a function of what was added and of nothing else: tensors lie in the order that the
// official library uses (wider elements first, then by name), metadata keys are sorted, sorting
// compares UTF-8 bytes. The header is padded so that the data starts at a multiple of 64 bytes;
// with wider elements first, every tensor is then aligned to its own elements.
//
// A value that does not fit its format is an error, not a surprise for the reader of the file. So
// is a finite number that F16 or F32 would turn into infinity; infinities and NaNs themselves pass.

/// Collects tensors and writes them as one safetensors file.
public struct SafetensorsWriter: Sendable {
  /// Free text pairs to store beside the tensors.
  public var metadata: [String: String]

  private struct Entry {
    let name: String
    let format: StorageFormat
    let shape: [Int]
    let bytes: [UInt8]
  }

  private var entries: [String: Entry] = [:]

  /// Starts a file without tensors.
  public init(metadata: [String: String] = [:]) { self.metadata = metadata }

  /// Adds a tensor as F64, F32, F16 or BF16, each element rounded once, to nearest, ties to even.
  ///
  /// Throws where the name is taken or reserved, the format holds integers, or a finite element is
  /// too large for the format.
  @specialized(where E == Float)
  @specialized(where E == Double)
  public mutating func add<E: Scalar>(
    _ name: String, _ tensor: Tensor<E>, as format: StorageFormat
  ) throws(SafetensorsError) {
    var bytes = try check(name, format, tensor.shape)
    for (element, value) in tensor.elements.enumerated() {
      let isFiniteThere: Bool
      switch format {
      case .float64:
        append(Double(value).bitPattern, to: &bytes)
        isFiniteThere = true
      case .float32:
        let narrow = Float(value)
        append(narrow.bitPattern, to: &bytes)
        isFiniteThere = narrow.isFinite
      case .float16, .bfloat16:
        let narrow = format == .float16 ? SixteenBitFloat.float16 : .bfloat16
        let pattern = narrow.bits(of: Double(value))
        append(pattern, to: &bytes)
        isFiniteThere = narrow.value(of: pattern).isFinite
      case .int64, .int32, .uint8, .bool:
        throw fault(.notFloatingPoint(tensor: name, format: format))
      }
      if value.isFinite && !isFiniteThere {
        throw fault(
          .valueOutOfRange(tensor: name, element: element, value: "\(value)", format: format))
      }
    }
    entries[name] = Entry(name: name, format: format, shape: tensor.shape, bytes: bytes)
  }

  /// Adds integers as I64, I32, U8 or BOOL (0 and 1).
  ///
  /// Throws where the name is taken or reserved, the format holds real numbers, or an element does
  /// not fit the format.
  public mutating func add(
    _ name: String, integers tensor: Tensor<Int>, as format: StorageFormat
  ) throws(SafetensorsError) {
    var bytes = try check(name, format, tensor.shape)
    let range: ClosedRange<Int>
    switch format {
    case .int64: range = Int.min...Int.max
    case .int32: range = Int(Int32.min)...Int(Int32.max)
    case .uint8: range = 0...255
    case .bool: range = 0...1
    case .float64, .float32, .float16, .bfloat16:
      throw fault(.notIntegers(tensor: name, format: format))
    }
    for (element, value) in tensor.elements.enumerated() {
      if !range.contains(value) {
        throw fault(
          .valueOutOfRange(tensor: name, element: element, value: "\(value)", format: format))
      }
      for i in 0..<format.byteWidth { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * i))) }
    }
    entries[name] = Entry(name: name, format: format, shape: tensor.shape, bytes: bytes)
  }

  /// The file, in memory.
  public func bytes() -> [UInt8] {
    let ordered = entries.values.sorted {
      $0.format.byteWidth != $1.format.byteWidth
        ? $0.format.byteWidth > $1.format.byteWidth : precedes($0.name, $1.name)
    }

    var members: [String] = []
    if !metadata.isEmpty {
      let pairs = metadata.sorted { precedes($0.key, $1.key) }
        .map { "\(jsonQuoted($0.key)):\(jsonQuoted($0.value))" }
      members.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
    }
    var end = 0
    for entry in ordered {
      let begin = end
      end += entry.bytes.count
      let shape = entry.shape.map(String.init).joined(separator: ",")
      members.append(
        jsonQuoted(entry.name) + ":{\"dtype\":\"\(entry.format.rawValue)\",\"shape\":[\(shape)],"
          + "\"data_offsets\":[\(begin),\(end)]}")
    }
    var header = Array("{\(members.joined(separator: ","))}".utf8)
    while (8 + header.count) % 64 != 0 { header.append(UInt8(ascii: " ")) }
    precondition(
      header.count <= SafetensorsFile.headerLimit,
      "names and metadata need a header of \(header.count) bytes, which no reader accepts")

    var file: [UInt8] = []
    file.reserveCapacity(8 + header.count + end)
    append(UInt64(header.count), to: &file)
    file += header
    for entry in ordered { file += entry.bytes }
    return file
  }

  /// Writes the file at `path`: completely, or not at all.
  ///
  /// The bytes go to a temporary file in the same directory, which takes the name when it is
  /// complete and on disk. Throws where the system refuses; a file that was there before is then
  /// untouched.
  public func write(to path: String) throws(SafetensorsError) {
    do {
      try replaceFile(at: path, with: bytes())
    } catch {
      throw SafetensorsError(file: path, problem: error)
    }
  }

  /// Room for the bytes of a tensor that may be added under this name.
  private func check(
    _ name: String, _ format: StorageFormat, _ shape: [Int]
  ) throws(SafetensorsError) -> [UInt8] {
    if name == "__metadata__" { throw fault(.reservedName) }
    if entries[name] != nil { throw fault(.duplicateName(name)) }
    guard let count = format.byteCount(shape: shape) else {
      throw fault(.shapeOverflow(tensor: name))
    }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    return bytes
  }

  private func fault(_ problem: SafetensorsError.Problem) -> SafetensorsError {
    SafetensorsError(file: "safetensors file to be written", problem: problem)
  }
}

/// Order of the UTF-8 bytes: the same everywhere, unlike an order that knows about languages.
private func precedes(_ a: String, _ b: String) -> Bool {
  a.utf8.lexicographicallyPrecedes(b.utf8)
}

/// Appends the bytes of `word`, lowest first.
private func append<Word: FixedWidthInteger>(_ word: Word, to bytes: inout [UInt8]) {
  for i in 0..<MemoryLayout<Word>.size { bytes.append(UInt8(truncatingIfNeeded: word >> (8 * i))) }
}
