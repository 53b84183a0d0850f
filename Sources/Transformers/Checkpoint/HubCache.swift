// The Hugging Face hub's cache on this machine: where a download lies that nobody gave a folder.
//
// In:  a repository's name, or a folder of the cache; the environment.
// Out: the snapshot that is meant, a folder with config.json; nothing is opened or downloaded.
//
//   CACHE/models--ORG--NAME/snapshots/REVISION/config.json, ...
//   CACHE/models--ORG--NAME/refs/main                             names the newest REVISION
//
// CACHE is $HF_HUB_CACHE, or hub/ in $HF_HOME, or hub/ in ~/.cache/huggingface; the order is that
// of huggingface_hub's constants.py.

import Foundation
import Tensors

/// The hub's cache.
enum HubCache {
  /// The cache's folder.
  static func folder(_ environment: [String: String]) -> String {
    func given(_ name: String) -> String? {
      environment[name].flatMap { $0.isEmpty ? nil : ($0 as NSString).expandingTildeInPath }
    }
    if let folder = given("HF_HUB_CACHE") ?? given("HUGGINGFACE_HUB_CACHE") { return folder }
    let home =
      given("HF_HOME")
      ?? (given("XDG_CACHE_HOME") ?? ((given("HOME") ?? NSHomeDirectory()) + "/.cache"))
      + "/huggingface"
    return "\(home)/hub"
  }

  /// The folder that the cache has for the repository `name`, "org/name", whether it is there or
  /// not.
  static func repository(_ name: String, _ environment: [String: String]) -> String {
    "\(folder(environment))/models--\(name.replacing("/", with: "--"))"
  }

  /// Half a line that names a snapshot in the folder of a repository; nil where there is none.
  ///
  /// Of several it is the one that refs/main names.
  static func snapshot(in repository: String) -> String? {
    let folder = "\(repository)/snapshots"
    let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted()
    let whole = names.filter { fileExists(at: "\(folder)/\($0)/config.json") }
    let newest = (try? String(contentsOfFile: "\(repository)/refs/main", encoding: .utf8))
      .flatMap { text in whole.first { $0 == text.trimmingCharacters(in: .whitespacesAndNewlines) }
      }
    guard let name = newest ?? whole.last else { return nil }
    return whole.count == 1
      ? "the snapshot in it, \(folder)/\(name)"
      : "one of the \(whole.count) snapshots in it, such as \(folder)/\(name)"
  }
}
