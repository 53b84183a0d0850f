import Testing
import TieredMemory

@Suite struct `Recent ring` {
  /// Drives a ring with rows in real slots, the way a cache does, and watches the host.
  private func drive(capacity: Int, onHost: Int, prompt: Int, steps: Int) {
    let oldest = max(0, prompt - capacity)
    let pending = prompt - max(onHost, oldest)
    var ring = RecentRing(capacity: capacity, holding: oldest..<prompt, pending: pending)
    // rows[slot] is the token whose row was last written there; host is what the host has.
    var rows = [Int?](repeating: nil, count: capacity)
    for (slot, token) in (oldest..<prompt).enumerated() { rows[slot] = token }
    var host = Array(0..<onHost)

    func flush() {
      let flushed = ring.flushIfDue()
      #expect(flushed.isEmpty || flushed.count == capacity, "the host is written in bursts of w")
      for token in flushed {
        #expect(rows[ring.slot(of: token)] == token, "token \(token)'s row was lost")
        host.append(token)
      }
    }
    flush()
    for token in prompt..<prompt + steps {
      let slot = ring.append(token)
      #expect(slot == ring.slot(of: ring.tokens.upperBound - 1) && slot >= 0 && slot < capacity)
      rows[slot] = token
      let latest = Array(max(0, token + 1 - capacity)...token)
      #expect(Array(ring.tokens) == latest, "the ring holds the latest w tokens")
      #expect(ring.slots.map { rows[$0] } == latest.map(Optional.some))
      #expect(host + Array(ring.pending) == Array(0...token), "host and pending are everything")
      flush()
      #expect(ring.pending.count < capacity)
      #expect(host == Array(0..<host.count), "each token once, in order")
      #expect(host + Array(ring.pending) == Array(0...token))
    }
  }

  @Test(arguments: 1...7)
  func `every token reaches the host once and in order`(capacity: Int) {
    for prompt in [0, 1, 2, 3, 6, 7, 8, 20] {
      drive(capacity: capacity, onHost: prompt, prompt: prompt, steps: 3 * capacity + 2)
    }
  }

  @Test(arguments: 1...7)
  func `a short prompt leaves its newest rows pending in the ring`(capacity: Int) {
    for active in [0, 1, 4] {
      for extra in 0...capacity {
        let prompt = active + extra
        // Only what is older than the ring is on the host; the rest, up to a full ring, pends.
        drive(
          capacity: capacity, onHost: max(0, prompt - capacity), prompt: prompt,
          steps: 3 * capacity + 2)
        drive(capacity: capacity, onHost: active, prompt: prompt, steps: 3 * capacity + 2)
      }
    }
  }

  @Test func `the picture at the head of the file is true`() {
    var ring = RecentRing(capacity: 3, holding: 7..<10)
    #expect(ring.slots == [0, 1, 2] && ring.pending.isEmpty)
    #expect(ring.append(10) == 0)
    #expect(ring.flushIfDue().isEmpty)
    #expect(ring.append(11) == 1)
    #expect(ring.tokens == 9..<12 && ring.pending == 10..<12 && ring.slots == [2, 0, 1])
    #expect(ring.append(12) == 2 && ring.isFlushDue)
    #expect(ring.flushIfDue() == 10..<13)
    #expect(ring.tokens == 10..<13 && ring.pending.isEmpty && !ring.isFlushDue)
  }

  @Test func `a token that the host lacks is never written over`() async {
    await #expect(processExitsWith: .failure) {
      var ring = RecentRing(capacity: 1, holding: 0..<1)
      ring.append(1)
      ring.append(2)
    }
  }

  @Test func `a token out of order is a programmer's error`() async {
    await #expect(processExitsWith: .failure) {
      var ring = RecentRing(capacity: 3, holding: 0..<2)
      ring.append(3)
    }
  }
}
