// What is replayed: recorded queries, keys and values, and how they were recorded.
//
// In:  a safetensors file; its metadata holds the sizes as strings.
// Out: tensors by name, and the sizes; a clear error for what is missing or contradicts.
//
// Axis order is (batch, head, token, width). Three kinds of files:
//   prefill       Q, K, A_Q_init, A_K_init        → A_Q, B_Q, A_K, B_K
//   decode_step   B_Q, B_K, A_K, K_selected, q, k → q_hat, k_hat, B_Q_new, B_K_new
//   trajectory    Q, K, V: a prompt, then steps    → selected sets, misses, attention, ...
// A `capture` (inputs only) is replayed as a trajectory. Other kinds, or none: a file with Q, K and
// V is a trajectory, one with Q and K a prefill. RecordedCall.swift and Trajectory.swift replay
// them; the next file, ReplayOptions.swift, says with which choices.

import LRQK
package import Tensors

/// Which computation a file records.
package enum RecordingKind: String, Sendable {
  /// The factorisation of a prompt.
  case prefill
  /// One call of the decode solver.
  case decodeStep = "decode_step"
  /// A prompt and decode steps.
  case trajectory
  /// A trajectory without expected outputs.
  case capture
}

/// A file that cannot be replayed; one line says why.
package struct ReplayError: Error, Equatable, CustomStringConvertible {
  /// What, where, what to do.
  package let description: String

  /// An error with this text.
  package init(_ description: String) { self.description = description }
}

/// A recording on disk.
package struct Recording: Sendable {
  /// The open file.
  package let file: SafetensorsFile
  /// Which computation it records.
  package let kind: RecordingKind

  /// Opens a recording.
  package init(path: String) throws {
    file = try SafetensorsFile(path: path)
    if let text = file.metadata["kind"], let known = RecordingKind(rawValue: text) {
      kind = known
    } else if file.contains("K_selected") {
      kind = .decodeStep
    } else if file.contains("V") {
      kind = .capture
    } else {
      kind = .prefill
    }
  }

  /// The metadata entry `key` as a number, if it is there.
  package func number<N: LosslessStringConvertible>(
    _ key: String, as type: N.Type = N.self
  ) throws(ReplayError) -> N? {
    guard let text = file.metadata[key] else { return nil }
    guard let value = N(text) else {
      throw ReplayError("\(file.path): metadata \(key) is \"\(text)\", which is not a number")
    }
    return value
  }

  /// A tensor of `rank` axes, in the precision of the replay; NaN and infinity are refused.
  package func tensor<E: Scalar>(_ name: String, rank: Int) throws -> Tensor<E> {
    let tensor: Tensor<E> = try file.tensor(name)
    if tensor.axisCount != rank || tensor.shape.contains(0) {
      throw ReplayError(
        "\(file.path): \(name) has shape \(tensor.shape); \(rank) axes, none of them empty, are "
          + "needed (batch, head, token, width)")
    }
    if let index = tensor.firstNonFinite {
      throw ReplayError(
        "\(file.path): \(name) holds \(tensor.elements[index]) at \(tensor.place(of: index)): "
          + "clean the input")
    }
    return tensor
  }

  /// Throws where the metadata say a size that the tensors do not have: one of the two is wrong.
  func checkSizes(_ sizes: [(key: String, size: Int)]) throws(ReplayError) {
    for (key, size) in sizes {
      guard let said: Int = try number(key), said != size else { continue }
      throw ReplayError(
        "\(file.path): metadata \(key) is \(said), and the tensors have \(size); "
          + "correct the metadata"
      )
    }
  }

  /// True when the file holds results to compare with.
  package var hasExpectedOutputs: Bool {
    ["A_K.f64", "A_K.f32", "k_hat.f64", "k_hat.f32", "selected", "attention", "k_hat"].contains {
      file.contains($0)
    }
  }
}

extension Tensor {
  /// The indices on every axis of flat index `index`.
  package func place(of index: Int) -> [Int] {
    var rest = index
    return shape.reversed().map { size in
      defer { rest /= size }
      return rest % size
    }.reversed()
  }

  /// The (token, width) matrices of a (batch, head, token, width) tensor, head after head.
  package func matrices() -> [Tensor] {
    precondition(axisCount == 4, "matrices of shape \(shape)")
    return (0..<shape[0]).flatMap { b in (0..<shape[1]).map { h in slice(b, h) } }
  }

  /// Matrices (a, b) of every head, joined to (batch, heads, a, b).
  package init(batch: Int, heads matrices: [Tensor]) {
    let whole = Tensor(stacking: matrices)
    self = whole.reshaped([batch, matrices.count / batch] + whole.shape.dropFirst())
  }
}
