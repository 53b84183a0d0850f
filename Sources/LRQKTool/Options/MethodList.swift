// All methods and their options, as `lrqk methods` prints them.
//
// In:  the list of methods, and that of weight methods (lrqk convert).
// Out: a line for every method and a line for every option, with its default.

import CacheMethods
import Reports

/// The methods with their options, one line each, without a line break at the end.
package var methodList: String {
  var lines: [(name: String, meaning: String)] = []
  var shown: [(method: String, options: [MethodOption])] = []
  for method in cacheMethods {
    let paper = method.paper.map { " (arXiv \($0))" } ?? ""
    lines.append((method.name, method.summary + paper))
    if let same = shown.first(where: { !$0.options.isEmpty && $0.options == method.optionList }) {
      lines.append(("  ...", "the options of \(same.method)"))
      continue
    }
    shown.append((method.name, method.optionList))
    lines += method.optionList.map { ("  \($0.name)=\($0.defaultValue)", $0.meaning) }
  }
  return labelled(lines.map { [$0.name, $0.meaning] }).joined(separator: "\n")
}

/// The weight methods with their papers and options, in the same form.
package var weightMethodList: String {
  var lines: [(name: String, meaning: String)] = []
  for method in weightMethods {
    lines.append((method.name, "\(method.summary) (\(method.paper))"))
    lines += method.optionList.map { ("  \($0.name)=\($0.defaultValue)", $0.meaning) }
  }
  return labelled(lines.map { [$0.name, $0.meaning] }).joined(separator: "\n")
}
