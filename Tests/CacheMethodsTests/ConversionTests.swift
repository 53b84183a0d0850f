// Whole conversions of the tiny checkpoints: what is exact, what a folder says, what goes on.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

@Suite struct ConversionTests {
  /// Ordinary heads of every kind: grouped and not, biases, norms, windows, scaled angles, fused
  /// and sharded files.
  static let models = [
    "llama2", "llama3", "llama31-layout4", "llama-biases", "llama-yarn", "llama-dynamic-short",
    "llama-dynamic-long", "qwen2", "qwen2-sharded", "qwen2-sliding", "qwen3", "qwen3-biases",
    "mistral", "phi3", "phi3-partial", "phi3-short",
  ]

  // Float weights of full rank give the same logits but for rounding.
  @Test(arguments: models, ["whole", "per-head"])
  func `LoRC at full rank is the model, under full and factored attention`(
    _ name: String, _ cut: String
  ) throws {
    let folders = try ConversionFolders()
    let report = try folders.convert(name, "lorc:max=100%,ranks=uniform,matrix=\(cut)")
    #expect(report.errors.joined().allSatisfy { $0 < 1e-7 })
    let out = "\(folders.path)/out"
    let tokens = try ConversionFolders.prompt(name)
    let prompt = tokens.count / 2
    let exact = try logits(ConversionFolders.tiny(name), tokens, prompt: prompt, cache: "full")
    #expect(difference(try logits(out, tokens, prompt: prompt, cache: "full"), exact) < 1e-4)
    let layers = try Decoder(folder: out).layerShapes
    for layer in layers {
      let turnsByLength =
        switch layer.rotary.scaling {
        case .dynamic, .longRope: true
        default: false
        }
      #expect((layer.factors == nil) == (layer.window != nil || turnsByLength))
    }
    if layers.allSatisfy({ $0.factors != nil }) {
      let factored = try logits(out, tokens, prompt: prompt, cache: "factored")
      #expect(difference(factored, exact) < 1e-4)
    }
  }

  @Test(arguments: models, ["after", "before"])
  func `compressed heads as wide as what they replace are the model`(
    _ name: String, _ rope: String
  ) throws {
    let folders = try ConversionFolders()
    let shape = try Decoder(folder: ConversionFolders.tiny(name)).layerShapes[0]
    let (M, d) = (shape.keyValueHeads, shape.width)
    let method = "compress-heads:heads=1,width=\(M * d),rope=\(rope)"
    if rope == "before" && name.hasPrefix("qwen3") {
      #expect(throws: MethodError.self) { try folders.convert(name, method) }
      return
    }
    try folders.convert(name, weightMethod(method))
    let out = "\(folders.path)/out"
    let tokens = try ConversionFolders.prompt(name)
    let exact = try logits(ConversionFolders.tiny(name), tokens, prompt: 3, cache: "full")
    #expect(difference(try logits(out, tokens, prompt: 3, cache: "full"), exact) < 1e-4)
    let read = try ModelConfiguration(folder: out)
    #expect(read.keyValueHeads == (rope == "after" ? 1 : M) && read.queryHeads == shape.queryHeads)
    #expect(read.conversion?.sourceHeads == M && read.conversion?.sourceWidth == d)
  }

  @Test func `a group of one head is exact at the width of a head`() throws {
    let folders = try ConversionFolders()
    let report = try folders.convert("llama-biases", "compress-heads:heads=2")
    #expect(report.errors.joined().allSatisfy { $0 == 0 })
    let tokens = try ConversionFolders.prompt("llama-biases")
    let exact = try logits(
      ConversionFolders.tiny("llama-biases"), tokens, prompt: 4, cache: "full")
    let found = try logits("\(folders.path)/out", tokens, prompt: 4, cache: "full")
    #expect(difference(found, exact) < 1e-4)
  }

  @Test(arguments: ["lorc:max=60%,min=30%", "compress-heads:rope=before", "compress-heads"])
  func `a smaller cache holds what config.json says, and every method runs on it`(_ text: String)
    throws
  {
    let folders = try ConversionFolders()
    let report = try folders.convert("llama2", text)
    let out = "\(folders.path)/out"
    let decoder = try Decoder(folder: out)
    let conversion = try #require(decoder.configuration.conversion)
    #expect(conversion.method == "\(try weightMethod(text))" && conversion.source == "llama2")
    #expect(conversion.sourceHash == "0123" && conversion.layers == report.layers)
    #expect(decoder.configuration.architecture == "LlamaForCausalLM")
    #expect(report.errors.joined().allSatisfy { $0 > 0.01 && $0 < 1 })
    #expect(report.numbersBefore == 64)

    // Bytes of the smallest cache are those of the numbers that are stated.
    let isJoined = text == "compress-heads"
    let method = try cacheMethod(isJoined ? "full" : "factored")
    let tokens = try ConversionFolders.prompt("llama2")
    let state = DecodingState(
      caches: try decoder.layerShapes.map { try method.makeCache(for: $0) }, tiers: Tiers())
    _ = try decoder.prefill(tokens, state: state, logits: .none)
    let numbers = report.layers.reduce(0) { $0 + $1.cachedNumbers }
    #expect(state.tiers.device.residentBytes == 4 * numbers * tokens.count)
    #expect(
      decoder.layerShapes.reduce(0) { $0 + method.bytes(tokens: tokens.count, layer: $1).device }
        == 4 * numbers * tokens.count)
    #expect(numbers < 2 * 64)

