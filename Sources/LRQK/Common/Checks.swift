// What every stage requires of its input.
//
// In:  a tensor or a system, its name, and the layer, head and step that it belongs to.
// Out: nothing, or the solution; otherwise an `LRQKError` that names layer, head and step.

import Tensors

/// Throws `sentence` as `LRQKError.parameter` unless `holds`.
func require(_ holds: Bool, _ sentence: @autoclosure () -> String) throws(LRQKError) {
  if !holds { throw .parameter(sentence()) }
}

/// Throws unless a weight is finite and not negative.
func requireWeight(_ name: String, _ weight: Double) throws(LRQKError) {
  try require(weight.isFinite && weight >= 0, "\(name) = \(weight): it must be finite, >= 0")
}

/// Throws unless `tensor` has these axes.
func requireShape<E>(
  _ tensor: Tensor<E>, _ name: String, _ axes: [(name: String, size: Int)]
) throws(LRQKError) {
  do { try tensor.require(name, axes) } catch { throw .shape(error) }
}

/// Throws for the first NaN or infinity of a (token, column) matrix.
func requireFinite<E: Scalar>(
  _ tensor: Tensor<E>, _ name: String, _ firstToken: Int, _ location: Location
) throws(LRQKError) {
  guard let index = tensor.firstNonFinite else { return }
  throw .nonFiniteInput(
    tensor: name, token: firstToken + index / tensor.columns, column: index % tensor.columns,
    value: "\(tensor.elements[index])", location)
}

/// Solves S X = B and names the place when S is singular.
func solve<E: Scalar>(
  _ system: String, _ s: Tensor<E>, _ b: Tensor<E>, _ rule: SolveRule, _ location: Location
) throws(LRQKError) -> SymmetricSolution<E> {
  do {
    return try solveSymmetric(s, b, rule)
  } catch {
    throw .singular(system: system, error, location)
  }
}
