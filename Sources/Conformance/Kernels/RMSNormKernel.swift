// Kernel: root-mean-square norm.
//
// In:  x (n, D), weight (D), epsilon.
// Out: y (n, D):   y[t, i] = weight[i] x[t, i] / √(mean_j x[t, j]² + epsilon)

/// weight ⊙ x / √(mean x² + ε).
struct RMSNormKernel: KernelDefinition {
  let kernel = Kernel.rmsNorm
  let summary = "y (n, D) = weight (D) x / √(mean x² + epsilon)"
  let outputs: [KernelOutput] = [.reals("y", "token", "width")]

  func run<N: KernelNumber>(_ x: Inputs<N>, into out: inout Outputs) {
    let (rows, weight, epsilon) = (x["x"], x["weight"], x.parameter("epsilon"))
    let D = rows.shape[1]
    var y = rows
    for t in 0..<rows.shape[0] {
      var squares = N.zero
      for i in 0..<D { squares += rows[t, i] * rows[t, i] }
      let root = (squares / N(rounding: Double(D)) + epsilon).squareRoot()
      for i in 0..<D { y[t, i] = (weight.elements[i] * (rows[t, i] / root)).stored }
    }
    out.write("y", y)
  }

  var cases: [KernelCase] {
    func make(
      _ name: String, _ purpose: String, seed: UInt64, rows n: Int = 5, epsilon: Double = 1e-5,
      _ change: (NamedTensor) -> NamedTensor = { $0 }
    ) -> KernelCase {
      var data = CaseData(seed: seed)
      return KernelCase(
        kernel, name, purpose, seed: seed, parameters: ["epsilon": Double(Float(epsilon))],
        [
          change(data.normals("x", [("token", n), ("width", 48)])),
          data.normals("weight", [("width", 48)]),
        ])
    }
    return [
      make("random", "normals", seed: 1),
      make("one-token", "a single row", seed: 2, rows: 1),
      make("zero-row", "a row of zeros: epsilon alone stands below the root", seed: 3) {
        $0.scaling(row: 2, by: 0)
      },
      make("small-row", "a row whose squares are denormal in F32", seed: 4) {
        $0.scaling(row: 3, by: 1e-21)
      },
      make("large", "squares near 1e30", seed: 5) { $0.times(1e15) },
    ]
  }
}