    // Both forms agree, and so does a method that chooses everything.
    let full = try logits(out, tokens, prompt: 4, cache: "full")
    for cache in isJoined
      ? ["topk:k=99", "h2o:budget=99"] : ["factored", "topk:k=99", "streaming"]
    {
      #expect(difference(try logits(out, tokens, prompt: 4, cache: cache), full) < 1e-5, "\(cache)")
    }
    let exact = try logits(ConversionFolders.tiny("llama2"), tokens, prompt: 4, cache: "full")
    #expect(difference(full, exact) > 1e-3)
  }

  @Test func `LoRC's ranks fall from max to min, and stand in config.json`() throws {
    let folders = try ConversionFolders()
    let report = try folders.convert("qwen2-sliding", "lorc:max=75%,min=25%")
    // M d is 16; three layers.
    let ranks = report.layers.map { form -> [Int] in
      guard case .lowRank(let sizes) = form else { return [] }
      #expect(sizes.keys == sizes.values && sizes.keys.heads == [[0, 1]])
      return sizes.keys.ranks
    }
    #expect(ranks[0] == [12] && ranks[2] == [4] && (4...12).contains(ranks[1][0]))
    let line = try folders.convert("qwen2-sliding", "lorc:max=75%,min=25%,ranks=depth", into: "b")
    #expect(line.layers.map(\.cachedNumbers) == [24, 16, 8])
  }

  @Test func `new tensors have the format that is asked for, the others keep theirs`() throws {
    let folders = try ConversionFolders()
    try folders.convert("llama3", weightMethod("lorc"), format: .bfloat16)
    let file = try SafetensorsFile(path: "\(folders.path)/out/model-00002-of-00003.safetensors")
    let name = "model.layers.1"
    #expect(try file.format(of: "\(name).self_attn.k_down_proj.weight") == .bfloat16)
    #expect(file.metadata["format"] == "pt")
    let source = try SafetensorsFile(
      path: "\(ConversionFolders.tiny("llama3"))/model.safetensors")
    for kept in [
      "\(name).self_attn.q_proj.weight", "\(name).self_attn.o_proj.weight",
      "\(name).mlp.up_proj.weight", "\(name).input_layernorm.weight",
    ] {
      #expect(try file.format(of: kept) == source.format(of: kept))
      let (a, b): (Tensor<Float>, Tensor<Float>) = (try file.tensor(kept), try source.tensor(kept))
      #expect(a == b)
    }
    #expect(!FileManager.default.fileExists(atPath: "\(folders.path)/out.part"))
    #expect(!FileManager.default.fileExists(atPath: "\(folders.path)/out.part.lock"))
    #expect(!FileManager.default.fileExists(atPath: "\(folders.path)/out/conversion.json"))
  }

  @Test(arguments: [
    ("lrkv", "lorc", "no ordinary heads to convert"),
    ("deepseek", "lorc", "no ordinary heads to convert"),
    ("llama3", "compress-heads:heads=3", "heads=3 does not divide the model's 2 key/value heads"),
    ("llama3", "compress-heads:heads=quarter", "quarter of 2 key/value heads is no whole number"),
    ("llama3", "compress-heads:width=25", "width=25 is more than the 24 numbers"),
    ("qwen3", "compress-heads:rope=before", "this model has norms of keys; use rope=after"),
    (
      "qwen3", "compress-heads:rope=before,svd=weights",
      "use rope=after, which needs svd=calibration"
    ),
    ("llama3", "lorc:max=25", "max=25 is more than the full rank 24"),
    ("llama3", "lorc:max=5,min=90%", "min=90% is rank 22, more than max=5, 5"),
  ])
  func `what has no meaning for a model is one line`(_ name: String, _ text: String, _ line: String)
    throws
  {
    let folders = try ConversionFolders()
    let found = errorLine { try folders.convert(name, text) }
    #expect(found.contains(line), "\(found)")
    #expect(!found.contains("\n"))
    #expect(!FileManager.default.fileExists(atPath: "\(folders.path)/out"))
  }

  @Test func `a converted model is not converted again`() throws {
    let folders = try ConversionFolders()
    _ = try folders.convert("llama3", "lorc")
    let line = errorLine { try folders.convert("\(folders.path)/out", "lorc", into: "again") }
    #expect(line.hasPrefix("the model was converted already, by lorc:max=75%"), "\(line)")
  }

  @Test(arguments: ["llama3", "qwen3"])
  func `methods that rotate rows themselves are refused where heads are joined after RoPE`(
    _ name: String
  ) throws {
    let folders = try ConversionFolders()
    _ = try folders.convert(name, "compress-heads")
    let decoder = try Decoder(folder: "\(folders.path)/out")
    for cache in ["streaming:positions=renumbered", "shadowkv", "expected-attention"] {
      let method = try cacheMethod(cache)
      let state = DecodingState(
        caches: try decoder.layerShapes.map { try method.makeCache(for: $0) }, tiers: Tiers())
      let line = errorLine { _ = try decoder.prefill([1, 2, 3], state: state, logits: .none) }
      #expect(line.contains("joined after RoPE"), "\(cache): \(line)")
      // What is proposed works: rope=before is refused where keys have norms.
      let output = String(cache.prefix { $0 != ":" })
      let works =
        errorLine { try folders.convert(name, "compress-heads:rope=before", into: output) } == ""
      #expect(line.hasSuffix("or convert with rope=before") == works, "\(cache): \(line)")
    }
  }
}
