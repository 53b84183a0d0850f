// Everything that can be wrong with a safetensors file.
//
// In:  a problem that reading or writing met.
// Out: one line for the user: which file, what, where, and what to do about it.
//
// One case per fault, so that a test can ask for exactly the fault that it made.

/// A safetensors file that cannot be read, understood or written.
public struct SafetensorsError: Error, Equatable, CustomStringConvertible {
  /// The path, or the name given to bytes in memory.
  public let file: String

  /// What is wrong.
  public let problem: Problem

  /// Describes a problem with `file`.
  public init(file: String, problem: Problem) {
    self.file = file
    self.problem = problem
  }

  /// The kinds of fault.
  ///
  /// Sizes and offsets are bytes; offsets of tensors count from the data start.
  public enum Problem: Error, Equatable, Sendable {
    /// The system refused; `operation` is "open", "map", "write" and so on.
    case system(operation: String, reason: String)
    /// A directory, pipe or device.
    case notARegularFile
    /// A Git LFS pointer in the place of the file.
    case gitLFSPointer

    /// Fewer than the 8 bytes that hold the header's length.
    case tooShort(bytes: Int)
    /// The header claims more than `SafetensorsFile.headerLimit` bytes.
    case headerTooLong(bytes: UInt64)
    /// The header claims more bytes than follow its length.
    case headerBeyondFile(bytes: UInt64, available: Int)
    /// The first byte of the header is not "{".
    case headerIsNoObject
    /// The header is not strict JSON.
    case syntax(JSONSyntaxError)

    /// `__metadata__` is not an object of strings; `key` is the first that is none.
    case badMetadata(key: String?)
    /// A tensor's entry is not an object of exactly dtype, shape and data_offsets.
    case badEntry(tensor: String, reason: String)
    /// A dtype that safetensors does not have.
    case unknownFormat(tensor: String, dtype: String)
    /// A dtype that safetensors has and this package does not read.
    case unsupportedFormat(tensor: String, dtype: String)
    /// The shape is not a list of integers from 0 up.
    case badShape(tensor: String)
    /// The shape's size in bytes does not fit 64 bits.
    case shapeOverflow(tensor: String)
    /// The offsets are not two integers from 0 up.
    case badOffsets(tensor: String)
    /// The end lies before the beginning.
    case offsetsReversed(tensor: String, begin: Int, end: Int)
    /// The end lies beyond the file's data.
    case offsetsBeyondData(tensor: String, end: Int, available: Int)
    /// Shape and dtype need another number of bytes than the offsets enclose.
    case sizeMismatch(tensor: String, needed: Int, found: Int)

    /// The tensor begins inside another one.
    case overlap(tensor: String, begin: Int, previousEnd: Int)
    /// Bytes before this tensor belong to no tensor.
    case hole(tensor: String, begin: Int, previousEnd: Int)
    /// Bytes after the last tensor belong to no tensor.
    case trailingBytes(Int)

    /// No tensor has this name; `present` are those in the file.
    case noSuchTensor(String, present: [String])
    /// Floating-point numbers were asked of or put into a format of integers.
    case notFloatingPoint(tensor: String, format: StorageFormat)
    /// Integers were asked of or put into a floating-point format.
    case notIntegers(tensor: String, format: StorageFormat)
    /// A matrix that stays in the file was asked of a tensor of another rank, or of a huge one.
    case notAMatrix(tensor: String, shape: [Int])
    /// Weights that stay in the file were asked of another format than F32, F16 or BF16.
    case notWeights(tensor: String, format: StorageFormat)
    /// A BOOL that is neither 0 nor 1.
    case badBool(tensor: String, element: Int, value: UInt8)

    /// Two tensors, or two pairs of the metadata, of one name.
    case duplicateName(String)
    /// The name of the metadata cannot be a tensor's.
    case reservedName
    /// A value that the format cannot hold (for floats: finite here, infinite there).
    case valueOutOfRange(tensor: String, element: Int, value: String, format: StorageFormat)
  }

  /// One line: which file, what, where, what to do.
  public var description: String { "\(file): \(problem)" }
}

