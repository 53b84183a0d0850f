// Forms of rows: round trips, bounds, bytes; and stores that hold them.

import TestSupport
import Tensors
import Testing
import TieredMemory

/// Every simple form.
private let forms: [any RowForm] =
  [ExactForm(), HalfForm(.float16), HalfForm(.bfloat16)]
  + PackedCodes.widths.flatMap { bits in
    [nil, 1, 5, 32, 1000].map { IntegerForm(PackedCodes(bits: bits, group: $0)) }
  }

/// Widths around every border: words, vectors, groups.
private let widths = [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 15, 16, 17, 20, 31, 32, 33, 63, 64, 80, 131]

/// The rows (n, d) as `form` gives them back, written at once and read by blocks.
private func roundTrip(_ form: any RowForm, _ rows: Tensor<Float>) throws -> Tensor<Float> {
  let packing = RowPacking(form, width: rows.columns)
  return packing.rows(
    .key, of: try packing.pack(.key, rows.elements.span, head: 0, first: 0), head: 0)
}

/// The size of a step between codes of `numbers`, and what F16 ranges may add.
private func step(_ numbers: [Float], bits: Int, group: Bool) -> Double {
  let (lo, hi) = (Double(numbers.min() ?? 0), Double(numbers.max() ?? 0))
  let levels = Double(1 << bits - 1)
  let size = max(abs(lo), abs(hi))
  // Rounded up to a Float, whose smallest step is 2^-149.
  if !group {
    return max(
      (hi - lo) / levels * (1 + 0x1p-23), ((hi - lo) / levels / 0x1p-149).rounded(.up) * 0x1p-149)
  }
  // lo is rounded down and the step up, both in F16: 2^-10 of their size, or 2^-24.
  let exact = (hi - lo + max(size * 0x1p-10, 0x1p-24)) / levels
  return max(exact * (1 + 0x1p-10), exact + 0x1p-24)
}

