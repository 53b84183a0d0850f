// `lrqk replay` on rivals' recordings, and with any method over a capture, as scripts use it.

import Foundation
import Tensors
import Testing

private func path(_ name: String) -> String {
  ReplayToolTests.root.appendingPathComponent("Tests/ReplayTests/\(name).safetensors").path
}

private func object(_ arguments: [String], status: Int32 = 0) throws -> [String: Any] {
  let found = try run("lrqk", ["replay"] + arguments + ["--json"])
  #expect(found.status == status, "\(found.error)")
  return try #require(
    JSONSerialization.jsonObject(with: Data(found.output.utf8)) as? [String: Any])
}

/// A copy of a recording with one tensor changed, and other metadata where they are given.
private func altered(
  _ name: String, _ tensor: String, in folder: TemporaryFolder, metadata: [String: String] = [:],
  _ change: (inout [Int]) -> Void
) throws -> String {
  let file = try SafetensorsFile(path: path(name))
  var writer = SafetensorsWriter(metadata: file.metadata.merging(metadata) { $1 })
  for other in file.names {
    if try file.format(of: other) == .float32 || file.format(of: other) == .float64 {
      try writer.add(other, file.tensor(other) as Tensor<Double>, as: file.format(of: other))
    } else {
      var integers = try file.integers(other)
      if other == tensor {
        var elements = integers.elements
        change(&elements)
        integers = Tensor(shape: integers.shape, elements: elements)
      }
      try writer.add(other, integers: integers, as: .int32)
    }
  }
  let path = folder.path + "/altered.safetensors"
  try writer.write(to: path)
  return path
}

@Suite struct RivalReplayToolTests {
  @Test func `a rival's recording has a verdict and a line for every tensor`() throws {
    let json = try object([path("Rivals/snapkv-1")])
    #expect(json["method"] as? String == "snapkv" && json["within"] as? Bool == true)
    let lines = try #require(json["outputs"] as? [[String: Any]])
    #expect(
      Set(lines.compactMap { $0["name"] as? String }) == [
        "expected/budget", "expected/kept", "expected/scores",
      ])
    for line in lines { #expect(line["error"] is Double && line["within"] as? Bool == true) }
  }

