// Kernel: missed rows from the host into their slots (LRQK, stage 7). Every bit counts.
//
// In:  K_host, V_host (l, d); tokens (m) and slots (m); K, V (S, d) as they lie on the device.
// Out: K, V (S, d):   K[slots[i]] = K_host[tokens[i]], and V likewise; other rows stay.

/// The copies of a step.
struct GatherKernel: KernelDefinition {
  let kernel = Kernel.gather
  let summary = "K and V (S, d) with rows tokens (m) of the host's (l, d) in their slots (m)"
  let outputs: [KernelOutput] = [
    .reals("K", "slot", "width"), .reals("V", "slot", "width"),
  ]

  func run<N: KernelNumber>(_ x: Inputs<N>, into out: inout Outputs) {
    let (tokens, slots) = (x.integers("tokens").elements, x.integers("slots").elements)
    for name in ["K", "V"] {
      let host = x["\(name)_host"]
      var device = x[name]
      for (token, slot) in zip(tokens, slots) {
        for i in 0..<host.shape[1] { device[slot, i] = host[token, i] }
      }
      out.write(name, device)
    }
  }

  var cases: [KernelCase] {
    func make(_ name: String, _ purpose: String, seed: UInt64, missed m: Int) -> KernelCase {
      var data = CaseData(seed: seed)
      let (l, S, d) = (43, 17, 6)
      let tokens = data.distinct(m, below: l, ascending: true)
      let slots = data.distinct(m, below: S, ascending: true)
      return KernelCase(
        kernel, name, purpose, seed: seed, isExact: true,
        [
          data.normals("K_host", [("token", l), ("width", d)]).scaling(row: 0, by: 1e-41),
          data.normals("V_host", [("token", l), ("width", d)]),
          NamedTensor("tokens", [("missed", m)], integers: tokens),
          NamedTensor("slots", [("missed", m)], integers: slots),
          data.normals("K", [("slot", S), ("width", d)]),
          data.normals("V", [("slot", S), ("width", d)]),
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