@Suite struct `Forms of rows` {
  @Test func `words of a row are those of the formulas`() {
    for d in widths {
      for part in RowPart.allCases {
        #expect(ExactForm().words(part, width: d) == d)
        #expect(HalfForm(.float16).words(part, width: d) == (d + 1) / 2)
        for (bits, perWord) in [(8, 4), (4, 8), (3, 10), (2, 16)] {
          let codes = (d + perWord - 1) / perWord
          #expect(IntegerForm(PackedCodes(bits: bits)).words(part, width: d) == 2 + codes)
          #expect(
            IntegerForm(PackedCodes(bits: bits, group: 32)).words(part, width: d)
              == (d + 31) / 32 + codes)
        }
      }
    }
    #expect(forms.map(\.name).contains("int4/32") && forms.map(\.name).contains("bf16"))
  }

  @Test(arguments: [1, 2, 63, 64, 65, 130])
  func `what comes back is within the bound`(_ n: Int) throws {
    for d in widths {
      let rows = Tensor<Float>.normal(shape: [n, d], seed: 3, stream: UInt64(d))
      #expect(try roundTrip(ExactForm(), rows) == rows)
      for (form, relative, least) in [
        (HalfForm(.float16), 0x1p-11, 0x1p-25), (HalfForm(.bfloat16), 0x1p-8, 0x1p-134),
      ] {
        for (x, y) in zip(rows.elements, try roundTrip(form, rows).elements) {
          #expect(abs(Double(x) - Double(y)) <= max(relative * Double(abs(x)), least))
        }
      }
      for bits in PackedCodes.widths {
        for group in [nil, 1, 5, 32] {
          try expectWithinHalfAStep(rows, bits: bits, group: group)
        }
      }
    }
  }

  private func expectWithinHalfAStep(_ rows: Tensor<Float>, bits: Int, group: Int?) throws {
    let back = try roundTrip(IntegerForm(PackedCodes(bits: bits, group: group)), rows)
    let (d, g) = (rows.columns, group ?? rows.columns)
    for i in 0..<rows.rows {
      for first in stride(from: 0, to: d, by: g) {
        let x = Array(rows.row(i)[first..<min(first + g, d)])
        let y = Array(back.row(i)[first..<min(first + g, d)])
        let half = step(x, bits: bits, group: group != nil) / 2
        let largest = Double(x.map(abs).max() ?? 0)
        for (x, y) in zip(x, y) {
          #expect(
            abs(Double(x) - Double(y)) <= half + 0x1p-22 * largest, "int\(bits)/\(group ?? 0)")
        }
      }
    }
  }

  @Test func `integers that fit their codes come back as they are`() throws {
    // 0 and 2^bits - 1 are in every row, so a step is 1.
    for bits in PackedCodes.widths {
      for d in widths where d >= 2 {
        let top = 1 << bits - 1
        let row = (0..<d).map { Float($0 == 0 ? 0 : $0 == 1 ? top : $0 * 7 % (top + 1)) - 5 }
        let rows = Tensor(rows: [row, row.reversed()])
        for group in [nil, 1000] {
          #expect(
            try roundTrip(IntegerForm(PackedCodes(bits: bits, group: group)), rows) == rows)
        }
      }
    }
  }

  @Test func `rows of equal numbers, of zeros, huge and subnormal ones are within half a step`()
    throws
  {
    let tiny = Float.leastNonzeroMagnitude
    let huge = Float.greatestFiniteMagnitude
    let plain: [[Float]] = [
      [0, 0, 0, 0, 0], [1.5, 1.5, 1.5, 1.5, 1.5], [-0.1, -0.1, -0.1, -0.1, -0.1],
      [huge, huge, huge, huge, huge], [-huge, -huge, -huge, -huge, -huge],
      [tiny, tiny, tiny, tiny, tiny],
    ]
    for bits in PackedCodes.widths {
      let form = IntegerForm(PackedCodes(bits: bits))
      for row in plain {
        #expect(try roundTrip(form, Tensor(rows: [row])).elements == row, "exactly")
      }
      let wide: [[Float]] = [
        [huge, -huge, 0, 1, huge / 2], [0, huge, 1, huge / 3, 2], [tiny, 0, 3 * tiny, -tiny, tiny],
        [300 * tiny, 0, 7 * tiny, 150 * tiny, 299 * tiny], [1, 1 + .ulpOfOne, 1, 1, 1],
        [-0.0, 0, 0, -0.0, 0], [1e30, 1, -1, 0, 1e-30],
      ]
      for row in wide {
        let back = try roundTrip(form, Tensor(rows: [row])).elements
        let half = step(row, bits: bits, group: false) / 2
        let largest = Double(row.map(abs).max() ?? 0)
        for (x, y) in zip(row, back) {
          #expect(y.isFinite)
          #expect(abs(Double(x) - Double(y)) <= half + 0x1p-22 * largest, "\(row) \(bits)")
        }
      }
    }
  }

  @Test func `what 16 bits cannot hold becomes the largest that they can`() throws {
    let row: [Float] = [1e5, -1e5, 65504, 65519.9, .greatestFiniteMagnitude, 0x1p-24, 0x1p-26]
    #expect(
      try roundTrip(HalfForm(.float16), Tensor(rows: [row])).elements
        == [65504, -65504, 65504, 65504, 65504, 0x1p-24, 0])
    let largest = PackedHalves.bfloat16.largest
    #expect(largest.isFinite)
    #expect(
      try roundTrip(
        HalfForm(.bfloat16), Tensor(rows: [[.greatestFiniteMagnitude, -3.4e38, 0x1p-133]])
      ).elements == [largest, -largest, 0x1p-133])
    // Ranges of groups are F16.
    for bits in PackedCodes.widths {
      let form = IntegerForm(PackedCodes(bits: bits, group: 3))
      let back = try roundTrip(form, Tensor(rows: [[1e30, 1e9, 65504, -1e30, 0, 70000]])).elements
      #expect(back.allSatisfy { abs($0) <= 65504 * (1 + 0x1p-9) })
      #expect(abs(back[0] - 65504) <= 16 && abs(back[3] + 65504) <= 16)
    }
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity])
  func `numbers that are not finite are refused, with their place`(_ bad: Float) throws {
    for form in forms {
      let rows = Tensor<Float>(rows: [[1, 2, 3], [4, bad, 6]])
      let error = #expect(throws: RowFormError.self) { _ = try roundTrip(form, rows) }
      #expect(
        error?.description
          == "\(form.name) holds finite numbers only: key of token 1, key/value head 0, has \(bad)")
    }
  }

  @Test func `any rows can be read, and every instruction set reads the same bits`() throws {
    for form in forms {
      for d in [1, 9, 10, 17, 64, 131] {
        let packing = RowPacking(form, width: d)
        let rows = Tensor<Float>.normal(shape: [70, d], seed: 5)
        let words = try packing.pack(.value, rows.elements.span, head: 1, first: 0)
        #expect(words.count == 70 * packing.valueWords)
        let slots: [Int32] = [69, 0, 33, 33, 1]
        let all = packing.rows(.value, of: words, head: 1)
        for level in ChainLevel.available {
          level.run {
            let some = packing.rows(
              .value, of: words, head: 1, slots: slots, tokens: slots.map(Int.init))
            #expect(some == all.gather(rows: slots.map(Int.init)), "\(form.name) \(level)")
          }
        }
      }
    }
  }
}

@Suite struct `Rows in a form on two tiers` {
  private let shape = CacheShape(queryHeads: 4, keyValueHeads: 2, width: 10)

