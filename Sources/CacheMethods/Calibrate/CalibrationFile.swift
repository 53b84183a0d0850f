// A calibration: what a method learnt of a model from some texts, once, before any prompt.
//
// In:  a safetensors file that `lrqk calibrate` wrote: schema lrqk-calibration/1.
// Out: the tensors of one layer, checked against the layer that wants them.
//
//     metadata     schema, method, model (the hash of the model's folder), layers, tokens seen, and
//                  one entry option.NAME for every option of the calibration
//     tensors      layers.N.NAME, N from 0
//
// A file of another method, of fewer layers or of other heads is an error of one line, and so are
// entries that are missing or absurd. Whether it is of the same model is for the caller to say, who
// knows the folder: `checkCalibrations`.

public import Tensors
public import Transformers

/// A file of the schema lrqk-calibration/1.
public struct CalibrationFile: Sendable {
  /// The metadata entry that marks such a file.
  public static let schema = "lrqk-calibration/1"

  /// Where it is.
  public let path: String
  /// The hash of the model that it was made with.
  public let model: String
  /// Layers of that model.
  public let layers: Int
  /// The method that it is for.
  let method: String
  /// How errors begin: the method that reads it, or its option.
  let reader: String
  private let file: SafetensorsFile

  /// Opens a file that was made for `method`.
  ///
  /// Errors begin with `reader`, where it is another method or an option that reads the file.
  public init(path: String, method: String, reader: String? = nil) throws(MethodError) {
    let reader = reader ?? method
    let file: SafetensorsFile
    do {
      file = try SafetensorsFile(path: path)
    } catch {
      throw MethodError("\(reader): \(error)")
    }
    let metadata = file.metadata
    guard metadata["schema"] == Self.schema else {
      throw MethodError(
        "\(reader): \(path) is no calibration; make one with lrqk calibrate \(method)")
    }
    guard metadata["method"] == method else {
      throw MethodError(
        "\(reader): \(path) is a calibration for \(metadata["method"] ?? "no method"), not for \(method)"
      )
    }
    guard let model = metadata["model"] else {
      throw MethodError("\(reader): \(path) does not say of which model it is")
    }
    guard let layers = metadata["layers"].flatMap(Int.init), Self.layerCounts.contains(layers)
    else {
      throw MethodError(
        "\(reader): \(path): layers is \(metadata["layers"].map(shown) ?? "missing"); it has to be a "
          + "whole number from 1 to \(Self.layerCounts.upperBound)")
    }
    self.path = path
    self.method = method
    self.reader = reader
    self.model = model
    self.layers = layers
    self.file = file
  }

  /// How many layers a model may have.
  private static let layerCounts = 1...4096

  /// The option `name` that the calibration was made with; nil where it says none.
  public func option(_ name: String) -> String? { file.metadata["option.\(name)"] }

  /// Throws unless it was made with the model of this hash.
  func check(model hash: String) throws(MethodError) {
    if model != hash {
      throw MethodError(
        "\(reader): \(path) is a calibration of another model (\(model), and this one is \(hash)); "
          + "make one with lrqk calibrate \(method)")
    }
  }

  /// The option `name` as a whole number of `range`; throws where it is none.
  func integer(_ name: String, in range: ClosedRange<Int>) throws(MethodError) -> Int {
    guard let number = option(name).flatMap({ Int($0) }), range.contains(number) else {
      throw fault(name, "a whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  /// The option `name` as a number from 0 to 1; throws where it is none.
  func fraction(_ name: String) throws(MethodError) -> Double {
    guard let number = option(name).flatMap({ Double($0) }), (0...1).contains(number) else {
      throw fault(name, "a number from 0 to 1")
    }
    return number
  }

  /// The option `name` as a choice by its word; throws where it is none.
  func choice<C: CaseIterable & RawRepresentable<String>>(
    _ name: String, of type: C.Type
  ) throws(MethodError) -> C {
    guard let choice = C.allCases.first(where: { optionWord($0.rawValue) == option(name) }) else {
      throw fault(
        name, "one of: " + C.allCases.map { optionWord($0.rawValue) }.joined(separator: ", "))
    }
    return choice
  }

  /// The error for an option that is missing, or is not what it `has` to be.
  private func fault(_ name: String, _ has: String) -> MethodError {
    error("option.\(name) is \(option(name).map(shown) ?? "missing"); it has to be \(has)")
  }

  /// An error about this file.
  func error(_ sentence: String) -> MethodError { MethodError("\(reader): \(path): \(sentence)") }

  /// The tensor `name` of a layer, which has to have this shape and finite numbers.
  public func tensor(
    _ name: String, of layer: LayerShape, shape: [Int]
  ) throws(MethodError) -> Tensor<Double> {
    guard layer.layer < layers else {
      throw MethodError(
        "\(reader): \(path) has \(layers) layers and no layer \(layer.layer): "
          + "it is a calibration of another model")
    }
    let name = "layers.\(layer.layer).\(name)"
    let tensor: Tensor<Double>
    do {
      tensor = try file.tensor(name)
    } catch {
      throw MethodError("\(reader): \(error)")
    }
    guard tensor.shape == shape else {
      throw error(
        "\(name) has shape \(tensor.shape), and this model's layer needs \(shape): it is a "
          + "calibration of another model")
    }
    guard tensor.firstNonFinite == nil else {
      throw error("\(name) holds NaN or infinity")
    }
    return tensor
  }
}

/// A method that may read a calibration.
public protocol CalibratedMethod: CacheMethod {
  /// The file; nil where the method learns from the prompt alone.
  var calibrationFile: CalibrationFile? { get }
}

extension CacheMethod {
  /// The calibration of the method, and that of the form of its rows, where there are such.
  public var calibrationFiles: [CalibrationFile] {
    let rows = options.first { $0.name == "rows" }.flatMap {
      try? RowFormat(text: $0.value, for: "\(Self.name): rows")
    }
    return [(self as? any CalibratedMethod)?.calibrationFile, rows?.calibrationFile]
      .compactMap { $0 }
  }

  /// Throws unless every calibration that there is was made with the model of this hash.
  public func checkCalibrations(model: String) throws(MethodError) {
    for file in calibrationFiles { try file.check(model: model) }
  }
}

/// Where a calibration comes from.
public enum CalibrationSource: Sendable, CustomStringConvertible {
  /// The prompt's own rows.
  case prompt
  /// A file that `lrqk calibrate` made.
  case file(CalibrationFile)

  /// The option `name` of `method`: the word prompt, or a path.
  init(_ given: MethodOptions, _ name: String, method: String) throws(MethodError) {
    switch given.text(name) {
    case nil, "prompt": self = .prompt
    case let path?:
      let reader = given.method == method ? method : "\(given.method): \(name)=\(path)"
      self = .file(try CalibrationFile(path: path, method: method, reader: reader))
    }
  }

  /// The file; nil for the prompt.
  public var file: CalibrationFile? {
    if case .file(let file) = self { file } else { nil }
  }

  /// The text that makes it again.
  public var description: String { file?.path ?? "prompt" }
}
