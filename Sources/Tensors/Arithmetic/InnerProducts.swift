// Two sums over matrices, in Double and in a fixed order.
//
// In:  matrices in Double.
// Out: ⟨A, B⟩ and the trace, each added up in the order of the elements.

/// ⟨A, B⟩, the sum over all elements of A_ij B_ij.
package func inner(_ a: Tensor<Double>, _ b: Tensor<Double>) -> Double {
  precondition(a.shape == b.shape, "⟨\(a.shape), \(b.shape)⟩")
  var sum = 0.0
  for i in 0..<a.count { sum += a.elements[i] * b.elements[i] }
  return sum
}

/// The trace of a square matrix.
package func traceOf(_ a: Tensor<Double>) -> Double { (0..<a.rows).reduce(0) { $0 + a[$1, $1] } }
