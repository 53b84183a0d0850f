// A conversation laid out as a model was taught to read it.
//
// In:  a checkpoint's chat template and the messages of a conversation.
// Out: the text to tokenise, special tokens and all.
//
// A template is a program in Jinja. We run a subset of Jinja that covers the templates of Llama,
// Mistral, Qwen and Phi (Docs/chat-templates.md), in the way that transformers sets Jinja up, and
// within bounds: whatever the template says, rendering ends, with a text or an error. The engine is
// Jinja/, behind JinjaTemplate.swift.
//
// The text holds the special tokens, <s> too where the template writes it: tokenise it without
// adding any. The next file, ChatCheckpoint.swift, finds the template in a checkpoint folder.

/// A parsed chat template and the variables that its checkpoint gives it.
public struct ChatTemplate: Sendable {
  /// For error messages.
  public let name: String
  private let template: JinjaTemplate
  private let variables: [String: ChatValue]

  /// Longest source in bytes; known templates have less than 20,000.
  static let sourceLimit = 1 << 20

  /// Parses `source`.
  ///
  /// `variables` are names that the template can use beside the messages: bos_token, eos_token.
  /// Throws where the source is no Jinja or goes beyond the subset.
  public init(
    source: String, name: String, variables: [String: ChatValue] = [:]
  ) throws(ChatTemplateError) {
    if source.utf8.count > Self.sourceLimit {
      throw ChatTemplateError(
        template: name, .limit("a source of more than \(Self.sourceLimit) bytes"))
    }
    self.name = name
    self.variables = variables
    template = try JinjaTemplate(parsing: source, name: name)
  }

  /// Lays out `messages`, the oldest first.
  ///
  /// `addingGenerationPrompt` ends the text where the assistant is to speak. `date` is what a
  /// template that prints today's date prints. `extra` are variables of this call, such as
  /// enable_thinking; they go before the checkpoint's. Throws where there are no messages, where
  /// the template refuses them, uses what is not there, or costs too much.
  public func render(
    _ messages: [ChatMessage], addingGenerationPrompt: Bool, date: ChatDate = .now(),
    extra: [String: ChatValue] = [:]
  ) throws(ChatTemplateError) -> String {
    try render(
      conversation: messages.map(\.value), addingGenerationPrompt: addingGenerationPrompt,
      date: date, extra: extra)
  }

  /// The same for messages with members of any kind, which the template sees as they are.
  package func render(
    conversation messages: [ChatValue], addingGenerationPrompt: Bool, date: ChatDate = .now(),
    extra: [String: ChatValue] = [:]
  ) throws(ChatTemplateError) -> String {
    if messages.isEmpty {
      throw ChatTemplateError(
        template: name, .evaluation("the conversation is empty; give at least one message"))
    }
    // transformers sets tools and documents to None where there are none.
    var given: [String: ChatValue] = ["tools": .none, "documents": .none]
    given.merge(variables) { _, new in new }
    given.merge(extra) { _, new in new }
    let own: [String: ChatValue] = [
      "messages": .list(messages),
      "add_generation_prompt": .bool(addingGenerationPrompt),
    ]
    for (key, value) in own where given.updateValue(value, forKey: key) != nil {
      throw ChatTemplateError(
        template: name, .evaluation("the variable '\(key)' is set by the call; rename yours"))
    }
    return try template.render(given, date: date)
  }
}
