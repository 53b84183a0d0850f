// Kernel: missed rows from the host into their slots (LRQK, step 7). Copies only: every bit counts.
//
// In:  K_host, V_host (l, d); tokens (m) and slots (m); K, V (S, d) as they lie on the device.
// Out: K, V (S, d):   K[slots[i]] = K_host[tokens[i]], and V likewise; other rows stay.

/// The copies of a step.
struct GatherKernel: Kernel {
  let name = "gather"
  let summary = "K and V (S, d) with rows tokens (m) of the host's (l, d) in their slots (m)"

  func run<N: KernelNumber>(_ x: Inputs<N>) -> Outputs {
    let (tokens, slots) = (x.integers("tokens").elements, x.integers("slots").elements)
    var out = Outputs()
    for name in ["K", "V"] {
      let host = x["\(name)_host"]
      var device = x[name]
      for (token, slot) in zip(tokens, slots) {
        for i in 0..<host.shape[1] { device[slot, i] = host[token, i] }
      }
      out.add(name, ["slot", "width"], device)
    }
    return out
  }

  var cases: [KernelCase] {
    func make(_ name: String, _ purpose: String, seed: UInt64, missed m: Int) -> KernelCase {
      var filling = Filling(seed: seed)
      let (l, S, d) = (43, 17, 6)
      let tokens = filling.distinct(m, below: l, ascending: true)
      let slots = filling.distinct(m, below: S, ascending: true)
      return KernelCase(
        self.name, name, purpose, seed: seed, isExact: true,
        [
          filling.normals("K_host", [("token", l), ("width", d)]).scaling(row: 0, by: 1e-41),
          filling.normals("V_host", [("token", l), ("width", d)]),
          NamedTensor("tokens", [("missed", m)], integers: tokens),
          NamedTensor("slots", [("missed", m)], integers: slots),
          filling.normals("K", [("slot", S), ("width", d)]),
          filling.normals("V", [("slot", S), ("width", d)]),
        ])
    }
    return [
      make("some", "nine rows move, the others stay", seed: 1, missed: 9),
      make("none", "nothing is missed: not one bit changes", seed: 2, missed: 0),
      make("all", "every slot gets a row", seed: 3, missed: 17),
      make("one", "a single row", seed: 4, missed: 1),
    ]
  }
}
