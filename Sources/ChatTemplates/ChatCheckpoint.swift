// The chat template of a checkpoint folder.
//
// In:  a folder with the files of a Hugging Face tokenizer.
// Out: its chat template and the special tokens that the template can name, or nil.
//
//   chat_template.jinja      the template, before any other (transformers 5)
//   tokenizer_config.json    "chat_template": a text, or a list of {"name", "template"}, of which
//                            "default" is meant; "bos_token", "eos_token" ... : a text or an object
//                            with "content"
//   special_tokens_map.json  the same special tokens; read only where tokenizer_config.json has no
//                            "added_tokens_decoder", and then it goes first, as in transformers 5
//
// Not read: additional_chat_templates/, which holds templates for other purposes, and the
// chat_template.json of image processors. Source: tokenization_utils_base.py of transformers 5.

import Foundation
import Tensors

extension ChatTemplate {
  /// The names under which transformers hands special tokens to a template.
  static let tokenNames = [
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
  ]

  /// Bytes of the largest JSON file that is read; those of large vocabularies have 10 MB.
  private static let fileLimit = 64 << 20
  private static let jsonDepthLimit = 32

  /// Reads the chat template of the checkpoint in `folder`; nil where it has none.
  ///
  /// Throws where there is no such folder, where a file cannot be read or says something else than
  /// expected, and where the template goes beyond the subset.
  public init?(folder: String) throws(ChatTemplateError) {
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: folder) else {
      throw ChatTemplateError(template: folder, .file("no folder that can be read"))
    }
    let templateFile = folder + "/chat_template.jinja"
    let configFile = folder + "/tokenizer_config.json"
    let mapFile = folder + "/special_tokens_map.json"
    let config =
      names.contains("tokenizer_config.json") ? try Self.members(of: configFile) : nil

    var name = configFile
    var source: String?
    if names.contains("chat_template.jinja") {
      let bytes = try Self.bytes(of: templateFile, limit: Self.sourceLimit)
      name = templateFile
      guard let text = String(validating: bytes, as: UTF8.self) else {
        throw ChatTemplateError(template: templateFile, .file("not UTF-8"))
      }
      source = text
    } else {
      source = try Self.source(in: config?["chat_template"], file: configFile)
    }
    guard let source else { return nil }

    var variables = try Self.tokens(in: config, file: configFile)
    if config?["added_tokens_decoder"] == nil, names.contains("special_tokens_map.json") {
      let tokens = try Self.tokens(in: try Self.members(of: mapFile), file: mapFile)
      variables.merge(tokens) { _, new in new }
    }
    try self.init(source: source, name: name, variables: variables)
  }

  private static func bytes(
    of path: String, limit: Int
  ) throws(ChatTemplateError) -> [UInt8] {
    do {
      return try readFile(at: path, limit: limit)
    } catch {
      throw ChatTemplateError(template: path, .file(error.reason))
    }
  }

  /// The object in a JSON file.
  private static func members(of path: String) throws(ChatTemplateError) -> JSONValue {
    let bytes = try bytes(of: path, limit: fileLimit)
    do {
      let json = try JSONValue(parsing: bytes, depthLimit: jsonDepthLimit)
      if json.objectValue != nil { return json }
    } catch {
      throw ChatTemplateError(template: path, .file("no JSON: \(error)"))
    }
    throw ChatTemplateError(template: path, .file("not a JSON object"))
  }

  private static func source(
    in value: JSONValue?, file: String
  ) throws(ChatTemplateError) -> String? {
    switch value {
    case nil, .null: return nil
    case .string(let text): return text
    case .array(let entries):
      var found: String?
      for entry in entries {
        guard let name = entry["name"]?.stringValue, let text = entry["template"]?.stringValue
        else {
          throw ChatTemplateError(
            template: file, .file("an entry of \"chat_template\" is no {\"name\", \"template\"}"))
        }
        if !isSameText(name, "default") { continue }
        if let found, !isSameText(found, text) {
          throw ChatTemplateError(
            template: file, .file("two chat templates are named \"default\"; remove one"))
        }
        found = text
      }
      if let found { return found }
      throw ChatTemplateError(template: file, .file("no chat template is named \"default\""))
    default:
      throw ChatTemplateError(
        template: file, .file("\"chat_template\" is neither a text nor a list"))
    }
  }

  private static func tokens(
    in config: JSONValue?, file: String
  ) throws(ChatTemplateError) -> [String: ChatValue] {
    var tokens: [String: ChatValue] = [:]
    for name in tokenNames {
      guard let value = config?[name], !value.isNull else { continue }
      guard let text = value.stringValue ?? value["content"]?.stringValue else {
        throw ChatTemplateError(
          template: file, .file("\"\(name)\" is neither a text nor an object with \"content\""))
      }
      tokens[name] = .text(text)
    }
    return tokens
  }
}
