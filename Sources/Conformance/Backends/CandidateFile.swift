// Outputs that were computed elsewhere, in a safetensors file.
//
// In:  a file with a case's outputs under the reference's names; its metadata says which case:
//      "kernel" and "case" (a copy of a golden file's metadata will do).
// Out: a candidate like any other. Its precision is that of its real tensors: F32, BF16 or F16.

import Tensors

/// One case's outputs, from a file.
package struct CandidateFile: KernelBackend {
  package let name: String
  /// The case that the file answers.
  package let example: KernelCase
  /// The format of its real numbers, which sets the tolerances.
  package let precision: CandidatePrecision
  private let tensors: [NamedTensor]

  /// The file at `path`; `kernel` and `case` where its metadata do not say.
  ///
  /// Throws where it is no safetensors file, names no case, or holds no real number in a format
  /// that a candidate may have.
  package init(path: String, kernel: String? = nil, case caseName: String? = nil) throws {
    let file = try SafetensorsFile(path: path)
    guard let kernelName = kernel ?? file.metadata["kernel"],
      let caseName = caseName ?? file.metadata["case"]
    else {
      throw GoldenError(
        "\(path): its metadata do not say which case it answers; give --kernel and --case")
    }
    guard let kernel = Kernel(rawValue: kernelName),
      let example = kernel.cases.first(where: { $0.name == caseName })
    else {
      throw GoldenError(
        "\(path): there is no case \(kernelName)/\(caseName); `lrqk check --list` shows all")
    }
    name = path
    self.example = example
    var formats: Set<StorageFormat> = []
    var tensors: [NamedTensor] = []
    for output in kernel.outputs where file.contains(output.name) {
      let (format, shape) = (
        try file.format(of: output.name), try file.shape(of: output.name)
      )
      let axes = shape.enumerated().map { n, size in
        (n < output.axes.count ? output.axes[n] : "axis \(n)", size)
      }
      if format.isFloatingPoint {
        formats.insert(format)
        let values: Tensor<Double> = try file.tensor(output.name)
        tensors.append(NamedTensor(output.name, axes, reals: values.elements))
      } else {
        tensors.append(
          NamedTensor(output.name, axes, integers: try file.integers(output.name).elements))
      }
    }
    if tensors.isEmpty {
      throw GoldenError(
        "\(path): none of the outputs of \(example.path) is in it: "
          + kernel.outputs.map(\.name).joined(separator: ", "))
    }
    if formats.count > 1 {
      let names = formats.map(\.rawValue).sorted().joined(separator: " and ")
      throw GoldenError("\(path): its outputs have several formats, \(names); one case has one")
    }
    let format = formats.first?.rawValue ?? "F32"
    guard let precision = CandidatePrecision(rawValue: format) else {
      throw GoldenError("\(path): outputs in \(format); candidates have F32, BF16 or F16")
    }
    self.precision = precision
    self.tensors = tensors
  }

  package func outputs(of example: KernelCase) throws -> [NamedTensor] {
    guard example.path == self.example.path else { throw NotRun("\(name) has another case") }
    return tensors
  }
}
