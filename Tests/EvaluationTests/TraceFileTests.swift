// Traces as files, and the page that carries them: nothing is lost, and bad files get one line.

import Evaluation
import Foundation
import Testing
import TieredMemory

@Suite struct TraceFileTests {
  /// A trace of the tiny model.
  private static func trace(_ text: String = "lrqk:preset=paper,r=4,k=12,w=5") throws
    -> GenerationTrace
  {
    try TracedAnswer(text).trace
  }

  @Test(arguments: ["lrqk:preset=paper,r=4,k=12,w=5", "full"])
  func `a file gives the trace back`(_ text: String) throws {
    let trace = try Self.trace(text)
    #expect(try GenerationTrace(fileText: Array(try trace.fileText().utf8)) == trace)
  }

  @Test func `a file that is no trace gets one line`() throws {
    let whole = try Self.trace()
    func message(_ change: (inout GenerationTrace) -> Void) throws -> String {
      var trace = whole
      change(&trace)
      let bytes = Array(try trace.fileText().utf8)
      return try #require(
        #expect(throws: EvaluationError.self) { try GenerationTrace(fileText: bytes) }
      ).description
    }
    #expect(try message { $0.schema = "lrqk-trace/9" }.contains("this program reads lrqk-trace/1"))
    #expect(try message { $0.pieces.removeLast() } == "110 pieces for 111 tokens")
    #expect(try message { $0.promptTokens = .max }.contains("do not fit 111 tokens"))
    #expect(try message { $0.steps[3].layers.removeLast() }.hasPrefix("step 4: "))
    #expect(
      try message { $0.steps[3].layers[0].heads[1].gone = [110] }
        == "step 4, layer 0, head 1: tokens must ascend, below 94")
    #expect(
      try message { $0.steps[3].layers[0].heads[1].came = [93, 2, 1] }
        .hasSuffix("tokens must ascend, below 94"))
    #expect(
      try message { $0.steps[0].layers[0].heads[0].gone = [5] }
        == "step 1, layer 0, head 0: token 5 goes and was not there")
    #expect(try message { $0.steps[0].layers[0].heads[0].best[0] = [1] }.contains("best needs"))
    #expect(
      try message { $0.steps[0].layers[0].heads[0].norm = .min }.hasSuffix("beyond 2^31 steps"))
    #expect(try message { $0.layers[0].slots = [] }.hasPrefix("layer 0: "))
    for text in ["", "{", "[]", "{\"schema\": 1}", "{\"schema\": \"lrqk-trace/1\"}"] {
      let error = #expect(throws: EvaluationError.self) {
        try GenerationTrace(fileText: Array(text.utf8))
      }
      #expect(error?.description.contains("\n") == false)
    }
  }

  @Test func `two traces on a page have one prompt`() throws {
    let (one, two) = (try Self.trace(), try Self.trace("full"))
    #expect(try ViewerPage.html([one, two]).contains("lrqk:preset=paper"))
    var other = two
    other.tokens[3] += 1
    #expect(throws: EvaluationError.self) { try ViewerPage.html([one, other]) }
    #expect(throws: EvaluationError.self) { try ViewerPage.html([one, two, two]) }
    other = two
    other.steps = []
    #expect(throws: EvaluationError.self) { try ViewerPage.html([other]) }
  }

  @Test func `a page asks for nothing, and text cannot leave its place`() throws {
    var trace = try Self.trace()
    trace.pieces[0] = "</script><script>alert(1)</script><!-- /*DATA*/"
    let html = try ViewerPage.html([trace])
    #expect(html.contains("default-src 'none'"))
    #expect(!html.contains("alert(1)</script>") && !html.contains("://"))
    #expect(html.components(separatedBy: "</script>").count == 3)
  }

  @Test(arguments: GenerationTraceTests.selecting + GenerationTraceTests.others)
  func `the page carries the trace's numbers`(_ text: String) throws {
    let trace = try Self.trace(text)
    let html = try ViewerPage.html([trace])
    let start = try #require(html.range(of: "id=\"data\">"))
    let end = try #require(html.range(of: "</script>", range: start.upperBound..<html.endIndex))
    let data = Data(html[start.upperBound..<end.lowerBound].utf8)
    let page = try JSONDecoder().decode([EmbeddedTrace].self, from: data)[0]
    #expect(page.pieces == trace.pieces && page.promptTokens == trace.promptTokens)
    #expect(page.recentTokens == trace.recentTokens && page.cache == trace.cache)
    #expect(page.name == trace.name)
    let memory = [trace.prompt] + trace.steps.map(\.memory)
    #expect(page.device == memory.map(\.deviceBytes) && page.host == memory.map(\.hostBytes))
    for (t, found) in memory.enumerated() {
      for (direction, lines) in found.moved {
        for (reason, line) in lines {
          let moved = page.moved.filter { $0.direction == direction && $0.reason == reason }
          #expect(moved.map { $0.bytes[t] } == [line.bytes])
        }
      }
      let all = found.moved.values.reduce(0) { $0 + $1.values.reduce(0) { $0 + $1.bytes } }
      #expect(page.moved.reduce(0) { $0 + $1.bytes[t] } == all)
    }
    for (n, layer) in page.layers.enumerated() {
      #expect(layer.slots == trace.layers[n].slots)
      #expect(layer.hits == trace.steps.map { $0.layers[n].hits })
      #expect(layer.misses == trace.steps.map { $0.layers[n].misses })
      for h in 0..<trace.layers[n].queryHeads {
        #expect(
          layer.attended(head: h, steps: trace.steps.count) == trace.attended(layer: n, head: h))
        let scores = layer.heads(h, steps: trace.steps.count)
        for (step, found) in zip(trace.steps, scores) {
          let head = step.layers[n].heads[h]
          #expect(found.norm == head.norm && found.mass == head.mass && found.found == head.found)
          #expect(found.best == head.best)
        }
      }
    }
  }
}

