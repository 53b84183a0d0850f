// Paths that are no checkpoint folder: the error says what is there instead.

import Foundation
import Tensors
import Testing

@testable import Transformers

@Suite struct CheckpointFolderTests {
  /// What opening the model at `path` says; one line.
  private func message(_ path: String) throws -> String {
    do {
      _ = try Decoder(folder: path)
      throw Surprise("\(path) is a model")
    } catch {
      let text = "\(error)"
      #expect(!text.contains("\n") && text.contains(path), "\(text)")
      return text
    }
  }

  /// An empty folder's path; it goes with the returned model.
  private func empty() throws -> CheckpointCopy {
    let folder = try CheckpointCopy(copying: "llama2")
    for name in try FileManager.default.contentsOfDirectory(atPath: folder.path) {
      try folder.remove(name)
    }
    return folder
  }

  @Test(
    "a folder that is not there; a repository's name is recognised",
    arguments: [
      ("meta-llama/Llama-3.2-1B", true), ("Qwen/Qwen2.5-0.5B", true), ("nowhere/at/all", false),
      ("/nowhere", false), ("../nowhere", false), ("no where/model", false),
    ])
  func absent(_ path: String, _ isRepository: Bool) throws {
    let text = try message(path)
    #expect(text.contains("no such folder") && text.contains("config.json"), "\(text)")
    #expect(text.contains("repository") == isRepository, "\(text)")
  }

  @Test("a file in the place of a folder: the folder is named")
  func file() throws {
    let folder = try CheckpointCopy(copying: "llama2")
    let text = try message(folder.path + "/model.safetensors")
    #expect(text.contains("a file, not a folder") && text.hasSuffix("such as \(folder.path)"))
    try folder.write("model.gguf", "GGUF")
    #expect(try message(folder.path + "/model.gguf").contains("is GGUF"))
    #expect(try message(folder.path + "/config.json").contains("a file, not a folder"))
  }

