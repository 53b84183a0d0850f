import TestSupport
import Testing
import TieredMemory

@Suite struct `Slot pool` {
  @Test(arguments: [1, 2, 3, 4, 5] as [UInt64], [0, 3, 70])
  func `plans agree with a simulation that uses dictionaries`(seed: UInt64, reserved: Int) {
    var numbers = SeededNumbers(seed: seed)
    var pool = SlotPool(reserving: reserved)
    // The witness: which slot holds which token's row, and which slots have ever been used.
    var slotOf: [Int: Int] = [:]
    var used: Set<Int> = []
    for _ in 0..<200 {
      let count = Int.random(in: 0..<150, using: &numbers)
      let needed = numbers.ascending(count, below: 300)
      let plan = pool.update(to: needed)

      let missed = needed.filter { slotOf[$0] == nil }
      let freed = slotOf.keys.filter { !needed.contains($0) }.sorted()
      #expect(plan.missedTokens == missed && plan.misses == missed.count)
      #expect(plan.freedTokens == freed)
      #expect(plan.hits + plan.misses == needed.count)
      for token in freed { slotOf[token] = nil }
      // Missed tokens take free slots in slot order, then new ones.
      let taken = Set(slotOf.values)
      let freeSlots = used.subtracting(taken).sorted()
      let top = used.count + reserved
      let expected = (freeSlots + (top..<top + missed.count)).prefix(missed.count)
      #expect(plan.missedSlots == Array(expected))
      for (token, slot) in zip(plan.missedTokens, plan.missedSlots) {
        slotOf[token] = slot
        used.insert(slot)
      }

      #expect(pool.tokens == needed)
      #expect(pool.slots == needed.map { slotOf[$0] ?? -1 }, "a hit keeps its slot")
      #expect(Set(pool.slots).count == needed.count, "no two tokens share a slot")
      #expect(pool.slots.allSatisfy { $0 >= reserved && $0 < pool.slotCount })
      #expect(plan.slotsNeeded == pool.slotCount)
      #expect(pool.slotCount == reserved + used.count, "every slot up to the mark has been used")
      let some = needed.filter { $0 % 3 == 1 }
      #expect(pool.slots(for: some) == some.map { Int32(slotOf[$0] ?? -1) })
    }
  }

  @Test(arguments: [6, 7, 8] as [UInt64])
  func `a pool made of its residents goes on as the pool would`(seed: UInt64) {
    var numbers = SeededNumbers(seed: seed)
    var pool = SlotPool()
    for _ in 0..<100 {
      var anew = SlotPool(residents: pool.residents)
      #expect(anew.tokens == pool.tokens && anew.slots == pool.slots)
      let needed = numbers.ascending(numbers.below(150), below: 300)
      #expect(anew.update(to: needed) == pool.update(to: needed))
      #expect(anew.residents == pool.residents)
      #expect(pool.residents.filter { $0 >= 0 }.sorted() == needed)
    }
  }

  @Test func `a list of one length never needs more slots than its length`() {
    var numbers = SeededNumbers(seed: 9)
    var pool = SlotPool()
    for _ in 0..<50 {
      let plan = pool.update(to: numbers.ascending(64, below: 1_000))
      #expect(plan.slotsNeeded == 64)
      #expect(plan.missedTokens.count == plan.freedTokens.count || plan.hits == 0)
    }
  }

  @Test func `tokens that stay keep their slots and newcomers take the lowest free`() {
    var pool = SlotPool()
    #expect(pool.update(to: [10, 20, 30, 40]).missedSlots == [0, 1, 2, 3])
    let plan = pool.update(to: [5, 20, 25, 35, 40, 50])
    #expect(plan.hits == 2 && plan.slotsNeeded == 6)
    #expect(plan.missedTokens == [5, 25, 35, 50] && plan.missedSlots == [0, 2, 4, 5])
    #expect(plan.freedTokens == [10, 30])
    #expect(pool.slots == [0, 1, 2, 4, 3, 5])
    #expect(pool.slots(for: [20, 40]) == [1, 3])
  }

  @Test(arguments: [1, 2, 3] as [UInt64])
  func `a union is the set union, ascending`(seed: UInt64) {
    var numbers = SeededNumbers(seed: seed)
    for lists in 0...6 {
      let sorted = (0..<lists).map { _ in
        let count = Int.random(in: 0..<40, using: &numbers)
        return numbers.ascending(count, below: 100)
      }
      let expected = sorted.reduce(into: Set<Int>()) { $0.formUnion($1) }.sorted()
      #expect(SlotPool.union(of: sorted) == expected)
    }
  }

  @Test func `a list that does not ascend is a programmer's error`() async {
    await #expect(processExitsWith: .failure) {
      var pool = SlotPool()
      _ = pool.update(to: [1, 3, 3])
    }
    await #expect(processExitsWith: .failure) {
      _ = SlotPool.union(of: [[1, 2], [5, 4]])
    }
    await #expect(processExitsWith: .failure) {
      _ = SlotPool(residents: [4, -1, 4])
    }
  }

  @Test func `the slot of a token that is not there is a programmer's error`() async {
    await #expect(processExitsWith: .failure) {
      var pool = SlotPool()
      _ = pool.update(to: [1, 3])
      _ = pool.slots(for: [1, 2])
    }
  }
}
