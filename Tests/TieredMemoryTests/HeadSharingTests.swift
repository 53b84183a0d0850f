// Which holder of rows serves which query head.

import Testing
import TieredMemory

@Suite struct `Head sharing` {
  @Test(arguments: [(4, 2), (8, 2), (3, 3), (6, 1)])
  func `holders cover the query heads in order, each of one key value head`(
    heads: (query: Int, keyValue: Int)
  ) {
    let shape = CacheShape(queryHeads: heads.query, keyValueHeads: heads.keyValue, width: 1)
    for isShared in [false, true] {
      let sharing = shape.sharing(perKeyValueHead: isShared)
      #expect(sharing.count == (isShared ? heads.keyValue : heads.query))
      #expect((0..<sharing.count).flatMap(sharing.queryHeads(of:)) == Array(0..<heads.query))
      for h in 0..<heads.query {
        let s = sharing.holder(ofQueryHead: h)
        #expect(sharing.queryHeads(of: s).contains(h))
        #expect(sharing.keyValueHead(of: s) == h / shape.groupSize)
        #expect(sharing.forQueryHeads(Array(0..<sharing.count))[h] == s)
      }
      for m in 0..<heads.keyValue {
        let s = sharing.firstHolder(ofKeyValueHead: m)
        #expect(sharing.keyValueHead(of: s) == m)
        #expect(s == 0 || sharing.keyValueHead(of: s - 1) == m - 1)
      }
    }
  }
}
