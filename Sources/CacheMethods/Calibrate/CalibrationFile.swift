// A calibration: what a method learnt of a model from some texts, once, before any prompt.
//
// In:  a safetensors file that `lrqk calibrate` wrote: schema lrqk-calibration/1.
// Out: the tensors of one layer, checked against the layer that wants them.
//
//     metadata     schema, method, model (the hash of the model's folder), layers, tokens seen, and
//                  one entry option.NAME for every option of the calibration
//     tensors      layers.N.NAME, N from 0
//
// A file of another method, of fewer layers or of other heads is an error of one line. Whether it
// is of the same model is for the caller to say, who knows the folder: `checkCalibrations`.

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
  private let file: SafetensorsFile

  /// Opens a file that was made for `method`.
  public init(path: String, method: String) throws(MethodError) {
    let file: SafetensorsFile
    do {
      file = try SafetensorsFile(path: path)
    } catch {
      throw MethodError("\(method): \(error)")
    }
    let metadata = file.metadata
    guard metadata["schema"] == Self.schema else {
      throw MethodError(
        "\(method): \(path) is no calibration; make one with lrqk calibrate \(method)")
    }
    guard metadata["method"] == method else {
      throw MethodError(
        "\(method): \(path) is a calibration for \(metadata["method"] ?? "no method"), not for \(method)"
      )
    }
    guard let model = metadata["model"], let layers = metadata["layers"].flatMap(Int.init) else {
      throw MethodError("\(method): \(path) does not say of which model it is")
    }
    self.path = path
    self.method = method
    self.model = model
    self.layers = layers
    self.file = file
  }

  /// The option `name` that the calibration was made with; nil where it says none.
  public func option(_ name: String) -> String? { file.metadata["option.\(name)"] }

  /// Throws unless it was made with the model of this hash; `user` names the method that reads it.
  func check(model hash: String, user: String) throws(MethodError) {
    if model != hash {
      throw MethodError(
        "\(user): \(path) is a calibration of another model (\(model), and this one is \(hash)); "
          + "make one with lrqk calibrate \(method)")
    }
  }

  /// The tensor `name` of a layer, which has to have this shape and finite numbers.
  public func tensor(
    _ name: String, of layer: LayerShape, shape: [Int]
  ) throws(MethodError) -> Tensor<Double> {
    guard layer.layer < layers else {
      throw MethodError(
        "\(method): \(path) has \(layers) layers and no layer \(layer.layer): "
          + "it is a calibration of another model")
    }
    let name = "layers.\(layer.layer).\(name)"
    let tensor: Tensor<Double>
    do {
      tensor = try file.tensor(name)
    } catch {
      throw MethodError("\(method): \(error)")
    }
    guard tensor.shape == shape else {
      throw MethodError(
        "\(method): \(path): \(name) has shape \(tensor.shape), and this model's layer needs "
          + "\(shape): it is a calibration of another model")
    }
    guard tensor.firstNonFinite == nil else {
      throw MethodError("\(method): \(path): \(name) holds NaN or infinity")
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
    let rows = options.first { $0.name == "rows" }.flatMap { try? RowFormat(text: $0.value) }
    return [(self as? any CalibratedMethod)?.calibrationFile, rows?.calibrationFile]
      .compactMap { $0 }
  }

  /// Throws unless every calibration that there is was made with the model of this hash.
  public func checkCalibrations(model: String) throws(MethodError) {
    for file in calibrationFiles { try file.check(model: model, user: Self.name) }
  }
}

/// Where a calibration comes from.
public enum CalibrationSource: Sendable, CustomStringConvertible {
  /// The prompt's own rows.
  case prompt
  /// A file.
  case file(CalibrationFile)

  /// The option `name` of `method`: the word prompt, or a path.
  init(_ given: MethodOptions, _ name: String, method: String) throws(MethodError) {
    switch given.text(name) {
    case nil, "prompt": self = .prompt
    case let path?: self = .file(try CalibrationFile(path: path, method: method))
    }
  }

  /// The file; nil for the prompt.
  public var file: CalibrationFile? {
    if case .file(let file) = self { file } else { nil }
  }

  /// The text that makes it again.
  public var description: String { file?.path ?? "prompt" }
}
