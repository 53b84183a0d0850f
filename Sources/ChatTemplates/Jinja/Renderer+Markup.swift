// Text that is marked safe for HTML.
//
// In:  a value.
// Out: its text with the five characters of HTML that mean something replaced by entities.
//
// transformers does not escape what a template prints. But `| safe` and `| escape` make a str of a
// type of its own (markupsafe.Markup), and that type escapes every str that is added to it, joined
// or formatted into it; slices and changed copies of it are of the type again. Where Jinja looks at
// the text alone the mark is lost: `~`, `| join`, `| replace`, `| title`, items of a loop. Here it
// is the case `markup` of Value. The next file, Renderer+TextFormat.swift, is str.format.

extension Renderer {
  /// `& < > ' "` as entities.
  func escaped(text: String) throws(ChatTemplateError) -> String {
    try charge(bytes: 5 * text.utf8.count)
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "'": result += "&#39;"
      case "\"": result += "&#34;"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// markupsafe.escape: the text of a value, escaped unless it is marked already.
  func escaped(_ value: Value) throws(ChatTemplateError) -> String {
    if case .markup(let text) = value { return text }
    return try escaped(text: try string(value))
  }
}