  @Test func `what is written is a recording that is met, under the same names`() throws {
    let folder = try TemporaryFolder()
    let doubles = folder.path + "/double.safetensors"
    let h2o = ["replay", path("Rivals/h2o-1"), "--precision", "double", "--output", doubles]
    #expect(try run("lrqk", h2o).status == 0)
    #expect(try SafetensorsFile(path: doubles).format(of: "expected/scores.f64") == .float64)
    for precision in ["float", "double"] {
      let out = folder.path + "/out.safetensors"
      let found = try run(
        "lrqk",
        ["replay", path("Rivals/snapkv-2"), "--precision", precision, "--output", out])
      #expect(found.status == 0, "\(found.error)")
      let written = try SafetensorsFile(path: out)
      let expected = try SafetensorsFile(path: path("Rivals/snapkv-2"))
      #expect(written.metadata == expected.metadata)
      for name in expected.names where name.hasPrefix("expected/") {
        #expect(try written.shape(of: name) == expected.shape(of: name))
      }
      #expect(
        try written.integers("expected/kept") == expected.integers("expected/kept"))
    }
  }

  @Test func `a recording that is not met exits with 1 and says where`() throws {
    let folder = try TemporaryFolder()
    let other = try altered("Rivals/snapkv-1", "expected/kept", in: folder) { $0[7] = 1 - $0[7] }
    let json = try object([other], status: 1)
    #expect(json["within"] as? Bool == false)
    let found = try run("lrqk", ["replay", other])
    #expect(found.output.hasPrefix("does not agree: 1 of 3 outputs outside their limits"))
    #expect(found.output.contains("[0, 7]"))
  }

  @Test(arguments: [
    ("method", "snapkw", "is not among"), ("options", "{", "are no JSON"),
    ("options", "{}", "the option variant is missing"),
    ("options", #"{"variant": "new"}"#, #"the option variant is "new"; it has to be one of"#),
    (
      "options",
      #"{"variant":"official","window_size":500,"kernel_size":5,"pooling":"avgpool","max_capacity_prompt":40}"#,
      "a window of 500 in 96 rows"
    ),
    ("schema", "lrqk-oracle/2", "are not known; lrqk-oracle/1 is"),
  ])
  func `metadata that make no sense get one line and status 65`(
    _ key: String, _ value: String, _ part: String
  ) throws {
    let folder = try TemporaryFolder()
    let other = try altered("Rivals/snapkv-1", "", in: folder, metadata: [key: value]) { _ in }
    let found = try run("lrqk", ["replay", other])
    #expect(found.status == 65, "\(found.error)")
    #expect(found.error.split(separator: "\n").count == 1 && found.error.contains(part), "\(found)")
  }

  @Test(arguments: [
    ("fastgen-1", #""special_punc"}"#, #""special_point"}"#, "named by special, punc"),
    ("fastgen-1", #"frac": 0.9"#, #"frac": 1.5"#, "min_recovery_frac is 1.5"),
    ("fastgen-1", "[[1], [7, 8]]", "[1, 7]", "it has to be a list of lists of ids"),
    ("fastgen-1", "[11, 12, 13]", "[[11], [12]]", "the option punctuation_ids"),
    ("loki-1", #""top_r": 4"#, #""top_r": 2.5"#, "top_r is 2.5"),
    ("loki-1", #""top_k": 0.25"#, #""top_k": 2.5"#, "top_k is 2.5"),
    ("infinigen-1", #""alpha": 0.8"#, #""alpha": 0"#, "no score is within it"),
    ("kvzip-1", "[36, 28]", "[36, 27]", "does not fit"),
    ("kvzip-1", "[36, 28]", "[36]", "a row count for each of 2 chunks"),
  ])
  func `options that make no sense get one line and status 65`(
    _ name: String, _ from: String, _ to: String, _ part: String
  ) throws {
    let file = try SafetensorsFile(path: path("Rivals/\(name)"))
    let options = try #require(file.metadata["options"])
    #expect(options.contains(from))
    let folder = try TemporaryFolder()
    let other = try altered(
      "Rivals/\(name)", "", in: folder,
      metadata: ["options": options.replacing(from, with: to)]
    ) { _ in }
    let found = try run("lrqk", ["replay", other])
    #expect(found.status == 65, "\(found.error)")
    #expect(found.error.split(separator: "\n").count == 1 && found.error.contains(part), "\(found)")
  }

  @Test(arguments: [["--rank", "3"], ["--cache", "full"], ["--steps", "3"]])
  func `options that a rival's recording has no use for are refused`(_ option: [String]) throws {
    let found = try run("lrqk", ["replay", path("Rivals/snapkv-1")] + option)
    #expect(found.status == 65 && found.error.contains("has no part"), "\(found.error)")
  }

  @Test func `any method runs over a capture, and its JSON keeps its contract`() throws {
    let json = try object([
      path("Captures/needle-layer2"), "--cache", "topk:budget=10%", "--steps", "12",
    ])
    for key in [
      "recall", "mass", "same_rows_attention_relative", "full_attention_relative", "resident_bytes",
      "peak_bytes", "host_bytes", "full_cache_bytes",
    ] {
      #expect(json[key] is NSNumber, "\(key)")
    }
    #expect((json["budget"] as? [String: Any])?["rows"] as? Int == 100)
    let steps = try #require(json["steps"] as? [[String: Any]])
    #expect(steps.count == 12)
    for key in ["hits", "misses", "moved_bytes", "resident_bytes", "mass", "recall"] {
      #expect(steps.allSatisfy { $0[key] is NSNumber }, "\(key)")
    }
  }

  @Test(arguments: [
    (["--cache", "tpok"], "did you mean topk?", 64),
    (["--cache", "topk", "--rank", "3"], "--rank belongs to LRQK's own replay", 64),
    (["--cache", "topk", "--preset", "paper"], "--preset belongs to LRQK's own replay", 64),
    (["--cache", "topk", "--precision", "double"], "--cache runs in float", 64),
    (["--cache", "topk:budget=1KiB"], "budget=1KiB is less than the", 64),
  ])
  func `a method that cannot run gets one line`(
    _ options: [String], _ part: String, _ status: Int32
  ) throws {
    let found = try run("lrqk", ["replay", path("Captures/needle-layer2")] + options)
    #expect(found.status == status && found.error.contains(part), "\(found)")
    #expect(found.error.split(separator: "\n").count == 1 && found.output == "")
  }

  @Test func `a prefill recording has no values for a method`() throws {
    let found = try run("lrqk", ["replay", path("Golden/prefill-r8"), "--cache", "full"])
    #expect(found.status == 65 && found.error.contains("needs queries, keys and values"))
  }
}
