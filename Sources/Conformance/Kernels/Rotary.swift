// Kernel: rotary position embedding, halves as pairs (Llama's layout).
//
// In:  x (n, H, d); cosines and sines (n, d/2) of the angle of each token's position and pair.
// Out: y (n, H, d):   y[i]       = x[i] cos − x[i + d/2] sin
//                     y[i + d/2] = x[i + d/2] cos + x[i] sin
//
// The angles are inputs, position · base^(−2i/d) with base 10,000, made here in Double and rounded to
// F32: how they are computed is a library's choice, and would hide in a tolerance what this is about,
// which elements are pairs and which way they rotate. `positions` (n) stands beside them.

import Tensors

/// Pairs (i, i + d/2), rotated.
struct RotaryKernel: Kernel {
  let name = "rope"
  let summary = "y (n, H, d): pairs (i, i + d/2) of x turned by cosines, sines (n, d/2)"

  func run<N: KernelNumber>(_ x: Inputs<N>) -> Outputs {
    let (rows, cosines, sines) = (x["x"], x["cosines"], x["sines"])
    let (n, H, half) = (rows.shape[0], rows.shape[1], rows.shape[2] / 2)
    var y = rows
    for t in 0..<n {
      for h in 0..<H {
        for i in 0..<half {
          let (a, b) = (rows[t, h, i], rows[t, h, half + i])
          y[t, h, i] = (a * cosines[t, i] - b * sines[t, i]).stored
          y[t, h, half + i] = (b * cosines[t, i] + a * sines[t, i]).stored
        }
      }
    }
    var out = Outputs()
    out.add("y", ["token", "head", "width"], y)
    return out
  }

  var cases: [KernelCase] {
    func make(_ name: String, _ purpose: String, seed: UInt64, _ positions: [Int]) -> KernelCase {
      var filling = Filling(seed: seed)
      let (n, H, d) = (positions.count, 3, 16)
      let angles = rotaryAngles(positions, width: d)
      let axes = [("token", n), ("pair", d / 2)]
      return KernelCase(
        self.name, name, purpose, seed: seed,
        isExact: positions.allSatisfy { $0 == 0 },
        [
          filling.normals("x", [("token", n), ("head", H), ("width", d)]),
          NamedTensor("positions", [("token", n)], integers: positions),
          NamedTensor("cosines", axes, reals: angles.cosines),
          NamedTensor("sines", axes, reals: angles.sines),
        ])
    }
    return [
      make(
        "random", "positions in any order", seed: 1, [0, 1, 2, 3, 100, 731, 2047, 40, 40, 5, 4095]),
      make("start", "position 0 turns nothing", seed: 2, [0, 0]),
      make("far", "positions of a hundred thousand", seed: 3, [131_071, 99_999, 65_536]),
    ]
  }
}

/// Cosines and sines (n, width/2) of position · 10000^(−2i/width), rounded to F32; no library's, so that
/// their bits are the same everywhere.
func rotaryAngles(
  _ positions: [Int], width: Int
) -> (cosines: [Double], sines: [Double]) {
  let logarithm = 9.210340371976183  // of 10,000
  var result: (cosines: [Double], sines: [Double]) = ([], [])
  for position in positions {
    for i in 0..<width / 2 {
      let frequency = (-logarithm * Double(2 * i) / Double(width)).exponential()
      let turns = Double(position) * frequency / 6.283185307179586
      let (cosine, sine) = cosineSine(turns: turns - turns.rounded(.down))
      result.cosines.append(Double(Float(cosine)))
      result.sines.append(Double(Float(sine)))
    }
  }
  return result
}
