// The head that copies, where it looked, and the strips: by hand, and against whole traces.

import Evaluation
import Foundation
import TestSupport
import Testing

@Suite struct CopyingHeadTests {
  /// One layer, two query heads with slots of their own, a prompt of 8 tokens, two steps.
  ///
  /// Head 0 looks at token 0, whatever is written. Head 1 looks at the token that is then written:
  /// ` b` (token 2), which was in its slot, and ` c` (token 3), which `second` says came or not.
  private func trace(second: String = "[3, 9]") throws -> GenerationTrace {
    func head(_ came: String, gone: String = "[]", best: Int, norm: Int) -> String {
      """
      {"came": \(came), "gone": \(gone), "mass": 5000, "found": 1, "norm": \(norm),
       "best": [[\(best), 500, null], [7, -900, null]]}
      """
    }
    let memory = #"{"moved": {}, "device_bytes": 0, "host_bytes": 0}"#
    let text = """
      {"schema": "lrqk-trace/1", "model": "m", "name": "n", "cache": "c", "prompt_tokens": 8,
       "recent_tokens": 1, "score_step": 0.01, "share_step": 0.0001,
       "tokens": [9, 5, 6, 7, 1, 2, 3, 4, 5, 6, 7],
       "pieces": ["s", "a", " b", " c", "d", "e", "f", "g", "a", " b", " c"],
       "layers": [{"query_heads": 2, "key_value_heads": 1, "slots": [[0], [2]]}],
       "prompt": \(memory),
       "steps": [
        {"memory": \(memory), "layers": [{"hits": 2, "misses": 1, "heads": [
          \(head("[0, 8]", best: 0, norm: 500)),
          \(head("[0, 2, 8]", best: 2, norm: 569))]}]},
        {"memory": \(memory), "layers": [{"hits": 2, "misses": 1, "heads": [
          \(head("[9]", gone: "[8]", best: 0, norm: 500)),
          \(head(second, gone: "[8]", best: 3, norm: 500))]}]}]}
      """
    return try GenerationTrace(fileText: Array(text.utf8))
  }

  @Test func `the head that copies is the one on the written tokens, not the surest`() throws {
    #expect(try trace().copyingHead(from: 1) == HeadPlace(layer: 0, head: 1))
    // No step writes a token after the last one.
    #expect(try trace().copyingHead(from: 3) == nil)
  }

  @Test func `a look has the token, its share and what became of its row`() throws {
    let looks = try trace().looks(of: HeadPlace(layer: 0, head: 1), from: 1)
    #expect(looks.map(\.landed) == [2, 3] && looks.map(\.written) == [9, 10])
    #expect(looks.allSatisfy { $0.isCopy })
    #expect(looks.map(\.fate) == [.hit, .fetched])
    #expect(abs(looks[0].share - exp(-0.69)) < 1e-12 && looks[1].share == 1)
    #expect(looks.map(\.attended) == [[0, 2, 8], [0, 2, 3, 9]])
    let other = try trace().looks(of: HeadPlace(layer: 0, head: 0), from: 2)
    #expect(other.map(\.landed) == [0] && other.map(\.isCopy) == [false])
    #expect(other.map(\.fate) == [.hit])
    let without = try trace(second: "[9]").looks(of: HeadPlace(layer: 0, head: 1), from: 2)
    #expect(without.map(\.fate) == [.leftOut])
  }

  @Test func `strips: heights, the column of the look, and the needles' columns`() throws {
    let picture = CopyPicture(
      try trace(), HeadPlace(layer: 0, head: 1), from: 1, ending: [], asked: [2, 3],
      needles: [2, 3, 6], columns: 4)
    #expect(picture.rows.map(\.heights) == [[0.5, 0.5, 0, 0], [0.5, 1, 0, 0]])
    #expect(picture.rows.map(\.column) == [1, 1])
    #expect(picture.rows.map(\.written) == [" b", " c"])
    #expect(picture.asked == [1] && picture.others == [3])
    #expect(picture.sure.onNeedle == 2 && picture.sure.all == 2)
    let short = CopyPicture(
      try trace(), HeadPlace(layer: 0, head: 1), from: 1, ending: [7], asked: [], needles: [],
      columns: 100)
    #expect(short.columns == 8 && short.rows.count == 1)
  }

  @Test func `the mean share of attention is that of all heads and written steps`() throws {
    let mass = try #require(try trace().meanMass(from: 1))
    #expect(abs(mass - 0.5) < 1e-12)
    #expect(try trace().meanMass(from: 3) == nil)
  }

  /// Any head of any method: heights are the attended tokens, fates are the cache's counts.
  @Test(arguments: GenerationTraceTests.selecting + GenerationTraceTests.others)
  func `a picture's numbers are the trace's`(_ text: String) throws {
    let trace = try TracedAnswer(text).trace
    let length = trace.promptTokens
    for (n, layer) in trace.layers.enumerated() {
      for head in 0..<layer.queryHeads {
        let attended = trace.attended(layer: n, head: head)
        let picture = CopyPicture(
          trace, HeadPlace(layer: n, head: head), from: 1, ending: [], asked: [], needles: [],
          columns: 16)
        for row in picture.rows {
          let step = trace.steps[row.look.step - 1]
          #expect(row.look.attended == attended[row.look.step - 1])
          let seen = row.heights.enumerated().reduce(0.0) { sum, one in
            let size = (one.offset + 1) * length / 16 - one.offset * length / 16
            return sum + one.element * Double(size)
          }
          #expect(abs(seen - Double(row.look.attended.count { $0 < length })) < 1e-9)
          #expect(
            (row.column * length / 16..<(row.column + 1) * length / 16)
              .contains(row.look.landed))
          // What lies in no slot cannot be a hit, and a row that came makes the step's count.
          let counts = step.layers[n]
          switch row.look.fate {
          case .hit: #expect(counts.hits > 0 && layer.slots != nil)
          case .fetched: #expect(counts.misses > 0 && layer.slots != nil)
          case .kept: #expect(layer.slots == nil || counts.hits + counts.misses == 0)
          case .recent, .leftOut: break
          }
          let isAttended = row.look.attended.contains(row.look.landed)
          #expect(isAttended == (row.look.fate != .leftOut))
        }
      }
    }
  }
}
