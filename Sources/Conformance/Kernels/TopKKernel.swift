// Kernel: the k best candidates of every head (LRQK, stage 6).
//
// In:  scores (H, c); k.
// Out: selected (H, k), candidates, ascending: those with the larger score first, and of equal
//      scores those with the lower index. −0 equals 0.

import Tensors

/// The k largest scores of every row.
struct TopKKernel: KernelDefinition {
  let kernel = Kernel.topK
  let summary =
    "selected (H, k), ascending: larger scores (H, c) first, then the lower index"
  let outputs: [KernelOutput] = [.integers("selected", "head", "place")]

  func run<N: KernelNumber>(_ x: Inputs<N>, into out: inout Outputs) {
    let (scores, k) = (x["scores"], x.count("k"))
    var selected = Grid([scores.shape[0], k], filledWith: 0)
    for h in 0..<scores.shape[0] { selected[slice: h] = best(scores[slice: h], k) }
    out.write("selected", integers: selected)
  }

  var cases: [KernelCase] {
    func make(
      _ name: String, _ purpose: String, seed: UInt64, c: Int = 61, k: Int = 13,
      _ score: (RandomNumbers, Int) -> Double
    ) -> KernelCase {
      let random = RandomNumbers(seed: seed)
      return KernelCase(
        kernel, name, purpose, seed: seed, isExact: true, parameters: ["k": Double(k)],
        [
          NamedTensor(
            "scores", [("head", 5), ("candidate", c)],
            reals: (0..<5 * c).map { Double(Float(score(random, $0))) })
        ])
    }
    return [
      make("random", "normals: no ties", seed: 1) { $0.normal($1) },
      make("ties", "scores from −2 to 2 in whole steps: the cut goes through equal ones", seed: 2) {
        Double($0.integer(below: 5, $1) - 2)
      },
      make("all-equal", "nothing but the tie rule decides", seed: 0) { _, _ in 1.5 },
      make("signed-zeros", "0 and −0 are equal: only the index tells them apart", seed: 3) {
        $0.integer(below: 2, $1) == 0 ? 0 : -0.0
      },
      make("all-candidates", "k = c", seed: 4, c: 17, k: 17) { $0.normal($1) },
      make("one", "k = 1 of 300", seed: 5, c: 300, k: 1) { $0.normal($1) },
      make("neighbours", "scores that differ in their last bit", seed: 6) {
        Double((1 + Float($0.integer(below: 40, $1)) * Float.ulpOfOne))
      },
      make("wide-range", "from denormal to 1e38, both signs", seed: 7) {
        let size = Double(
          Float(sign: .plus, exponent: $0.integer(below: 270, $1) - 145, significand: 1.25))
        return $1 % 3 == 0 ? -size : size
      },
    ]
  }
}

/// The k best of `scores` (c), ascending: place after place the best that is left.
func best<N: KernelNumber>(_ scores: Grid<N>, _ k: Int) -> Grid<Int> {
  var taken = Array(repeating: false, count: scores.elements.count)
  for _ in 0..<k {
    var choice = -1
    for t in taken.indices where !taken[t] {
      if choice < 0 || scores.elements[t] > scores.elements[choice] { choice = t }
    }
    taken[choice] = true
  }
  return Grid([k], taken.indices.filter { taken[$0] })
}
