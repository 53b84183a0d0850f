// Where a checkpoint keeps its chat template, and what happens where it does not.

import ChatTemplates
import Foundation
import Tensors
import Testing

/// A folder with these files, for as long as `body` runs.
private func withFolder(_ files: [String: String], _ body: (String) throws -> Void) throws {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  for (name, text) in files {
    try Data(text.utf8).write(to: folder.appendingPathComponent(name))
  }
  try body(folder.path)
}

/// What the template of a folder with these files makes of a message; nil where there is none.
private func text(of files: [String: String]) throws -> String? {
  var text: String?
  try withFolder(files) { folder in
    text = try ChatTemplate(folder: folder)?
      .render([.init(role: "user", content: "hi")], addingGenerationPrompt: false)
  }
  return text
}

private let config = "tokenizer_config.json"

@Suite struct ChatCheckpointTests {
  @Test("a text in tokenizer_config.json, with special tokens in both of their forms")
  func textInConfig() throws {
    let json = #"""
      {"chat_template": "{{ bos_token }}{{ eos_token }}|{{ pad_token }}|{{ messages[0].content }}",
       "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "pad_token": null,
       "added_tokens_decoder": {"1": {"content": "<s>"}}}
      """#
    #expect(try text(of: [config: json]) == "<s></s>||hi")
  }

  @Test("of a list the entry \"default\" is meant")
  func listInConfig() throws {
    let json = #"""
      {"chat_template": [{"name": "tool_use", "template": "{% nonsense %}"},
                         {"name": "default", "template": "this"}]}
      """#
    #expect(try text(of: [config: json]) == "this")
  }

  @Test("chat_template.jinja goes before tokenizer_config.json, and does without it")
  func templateFile() throws {
    let json = #"{"chat_template": "config", "bos_token": "<s>"}"#
    #expect(
      try text(of: ["chat_template.jinja": "{{ bos_token }}file\n", config: json]) == "<s>file")
    #expect(try text(of: ["chat_template.jinja": "{{ bos_token }}file\n"]) == "file")
  }

  @Test("special_tokens_map.json goes first where the config has no added_tokens_decoder")
  func tokensMap() throws {
    let map = #"{"bos_token": {"content": "<map>"}}"#
    let old =
      #"{"chat_template": "{{ bos_token }}{{ eos_token }}", "bos_token": "<c>", "eos_token": "e"}"#
    #expect(try text(of: [config: old, "special_tokens_map.json": map]) == "<map>e")
    let new = old.dropLast() + #", "added_tokens_decoder": {}}"#
    #expect(try text(of: [config: String(new), "special_tokens_map.json": map]) == "<c>e")
  }

  @Test(
    "a checkpoint without a template has none", arguments: [nil, "{}", #"{"chat_template": null}"#])
  func noTemplate(json: String?) throws {
    let files = json.map { [config: $0] } ?? [:]
    #expect(try text(of: files) == nil)
  }

  @Test(
    "a file that says something else is an error",
    arguments: [
      (config, "[]"), (config, "{"), (config, ""), (config, "{\"a\": 1, \"a\": 1}"),
      (config, #"{"chat_template": 5}"#), (config, #"{"chat_template": {"default": "x"}}"#),
      (config, #"{"chat_template": []}"#), (config, #"{"chat_template": ["x"]}"#),
      (config, #"{"chat_template": [{"name": "rag", "template": "x"}]}"#),
      (config, #"{"chat_template": "x", "bos_token": 7}"#),
      (config, #"{"chat_template": "x", "eos_token": {"id": 7}}"#),
      (
        config,
        #"{"chat_template": [{"name": "default", "template": "a"}, "#
          + #"{"name": "default", "template": "b"}]}"#
      ),
    ])
  func brokenFiles(name: String, content: String) throws {
    try withFolder([name: content]) { folder in
      let error = #expect(throws: ChatTemplateError.self) { _ = try ChatTemplate(folder: folder) }
      guard case .file = error?.problem else {
        Issue.record("\(content): \(String(describing: error))")
        return
      }
      #expect(error?.template == folder + "/" + name)
    }
  }

  @Test("a template file that is not UTF-8, a dangling link, a missing folder: errors, not nil")
  func unreadable() throws {
    try withFolder([:]) { folder in
      let path = folder + "/chat_template.jinja"
      try Data([0x61, 0xFF]).write(to: URL(fileURLWithPath: path))
      #expect(throws: ChatTemplateError.self) { _ = try ChatTemplate(folder: folder) }
      try FileManager.default.removeItem(atPath: path)
      try FileManager.default.createSymbolicLink(
        atPath: path, withDestinationPath: folder + "/nowhere")
      #expect(throws: ChatTemplateError.self) { _ = try ChatTemplate(folder: folder) }
      #expect(throws: ChatTemplateError.self) { _ = try ChatTemplate(folder: folder + "/none") }
    }
  }

  @Test("a template beyond the subset is an error that names the file")
  func beyondTheSubset() throws {
    try withFolder(["chat_template.jinja": "{% trans %}{% endtrans %}"]) { folder in
      let error = #expect(throws: ChatTemplateError.self) { _ = try ChatTemplate(folder: folder) }
      #expect(error?.problem == .unsupported("the statement 'trans'"))
      #expect(error?.template == folder + "/chat_template.jinja")
    }
  }
}