/// What the page carries, read by other code than the page's own.
private struct EmbeddedTrace: Decodable {
  struct Layer: Decodable {
    let slots: [[Int]]?
    let hits: [Int]
    let misses: [Int]
    let sets: [String]
    let scores: [String]

    func attended(head h: Int, steps: Int) -> [[Int]] {
      var numbers = varints(sets[h])[...]
      var set: Set<Int> = []
      return (0..<steps).map { _ in
        var token = -1
        for _ in 0..<numbers.removeFirst() {
          token += 1 + numbers.removeFirst()
          set.formSymmetricDifference([token])
        }
        return set.sorted()
      }
    }

    func heads(_ h: Int, steps: Int) -> [(norm: Int, mass: Int, found: Int, best: [[Int?]])] {
      var numbers = varints(scores[h])[...]
      return (0..<steps).map { _ in
        let norm = signed(numbers.removeFirst())
        let (mass, found) = (numbers.removeFirst(), numbers.removeFirst())
        var exact = norm
        let best = (0..<numbers.removeFirst()).map { _ -> [Int?] in
          let token = numbers.removeFirst()
          exact -= signed(numbers.removeFirst())
          let own = numbers.removeFirst()
          return [token, exact, own == 0 ? nil : exact + signed(own - 1)]
        }
        return (norm, mass, found, best)
      }
    }
  }
  struct Moved: Decodable {
    let direction: String
    let reason: String
    let bytes: [Int]
  }
  let name: String
  let cache: String
  let promptTokens: Int
  let recentTokens: Int
  let pieces: [String]
  let layers: [Layer]
  let moved: [Moved]
  let device: [Int]
  let host: [Int]

  enum CodingKeys: String, CodingKey {
    case name, cache, pieces, layers, moved, device, host
    case promptTokens = "prompt_tokens"
    case recentTokens = "recent_tokens"
  }
}

private func varints(_ base64: String) -> [Int] {
  var numbers: [Int] = []
  var (number, shift) = (0, 0)
  for byte in Data(base64Encoded: base64) ?? Data() {
    number |= Int(byte & 127) << shift
    shift += 7
    if byte < 128 {
      numbers.append(number)
      (number, shift) = (0, 0)
    }
  }
  return numbers
}

private func signed(_ folded: Int) -> Int { folded % 2 == 0 ? folded / 2 : -(folded + 1) / 2 }
