// Folders of converted models that are damaged, or say what cannot be: one line each, no crash.

import CacheMethods
import Foundation
import Tensors
import Testing
import Transformers

@Suite struct ConvertedFolderTests {
  private func config(_ folder: String) throws -> String {
    try String(contentsOfFile: "\(folder)/config.json", encoding: .utf8)
  }

  /// What opening a folder says whose config.json has `old` replaced by `new`.
  private func line(_ folders: ConversionFolders, _ old: String, _ new: String) throws -> String {
    let text = try config("\(folders.path)/out")
    #expect(text.contains(old), "\(old) in \(text)")
    let copy = "\(folders.path)/copy"
    try? FileManager.default.removeItem(atPath: copy)
    try FileManager.default.copyItem(atPath: "\(folders.path)/out", toPath: copy)
    let changed = text.replacingOccurrences(of: old, with: new)
    try changed.write(toFile: "\(copy)/config.json", atomically: true, encoding: .utf8)
    let line = errorLine { _ = try Decoder(folder: copy) }
    #expect(!line.contains("\n") && !line.isEmpty, "\(new): \(line)")
    return line
  }

  @Test func `a low-rank model whose config.json is damaged is refused with one line`() throws {
    let folders = try ConversionFolders()
    // Two key/value heads of width 12: ranks 18 and 6 of 24.
    _ = try folders.convert("llama3", "lorc")
    let layer = "{\"form\": \"low-rank\", \"key_groups\": [[0, 1]], \"key_ranks\": [18]"
    for (old, new, part) in [
      ("\"key_ranks\": [18]", "\"key_ranks\": [0]", "from 1 to 24"),
      ("\"key_ranks\": [18]", "\"key_ranks\": [25]", "from 1 to 24"),
      ("\"key_ranks\": [18]", "\"key_ranks\": [17]", "has shape"),
      ("\"key_ranks\": [18]", "\"key_ranks\": [9, 9]", "one whole number for each of 1"),
      ("\"key_ranks\": [18]", "\"key_ranks\": [1.5]", "one whole number"),
      ("\"key_ranks\": [18]", "\"key_ranks\": 18", "one whole number"),
      ("\"key_ranks\": [18], ", "", "key_ranks\" is missing"),
      ("\"key_groups\": [[0, 1]]", "\"key_groups\": [[0, 0]]", "each of the heads 0 to 1 once"),
      ("\"key_groups\": [[0, 1]]", "\"key_groups\": [[0]]", "each of the heads 0 to 1 once"),
      ("\"key_groups\": [[0, 1]]", "\"key_groups\": [[0, 2]]", "each of the heads 0 to 1 once"),
      ("\"key_groups\": [[0, 1]]", "\"key_groups\": [[0, 1], []]", "each of the heads"),
      ("\"key_groups\": [[0, 1]]", "\"key_groups\": [[0, 1], 3]", "each of the heads"),
      ("\"key_groups\": [[0, 1]]", "\"key_groups\": \"all\"", "each of the heads"),
      (layer, "{\"form\": \"thin\"", "one of low-rank, joined-heads"),
      (layer, "{\"key_ranks\": [18]", "form\" is missing"),
      (layer, layer + ", \"extra\": 1", "unknown key"),
      ("\"layers\": [{", "\"layers\": [3, {", "3 entries for 2 layers"),
      ("\"layers\": [{", "\"layers\": [[], {", "3 entries for 2 layers"),
      ("\"family\": \"LlamaForCausalLM\"", "\"family\": \"LRKVForCausalLM\"", "is not supported"),
      ("\"family\": \"LlamaForCausalLM\"", "\"family\": 1", "has to be a string"),
      ("\"family\": \"LlamaForCausalLM\", ", "", "family\" is missing"),
      ("\"source_hash\": \"0123\", ", "", "source_hash\" is missing"),
      ("\"family\"", "\"more\": 1, \"family\"", "unknown key"),
      ("\"model_type\": \"converted\"", "\"model_type\": \"llama\"", "architectures says"),
      ("\"converted_attention\": {", "\"converted\": {", "is missing"),
      ("ConvertedForCausalLM", "LlamaForCausalLM", "model_type"),
    ] {
      let found = try line(folders, old, new)
      #expect(found.contains(part), "\(new): \(found)")
    }
  }

