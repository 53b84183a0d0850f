// The frontier of codes: every row is its method's replay, and its bytes are those of its codes.

import CacheMethods
import Replay
import Testing

@Suite struct CodeFrontierTests {
  /// Two layers of a model of width 32 with two query heads a key/value head, 8 steps.
  private static let frontier = Result {
    try CodeFrontier(
      [Recordings.capture(layer: 0), Recordings.capture(layer: 2)], selected: 112, recent: 16,
      options)
  }
  private static let options = {
    var options = ReplayOptions()
    options.steps = 8
    return options
  }()

  @Test func `a row is its method's replay`() throws {
    let frontier = try Self.frontier.get()
    #expect(frontier.width == 32 && frontier.steps == 8 && frontier.files.count == 2)
    let codes = try FrontierCode.all(width: 32, selected: 112, recent: 16)
    #expect(frontier.rows.count == 2 * codes.count && Set(codes.map(\.name)).count == codes.count)
    for (place, row) in frontier.rows.enumerated() where place % 11 == 0 {
      let replay = try MethodReplay(
        Recordings.capture(layer: place % 2 == 0 ? 0 : 2), cacheMethod(row.cache), Self.options)
      let recalls = replay.steps.map { $0.recall ?? -1 }
      // Quarters of two steps; a sum of eight in another order.
      for quarter in 0..<4 {
        let mean = (recalls[2 * quarter] + recalls[2 * quarter + 1]) / 2
        #expect(abs(row.recallByQuarter[quarter] - mean) < 1e-12, "\(row.code)")
      }
      #expect(abs(row.recall - recalls.reduce(0, +) / 8) < 1e-12)
      #expect(abs(row.mass - replay.steps.reduce(0) { $0 + $1.mass } / 8) < 1e-12)
    }
  }

  @Test func `bytes of a token are those of its codes`() throws {
    for row in try Self.frontier.get().rows {
      switch row.family {
      // A float a number and query head, two of them a key/value head; one code for both.
      case CodeFamily.released.rawValue: #expect(row.tokenBytes == 2 * 4 * 8 && row.rank == 8)
      case CodeFamily.recommended.rawValue: #expect(row.tokenBytes == 4 * 16 && row.rank == 16)
      case _ where row.bits == 32: #expect(row.tokenBytes == Double(4 * row.rank))
      // Whole bytes, and a scale of two.
      default: #expect(row.tokenBytes == Double((row.rank * row.bits + 7) / 8 + 2), "\(row.code)")
      }
    }
  }

  @Test func `whole ranks in 32 bits find all, and fewer bits find less`() throws {
    let rows = try Self.frontier.get().rows
    for row in rows { #expect((0...1).contains(row.recall) && (0...1 + 1e-9).contains(row.mass)) }
    func recall(_ family: CodeFamily, _ rank: Int, _ bits: Int) throws -> Double {
      let found = rows.filter {
        $0.family == family.rawValue && $0.rank == rank && $0.bits == bits
      }
      try #require(found.count == 2)
      return (found[0].recall + found[1].recall) / 2
    }
    // The closed form at full rank is the scores themselves, but for rounding: a tie or two.
    #expect(try recall(.closedForm, 32, 32) > 0.99)
    for bits in zip([8, 4, 3, 2], [4, 3, 2, 1]) {
      #expect(try recall(.keys, 32, bits.0) > recall(.keys, 32, bits.1))
    }
  }

  @Test func `the report has every row, and the picture every code`() throws {
    let frontier = try Self.frontier.get()
    let csv = try frontier.text(.csv).split(separator: "\n")
    #expect(csv.count == frontier.rows.count + 1)
    #expect(csv.allSatisfy { $0.split(separator: ",").count >= 17 })
    let table = try frontier.text(.md)
    let picture = frontier.picture(name: "a <model>")
    for row in frontier.rows {
      #expect(table.contains("| \(row.code) |") && picture.contains("<title>\(row.code): "))
    }
    // Two panels, a mark in each for every code.
    #expect(picture.ranges(of: "bytes a token, recall ").count == frontier.rows.count)
    #expect(picture.contains("a &lt;model&gt;: 2 layers, d = 32, G = 2"))
    #expect(table.hasPrefix("Of the best rows the released codes find 0."))
  }

  @Test func `layers of other sizes and answers without quarters are refused`() throws {
    let layer = try Recordings.capture(layer: 0)
    var options = Self.options
    options.steps = 3
    let short = try #require(throws: ReplayError.self) {
      try CodeFrontier([layer], selected: 8, recent: 4, options)
    }
    #expect(short.description.contains("3 decode steps have no quarters"))
    let other = try Recordings.golden("trajectory-gqa")
    let different = try #require(throws: ReplayError.self) {
      try CodeFrontier([layer, other], selected: 8, recent: 4, Self.options)
    }
    #expect(different.description.contains("compare layers of one model"))
  }
}
