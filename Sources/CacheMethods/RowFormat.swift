// The option `rows`: in what form a method holds its rows.
//
// In:  "f32", "int4", "int4/32", as a user writes it.
// Out: the form for a layer, and the bytes of a row in it.
//
//     f32               as they are (the default, and the way without any form)
//     f16, bf16         16-bit floats
//     int8 ... int2     integers between the smallest and the largest number of a row
//     int8/g ... int2/g the same for every g numbers of a row
//     kvquant3:FILE     codebooks and outliers of a calibration, 2 to 5 bits (KVQuantForm.swift)
//
// Forms are TieredMemory's (RowForm.swift). A new one is an element of `rowFormatKinds`. Budgets
// in bytes and every method's closed form count rows by `rowBytes`, so a small form buys more rows.

import Tensors
public import TieredMemory
public import Transformers

/// The form of a method's rows.
public struct RowFormat: Sendable, Equatable, CustomStringConvertible {
  /// The text that makes it again.
  public let description: String
  /// The calibration that it goes by; nil for most.
  public let calibrationFile: CalibrationFile?
  /// Makes the form of a layer; nil for rows as they are.
  private let make: (@Sendable (LayerShape) throws -> any RowForm)?

  /// Rows as they are, "f32".
  public static let exact = RowFormat("f32", make: nil)

  /// A format whose text is `description`; `make` makes a layer's form.
  package init(
    _ description: String, calibration: CalibrationFile? = nil,
    make: (@Sendable (LayerShape) throws -> any RowForm)?
  ) {
    self.description = description
    calibrationFile = calibration
    self.make = make
  }

  /// The option `rows`.
  static let option = MethodOption(
    "rows", "how rows are held: f32, f16, int8, int4, int4/32 and others (Docs/row-formats.md)",
    defaultValue: "f32")

  /// The option as it is written.
  var options: [(name: String, value: String)] { [("rows", description)] }

  /// True for rows as they are.
  public var isExact: Bool { make == nil }

  /// Equal texts are equal formats.
  public static func == (a: RowFormat, b: RowFormat) -> Bool { a.description == b.description }

  /// The form of a layer's rows; nil for rows as they are.
  public func form(for layer: LayerShape) throws -> (any RowForm)? { try make?(layer) }

  /// Bytes of a key and a value of a layer.
  ///
  /// Those of exact rows where there is no form for the layer; making a cache says why.
  public func rowBytes(_ layer: LayerShape) -> Int {
    guard let form = try? form(for: layer) else { return layer.rowBytes }
    return RowPart.allCases.reduce(0) { $0 + form.words($1, width: layer.width) }
      * MemoryLayout<UInt32>.stride
  }
}

/// A kind of formats, as errors list it.
struct RowFormatKind: Sendable {
  /// How it is written.
  let usage: String
  /// The format that a text names, which stands behind `option`; nil where it is of another kind.
  let read: @Sendable (_ text: String, _ option: String) throws(MethodError) -> RowFormat?

  /// A kind of one word.
  init(_ word: String, make: (@Sendable (LayerShape) throws -> any RowForm)?) {
    usage = word
    read = { text, _ in text == word ? RowFormat(word, make: make) : nil }
  }

  /// A kind whose texts `read` knows.
  init(
    _ usage: String,
    read: @escaping @Sendable (String, String) throws(MethodError) -> RowFormat?
  ) {
    self.usage = usage
    self.read = read
  }
}

/// All formats, in the order in which errors list them.
private let rowFormatKinds: [RowFormatKind] = [
  RowFormatKind("f32", make: nil),
  RowFormatKind("f16") { _ in HalfForm(.float16) },
  RowFormatKind("bf16") { _ in HalfForm(.bfloat16) },
  RowFormatKind("int8") { _ in IntegerForm(PackedCodes(bits: 8)) },
  RowFormatKind("int4") { _ in IntegerForm(PackedCodes(bits: 4)) },
  RowFormatKind("int3") { _ in IntegerForm(PackedCodes(bits: 3)) },
  RowFormatKind("int2") { _ in IntegerForm(PackedCodes(bits: 2)) },
  RowFormatKind(
    "int4/32 (a range for every 32 numbers; any bits, any group)", read: groupedIntegers),
  RowFormatKind(
    "kvquant3:FILE (2 to 5 bits; of lrqk calibrate kvquant)", read: calibratedLevels),
]

/// "kvquant3:FILE": KVQuant's levels and outliers.
@Sendable private func calibratedLevels(
  _ text: String, _ option: String
) throws(MethodError) -> RowFormat? {
  guard text.hasPrefix("kvquant"), let colon = text.firstIndex(of: ":"),
    let bits = Int(text[..<colon].dropFirst("kvquant".count)), (2...5).contains(bits)
  else { return nil }
  let path = String(text[text.index(after: colon)...])
  let file = try CalibrationFile(
    path: path, method: KVQuantMethod.name, reader: "\(option)=\(text)")
  let sparsity = try file.fraction("sparsity")
  return RowFormat(text, calibration: file) { layer in
    try KVQuantForm(text, bits: bits, sparsity: sparsity, file, layer)
  }
}

/// "int4/32": a range for every group of numbers.
@Sendable private func groupedIntegers(_ text: String, _ option: String) -> RowFormat? {
  let sides = text.split(separator: "/", omittingEmptySubsequences: false)
  guard sides.count == 2, sides[0].hasPrefix("int"),
    let bits = Int(sides[0].dropFirst(3)), PackedCodes.widths.contains(bits),
    let group = Int(sides[1]), (1...Size.most).contains(group)
  else { return nil }
  return RowFormat("int\(bits)/\(group)") { _ in
    IntegerForm(PackedCodes(bits: bits, group: group))
  }
}

extension RowFormat {
  /// The format that `text` names; nil where it names none, throws where its file is no good.
  ///
  /// `option` is what the text stands behind, "full: rows", for errors.
  init?(text: String, for option: String = "rows") throws(MethodError) {
    for kind in rowFormatKinds {
      guard let format = try kind.read(text, option) else { continue }
      self = format
      return
    }
    return nil
  }
}

extension MethodOptions {
  /// The option `rows`, or another one that takes the same words; `standard` where it is not given.
  public func rowFormat(
    _ name: String = "rows", default standard: String = "f32"
  ) throws(MethodError) -> RowFormat {
    let text = text(name) ?? standard
    if let format = try RowFormat(text: text, for: "\(method): \(name)") { return format }
    throw notAmong(name, rowFormatKinds.map(\.usage))
  }
}

extension PromptRows {
  /// The keys that rows hold: before RoPE where their form says so.
  func heldKeys(_ form: (any RowForm)?) -> [Tensor<Float>] {
    form?.holdsKeysBeforeRotary == true ? keysBeforeRotary : keys
  }
}

extension TokenRows {
  /// The keys that rows hold: before RoPE where their form says so.
  func heldKeys(_ form: (any RowForm)?) -> Tensor<Float> {
    form?.holdsKeysBeforeRotary == true ? keysBeforeRotary : keys
  }
}

extension Optional where Wrapped == any RowForm {
  /// What a cache whose rows have this form needs.
  var needs: CacheNeeds { self?.holdsKeysBeforeRotary == true ? [.keysBeforeRotary] : [] }
}
