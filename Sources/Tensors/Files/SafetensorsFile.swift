// Reading safetensors files.
//
// In:  a path (or bytes in memory).
// Out: tensors of Float, Double or Int, by name.
//
// Opening checks the whole header and maps the file; a tensor's bytes are touched when it is asked
// for, and then copied into a Tensor of its own. A few tensors of a large file cost only
// themselves. Matrices of weights need no copy: they stay where they are (StoredMatrix.swift).
//
// Next: SafetensorsWriter.swift is the way back.

/// A safetensors file, opened and checked.
public struct SafetensorsFile: Sendable {
  /// The longest header that is read, in bytes: 100 MB, as in the official library.
  public static let headerLimit = 100_000_000

  /// The path it was opened from, or the name given to bytes in memory.
  public let path: String

  private let bytes: FileBytes
  private let header: SafetensorsHeader
  private let places: [String: Int]

  /// Opens and checks the file at `path`.
  ///
  /// Throws where the file cannot be read or breaks any rule of the format; the error names the
  /// tensor and the rule.
  public init(path: String) throws(SafetensorsError) {
    let bytes: FileBytes
    do {
      bytes = try FileBytes(mapping: path)
    } catch {
      throw SafetensorsError(file: path, problem: error)
    }
    try self.init(name: path, bytes)
  }

  /// Checks a file that is in memory; errors call it `name`.
  public init(bytes: [UInt8], name: String) throws(SafetensorsError) {
    try self.init(name: name, FileBytes(copying: bytes))
  }

  private init(name: String, _ bytes: FileBytes) throws(SafetensorsError) {
    path = name
    self.bytes = bytes
    do {
      header = try SafetensorsHeader(bytes)
    } catch {
      throw SafetensorsError(file: name, problem: error)
    }
    // The names are distinct: the header's JSON had no duplicate keys.
    places = Dictionary(
      uniqueKeysWithValues: header.entries.enumerated().map { ($1.name, $0) })
  }

  /// The free text pairs that the writer left.
  public var metadata: [String: String] { header.metadata }

  /// The names of all tensors, in the order of their bytes.
  public var names: [String] { header.entries.map(\.name) }

  /// Whether there is a tensor of this name.
  public func contains(_ name: String) -> Bool { places[name] != nil }

  /// The element format of a tensor; throws where there is none of this name.
  public func format(of name: String) throws(SafetensorsError) -> StorageFormat {
    try entry(name).format
  }

  /// The shape of a tensor; throws where there is none of this name.
  public func shape(of name: String) throws(SafetensorsError) -> [Int] { try entry(name).shape }

  /// A tensor of F64, F32, F16 or BF16, as Float or Double.
  ///
  /// Exact, except for F64 as Float: that rounds each element once, to nearest. Throws where there
  /// is no such tensor or where it holds integers.
  @specialized(where E == Float)
  @specialized(where E == Double)
  public func tensor<E: Scalar>(
    _ name: String, as: E.Type = E.self
  ) throws(SafetensorsError) -> Tensor<E> {
    let entry = try entry(name)
    return Tensor(shape: entry.shape, elements: try reals(entry, in: entry.bytes))
  }

  /// Some elements of a tensor of F64, F32, F16 or BF16, by their places in row-major order.
  ///
  /// For what must not hold a whole tensor. Throws as `tensor` does.
  @specialized(where E == Float)
  @specialized(where E == Double)
  public func elements<E: Scalar>(
    _ name: String, _ places: Range<Int>, as: E.Type = E.self
  ) throws(SafetensorsError) -> [E] {
    let entry = try entry(name)
    return try reals(entry, in: entry.bytes(of: places))
  }

  @specialized(where E == Float)
  @specialized(where E == Double)
  private func reals<E: Scalar>(
    _ entry: SafetensorsHeader.Entry, in range: Range<Int>
  ) throws(SafetensorsError) -> [E] {
    switch entry.format {
    case .float64: bytes.words(in: range) { (bits: UInt64) in E(Double(bitPattern: bits)) }
    case .float32: bytes.words(in: range) { (bits: UInt32) in E(Float(bitPattern: bits)) }
    case .float16: bytes.words(in: range) { E(SixteenBitFloat.float16.value(of: $0)) }
    case .bfloat16: bytes.words(in: range) { E(SixteenBitFloat.bfloat16.value(of: $0)) }
    case .int64, .int32, .uint8, .bool:
      throw fault(.notFloatingPoint(tensor: entry.name, format: entry.format))
    }
  }

  /// A tensor of I64, I32, U8 or BOOL (0 and 1), as integers.
  ///
  /// Throws where there is no such tensor, where it holds real numbers, or where a BOOL is neither
  /// 0 nor 1.
  public func integers(_ name: String) throws(SafetensorsError) -> Tensor<Int> {
    let entry = try entry(name)
    let count = entry.bytes.count / entry.format.byteWidth
    return Tensor(shape: entry.shape, elements: try integers(name, 0..<count))
  }

  /// Some elements of a tensor of I64, I32, U8 or BOOL, by their places in row-major order.
  ///
  /// For what must not hold a whole tensor. Throws as the whole one does.
  public func integers(
    _ name: String, _ places: Range<Int>
  ) throws(SafetensorsError) -> [Int] {
    let entry = try entry(name)
    let range = entry.bytes(of: places)
    switch entry.format {
    case .int64: return bytes.words(in: range) { (word: Int64) in Int(word) }
    case .int32: return bytes.words(in: range) { (word: Int32) in Int(word) }
    case .uint8: return bytes.words(in: range) { (word: UInt8) in Int(word) }
    case .bool:
      let elements = bytes.words(in: range) { (word: UInt8) in Int(word) }
      if let n = elements.firstIndex(where: { $0 > 1 }) {
        throw fault(
          .badBool(tensor: name, element: places.lowerBound + n, value: UInt8(elements[n])))
      }
      return elements
    case .float64, .float32, .float16, .bfloat16:
      throw fault(.notIntegers(tensor: name, format: entry.format))
    }
  }

  /// A matrix of F32, F16 or BF16 that stays in the file: nothing is read here.
  ///
  /// Throws where there is no such tensor, where it is no matrix, or where it has another format.
  public func matrix(_ name: String) throws(SafetensorsError) -> StoredMatrix {
    let entry = try entry(name)
    if entry.shape.count != 2 || !entry.shape.allSatisfy({ $0 <= Int(Int32.max) }) {
      throw fault(.notAMatrix(tensor: name, shape: entry.shape))
    }
    guard let format = WeightFormat(entry.format) else {
      throw fault(.notWeights(tensor: name, format: entry.format))
    }
    return StoredMatrix(
      rows: entry.shape[0], columns: entry.shape[1], format: format, bytes: bytes,
      start: entry.bytes.lowerBound)
  }

  private func entry(_ name: String) throws(SafetensorsError) -> SafetensorsHeader.Entry {
    guard let place = places[name] else { throw fault(.noSuchTensor(name, present: names)) }
    return header.entries[place]
  }

  private func fault(_ problem: SafetensorsError.Problem) -> SafetensorsError {
    SafetensorsError(file: path, problem: problem)
  }
}
