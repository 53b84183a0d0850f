import TestSupport
import Testing
import TieredMemory

@Suite struct `Device tier` {
  @Test(arguments: [1, 2, 3, 4] as [UInt64])
  func `resident bytes are those of the live buffers, whatever happened`(seed: UInt64) {
    var numbers = SeededNumbers(seed: seed)
    let capacity = 4_000
    var tier = DeviceTier(capacity: capacity)
    var floats: [DeviceBuffer<Float>] = []
    var doubles: [DeviceBuffer<Double>] = []
    var peak = 0
    var refusals = 0
    for turn in 0..<500 {
      let count = Int.random(in: 0..<200, using: &numbers)
      let before = tier.liveBuffers
      let residentBefore = tier.residentBytes
      let peakBefore = tier.peakBytes
      var needed = 0
      do {
        switch Int.random(in: 0..<5, using: &numbers) {
        case 0:
          needed = count * 4
          floats.append(try tier.allocate("float \(turn)", count: count, of: 1))
        case 1:
          needed = count * 8
          doubles.append(try tier.allocate("double \(turn)", count: count, of: 2))
        case 2 where !floats.isEmpty:
          let chosen = Int.random(in: floats.indices, using: &numbers)
          needed = (count - floats[chosen].count) * 4
          try tier.resize(&floats[chosen], count: count, fill: 1)
          #expect(floats[chosen].elements == Array(repeating: 1, count: count))
        case 3 where !floats.isEmpty:
          tier.free(&floats[0])
          #expect(floats.removeFirst().bytes == 0)
        case 4 where !doubles.isEmpty:
          tier.free(&doubles[0])
          doubles.removeFirst()
        default: break
        }
        let resident = tier.residentBytes
        #expect(resident <= capacity)
        peak = max(peak, resident)
      } catch {
        guard case .outOfMemory(_, let says, let resident, let limit) = error else { return }
        refusals += 1
        #expect(says == needed && resident == residentBefore && limit == capacity)
        #expect(needed > capacity - residentBefore, "refused although there was room")
        let after = tier.liveBuffers
        let residentAfter = tier.residentBytes
        let peakAfter = tier.peakBytes
        #expect(after == before && residentAfter == residentBefore && peakAfter == peakBefore)
      }
      let recount = floats.map(\.bytes).reduce(0, +) + doubles.map(\.bytes).reduce(0, +)
      let resident = tier.residentBytes
      let listed = tier.liveBuffers.map(\.bytes).reduce(0, +)
      #expect(resident == recount && listed == recount)
      let live = tier.liveBuffers.count
      #expect(live == floats.count + doubles.count)
    }
    let peakOfTier = tier.peakBytes
    #expect(peakOfTier == peak)
    #expect(refusals > 0, "the capacity was never reached: the test saw no refusal")
  }

  @Test func `out of memory names who, how much and how much was taken`() throws {
    var tier = DeviceTier(capacity: 100)
    var keys = try tier.allocate("active keys", count: 20, of: Float(0))
    let error = #expect(throws: DeviceTierError.self) {
      try tier.resize(&keys, count: 26, fill: 0)
    }
    #expect(
      error == .outOfMemory(label: "active keys", needed: 24, resident: 80, capacity: 100))
    #expect(
      error.map { "\($0)" }
        == "device out of memory: active keys needs 24 bytes, and 80 of 100 are taken; "
        + "raise the capacity or ask for less")
    #expect(keys.count == 20 && keys.elements.count == 20)
    try tier.resize(&keys, count: 25, fill: 7)
    #expect(keys.elements.suffix(6) == [0, 7, 7, 7, 7, 7])
    try tier.resize(&keys, count: 2, fill: 7)
    let resident = tier.residentBytes
    let peak = tier.peakBytes
    #expect(resident == 8 && peak == 100)
  }

  @Test func `a capacity of nothing holds nothing, and none given holds all`() throws {
    var nothing = DeviceTier(capacity: 0)
    let empty = try nothing.allocate("empty", count: 0, of: Float(0))
    #expect(empty.bytes == 0)
    #expect(throws: DeviceTierError.self) {
      _ = try nothing.allocate("one byte", count: 1, of: UInt8(0))
    }
    var endless = DeviceTier()
    _ = try endless.allocate("much", count: 100_000, of: 0.0)
    let resident = endless.residentBytes
    #expect(resident == 800_000, "a buffer that is dropped but not freed stays in the book")
    let live = endless.liveBuffers.map { "\($0.label): \($0.bytes)" }
    #expect(live == ["much: 800000"])
  }

  @Test func `elements are written in place, through subscripts and spans`() throws {
    var tier = DeviceTier()
    var buffer = try tier.allocate("codes", count: 8, of: Float(0))
    let address = unsafe buffer.elements.withUnsafeBufferPointer { $0.baseAddress }
    buffer.elements[3] = 1.5
    buffer.withMutableSpan { span in
      for i in span.indices { span[i] += 1 }
    }
    #expect(buffer.elements == [1, 1, 1, 2.5, 1, 1, 1, 1])
    let after = unsafe buffer.elements.withUnsafeBufferPointer { $0.baseAddress }
    #expect(unsafe address == after, "a write copied the array")
  }

  @Test func `a buffer cannot be resized from outside`() async {
    await #expect(processExitsWith: .failure) {
      var tier = DeviceTier()
      var buffer = try tier.allocate("codes", count: 8, of: Float(0))
      buffer.elements.append(1)
    }
  }

  @Test func `a buffer cannot be freed twice`() async {
    await #expect(processExitsWith: .failure) {
      var tier = DeviceTier()
      var buffer = try tier.allocate("codes", count: 8, of: Float(0))
      var copy = buffer
      tier.free(&buffer)
      tier.free(&copy)
    }
  }

  @Test func `an old copy of a resized buffer is turned away`() async {
    await #expect(processExitsWith: .failure) {
      var tier = DeviceTier()
      var buffer = try tier.allocate("codes", count: 8, of: Float(0))
      var copy = buffer
      try tier.resize(&buffer, count: 9, fill: 0)
      tier.free(&copy)
    }
  }
}