  @Test func `a model of joined heads whose config.json is damaged is refused with one line`()
    throws
  {
    let folders = try ConversionFolders()
    _ = try folders.convert("llama2", "compress-heads")
    let layer = "{\"form\": \"joined-heads\", \"heads\": 2, \"key_width\": 8, \"value_width\": 8}"
    let other = "{\"form\": \"joined-heads\", \"heads\": 1, \"key_width\": 8, \"value_width\": 8}"
    for (old, new, part) in [
      (layer, layer.replacingOccurrences(of: "\"heads\": 2", with: "\"heads\": 3"), "not divide"),
      (layer, layer.replacingOccurrences(of: "\"heads\": 2", with: "\"heads\": 5"), "from 1 to 4"),
      ("\"key_width\": 8", "\"key_width\": 17", "from 1 to 16"),
      ("\"key_width\": 8", "\"key_width\": 7", "from 1 to 7"),
      ("\"value_width\": 8", "\"value_width\": 4", "has shape"),
      ("[" + layer, "[" + other, "other sizes than layer 0"),
      (
        ", " + layer,
        ", {\"form\": \"low-rank\", \"key_groups\": [[0, 1, 2, 3]], \"key_ranks\": [9], "
          + "\"value_groups\": [[0, 1, 2, 3]], \"value_ranks\": [9]}", "layer 0 has joined-heads"
      ),
    ] {
      let found = try line(folders, old, new)
      #expect(found.contains(part), "\(new): \(found)")
    }
  }

  @Test func `missing and left-over tensors of a converted model are named`() throws {
    let folders = try ConversionFolders()
    _ = try folders.convert("llama3", "lorc:matrix=per-head")
    let path = "\(folders.path)/out/model-00001-of-00003.safetensors"
    let file = try SafetensorsFile(path: path)
    let index = "\(folders.path)/out/model.safetensors.index.json"
    for missing in ["k_down_proj.weight", "k_up_proj.1.weight", "v_up_proj.0.weight"] {
      let name = "model.layers.0.self_attn.\(missing)"
      var writer = SafetensorsWriter()
      for other in file.names where other != name {
        try writer.add(other, try file.tensor(other) as Tensor<Float>, as: .float32)
      }
      let copy = "\(folders.path)/copy"
      try? FileManager.default.removeItem(atPath: copy)
      try FileManager.default.copyItem(atPath: "\(folders.path)/out", toPath: copy)
      try writer.write(to: "\(copy)/model-00001-of-00003.safetensors")
      let entries = try String(contentsOfFile: index, encoding: .utf8)
        .replacingOccurrences(
          of: "\"\(name)\": \"model-00001-of-00003.safetensors\", ", with: "")
      try entries.write(
        toFile: "\(copy)/model.safetensors.index.json", atomically: true, encoding: .utf8)
      let line = errorLine { _ = try Decoder(folder: copy) }
      #expect(line.contains("no tensor \"\(name)\""), "\(line)")
    }
    // Groups that are fewer than the factors there are.
    let found = try line(
      folders, "\"key_groups\": [[0], [1]], \"key_ranks\": [9, 9]",
      "\"key_groups\": [[0, 1]], \"key_ranks\": [18]")
    #expect(found.contains("k_up_proj.0.weight") && found.contains("has shape"), "\(found)")
  }

  @Test(arguments: [
    ("lorc", "lorc:max=75%,min=25%,ranks=condition,matrix=whole"),
    ("lorc:ranks=uniform,max=12", "lorc:max=12,ranks=uniform,matrix=whole"),
    ("lorc:min=12.5%,matrix=per-head", "lorc:max=75%,min=12.5%,ranks=condition,matrix=per-head"),
    ("compress-heads", "compress-heads:heads=half,width=d,svd=calibration,rope=after"),
    (
      "compress-heads:rope=before,svd=weights,heads=4,width=32",
      "compress-heads:heads=4,width=32,svd=weights,rope=before"
    ),
  ])
  func `a weight method's text makes it again`(_ text: String, _ whole: String) throws {
    let method = try weightMethod(text)
    #expect("\(method)" == whole)
    #expect("\(try weightMethod(whole))" == whole)
  }

  @Test(arguments: [
    ("lork", "did you mean lorc?"), ("", "there is no weight method"),
    ("lorc:rank=3", "lorc has no option 'rank'"), ("lorc:max=0", "neither a rank from 1 on"),
    ("lorc:max=101%", "neither a rank from 1 on"), ("lorc:max=nan%", "neither a rank"),
    ("lorc:max=20%", "min=25% is more than max=20%"), ("lorc:max=5,min=6", "more than max=5"),
    ("lorc:ranks=uniform,min=3", "min has no effect"), ("lorc:ranks=steep", "is none of"),
    ("compress-heads:heads=0", "from 1 to 4096"), ("compress-heads:width=x", "not a whole number"),
    ("compress-heads:svd=weights", "says nothing of rotated keys"),
    ("compress-heads:heads=half,heads=half", "given twice"),
  ])
  func `options without meaning are one line`(_ text: String, _ part: String) {
    let line = errorLine { _ = try weightMethod(text) }
    #expect(line.contains(part) && !line.contains("\n"), "\(line)")
  }
}
