import Tensors
import TestSupport
import Testing
import TieredMemory

@Suite struct `Host store` {
  /// Rows of arbitrary bits, NaN and infinities among them.
  private func rows<E: Scalar>(
    _ count: Int, _ width: Int, _ seed: UInt64, _ make: (UInt64) -> E
  ) -> Tensor<E> {
    var numbers = SeededNumbers(seed: seed)
    return Tensor(
      shape: [count, width], elements: (0..<count * width).map { _ in make(numbers.next()) })
  }

  private func check<E: Scalar, Bits: Equatable>(
    _ make: (UInt64) -> E, _ bits: (E) -> Bits
  ) throws {
    let width = 5
    let keys = rows(40, width, 1, make)
    let values = rows(40, width, 2, make)
    var store = HostStore<E>(width: width)
    store.append(keys: keys.rows(0..<30), values: values.rows(0..<30))
    let lateKeys = keys.rows(30..<40)
    let lateValues = values.rows(30..<40)
    store.append(keys: lateKeys, values: lateValues)
    #expect(store.count == 40)
    #expect(store.bytes == 40 * store.rowBytes)
    #expect(store.rowBytes == 2 * width * MemoryLayout<E>.stride)

    let sentinel = make(0xdead_beef_dead_beef)
    var tier = DeviceTier()
    var deviceKeys = try tier.allocate("keys", count: 12 * width, of: sentinel)
    var deviceValues = try tier.allocate("values", count: 12 * width, of: sentinel)
    let tokens = [0, 7, 8, 29, 30, 39]
    let slots = [11, 3, 0, 4, 9, 1]
    store.gather(tokens: tokens, slots: slots, intoKeys: &deviceKeys, values: &deviceValues)
    store.gather(tokens: [12], slots: [6], intoKeys: &deviceKeys, values: &deviceValues)
    let where_ = Dictionary(uniqueKeysWithValues: zip(slots + [6], tokens + [12]))
    for slot in 0..<12 {
      let place = slot * width..<(slot + 1) * width
      let foundKey = deviceKeys.elements[place].map(bits)
      let foundValue = deviceValues.elements[place].map(bits)
      if let token = where_[slot] {
        #expect(foundKey == keys.row(token).map(bits), "key of token \(token) in slot \(slot)")
        #expect(foundValue == values.row(token).map(bits), "value of token \(token)")
        #expect(foundKey == store.keyRow(token).map(bits))
        #expect(foundValue == store.valueRow(token).map(bits))
      } else {
        let untouched = Array(repeating: bits(sentinel), count: width)
        #expect(foundKey == untouched && foundValue == untouched, "slot \(slot) was written over")
      }
    }

    store.append(slots: [4, 11], ofKeys: deviceKeys, values: deviceValues)
    #expect(store.count == 42)
    #expect(store.keyRow(40).map(bits) == keys.row(29).map(bits))
    #expect(store.valueRow(41).map(bits) == values.row(0).map(bits))
  }

  @Test func `a gather moves exact bits of floats`() throws {
    try check({ Float(bitPattern: UInt32(truncatingIfNeeded: $0)) }, \.bitPattern)
  }

  @Test func `a gather moves exact bits of doubles`() throws {
    try check({ Double(bitPattern: $0) }, \.bitPattern)
  }

  @Test func `an unknown token is a programmer's error`() async {
    await #expect(processExitsWith: .failure) {
      let store = HostStore<Float>(width: 2)
      _ = store.keyRow(0)
    }
  }

  @Test func `a slot outside the buffer is a programmer's error`() async {
    await #expect(processExitsWith: .failure) {
      var store = HostStore<Float>(width: 2)
      store.append(keys: Tensor(rows: [[1, 2]]), values: Tensor(rows: [[3, 4]]))
      var tier = DeviceTier()
      var keys = try tier.allocate("keys", count: 4, of: Float(0))
      var values = try tier.allocate("values", count: 4, of: Float(0))
      store.gather(tokens: [0], slots: [2], intoKeys: &keys, values: &values)
    }
  }

  @Test func `values of another shape than the keys are a programmer's error`() async {
    await #expect(processExitsWith: .failure) {
      var store = HostStore<Float>(width: 2)
      store.append(keys: Tensor(rows: [[1, 2]]), values: Tensor(rows: [[1, 2], [3, 4]]))
    }
  }
}
