// Why a path is no checkpoint folder, or a folder has no file that is needed.
//
// In:  a path at which config.json or the weights were not found.
// Out: half a line for an error: what is there instead, and what to do.
//
// Most such paths are one of a few things: a repository's name, a file of the folder, the cache of
// a download tool, a model in another format. Each has its own remedy, so each is named. Only names
// of files are looked at, never their contents.

import Foundation
import Tensors

/// What stands at a path that should be a checkpoint folder.
package enum CheckpointFolder {
  /// Why `path` cannot be the folder of a model, whatever is wanted of it; nil where it is a folder
  /// that may be one.
  package static func misnamed(
    _ path: String, environment: [String: String] = ProcessInfo.processInfo.environment
  ) -> String? {
    let isFolder = fileExists(at: "\(path)/.")
    if isFolder && (fileExists(at: "\(path)/config.json") || !fileExists(at: "\(path)/snapshots")) {
      return nil
    }
    return missingConfiguration(path, environment: environment)
  }

  /// Why there is no config.json in `folder`.
  static func missingConfiguration(
    _ folder: String, environment: [String: String] = ProcessInfo.processInfo.environment
  ) -> String {
    if !fileExists(at: folder) {
      let start = "no such folder; "
      if !isRepositoryName(folder) { return start + "name the folder that holds config.json" }
      if let snapshot = HubCache.snapshot(in: HubCache.repository(folder, environment)) {
        return start + "the hub's cache on this machine has the repository: name \(snapshot)"
      }
      let name = folder.split(separator: "/").last.map(String.init) ?? folder
      return start + "if this is a repository of the Hugging Face hub, "
        + "hf download \(folder) --local-dir \(name) makes the folder \(name), with config.json; name that"
    }
    if !fileExists(at: "\(folder)/.") {
      let format = otherFormat([folder]).map { " (\($0))" } ?? ""
      let parent = (folder as NSString).deletingLastPathComponent
      return "a file, not a folder\(format); name the folder that holds config.json and the "
        + "weights, such as \(parent.isEmpty ? "." : parent)"
    }
    guard let names = contents(folder) else { return "the folder cannot be listed" }
    if let inner = inner(folder, names) { return "no config.json here; name \(inner)" }
    if names.contains("model_index.json") {
      return "no config.json here but model_index.json: this is a pipeline of diffusers, and no "
        + "language model"
    }
    return "no config.json here" + (otherFormat(names).map { "; \($0)" } ?? "")
  }

  /// Why there are no weights in `folder`.
  static func missingWeights(_ folder: String) -> String {
    let names = contents(folder) ?? []
    let tensors = names.filter { $0.hasSuffix(".safetensors") && !$0.hasPrefix("adapter_") }
    if let shard = tensors.first(where: { $0.contains("-of-") }) {
      return "\(shown(shard)) is one of several shards, and the index that says which tensor is "
        + "where, model.safetensors.index.json, is not there; download that, too"
    }
    if tensors.contains(where: { $0.hasPrefix("consolidated") }) {
      return "\(shown(tensors[0])) is there, in its maker's own layout; take the files in the "
        + "Hugging Face layout"
    }
    if let format = otherFormat(names) { return format }
    if let tensor = tensors.first {
      return "\(shown(tensor)) is there; rename it to model.safetensors if it is the whole model"
    }
    return "download them beside config.json"
  }

  /// Names in a folder, in order; nil where it cannot be listed.
  private static func contents(_ folder: String) -> [String]? {
    (try? FileManager.default.contentsOfDirectory(atPath: folder))?.sorted()
  }

  /// "org/name", in characters that names of repositories have.
  private static func isRepositoryName(_ path: String) -> Bool {
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    return parts.count == 2
      && parts.allSatisfy { part in
        !part.isEmpty && part != "." && part != ".."
          && part.utf8.allSatisfy { byte in
            (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
              || "-_.".utf8.contains(byte)
          }
      }
  }

  /// The folder within `folder` that is meant: a snapshot of a download cache, or one with a
  /// config.json.
  private static func inner(_ folder: String, _ names: [String]) -> String? {
    func withConfiguration(_ paths: [String]) -> [String] {
      paths.filter { fileExists(at: "\($0)/config.json") }
    }
    if names.contains("snapshots") { return HubCache.snapshot(in: folder) }
    let folders = withConfiguration(names.map { "\(folder)/\($0)" })
    if let first = folders.first {
      if folders.count == 1 { return "the folder in it, \(first)" }
      return "one of the \(folders.count) folders in it, such as \(first)"
    }
    if let cache = names.first(where: { $0.hasPrefix("models--") }) {
      return "a snapshot in it, such as \(folder)/\(cache)/snapshots/..."
    }
    return nil
  }

  /// What the files are, if they are a model in a format that is not read here.
  private static func otherFormat(_ names: [String]) -> String? {
    func first(_ endings: [String]) -> String? {
      names.first { name in endings.contains { name.hasSuffix($0) } }.map {
        shown(($0 as NSString).lastPathComponent)
      }
    }
    if let adapter = first(["adapter_config.json", "adapter_model.safetensors"]) {
      return "\(adapter) is an adapter (LoRA) without its model: merge it into the model it was "
        + "trained on, and name that folder"
    }
    if let file = first([".gguf", ".ggml"]) {
      return "\(file) is GGUF, which is not read here: take the model's safetensors files"
    }
    if let file = first([".bin", ".pt", ".pth", ".ckpt"]) {
      return "\(file) is PyTorch's format, which is not read here: load the model with the library "
        + "transformers and save it, which writes safetensors"
    }
    if let file = first([".npz", ".h5", ".msgpack", ".onnx", ".tflite", ".mlmodelc"]) {
      return "\(file) is another program's format, which is not read here: take the model's "
        + "safetensors files"
    }
    return nil
  }
}
