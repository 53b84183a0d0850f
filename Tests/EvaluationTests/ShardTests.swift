// The split of a run: every sample in exactly one part, whatever the number of parts.

import Evaluation
import Foundation
import Testing

@Suite struct ShardTests {
  @Test(arguments: 1...9)
  func `every sample is in exactly one part, and parts differ by one at most`(_ count: Int) {
    let shards = (1...count).map { Shard($0, of: count) }
    for total in count...25 {
      let parts = shards.map { $0.samples(of: total) }
      #expect(parts.joined().sorted() == Array(0..<total))
      let sizes = parts.map(\.count)
      #expect((sizes.max() ?? 0) - (sizes.min() ?? 0) <= 1 && !sizes.contains(0))
      for (shard, part) in zip(shards, parts) {
        #expect(part == (0..<total).filter { shard.contains($0) })
        #expect(part.allSatisfy { $0 % count + 1 == shard.number })
      }
    }
  }

  @Test func `a part is written i/n, in text and in JSON`() throws {
    for (number, count) in [(1, 1), (1, 2), (2, 2), (17, 1000)] {
      let shard = try #require(Shard("\(number)/\(count)"))
      #expect(shard == Shard(number, of: count) && shard.description == "\(number)/\(count)")
      let json = try JSONEncoder().encode([shard])
      #expect(try JSONDecoder().decode([Shard].self, from: json) == [shard])
      // The slash may be escaped.
      #expect(String(decoding: json, as: UTF8.self).contains("\(number)"))
    }
    let wrong = [
      "", "1", "0/3", "4/3", "1/0", "-1/3", "1/-3", "1/2/3", "/3", "1/", "01/3", "+1/3", " 1/3",
      "a/b", "1/99999999999",
    ]
    for text in wrong {
      #expect(Shard(text) == nil, "\(text)")
      let json = Data("[\"\(text)\"]".utf8)
      #expect(throws: DecodingError.self) { try JSONDecoder().decode([Shard].self, from: json) }
    }
  }

  @Test func `more parts than samples are an error, as many are none`() throws {
    let shard = Shard(2, of: 5)
    try shard.check(5, "samples")
    let error = #expect(throws: EvaluationError.self) { try shard.check(4, "windows") }
    let line = try #require(error).description
    #expect(line.hasPrefix("--shard 2/5: there are 4 windows"), "\(line)")
    #expect(line.hasSuffix("take at most 4 shards"), "\(line)")
  }
}