extension SafetensorsError.Problem: CustomStringConvertible {
  /// What, where, what to do; no file name.
  public var description: String {
    switch self {
    case .system(let operation, let reason): "cannot \(operation): \(reason)"
    case .notARegularFile:
      "not a regular file; tensors are mapped, so they cannot come through a pipe: give the path "
        + "of a .safetensors file"
    case .gitLFSPointer: gitLFSAdvice

    case .tooShort(let bytes):
      "\(bytes) bytes long, a safetensors file has at least 8; copy or download it again"
    case .headerTooLong(let bytes):
      "header claims \(bytes) bytes, the limit is \(SafetensorsFile.headerLimit); "
        + "this is probably no safetensors file"
    case .headerBeyondFile(let bytes, let available):
      "header claims \(bytes) bytes, the file has \(available) left; cut short or not safetensors"
    case .headerIsNoObject:
      "header does not start with \"{\"; this is probably no safetensors file"
    case .syntax(let error): "header: \(error); write the file again"

    case .badMetadata(nil): "__metadata__ is not an object; write the file again"
    case .badMetadata(let key?):
      "__metadata__ entry \(shown(key)) is not a string; store it as text"
    case .badEntry(let tensor, let reason):
      "tensor \(shown(tensor)): \(reason); an entry has dtype, shape and data_offsets"
    case .unknownFormat(let tensor, let dtype):
      "tensor \(shown(tensor)): there is no dtype \(shown(dtype)); write the file again"
    case .unsupportedFormat(let tensor, let dtype):
      "tensor \(shown(tensor)): dtype \(dtype) is not supported here; convert it to "
        + (dtype.hasPrefix("I") || dtype.hasPrefix("U") ? "I64, I32 or U8" : "F32, F16 or BF16")
    case .badShape(let tensor):
      "tensor \(shown(tensor)): shape is not a list of integers from 0 up; write the file again"
    case .shapeOverflow(let tensor):
      "tensor \(shown(tensor)): the size of its shape does not fit 64 bits; write the file again"
    case .badOffsets(let tensor):
      "tensor \(shown(tensor)): data_offsets are not two integers from 0 up; write the file again"
    case .offsetsReversed(let tensor, let begin, let end):
      "tensor \(shown(tensor)): begins at byte \(begin), ends at \(end); write the file again"
    case .offsetsBeyondData(let tensor, let end, let available):
      "tensor \(shown(tensor)): ends at byte \(end) of \(available) bytes of data; "
        + "cut short? copy or download the file again"
    case .sizeMismatch(let tensor, let needed, let found):
      "tensor \(shown(tensor)): dtype and shape need \(needed) bytes, data_offsets enclose "
        + "\(found); write the file again"

    case .overlap(let tensor, let begin, let end):
      "tensor \(shown(tensor)): begins at byte \(begin), before the previous one ends (\(end)); "
        + "tensors must not share bytes"
    case .hole(let tensor, let begin, let end):
      "tensor \(shown(tensor)): begins at byte \(begin), the previous one ends at \(end); "
        + "no bytes may lie between tensors"
    case .trailingBytes(let bytes):
      "\(bytes) bytes after the last tensor; write the file again without them"

    case .noSuchTensor(let name, let present):
      "no tensor \(shown(name)); there is \(Self.list(present))"
    case .notFloatingPoint(let tensor, let format):
      "tensor \(shown(tensor)): \(format.rawValue) holds integers, not real numbers; "
        + "store it as F64, F32, F16 or BF16"
    case .notIntegers(let tensor, let format):
      "tensor \(shown(tensor)): \(format.rawValue) holds real numbers, not integers; "
        + "store it as I64, I32, U8 or BOOL"
    case .notAMatrix(let tensor, let shape):
      "tensor \(shown(tensor)): shape \(shape) is no matrix of at most \(Int32.max) rows and "
        + "columns; give it two axes"
    case .notWeights(let tensor, let format):
      "tensor \(shown(tensor)): weights of \(format.rawValue) are not used; "
        + "convert them to F32, F16 or BF16"
    case .badBool(let tensor, let element, let value):
      "tensor \(shown(tensor)): BOOL element \(element) is \(value); write it as 0 or 1"

    case .duplicateName(let name): "two entries named \(shown(name)); rename one"
    case .reservedName: "no tensor can be named \"__metadata__\"; rename it"
    case .valueOutOfRange(let tensor, let element, let value, let format):
      "tensor \(shown(tensor)): element \(element) is \(value), out of range of "
        + "\(format.rawValue); use a wider format"
    }
  }

  private static func list(_ names: [String]) -> String {
    if names.isEmpty { return "none" }
    let some = names.prefix(20).map(shown).joined(separator: ", ")
    return names.count > 20 ? "\(some) and \(names.count - 20) more" : some
  }
}