  @Test("a download cache, or a folder around the folder: the inner one is named")
  func inner() throws {
    let model = try CheckpointCopy(copying: "llama2")
    let outer = try empty()
    let snapshot = outer.path + "/models--org--name/snapshots/0123abc"
    try FileManager.default.createDirectory(
      atPath: outer.path + "/models--org--name/snapshots", withIntermediateDirectories: true)
    try FileManager.default.copyItem(atPath: model.path, toPath: snapshot)
    #expect(try message(outer.path + "/models--org--name").contains("name the snapshot in it"))
    #expect(try message(outer.path + "/models--org--name").contains(snapshot))
    #expect(
      try message(outer.path + "/models--org--name/snapshots").contains("folder in it, \(snapshot)")
    )
    #expect(try message(outer.path).contains("models--org--name/snapshots/"))
    #expect(throws: Never.self) { try Decoder(folder: snapshot) }
  }

  @Test("the hub's cache is where the environment says, in huggingface_hub's order")
  func cacheFolder() {
    for (environment, folder) in [
      (["HOME": "/h"], "/h/.cache/huggingface/hub"),
      (["HOME": "/h", "XDG_CACHE_HOME": "/x"], "/x/huggingface/hub"),
      (["HOME": "/h", "XDG_CACHE_HOME": "/x", "HF_HOME": "/y"], "/y/hub"),
      (["HF_HOME": "/y", "HUGGINGFACE_HUB_CACHE": "/old"], "/old"),
      (["HF_HOME": "/y", "HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/z"], "/z"),
      (["HF_HOME": "", "HOME": "/h"], "/h/.cache/huggingface/hub"),
    ] {
      #expect(HubCache.folder(environment) == folder)
    }
  }

  @Test("a repository's name: its snapshot in the hub's cache, or how to download it")
  func repositoryName() throws {
    let model = try CheckpointCopy(copying: "llama2")
    let cache = try empty()
    let environment = ["HF_HUB_CACHE": cache.path]
    func hint() throws -> String {
      try #require(CheckpointFolder.misnamed("some-org/a.model", environment: environment))
    }
    let command = "hf download some-org/a.model --local-dir a.model"
    #expect(try hint().contains(command))
    let repository = cache.path + "/models--some-org--a.model"
    // A download that has not come to config.json is none.
    for name in ["snapshots/9", "refs"] {
      try FileManager.default.createDirectory(
        atPath: "\(repository)/\(name)", withIntermediateDirectories: true)
    }
    #expect(try hint().contains(command))
    try FileManager.default.copyItem(atPath: model.path, toPath: repository + "/snapshots/1")
    #expect(try hint().hasSuffix("name the snapshot in it, \(repository)/snapshots/1"))
    #expect(try !hint().contains(command))
    // Of several it is the one that refs/main names, here and for the repository's own folder.
    try FileManager.default.copyItem(atPath: model.path, toPath: repository + "/snapshots/2")
    try Data("1".utf8).write(to: URL(fileURLWithPath: repository + "/refs/main"))
    let named = "name one of the 2 snapshots in it, such as \(repository)/snapshots/1"
    #expect(try hint().hasSuffix(named))
    #expect(try message(repository).hasSuffix(named))
    #expect(CheckpointFolder.misnamed(repository)?.hasSuffix(named) == true)
    #expect(CheckpointFolder.misnamed(repository + "/snapshots/1") == nil)
    #expect(
      CheckpointFolder.misnamed("some-org", environment: environment)?.contains("hf") == false)
  }

  @Test(
    "another format is named, with config.json and without",
    arguments: [
      ("pytorch_model.bin", "PyTorch"), ("model.pth", "PyTorch"), ("weights.npz", "another"),
      ("llama-7b.Q4_K_M.gguf", "GGUF"), ("adapter_model.safetensors", "adapter (LoRA)"),
      ("adapter_config.json", "adapter (LoRA)"), ("model.onnx", "another"),
      ("tf_model.h5", "another"),
    ])
  func formats(_ name: String, _ words: String) throws {
    let folder = try empty()
    try folder.write(name, "")
    #expect(try message(folder.path).contains("no config.json"))
    #expect(try message(folder.path).contains(words))
    let model = try CheckpointCopy(copying: "llama2")
    try model.remove("model.safetensors")
    try model.remove("expected.safetensors")
    try model.write(name, "")
    let text = try message(model.path)
    #expect(text.contains(words) && text.contains(name) && text.contains("neither"), "\(text)")
  }

  @Test(
    "weights under another name, or without their index",
    arguments: [
      ("model-00001-of-00002.safetensors", "index"), ("consolidated.safetensors", "layout"),
      ("llama.safetensors", "rename it"),
    ])
  func names(_ name: String, _ words: String) throws {
    let model = try CheckpointCopy(copying: "llama2")
    try model.remove("model.safetensors")
    try model.remove("expected.safetensors")
    #expect(try message(model.path).contains("download them"))
    try model.write(name, "")
    let text = try message(model.path)
    #expect(text.contains(words) && text.contains(name), "\(text)")
  }

  @Test("a pipeline of diffusers is no language model")
  func diffusers() throws {
    let folder = try empty()
    try folder.write("model_index.json", "{}")
    #expect(try message(folder.path).contains("diffusers"))
  }

  @Test(
    "a Git LFS pointer is called so, whatever file it stands for",
    arguments: [
      "config.json", "model.safetensors", "generation_config.json",
    ])
  func pointers(_ name: String) throws {
    let folder = try CheckpointCopy(copying: "llama2")
    try folder.write(name, lfsPointer)
    #expect(try message("\(folder.path)").contains("/\(name): a Git LFS pointer"))
  }

  @Test("pointers for shards, and for their index")
  func shards() throws {
    for prefix in ["model-00002", "model.safetensors.index"] {
      let folder = try CheckpointCopy(copying: "qwen2-sharded")
      let name = try #require(
        try FileManager.default.contentsOfDirectory(atPath: folder.path).first {
          $0.hasPrefix(prefix)
        })
      try folder.write(name, lfsPointer)
      #expect(try message("\(folder.path)").contains("/\(name): a Git LFS pointer"))
    }
  }
}

/// What Git leaves in the place of a large file.
let lfsPointer =
  "version https://git-lfs.github.com/spec/v1\noid sha256:\(String(repeating: "0", count: 64))\n"
  + "size 131784\n"
