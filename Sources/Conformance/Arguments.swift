// A case's inputs as the package's types, and outputs back: for backends that call code of this package.
//
// In:  a case.
// Out: matrices in Float, integers, parameters; of a decode-step case the prompt, the choices and the
//      new tokens. Back: tensors with the reference's names and axes.

package import LRQK
package import Tensors

/// A case's inputs as the package's tensors.
package struct Arguments {
  private let example: KernelCase

  /// The inputs of `example`.
  package init(_ example: KernelCase) { self.example = example }

  private func tensor(_ name: String) -> NamedTensor {
    guard let tensor = example.inputs.first(where: { $0.name == name }) else {
      preconditionFailure("\(example.path) has no input \(name)")
    }
    return tensor
  }

  /// Whether there is an input `name`.
  package func contains(_ name: String) -> Bool { example.inputs.contains { $0.name == name } }
  /// A parameter.
  package func parameter(_ name: String) -> Double { example.parameters[name] ?? .nan }
  /// Names and sizes of an input's axes.
  package func axes(_ name: String) -> [(String, Int)] {
    Array(zip(tensor(name).axes, tensor(name).shape))
  }

  /// An input's real numbers, flat.
  package func numbers(_ name: String) -> [Float] {
    guard case .reals(let numbers) = tensor(name).values else { return [] }
    return numbers.map { Float($0) }
  }

  /// An input's integers, flat.
  package func integers(_ name: String) -> [Int] {
    guard case .integers(let numbers) = tensor(name).values else { return [] }
    return numbers
  }

  /// An input's real numbers in its shape.
  package subscript(name: String) -> Tensor<Float> {
    Tensor(shape: tensor(name).shape, elements: numbers(name))
  }

  /// The matrices of a tensor of three axes.
  package func slices(_ name: String) -> [Tensor<Float>] {
    let (shape, elements) = (tensor(name).shape, numbers(name))
    let size = shape[1] * shape[2]
    return (0..<shape[0]).map { n in
      Tensor(shape: [shape[1], shape[2]], elements: Array(elements[n * size..<(n + 1) * size]))
    }
  }
}

/// Outputs under the reference's names, with the names of their axes.
package func named(_ tensors: [(String, [String], Tensor<Float>?)]) -> [NamedTensor] {
  tensors.compactMap { name, axes, tensor in
    tensor.map {
      NamedTensor(name, Array(zip(axes, $0.shape)), reals: $0.elements.map(Double.init))
    }
  }
}

/// The inputs of a decode-step case.
package struct DecodeStepArguments {
  /// The prompt's Q (l, d) of every query head.
  package let queries: [Tensor<Float>]
  /// Its K (l, d) of every key/value head.
  package let keys: [Tensor<Float>]
  /// Its V (l, d).
  package let values: [Tensor<Float>]
  /// What the one sweep starts from, by holder of codes.
  package let initial: [InitialCodes<Float>]
  /// The choices that the case stands for; the solver is the backend's.
  package var parameters: Parameters
  /// d.
  package var width: Int { queries[0].columns }
  /// Of every new token q (H, d), k and v (M, d).
  private let tokens: [(q: Tensor<Float>, k: Tensor<Float>, v: Tensor<Float>)]

  /// The inputs in `x`.
  package init(_ x: Arguments) throws {
    let (Q, K, V, steps) = (x.slices("Q"), x.slices("K"), x.slices("V"), x.slices("q"))
    let (A_Q, A_K) = (x.slices("A_Q"), x.slices("A_K"))
    let l = Q[0].rows
    queries = Q
    keys = K.map { $0.rows(0..<l) }
    values = V.map { $0.rows(0..<l) }
    initial = zip(A_Q, A_K).map { InitialCodes(queries: $0, keys: $1) }
    tokens = steps.enumerated().map { t, q in
      func newest(_ rows: [Tensor<Float>]) -> Tensor<Float> {
        Tensor(joiningRows: rows.map { $0.rows(l + t..<l + t + 1) })
      }
      return (q, newest(K), newest(V))
    }
    parameters = try Parameters(
      .paper, rank: A_K[0].columns, selected: Int(x.parameter("k")), recent: Int(x.parameter("w")))
    parameters.sweeps?.start = .given
    parameters.sweeps?.iterations = try SweepIterations(1, tolerance: 0)
    let alternations = Int(x.parameter("alternations"))
    if alternations > 0 {
      parameters.alternation?.iterations = try AlternationIterations(alternations, tolerance: 0)
    } else {
      parameters.codes = .linear(refresh: .never)
    }
    parameters.codeSharing = A_K.count == Q.count ? .perQueryHead : .perKeyValueHead
    parameters.rows = .perQueryHead
    parameters.candidates = x.parameter("candidates_hole") == 1 ? .released : .all
  }

  /// The outputs of all steps, each done by `step`: q (H, d), k and v (M, d) make the selected tokens
  /// and the missed rows of every query head, and attention (H, d).
  package func decode(
    _ step: (_ q: Tensor<Float>, _ k: Tensor<Float>, _ v: Tensor<Float>) throws -> (
      selected: [[Int]], missed: [Int], out: Tensor<Float>
    )
  ) rethrows -> [NamedTensor] {
    var (selected, missed, out): ([Int], [Int], [Float]) = ([], [], [])
    for token in tokens {
      let done = try step(token.q, token.k, token.v)
      selected += done.selected.joined()
      missed += done.missed
      out += done.out.elements
    }
    let axes = [("step", tokens.count), ("head", queries.count)]
    return [
      NamedTensor("selected", axes + [("place", parameters.selected)], integers: selected),
      NamedTensor("missed", axes, integers: missed),
      NamedTensor("out", axes + [("width", width)], reals: out.map(Double.init)),
    ]
  }
}
