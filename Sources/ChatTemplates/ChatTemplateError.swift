// Why a chat template cannot be used.
//
// In:  a template from anywhere, and the conversation it is to lay out.
// Out: one line: which template, which line of it, what is wrong, what to do.
//
// The kinds are kept apart because they are mended in different places: a syntax error in the file,
// a construct outside our subset in this module (Docs/chat-templates.md), a refusal by the template
// itself in the conversation.

/// A chat template that cannot be read or rendered.
public struct ChatTemplateError: Error, Equatable, CustomStringConvertible {
  /// The kinds of fault; each text is one line.
  public enum Problem: Equatable, Sendable {
    /// The checkpoint's files cannot be read, or do not say what they must.
    case file(String)
    /// The text is not Jinja.
    case syntax(String)
    /// Jinja that this subset leaves out.
    case unsupported(String)
    /// Jinja would refuse this too: an undefined value used, types that do not go together.
    case evaluation(String)
    /// The template called raise_exception with this message.
    case raised(String)
    /// A bound on depth, work or size was met.
    case limit(String)
  }

  /// The name that the template was given, or the file.
  public let template: String
  /// The line in the template, from 1; nil where no line is to blame.
  public let line: Int?
  /// What is wrong.
  public let problem: Problem

  init(template: String, line: Int? = nil, _ problem: Problem) {
    self.template = template
    self.line = line
    self.problem = problem
  }

  /// One line: which template, where, what.
  public var description: String {
    let place = line.map { ", line \($0)" } ?? ""
    let what =
      switch problem {
      case .file(let text), .evaluation(let text): text
      case .syntax(let text): "not Jinja: \(text)"
      case .unsupported(let text):
        "\(text) is outside the subset; write the prompt by hand or simplify the template"
      case .raised(let text): "the template refuses the conversation: \(text)"
      case .limit(let text): "\(text); simplify the template or shorten the conversation"
      }
    return "chat template \(excerpt(template))\(place): \(what)"
  }
}

/// Text from a file as an error message shows it: quoted, on one line, at most 120 characters.
func excerpt(_ text: String) -> String {
  var shown = "'"
  for scalar in text.unicodeScalars.prefix(120) {
    switch scalar {
    case "\n": shown += "\\n"
    case "\u{0}"..<"\u{20}", "\u{7F}"..<"\u{A0}", "\u{2028}", "\u{2029}":
      shown += "\\u{" + String(scalar.value, radix: 16) + "}"
    default: shown.unicodeScalars.append(scalar)
    }
  }
  return shown + (text.unicodeScalars.count > 120 ? "...'" : "'")
}
