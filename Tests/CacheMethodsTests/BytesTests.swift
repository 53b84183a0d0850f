// Bytes in closed form, against buffers; and a device that is too small.

import CacheMethods
import Testing
import TieredMemory
import Transformers

@Suite struct BytesTests {
  @Test(arguments: sparseMethods + ["lrqk", "topk", "streaming", "lrqk:r=3,k=2,w=1"], Layer.all)
  func `bytes after the prompt are those of the buffers`(_ text: String, _ layer: Layer) throws {
    if !layer.takes(text) { return }
    if text == "lrqk" && layer.d < 16 { return }  // its rank is 16
    let method = try cacheMethod(text)
    for prompt in promptLengths + [12, 16, 22, 59] {
      let run = try Run(text, Rows(layer, tokens: prompt), prompt: prompt)
      let bytes = method.bytes(tokens: prompt, layer: layer.shape)
      let codes = run.liveBuffers.filter { buffer in
        ["A_K", "B_Q", "B_K", "W_Q", "W_K", "QᵀQ", "KᵀK"].contains { buffer.label.hasPrefix($0) }
      }.reduce(0) { $0 + $1.bytes }
      #expect(run.liveBuffers.reduce(0) { $0 + $1.bytes } == run.residentBytes[0])
      #expect(codes == bytes.deviceCodes, "prompt \(prompt)")
      #expect(bytes.device == bytes.deviceRows + bytes.deviceCodes)
      if bytes.isUpperBound {
        #expect(layer.H > layer.M && prompt > 6, "a bound only where a group shares rows")
        #expect(text.contains("transfers=per-key") || text.contains("recommended"))
        #expect(run.residentBytes[0] <= bytes.device, "prompt \(prompt)")
        #expect(run.hostBytes[0] <= bytes.host, "prompt \(prompt)")
      } else {
        #expect(run.residentBytes[0] == bytes.device, "prompt \(prompt)")
        #expect(run.hostBytes[0] == bytes.host, "prompt \(prompt)")
      }
    }
  }

  @Test(arguments: ["full", "offload", "streaming:sinks=3,w=7", "topk:k=6,w=4"], Layer.all)
  func `and after every step, where all follows from the length`(_ text: String, _ layer: Layer)
    throws
  {
    let method = try cacheMethod(text)
    for prompt in [1, 6, 20] {
      let run = try Run(text, Rows(layer, tokens: 50), prompt: prompt)
      for (i, resident) in run.residentBytes.enumerated() {
        let bytes = method.bytes(tokens: prompt + i, layer: layer.shape)
        #expect(resident == bytes.device, "prompt \(prompt), step \(i)")
        // The host of top-k lags behind by the ring's new rows.
        let lag = text.hasPrefix("topk") ? layer.M * (i % 4) * layer.rowBytes : 0
        #expect(run.hostBytes[i] == bytes.host - lag, "prompt \(prompt), step \(i)")
      }
    }
  }

  @Test(arguments: sparseMethods, [Layer(4, 2, 8), Layer(3, 3, 16, window: 9)])
  func `a device of the peak is enough, and one byte less is not`(_ text: String, _ layer: Layer)
    throws
  {
    if !layer.takes(text) { return }
    let rows = Rows(layer, tokens: 40)
    for prompt in [3, 25] {
      let free = try Run(text, rows, prompt: prompt)
      #expect(free.peakBytes > 0)
      let tight = try Run(text, rows, prompt: prompt, capacity: free.peakBytes)
      #expect(tight.steps.map(\.attention) == free.steps.map(\.attention))
      #expect(throws: DeviceTierError.self) {
        _ = try Run(text, rows, prompt: prompt, capacity: free.peakBytes - 1)
      }
    }
  }

  @Test func `peaks are a prompt beside what stays, or a step's working rows`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 40)
    let row = 2 * layer.rowBytes  // of both key/value heads
    #expect(try Run("full", rows, prompt: 20).peakBytes == 40 * row)
    #expect(try Run("offload", rows, prompt: 20).peakBytes == 40 * row)
    #expect(try Run("offload", rows, prompt: 39).peakBytes == 40 * row)
    // Head after head: the first one's kept rows beside both heads' prompts.
    #expect(
      try Run("streaming:sinks=3,w=7,positions=original", rows, prompt: 39).peakBytes
        == 39 * row + 10 * row / 2)
    // Kept keys and values, and the kept keys once more, rotated.
    #expect(try Run("streaming:sinks=3,w=7", rows, prompt: 2).peakBytes == 10 * row * 3 / 2)
  }

  @Test func `many layers on one device have a lower peak when they wait on the host`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 30)
    func peaks(_ text: String) throws -> (prefill: Int, all: Int, resident: Int) {
      var tiers = Tiers()
      var caches = try (0..<6).map { _ in try cacheMethod(text).makeCache(for: layer.shape) }
      for i in caches.indices { try caches[i].prefill(rows.prompt(29), tiers: &tiers) }
      let prefill = tiers.device.peakBytes
      for i in caches.indices { _ = try caches[i].decode(rows.token(29), tiers: &tiers) }
      return (prefill, tiers.device.peakBytes, tiers.device.residentBytes)
    }
    let plain = try peaks("lrqk:r=3,k=6,w=4")
    let parked = try peaks("lrqk-prefill-offload:r=3,k=6,w=4")
    // Five layers' slots and codes lie on the host while the sixth has its prompt.
    let waiting = 4 * (10 * layer.rowBytes + (29 + 256) * 3 * 4)
    #expect(plain.prefill - parked.prefill == 5 * waiting)
    #expect(parked.resident == plain.resident)
    #expect(parked.all == max(parked.prefill, parked.resident))
  }
}