  private func normal(_ tokens: Int, _ stream: Int) -> Tensor<Float> {
    .normal(shape: [tokens, 10], seed: 8, stream: UInt64(stream))
  }

  /// Fifty steps over a prompt of 90 tokens; everything that a method can see of the rows.
  private func run(
    _ form: (any RowForm)?, values: ([Tensor<Float>]) -> [Tensor<Float>] = { $0 },
    holders: RowHolders = .perQueryHead
  ) throws -> (
    answers: [Tensor<Float>], scores: [[Float]], keys: [Tensor<Float>], rows: [[Float]],
    tiers: (resident: Int, events: [TransferEvent]), host: Int
  ) {
    var tiers = Tiers()
    var rows = ResidentRows<Float>(shape, holders: holders, recent: 5, room: 3, form: form)
    let K = values((0..<2).map { normal(140, $0) })
    let V = values((2..<4).map { normal(140, $0) })
    let Q = (4..<8).map { normal(140, $0) }
    for chunk in [0..<1, 1..<30, 30..<90] {
      try rows.extend(
        keys: K.map { $0.rows(chunk) }, values: V.map { $0.rows(chunk) }, on: &tiers.device)
    }
    var (answers, scores, seen): ([Tensor<Float>], [[Float]], [[Float]]) = ([], [], [])
    var keys = rows.promptKeys
    let newest = Tensor(rows: Q.map { $0.row(89) })
    answers.append(try rows.attention(newest, over: Array(repeating: [], count: 4)))
    func set(_ h: Int, _ t: Int) -> [Int] { (0..<70).map { $0 + (t + h) % 7 } }
    try rows.settle(
      (0..<4).map { set($0, 0) }, firstRecent: 85, offloaded: 90, tiers: &tiers)
    for t in 90..<140 {
      try rows.append(
        keys: Tensor(rows: K.map { $0.row(t) }), values: Tensor(rows: V.map { $0.row(t) }),
        tiers: &tiers)
      let sets = (0..<4).map { set($0, t) }
      _ = try rows.bring(sets, tiers: &tiers)
      answers.append(try rows.attention(Tensor(rows: Q.map { $0.row(t) }), over: sets))
      scores.append(
        rows.exactScores(Q[3].row(t), ofQueryHead: 3, older: sets[3], recent: t - 4..<t + 1))
      scores.append(rows.oracleScores(Q[1].row(t), ofQueryHead: 1, tokens: 3..<80))
      seen.append(rows.value(ofKeyValueHead: 1, token: 20).row)
      seen.append(rows.value(ofKeyValueHead: 0, token: t - 1).row)
      #expect(
        rows.newest(.value, 1)[1].elements == rows.value(ofKeyValueHead: 1, token: t).row)
    }
    let brought = try rows.bringAllKeys(tiers: &tiers)
    keys += brought.keys
    rows.release(brought, on: &tiers.device)
    return (
      answers, scores, keys, seen, (tiers.device.residentBytes, tiers.ledger.events),
      rows.hostBytes
    )
  }

  @Test(arguments: RowHolders.allCases)
  func `the way through words gives the bits of the way without`(_ holders: RowHolders) throws {
    let (plain, words) = (try run(nil, holders: holders), try run(ExactForm(), holders: holders))
    #expect(plain.answers == words.answers)
    #expect(plain.scores == words.scores)
    #expect(plain.keys == words.keys)
    #expect(plain.rows == words.rows)
    #expect(plain.tiers.events == words.tiers.events)
    #expect(plain.tiers.resident == words.tiers.resident && plain.host == words.host)
  }

  @Test(arguments: [2, 3, 4, 8], RowHolders.allCases)
  func `a form is exact rows of what it gives back`(_ bits: Int, _ holders: RowHolders) throws {
    let form = IntegerForm(PackedCodes(bits: bits))
    let packed = try run(form, holders: holders)
    let exact = try run(
      nil, values: { rows in rows.compactMap { try? roundTrip(form, $0) } }, holders: holders)
    #expect(packed.answers == exact.answers)
    #expect(packed.scores == exact.scores)
    #expect(packed.keys == exact.keys)
    #expect(packed.rows == exact.rows)
    // The same copies, of rows of fewer bytes; all keys are half an exact row.
    let words = form.words(.key, width: 10)
    #expect(packed.tiers.events.map(\.rows) == exact.tiers.events.map(\.rows))
    for (small, large) in zip(packed.tiers.events, exact.tiers.events) {
      #expect(small.bytes * 10 == large.bytes * words)
    }
    #expect(packed.host * 10 == exact.host * words)
    #expect(packed.tiers.resident * 10 == exact.tiers.resident * words)
  }
}
