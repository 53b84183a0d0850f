// A recording of a rival method, made with its own code, and what our method makes of it.
//
// In:  a safetensors file with the metadata `schema` = lrqk-oracle/1: inputs/..., options, and
//      expected/... as the published code gave it.
// Out: the same names computed by our methods, in Float or Double, and the comparison.
//
//     FILE  ──▶  RivalRecording (inputs, options)  ──▶  a `RivalComputation` of its method
//                                                          │ outputs under the file's names
//                RivalComparison  ◀────────────────────────┘
//
// One method is one `RivalComputation`: it reads the official option names and calls the functions
// that the cache method itself runs on. The next file, RivalComparison.swift, judges.

import CacheMethods
package import Tensors

/// A file of the schema lrqk-oracle/1.
package struct RivalRecording: Sendable {
  /// The metadata entry that marks such a file.
  package static let schema = "lrqk-oracle/1"

  /// The open file.
  package let file: SafetensorsFile
  /// The method that was recorded.
  package let method: String
  /// Where the recorded numbers come from: repository, commit, function.
  package let source: String
  private let options: JSONValue

  /// True where `file` is of this schema.
  package static func isOne(_ file: SafetensorsFile) -> Bool { file.metadata["schema"] == schema }

  /// Reads what the file says of itself.
  package init(_ file: SafetensorsFile) throws(ReplayError) {
    self.file = file
    guard let method = file.metadata["method"], let text = file.metadata["options"] else {
      throw ReplayError("\(file.path): the metadata say no method and options of the recording")
    }
    self.method = method
    source = file.metadata["source"] ?? "not said"
    do {
      options = try JSONValue(parsing: Array(text.utf8), depthLimit: 16)
    } catch {
      throw ReplayError("\(file.path): the metadata's options are no JSON: \(error)")
    }
  }

  // MARK: Inputs

  /// The tensor inputs/`name`, of `axes` axes, all numbers finite.
  package func input<E: Scalar>(_ name: String, axes: Int) throws -> Tensor<E> {
    let name = "inputs/" + name
    let tensor: Tensor<E> = try file.tensor(name)
    if tensor.axisCount != axes || tensor.shape.contains(0) {
      throw ReplayError(
        "\(file.path): \(name) has shape \(tensor.shape); \(axes) axes, none of them empty, are "
          + "needed")
    }
    if let index = tensor.firstNonFinite {
      throw ReplayError(
        "\(file.path): \(name) holds \(tensor.elements[index]) at \(tensor.place(of: index)): "
          + "clean the input")
    }
    return tensor
  }

  /// inputs/`name`, (heads, rows, width), as one matrix a head.
  package func heads<E: Scalar>(_ name: String) throws -> [Tensor<E>] {
    let tensor: Tensor<E> = try input(name, axes: 3)
    return (0..<tensor.shape[0]).map { tensor.slice($0) }
  }

  /// Whether inputs/`name` is there.
  package func has(_ name: String) -> Bool { file.contains("inputs/" + name) }

  /// The integers inputs/`name`.
  package func integers(_ name: String) throws -> Tensor<Int> {
    try file.integers("inputs/" + name)
  }

  /// Queries and keys (heads, l, d) whose heads share evenly; `values` as well where wanted.
  package func attentionInputs<E: Scalar>(
    queries: String = "q", keys: String = "k"
  ) throws -> (queries: [Tensor<E>], keys: [Tensor<E>]) {
    let (q, k): ([Tensor<E>], [Tensor<E>]) = (try heads(queries), try heads(keys))
    guard q.count % k.count == 0, q[0].columns == k[0].columns else {
      throw ReplayError(
        "\(file.path): inputs/\(queries) (\(q.count), \(q[0].rows), \(q[0].columns)) and "
          + "inputs/\(keys) (\(k.count), \(k[0].rows), \(k[0].columns)) do not fit together")
    }
    return (q, k)
  }

  // MARK: Options

  /// The option `name`; nil where the recording has none.
  package func option(_ name: String) -> JSONValue? { options[name] }

  /// A whole number in `range`.
  package func integer(
    _ name: String, in range: ClosedRange<Int> = 0...1 << 30
  ) throws(ReplayError) -> Int {
    guard let number = options[name]?.intValue, range.contains(number) else {
      throw fault(name, "a whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  /// A finite number.
  package func number(_ name: String) throws(ReplayError) -> Double {
    guard let number = options[name]?.doubleValue else { throw fault(name, "a number") }
    return number
  }

  /// One of `words`.
  package func word(_ name: String, _ words: [String]) throws(ReplayError) -> String {
    guard let word = options[name]?.stringValue, words.contains(word) else {
      throw fault(name, "one of \(words.joined(separator: ", "))")
    }
    return word
  }

  /// true or false.
  package func flag(_ name: String) throws(ReplayError) -> Bool {
    guard let flag = options[name]?.boolValue else { throw fault(name, "true or false") }
    return flag
  }

  /// The error for an option that is not what it has to be.
  package func fault(_ name: String, _ wanted: String) -> ReplayError {
    let found = options[name].map { "is \(shownValue($0))" } ?? "is missing"
    return ReplayError("\(file.path): the option \(name) \(found); it has to be \(wanted)")
  }

  /// Throws the sentence unless `condition` holds: a file whose sizes contradict each other.
  package func require(_ condition: Bool, _ sentence: @autoclosure () -> String) throws(ReplayError)
  {
    if !condition { throw ReplayError("\(file.path): \(sentence())") }
  }
}

/// A value of an option as an error shows it.
private func shownValue(_ value: JSONValue) -> String {
  switch value {
  case .string(let text): jsonQuoted(text)
  case .integer(let number): "\(number)"
  case .number(let text): text
  case .bool(let flag): "\(flag)"
  case .null: "null"
  case .array: "a list"
  case .object: "an object"
  }
}

/// What our method computes for a recording; names are those after expected/.
package struct RivalOutputs<E: Scalar>: Sendable {
  /// Results that are numbers: scores, rows, attention.
  package private(set) var numbers: [(name: String, tensor: Tensor<E>)] = []
  /// Sets, ids, counts, masks.
  package private(set) var integers: [(name: String, tensor: Tensor<Int>)] = []

  /// No outputs yet.
  package init() {}

  /// Adds a tensor of numbers.
  package mutating func add(_ name: String, _ tensor: Tensor<E>) { numbers.append((name, tensor)) }

  /// Adds a list for every head, all of one length: (heads, length).
  package mutating func add(_ name: String, _ heads: [[E]]) { add(name, Tensor(rows: heads)) }

  /// Adds a tensor of integers.
  package mutating func add(_ name: String, integers tensor: Tensor<Int>) {
    integers.append((name, tensor))
  }

  /// Adds a list of integers, (count).
  package mutating func add(_ name: String, integers list: [Int]) {
    add(name, integers: Tensor(shape: [list.count], elements: list))
  }

  /// Adds the sets of some heads as a mask (heads, `length`): 1 where the token is in the set.
  package mutating func add(_ name: String, mask sets: [[Int]], length: Int) {
    add(
      name,
      integers: Tensor(shape: [sets.count, length], elements: sets.flatMap { mask($0, length) })
    )
  }

  /// 1 for every element of `set`, 0 elsewhere, (length).
  package static func mask(_ set: [Int], _ length: Int) -> [Int] {
    var row = [Int](repeating: 0, count: length)
    for token in set { row[token] = 1 }
    return row
  }

  private func mask(_ set: [Int], _ length: Int) -> [Int] { Self.mask(set, length) }

  /// Adds ascending sets as ids, padded with -1 to `width`, in the given leading `axes`.
  package mutating func add(_ name: String, sets: [[Int]], axes: [Int], width: Int) {
    add(
      name,
      integers: Tensor(
        shape: axes + [width],
        elements: sets.flatMap { $0 + Array(repeating: -1, count: width - $0.count) }))
  }
}

/// How one method's recordings are computed.
package protocol RivalComputation: Sendable {
  /// The method's name in the files.
  static var method: String { get }
  /// Everything that the recording expects, computed by our method.
  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E>
}

/// The methods whose recordings can be replayed.
package let rivalComputations: [any RivalComputation.Type] = [
  SnapKVRecording.self,
  LokiRecording.self,
  InfiniGenRecording.self,
  ShadowKVRecording.self,
  StreamingRecording.self,
  QuestRecording.self,
  SparQRecording.self,
  H2ORecording.self,
  FastGenRecording.self,
  KVzipRecording.self,
  FastKVzipRecording.self,
  PyramidKVRecording.self,
  CurDKVRecording.self,
  ExpectedAttentionRecording.self,
  KeyDiffRecording.self,
  ReCalKVRecording.self,
  KVLatentRecording.self,
  ThinKRecording.self,
  KVQuantRecording.self,
]

extension RivalRecording {
  /// What our method computes.
  package func outputs<E: Scalar>(_ type: E.Type) throws -> RivalOutputs<E> {
    guard let computation = rivalComputations.first(where: { $0.method == method }) else {
      throw ReplayError(
        "\(file.path): a recording of the method \(shown(method)), which is not among "
          + rivalComputations.map { $0.method }.joined(separator: ", "))
    }
    return try computation.outputs(self)
  }
}
