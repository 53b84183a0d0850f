// lrqk chat-template, as a user runs it.

import Foundation
import Testing

struct ChatTemplateToolTests {
  private static let template =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls %}"
    + "{{ c.function.arguments | tojson }}{% endfor %}{{ '\n' }}{% endfor %}{{ tools | tojson }}"
    + "{% if add_generation_prompt %}<assistant>{{ '\n' }}{% endif %}"
  private static let messages = """
    [{"role": "system", "content": "é"}, {"role": "user", "content": "a<b"},
     {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1.50}}}]}]
    """
  private static let turns = "<system>é\n<user>a<b\n<assistant>{\"x\": 1.5}\n"

  private func folder() throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    try Data(Self.template.utf8).write(
      to: URL(fileURLWithPath: folder.path + "/chat_template.jinja"))
    try Data(Self.messages.utf8).write(to: URL(fileURLWithPath: folder.path + "/m.json"))
    try Data(#"[{"name": "f"}]"#.utf8).write(to: URL(fileURLWithPath: folder.path + "/t.json"))
    return folder
  }

  @Test func `the text is printed byte by byte, from a file and from standard input`() throws {
    let folder = try folder()
    let command = ["chat-template", "--model", folder.path, "--messages"]
    let file = try run("lrqk", command + [folder.path + "/m.json"])
    #expect(file.status == 0, "\(file.error)")
    #expect(file.output == Self.turns + "null<assistant>\n")
    let bare = try run("lrqk", command + [folder.path + "/m.json", "--no-generation-prompt"])
    #expect(bare.output == Self.turns + "null")
    let piped = try run(
      "lrqk", command + ["-", "--tools", folder.path + "/t.json"],
      input: [0xEF, 0xBB, 0xBF] + Array(Self.messages.utf8))
    #expect(piped.output == Self.turns + "[{\"name\": \"f\"}]<assistant>\n", "\(piped.error)")
    let both = try run(
      "lrqk", command + ["/dev/stdin"],
      input: Array("{\"messages\": \(Self.messages), \"tools\": [{\"name\": \"g\"}]}".utf8))
    #expect(both.output == Self.turns + "[{\"name\": \"g\"}]<assistant>\n", "\(both.error)")
  }

  @Test func `what cannot be laid out is one line`() throws {
    let folder = try folder()
    let model = ["chat-template", "--model", folder.path, "--messages"]
    let empty = try TemporaryFolder()
    let good = folder.path + "/m.json"
    let cases: [(arguments: [String], input: String, status: Int32, words: String)] = [
      (model + ["/nowhere"], "", 65, "/nowhere: cannot open"),
      (model + [folder.path], "", 65, "cannot read: Is a directory"),
      (model + ["-"], "", 65, "standard input: no JSON"),
      (model + ["-"], "[]", 65, "standard input: a list of messages is needed"),
      (model + ["-"], "[{\"role\": \"user\"}, 5]", 65, "message 2 is no object"),
      (model + ["-"], "{\"messages\": [{\"role\": \"user\"}], \"x\": 1}", 65, "\"x\" beside"),
      (model + [good, "--tools", "-"], "{}", 65, "standard input: the tools must be a list"),
      (model + [good, "--tools", "-"], "[", 65, "standard input: no JSON"),
      (
        model + ["-", "--tools", folder.path + "/t.json"],
        "{\"messages\": [{\"role\": \"user\"}], \"tools\": []}", 65, "leave --tools away"
      ),
      (model + ["-", "--tools", "-"], "", 64, "cannot both be standard input"),
      (
        ["chat-template", "--model", empty.path, "--messages", good], "", 65, "no chat template"
      ),
      (["chat-template", "--model", "/nowhere", "--messages", good], "", 65, "no such folder"),
    ]
    for (arguments, input, status, words) in cases {
      let found = try run("lrqk", arguments, input: Array(input.utf8))
      #expect(found.status == status, "\(arguments): \(found.error)")
      #expect(found.output.isEmpty)
      #expect(found.error.contains(words), "\(arguments): \(found.error)")
      #expect(found.error.hasPrefix("lrqk: ") && found.error.split(separator: "\n").count == 1)
    }
  }
}
