// The option `rows`: every method over rows in a form is the same method over what the form gives
// back, with fewer bytes.

import CacheMethods
import Tensors
import Testing
import TieredMemory
import Transformers

/// The form that a text names, made by hand.
private func form(_ text: String) -> any RowForm {
  switch text {
  case "f16": HalfForm(.float16)
  case "bf16": HalfForm(.bfloat16)
  case "int4/4": IntegerForm(PackedCodes(bits: 4, group: 4))
  default: IntegerForm(PackedCodes(bits: Int(text.dropFirst(3)) ?? 8))
  }
}

extension Rows {
  /// The same tokens with the keys and values that `form` gives back.
  fileprivate func read(back form: any RowForm) throws -> Rows {
    var rows = self
    func read(_ head: Tensor<Float>) throws -> Tensor<Float> {
      let packing = RowPacking(form, width: layer.d)
      return packing.rows(
        .key, of: try packing.pack(.key, head.elements.span, head: 0, first: 0), head: 0)
    }
    rows.keys = try keys.map(read)
    rows.values = try values.map(read)
    return rows
  }
}

/// Methods with the option, texts that end so that more options can follow.
///
/// What a method makes of keys before RoPE is the same either way; KVzip's repetition brings rows
/// of its own, and streaming with renumbered positions holds keys before RoPE: they have tests of
/// their own. ShadowKV and KV-Efficient VLA hold rows in forms of their own.
private let formed: [String] =
  (["full", "offload"] + sparseMethods.filter { $0.contains("lrqk") }
  + (selectingRivals + keepingRivals).filter {
    !["shadowkv", "kvzip", "kv-efficient-vla"].contains(String($0.prefix { $0 != ":" }))
  }).map { $0.contains(":") ? $0 : $0 + ":" }

private func with(_ rows: String, _ text: String) -> String {
  text.hasSuffix(":") ? "\(text)rows=\(rows)" : "\(text),rows=\(rows)"
}

