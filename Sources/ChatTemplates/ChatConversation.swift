// A conversation from a JSON file, as a chat template gets to see it.
//
// In:  a list of messages, or an object with "messages" and "tools".
// Out: the messages and the tools as values; all members of a message are kept.
//
// Two things are done to messages, as transformers' apply_chat_template does them: members that are
// null are left out, and reasoning is passed on under each of its names, reasoning_content,
// thinking and reasoning (the last one only where it was given).

package import Tensors

/// Why a JSON value is not a conversation, in one line.
package struct ChatConversationError: Error, CustomStringConvertible {
  /// What is wrong and what is needed.
  package let description: String
}

/// Messages with members of any kind, and the tools that they may call.
package struct ChatConversation {
  /// Dicts, the oldest first.
  package let messages: [ChatValue]
  /// A list of dicts; nil where none were given.
  package let tools: ChatValue?

  private static let reasoningNames = ["reasoning_content", "thinking", "reasoning"]

  /// Reads a list of messages, or an object with "messages" and perhaps "tools".
  package init(_ json: JSONValue) throws(ChatConversationError) {
    var list = json.arrayValue
    var tools: ChatValue?
    if let members = json.objectValue {
      for member in members where member.key != "messages" && member.key != "tools" {
        throw ChatConversationError(
          description: "\(shown(member.key)) beside \"messages\" and \"tools\" has no meaning here")
      }
      list = json["messages"]?.arrayValue
      tools = try json["tools"].flatMap { tools throws(ChatConversationError) in
        tools.isNull ? nil : try Self.tools(tools)
      }
    }
    guard let list, !list.isEmpty else {
      throw ChatConversationError(
        description: "a list of messages is needed, or an object with \"messages\" and \"tools\"")
    }
    var messages: [ChatValue] = []
    for (index, message) in list.enumerated() {
      messages.append(try Self.message(message, number: index + 1))
    }
    self.messages = messages
    self.tools = tools
  }

  /// The tools of a JSON value: a list of objects, each of which describes a function.
  package static func tools(_ json: JSONValue) throws(ChatConversationError) -> ChatValue {
    guard let list = json.arrayValue, list.allSatisfy({ $0.objectValue != nil }) else {
      throw ChatConversationError(
        description: "the tools must be a list of objects, each with a function's JSON schema")
    }
    return try value(json, of: "the tools")
  }

  private static func value(
    _ json: JSONValue, of what: String
  ) throws(ChatConversationError) -> ChatValue {
    guard let value = ChatValue(json) else {
      throw ChatConversationError(
        description: "\(what): a number beyond a Double's range, or an integer beyond 64 bits")
    }
    return value
  }

  private static func message(
    _ json: JSONValue, number: Int
  ) throws(ChatConversationError) -> ChatValue {
    guard json.objectValue != nil else {
      throw ChatConversationError(
        description: "message \(number) is no object with \"role\" and \"content\"")
    }
    guard json["role"]?.stringValue != nil else {
      throw ChatConversationError(
        description: "message \(number) has no \"role\" that is a text, such as \"user\"")
    }
    guard case .mapping(var members) = try value(json, of: "message \(number)") else {
      preconditionFailure("an object became no mapping")
    }
    members.removeAll { $0.value == .none }
    let reasoning = reasoningNames.lazy.compactMap { name in
      members.first { isSameText($0.key, name) }?.value
    }.first
    if let reasoning {
      // In transformers' order: thinking first, reasoning_content in its place or last; a template
      // that prints whole messages shows it.
      let thinking = members.first { isSameText($0.key, "thinking") }?.value ?? reasoning
      members.removeAll { isSameText($0.key, "thinking") }
      members.insert(.init("thinking", thinking), at: 0)
      if let place = members.firstIndex(where: { isSameText($0.key, "reasoning_content") }) {
        members[place] = .init("reasoning_content", reasoning)
      } else {
        members.append(.init("reasoning_content", reasoning))
      }
    }
    return .mapping(members)
  }
}
