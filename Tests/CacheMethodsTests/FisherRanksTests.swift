// Ranks out of one budget: the sum is the budget, and more goes where the loss depends on more.

import CacheMethods
import Tensors
import Testing

@Suite struct FisherRanksTests {
  @Test(
    arguments: [
      // What is due comes out even.
      ([1, 1, 2], 1...100, 40, [10, 10, 20]),
      // 3.33 each: one is left, for the first.
      ([1, 1, 1], 1...100, 10, [4, 3, 3]),
      // 1.8, 3.6, 3.6: .8 is missing most, and then .6 of the first of two.
      ([1, 2, 2], 1...100, 9, [2, 4, 3]),
      // 2.4, 2.4, 19.2: the third has at most 10, the others get what is left in turns.
      ([1, 1, 8], 1...10, 24, [7, 7, 10]),
      // 0, 0, 12: each has at least 2; those two are taken from the third.
      ([0, 0, 5], 2...12, 12, [2, 2, 8]),
      ([0, 3, 0], 1...4, 12, [4, 4, 4]),
      // Numbers whose sum is infinite are shared out like others.
      ([1e308, 1e308, 1e308], 1...100, 10, [4, 3, 3]),
    ] as [([Double], ClosedRange<Int>, Int, [Int])])
  func `a budget by hand`(
    _ information: [Double], _ bounds: ClosedRange<Int>, _ total: Int, _ expected: [Int]
  ) {
    let shared = sharedRanks(
      information, bounds: Array(repeating: bounds, count: information.count), total: total)
    #expect(shared == expected)
  }

  @Test func `the sum is the budget, bounds hold, and who matters more has no less`() {
    for n in 0..<300 {
      let numbers = RandomNumbers(seed: 4, stream: UInt64(n))
      let count = 1 + numbers.integer(below: 9, 0)
      let information = (1...count).map { Double(1 + numbers.integer(below: 1000, $0)) }
      let bounds = Array(repeating: 1...1 + numbers.integer(below: 40, 20), count: count)
      let most = bounds[0].upperBound * count
      let total = count + numbers.integer(below: most - count + 1, 21)
      let ranks = sharedRanks(information, bounds: bounds, total: total)
      #expect(ranks.reduce(0, +) == total)
      for i in 0..<count {
        #expect(bounds[i].contains(ranks[i]))
        for j in 0..<count where information[i] > information[j] {
          // Parts of one rank are given out by what is missing, so one rank may go the other way.
          #expect(ranks[i] + 1 >= ranks[j], "\(information) \(ranks)")
        }
      }
    }
  }
}
