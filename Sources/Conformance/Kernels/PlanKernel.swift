// Kernel: hit and miss (LRQK, stage 7). Integers only.
//
// In:  resident (S): the token whose row lies in each slot, −1 where none does; the first
//      `reserved` slots belong to the recent ring and are left alone. needed (k): tokens,
//      ascending.
// Out: missed (k): the needed tokens that are not resident, ascending, −1 behind the last; slots
//      (k): the slot of each, −1 behind the last; after (S): the token in each slot once the rows
//      have been copied.
//
// A needed token that is resident keeps its slot. Slots of tokens that are not needed become free.
// Missed tokens take free slots, the lowest first, in token order.

/// Which rows have to be copied, and where to.
struct PlanKernel: KernelDefinition {
  let kernel = Kernel.plan
  let summary = "missed tokens (k) and their slots, from residents (S) and needed tokens (k)"
  let outputs: [KernelOutput] = [
    .integers("missed", "place"), .integers("slots", "place"), .integers("after", "slot"),
  ]

  func run<N: KernelNumber>(_ x: Inputs<N>, into out: inout Outputs) {
    let (resident, needed) = (x.integers("resident").elements, x.integers("needed").elements)
    let plan = residency(resident, reserved: x.count("reserved"), needed: needed)
    let empty = Array(repeating: -1, count: needed.count - plan.missed.count)
    out.write("missed", integers: Grid([needed.count], plan.missed + empty))
    out.write("slots", integers: Grid([needed.count], plan.slots + empty))
    out.write("after", integers: Grid([resident.count], plan.after))
  }

  var cases: [KernelCase] {
    func make(
      _ name: String, _ purpose: String, seed: UInt64, slots S: Int = 29, needed k: Int = 19,
      _ holding: (inout CaseData, [Int]) -> [Int]
    ) -> KernelCase {
      var data = CaseData(seed: seed)
      let needed = data.distinct(k, below: 90, ascending: true)
      let reserved = 5
      let held = holding(&data, needed)
      let empty = Array(repeating: -1, count: S - reserved - held.count)
      // The ring's own tokens are newer than all that can be needed.
      let resident = (0..<reserved).map { 90 + $0 } + held + empty
      return KernelCase(
        kernel, name, purpose, seed: seed, isExact: true,
        parameters: ["reserved": Double(reserved)],
        [
          NamedTensor("resident", [("slot", S)], integers: resident),
          NamedTensor("needed", [("place", k)], integers: needed),
        ])
    }
    return [
      make("first", "nothing is there yet", seed: 1) { _, _ in [] },
      make("all-there", "every needed token lies somewhere: nothing moves", seed: 2) {
        data, needed in
        let order = data.distinct(needed.count, below: needed.count, ascending: false)
        return order.map { needed[$0] }
      },
      make("none-there", "as many tokens lie there as are needed, all of them others", seed: 3) {
        data, needed in
        let others = (0..<90).filter { !needed.contains($0) }
        return data.distinct(needed.count, below: others.count, ascending: false).map {
          others[$0]
        }
      },
      make("some-there", "hits between misses, free slots between occupied ones", seed: 4) {
        data, _ in
        data.distinct(24, below: 90, ascending: false)
      },
      make("holes", "slots without a token between others", seed: 5) { data, _ in
        data.distinct(24, below: 90, ascending: false).enumerated().map {
          $0 % 3 == 1 ? -1 : $1
        }
      },
      make("one", "a single token", seed: 6, slots: 7, needed: 1) { _, _ in [3] },
    ]
  }
}

/// The plan's three lists.
func residency(
  _ resident: [Int], reserved: Int, needed: [Int]
) -> (missed: [Int], slots: [Int], after: [Int]) {
  var after = resident
  for s in reserved..<resident.count where !needed.contains(resident[s]) { after[s] = -1 }
  let missed = needed.filter { !after[reserved...].contains($0) }
  let free = (reserved..<after.count).filter { after[$0] == -1 }
  let slots = Array(free.prefix(missed.count))
  for (token, slot) in zip(missed, slots) { after[slot] = token }
  return (missed, slots, after)
}
