// Values on the host: what was put in comes out, bit for bit, and nothing else is touched.

import Tensors
import Testing
import TieredMemory

@Suite struct ValueStoreTests {
  @Test func `values come back bit for bit, into the slots that were named`() throws {
    let width = 3
    let rows = Tensor<Float>.normal(shape: [10, width], seed: 4, stream: 1)
    var store = ValueStore<Float>(width: width)
    store.append(rows.rows(0..<7))
    store.append(rows.rows(7..<10))
    #expect(store.count == 10 && store.values == rows.elements)
    #expect(store.rowBytes == 12 && store.bytes == 10 * 12)

    var tier = DeviceTier()
    var buffer = try tier.allocate("values", count: 5 * width, of: Float(-1))
    store.gather(tokens: [0, 6, 9], slots: [4, 0, 2], into: &buffer)
    let found = Tensor(shape: [5, width], elements: buffer.elements)
    #expect(found.row(4) == rows.row(0) && found.row(0) == rows.row(6))
    #expect(found.row(2) == rows.row(9))
    #expect(found.row(1) == [-1, -1, -1] && found.row(3) == [-1, -1, -1])
  }

  @Test func `an empty store holds nothing`() {
    let store = ValueStore<Double>(width: 4)
    #expect(store.count == 0 && store.bytes == 0 && store.rowBytes == 32)
  }
}
