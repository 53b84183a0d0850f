// Conversations from JSON files, against what transformers' apply_chat_template makes of them.

import ChatTemplates
import Tensors
import Testing

private func conversation(_ text: String) throws -> ChatConversation {
  try ChatConversation(try JSONValue(parsing: Array(text.utf8), depthLimit: 32))
}

@Suite struct ChatConversationTests {
  @Test("turns, tools, calls and reasoning have the text that apply_chat_template gives them")
  func dialogues() throws {
    let fixture = try chatFixtureJSON("dialogues.json")
    let cases = try #require(fixture["cases"]?.arrayValue)
    #expect(cases.count >= 50)
    for entry in cases {
      let name = entry["template"]?.stringValue
      let source =
        try name.map { String(decoding: try chatFixture("\($0).jinja"), as: UTF8.self) }
        ?? #require(fixture["whole"]?.stringValue)
      let template = try ChatTemplate(
        source: source, name: name ?? "whole", variables: try chatVariables(entry["variables"]))
      let file = try #require(entry["file"]?.stringValue)
      let conversation = try ChatConversation(try #require(fixture["files"]?[file]))
      let outcome = ChatOutcome { () throws(ChatTemplateError) in
        try template.render(
          conversation: conversation.messages, addingGenerationPrompt: true, date: fixtureDate,
          extra: conversation.tools.map { ["tools": $0] } ?? [:])
      }
      #expect(outcome == (try ChatOutcome(entry)), "\(name ?? "whole"), \(file)")
    }
  }

  @Test("both forms of a file mean the same")
  func forms() throws {
    let list = try conversation(#"[{"role": "user", "content": "a"}]"#)
    let object = try conversation(#"{"messages": [{"role": "user", "content": "a"}]}"#)
    let null = try conversation(#"{"messages": [{"role": "user", "content": "a"}], "tools": null}"#)
    #expect(list.messages == object.messages && object.messages == null.messages)
    #expect(object.tools == nil && null.tools == nil)
  }

  @Test(
    "what is no conversation is an error of one line",
    arguments: [
      ("5", "a list of messages is needed"), ("[]", "a list of messages is needed"),
      ("{}", "a list of messages is needed"), (#"{"messages": 1}"#, "a list of messages"),
      (#"[{"role": "user"}, "hi"]"#, "message 2 is no object"),
      (#"[{"content": "hi"}]"#, "message 1 has no \"role\""),
      (#"[{"role": 7}]"#, "message 1 has no \"role\""),
      (#"[{"role": "user", "weight": 1e999}]"#, "message 1: a number"),
      (#"[{"role": "user", "id": 99999999999999999999}]"#, "an integer beyond 64 bits"),
      (#"{"messages": [{"role": "user"}], "tools": {}}"#, "the tools must be a list"),
      (#"{"messages": [{"role": "user"}], "tools": ["f"]}"#, "the tools must be a list"),
      (#"{"messages": [{"role": "user"}], "id": 5}"#, "\"id\" beside"),
    ])
  func refused(text: String, words: String) {
    let error = #expect(throws: ChatConversationError.self) { _ = try conversation(text) }
    #expect(error?.description.contains(words) == true, "\(String(describing: error))")
    #expect(error?.description.contains("\n") == false)
  }

  @Test("integers stay integers: minus zero is 0, as in Python")
  func minusZero() {
    #expect(ChatValue(.number("-0")) == .integer(0))
    #expect(ChatValue(.number("-0.0")) == .number(-0.0))
    #expect(ChatValue(.number("18446744073709551616")) == nil)
  }
}