@Suite struct RowFormatTests {
  @Test(arguments: formed, [Layer(4, 2, 16), Layer(3, 3, 20, window: 17), Layer(4, 1, 16)])
  func `a method over a form is the method over what the form gives back`(
    _ text: String, _ layer: Layer
  ) throws {
    let plain = text.hasSuffix(":") ? String(text.dropLast()) : text
    let applies = try rival(plain, layer).applies(to: layer.shape)
    if !layer.takes(text) || !applies { return }
    let rows = Rows(layer, tokens: 40)
    for (format, prompt) in [("int8", 25), ("int3", 25), ("int4/4", 3), ("f16", 11)] {
      let form = form(format)
      let run = try Run(with(format, text), rows, prompt: prompt)
      let exact = try Run(plain, try rows.read(back: form), prompt: prompt)
      let bytes = RowPart.allCases.reduce(0) { $0 + form.words($1, width: layer.d) * 4 }
      for (step, other) in zip(run.steps, exact.steps) {
        #expect(step.attended == other.attended)
        #expect(step.attention == other.attention)
        #expect((step.hitRows, step.missedRows) == (other.hitRows, other.missedRows))
      }
      for (event, other) in zip(run.events, exact.events) where other.reason != .scan {
        #expect(event.rows == other.rows && event.reason == other.reason)
        if event.reason.isWholeRows { #expect(event.bytes == event.rows * bytes) }
      }
      #expect(run.events.count == exact.events.count)
    }
  }

  @Test(arguments: formed + ["streaming:sinks=3,w=7", "kvzip:budget=10,sinks=2,chunk=7"])
  func `buffers are those of the closed form`(_ text: String) throws {
    for layer in [Layer(4, 2, 8), Layer(3, 3, 20, window: 9)] {
      for format in ["f16", "int8", "int4", "int3", "int2/4"] {
        let method = try rival(with(format, text), layer)
        if !layer.takes(text) || !method.applies(to: layer.shape) { continue }
        if exception(text, .bytes) != nil { continue }
        for prompt in [1, 9, 30] {
          let run = try Run(with(format, text), Rows(layer, tokens: prompt), prompt: prompt)
          let bytes = method.bytes(tokens: prompt, layer: layer.shape)
          if bytes.isUpperBound {
            #expect(run.residentBytes[0] <= bytes.device && run.hostBytes[0] <= bytes.host)
          } else {
            #expect(run.residentBytes[0] == bytes.device, "\(layer) \(format) \(prompt)")
            #expect(run.hostBytes[0] == bytes.host, "\(layer) \(format) \(prompt)")
          }
        }
      }
    }
  }

  @Test(arguments: ["streaming:sinks=3,w=7", "kvzip:budget=10,sinks=2,chunk=7"])
  func `eight bits are near exact rows`(_ text: String) throws {
    let layer = Layer(4, 2, 16)
    let rows = Rows(layer, tokens: 40)
    let (run, exact) = (
      try Run(text + ",rows=int8", rows, prompt: 25), try Run(text, rows, prompt: 25)
    )
    for (step, other) in zip(run.steps, exact.steps) where step.attended == other.attended {
      for (x, y) in zip(step.attention.elements, other.attention.elements) {
        #expect(abs(x - y) < 0.1)
      }
    }
    #expect(zip(run.steps, exact.steps).contains { $0.attended == $1.attended })
    #expect(run.residentBytes[0] < exact.residentBytes[0])
  }

  @Test(arguments: [
    "topk:budget=20KiB,w=4", "snapkv:budget=20KiB,window=4", "lrqk:budget=64KiB,r=3,w=4",
  ])
  func `a budget of bytes holds more small rows`(_ text: String) throws {
    let layer = Layer(4, 2, 32)
    let exact = try cacheMethod(text)
    let small = try cacheMethod(text + ",rows=int4")
    let rows = small.attendedRows(tokens: 500, layer: layer.shape)
    #expect(rows > 2 * exact.attendedRows(tokens: 500, layer: layer.shape))
    let limit = text.contains("64KiB") ? 65536 : 20480
    #expect(small.bytes(tokens: 500, layer: layer.shape).device <= limit)
  }

  @Test func `the text is part of the method, but not of the brief one by default`() throws {
    let method = try cacheMethod("snapkv:budget=10,rows=int4/32")
    #expect(method.description.contains("rows=int4/32"))
    #expect(method.brief.contains("rows=int4/32"))
    #expect(!(try cacheMethod("snapkv:budget=10").brief.contains("rows=")))
    #expect(!(try cacheMethod("full:rows=f32").brief.contains("rows=")))
    for text in ["int5", "int4/0", "int4/x", "int4/", "f64", "int", "4", "int4/2097152"] {
      let error = #expect(throws: MethodError.self) { _ = try cacheMethod("full:rows=\(text)") }
      #expect(error?.description.hasPrefix("full: rows=\(text) is none of: f32, f16, bf16") == true)
    }
    #expect(throws: MethodError.self) { _ = try cacheMethod("shadowkv:rows=int4") }
    #expect(throws: MethodError.self) { _ = try cacheMethod("factored:rows=int4") }
  }

  @Test(arguments: ["full:", "lrqk:r=3,k=6,w=4", "snapkv:budget=10,window=4", "offload:"])
  func `a number that is not finite is an error of the method`(_ text: String) throws {
    let layer = Layer(4, 2, 8)
    for part in ["prompt", "step"] {
      var rows = Rows(layer, tokens: 30)
      var elements = rows.values[1].elements
      elements[(part == "prompt" ? 3 : 27) * 8 + 2] = .nan
      rows.values[1] = Tensor(shape: rows.values[1].shape, elements: elements)
      #expect(throws: (any Error).self) {
        _ = try Run(with("int4", text), rows, prompt: 25)
      }
    }
  }
}

extension TransferReason {
  /// Whether such an event copies keys and values together.
  var isWholeRows: Bool {
    switch self {
    case .promptOffload, .ringFlush, .miss, .append, .parked, .parkedRows: true
    default: false
    }
  }
}
