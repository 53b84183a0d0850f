// Templates that mean harm: every one ends, with a text or an error.

import ChatTemplates
import Tensors
import TestSupport
import Testing

private func outcome(_ source: String, content: String = "hi") -> ChatOutcome {
  ChatOutcome { () throws(ChatTemplateError) in
    try ChatTemplate(source: source, name: "hostile").render(
      [.init(role: "user", content: content)], addingGenerationPrompt: true, date: fixtureDate)
  }
}

private func times(_ count: Int, _ text: String) -> String {
  String(repeating: text, count: count)
}

@Suite struct ChatHostileTests {
  @Test(
    "deep nesting of every kind meets a limit",
    arguments: [
      ("parentheses", "{{ ", "(", "1", ")", " }}"),
      ("lists", "{{ ", "[", "1", "]", " }}"),
      ("dicts", "{{ ", "{'a': ", "1", "}", " }}"),
      ("calls", "{{ ", "f(", "1", ")", " }}"),
      ("items", "{{ ", "a[", "1", "]", " }}"),
      ("not", "{{ ", "not ", "1", "", " }}"),
      ("minus", "{{ ", "-", "1", "", " }}"),
      ("conditions", "{{ ", "1 if 1 else ", "1", "", " }}"),
      ("tests", "{{ ", "1 is in [", "1", "]", " }}"),
      ("sums", "{{ 1", "+ 1", "", "", " }}"),
      ("products", "{{ 1", "* 1", "", "", " }}"),
      ("disjunctions", "{{ 0", " or 0", "", "", " }}"),
      ("conjunctions", "{{ 1", " and 1", "", "", " }}"),
      ("attributes", "{{ a", ".b", "", "", " }}"),
      ("filters", "{{ 1", " | abs", "", "", " }}"),
      ("choices", "{{ 1", " if 1", "", "", " }}"),
      ("ifs", "", "{% if 1 %}", "x", "{% endif %}", ""),
      ("loops", "", "{% for a in b %}", "x", "{% endfor %}", ""),
      ("sets", "", "{% set a %}", "x", "{% endset %}", ""),
      ("macros", "", "{% macro m() %}", "x", "{% endmacro %}", ""),
      ("filter blocks", "", "{% filter upper %}", "x", "{% endfilter %}", ""),
      ("with blocks", "", "{% with a = 1 %}", "x", "{% endwith %}", ""),
      ("call blocks", "", "{% call m() %}", "x", "{% endcall %}", ""),
      ("targets", "{% for ", "(", "a", ")", " in x %}{% endfor %}"),
      ("powers", "{{ 1", "** 1", "", "", " }}"),
    ])
  func depth(
    what: String, before: String, opening: String, middle: String, closing: String, after: String
  ) {
    for count in [60, 20_000] {
      let source = before + times(count, opening) + middle + times(count, closing) + after
      #expect(outcome(source) == .error("limit"), "\(count) \(what)")
    }
  }

  @Test("what is long and not deep has no such limit")
  func length() {
    #expect(outcome("{{ 1" + times(5000, " ~ 1") + " }}") == .text(times(5001, "1")))
    #expect(outcome("{{ [" + times(5000, "1,") + "] | length }}") == .text("5000"))
    let branches = times(2000, "{% elif 0 %}no")
    #expect(outcome("{% if 0 %}" + branches + "{% else %}yes{% endif %}") == .text("yes"))
    #expect(outcome("{{ 1" + times(2000, " < 2 > 1") + " }}") == .text("True"))
  }

  @Test(
    "work and memory meet a limit",
    arguments: [
      // Loops in loops.
      "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
      "{% for a in range(100000) %}{% for b in range(100000) if false %}{% endfor %}{% endfor %}",
      "{% for a in range(100000) %}{% set x = range(100000) %}{% endfor %}",
      // Doubling.
      "{% set n = namespace(s='x') %}{% for a in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
      "{% set n = namespace(s='x') %}{% for a in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
      "{% set n = namespace(s=[1]) %}{% for a in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
      "{% set n = namespace(s='x') %}{% for a in range(99) %}"
        + "{% set n.s = n.s.replace('x', 'xx') %}{% endfor %}",
      "{% set n = namespace(s='xx') %}{% for a in range(99) %}"
        + "{% set n.s = n.s | replace('x', n.s) %}{% endfor %}",
      "{% set n = namespace(s='x') %}{% for a in range(99) %}"
        + "{% set n.s = [n.s, n.s] | join(n.s) %}{% endfor %}",
      "{% set n = namespace(s='x') %}{% for a in range(99) %}"
        + "{% set n.s = n.s.join([n.s, n.s]) %}{% endfor %}",
      "{% set n = namespace(s='\\n') %}{% for a in range(99) %}"
        + "{% set n.s = n.s | indent(100000, true, true) %}{% endfor %}",
      "{% set n = namespace(s='\\n') %}{% for a in range(99) %}"
        + "{% set n.s = n.s | tojson ~ n.s | string | tojson %}{% endfor %}",
      // One list that holds itself twice, and again: small in memory, vast in print.
      "{% set n = namespace(s=[1]) %}{% for a in range(30) %}{% set n.s = [n.s, n.s] %}{% endfor %}"
        + "{{ n.s }}",
      "{% set n = namespace(s=[1]) %}{% for a in range(30) %}{% set n.s = [n.s, n.s] %}{% endfor %}"
        + "{{ n.s | tojson }}",
      "{% set n = namespace(s=[1], t=[1]) %}{% for a in range(30) %}"
        + "{% set n.s = [n.s, n.s] %}{% set n.t = [n.t, n.t] %}{% endfor %}{{ n.s == n.t }}",
      "{% set n = namespace(s=[1], t=[1]) %}{% for a in range(30) %}"
        + "{% set n.s = [n.s, n.s] %}{% set n.t = [n.t, n.t] %}{% endfor %}{{ n.s < n.t }}",
      // Depth of values.
      "{% set n = namespace(s=[]) %}{% for a in range(9999) %}{% set n.s = [n.s] %}{% endfor %}",
      "{% set n = namespace(s={}) %}{% for a in range(9999) %}{% set n.s = {'a': n.s} %}"
        + "{% endfor %}",
      // Macros.
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
      "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(28) }}",
      // Namespaces in one another, lists and texts made long, columns without items.
      "{% set n = namespace(s=1) %}{% for a in range(100000) %}{% for b in range(9) %}"
        + "{% set n.s = namespace(s=n.s) %}{% endfor %}{% endfor %}",
      "{{ [1] * 9223372036854775807 }}",
      "{{ ([1] * 300000) * 20 }}",
      "{{ 'a'.zfill(9223372036854775807) }}",
      "{{ 'a'.rjust(9223372036854775807, '<') }}",
      "{{ 'a' | center(9223372036854775807) }}",
      "{{ '{:>9223372036854775807}'.format('a') }}",
      "{{ '{:09223372036854775807d}'.format(1) }}",
      "{{ [] | slice(9223372036854775807) | list }}",
      "{{ [1] | batch(9223372036854775807, 0) | list }}",
      "{% set n = namespace(s='<') %}{% for a in range(99) %}"
        + "{% set n.s = (n.s ~ n.s) | forceescape %}"
        + "{% endfor %}",
      "{% set n = namespace(s='x') %}{% for a in range(99) %}{% set n.s = n.s.replace('', n.s) %}"
        + "{% endfor %}",
      // Large numbers.
      "{{ 2 ** 63 }}",
      "{{ 10 ** 9223372036854775807 }}",
      "{{ 'x' * 9223372036854775807 }}",
      "{{ 9223372036854775807 * 'xy' }}",
      "{{ 'xyz' | indent(9223372036854775807, true) }}",
      "{{ [[1]] | tojson(indent=9223372036854775807) }}",
      "{{ 9223372036854775807 + 1 }}",
      "{{ 9223372036854775807 * 2 }}",
      "{{ -9223372036854775807 - 2 }}",
      "{{ (-9223372036854775807 - 1) // -1 }}",
      "{{ -(-9223372036854775807 - 1) }}",
      "{{ (-9223372036854775807 - 1) | abs }}",
      "{{ 1e300 | int }}",
      "{{ '99999999999999999999' | int }}",
      "{{ range(-9223372036854775807, 9223372036854775807) }}",
      "{{ range(9223372036854775807) }}",
      // Slow searches: as many comparisons as one text is long times the other.
      "{% set a = 'a' * 3000000 %}{{ (a ~ a).replace(a ~ 'b', '') | length }}",
      "{% set a = 'a' * 3000000 %}{{ (a ~ 'b') in (a ~ a) }}",
      "{% set a = 'a' * 3000000 %}{{ (a ~ a).split(a ~ 'b') | length }}",
      "{% set a = 'k' * 1000000 %}{% set m = {a: 1} %}{% for i in range(90000) %}"
        + "{% set b = m[a] %}{% endfor %}",
    ])
  func cost(source: String) {
    #expect(outcome(source) == .error("limit"))
  }

  @Test(
    "numbers at the edge give Python's answer",
    arguments: [
      ("{{ (-9223372036854775807 - 1) % -1 }}", "0"),
      ("{{ range(9223372036854775806, 9223372036854775807) | list }}", "[9223372036854775806]"),
      ("{{ range(0, 1, 9223372036854775807) | list }}", "[0]"),
      ("{{ range(1, 0, -9223372036854775807 - 1) | list }}", "[1]"),
      ("{{ 'abc'[-9223372036854775807 - 1:9223372036854775807] }}", "abc"),
      ("{{ 'abc'[::9223372036854775807] }}", "a"),
      ("{{ 'abc'[::-9223372036854775807 - 1] }}", "c"),
      ("{{ [1, 2][-9223372036854775807 - 1] }}", ""),
      ("{{ 'abc'[9223372036854775807] }}", ""),
      ("{{ 'abc' * (-9223372036854775807 - 1) }}", ""),
      ("{{ ''[::-1] }}{{ [][::-1] }}", "[]"),
    ])
  func edges(source: String, text: String) {
    #expect(outcome(source) == .text(text))
  }

  @Test("a conversation of a million characters is rendered")
  func longConversation() throws {
    let content = times(1_000_000, "x")
    for name in ["llama31", "qwen3", "mistral03"] {
      let source = String(decoding: try chatFixture("\(name).jinja"), as: UTF8.self)
      let template = try ChatTemplate(
        source: source, name: name, variables: ["bos_token": .text(""), "eos_token": .text("")])
      let text = try template.render(
        [.init(role: "user", content: content)], addingGenerationPrompt: true)
      #expect(text.utf8.count > 1_000_000)
    }
  }

  @Test("a conversation of two thousand messages is rendered")
  func manyMessages() throws {
    let messages = (0..<2000).map {
      ChatMessage(role: $0 % 2 == 0 ? "user" : "assistant", content: "message \($0)")
    }
    for name in ["llama2", "llama31", "qwen25", "qwen3", "mistral03"] {
      let source = String(decoding: try chatFixture("\(name).jinja"), as: UTF8.self)
      let template = try ChatTemplate(
        source: source, name: name, variables: ["bos_token": .text(""), "eos_token": .text("")])
      #expect(try template.render(messages, addingGenerationPrompt: true).contains("message 1999"))
    }
  }

  @Test("a million marks inside raw text are read once")
  func rawText() {
    let marks = times(300_000, "{% ")
    #expect(outcome("{% raw %}" + marks + "{% endraw %}") == .text(marks))
    #expect(outcome("{% raw %}" + marks) == .error("syntax"))
  }

  @Test("a long chain of namespaces is freed")
  func namespaceChain() {
    let source =
      "{% set n = namespace(s=0) %}{% for a in range(50000) %}"
      + "{% set n.s = [namespace(s=n.s)] %}{% endfor %}{{ n.s[0].s[0].s | length }}"
    #expect(outcome(source) == .text("1"))
  }

  @Test("a source of more than a mebibyte is refused")
  func longSource() {
    #expect(outcome(times(1 << 20, "x")) == .text(times(1 << 20, "x")))
    #expect(outcome(times((1 << 20) + 1, "x")) == .error("limit"))
  }

  @Test("any change to a template ends in a text or an error", arguments: 0..<300)
  func mutations(seed: Int) throws {
    let names = ["llama2", "llama31", "mistral03", "qwen25", "qwen3"]
    var dice = SeededNumbers(seed: UInt64(seed))
    let name = names[dice.below(names.count)]
    var scalars = Array(
      String(decoding: try chatFixture("\(name).jinja"), as: UTF8.self).unicodeScalars)
    let pieces = [
      "{{", "}}", "{%", "%}", "{#", "#}", "-", "(", ")", "[", "]", "'", "\"", "\\", "\n", " ", ".",
      ",", "|", "=", "~", "not ", " if ", " is ", " in ", "9223372036854775807", "é", "\u{0}",
      "{% for m in messages %}", "{% endfor %}", "{% else %}", "{% macro f(a) %}", "messages", "ns",
    ]
    for _ in 0...dice.below(4) {
      let place = dice.below(scalars.count)
      switch dice.below(5) {
      case 0: scalars.remove(at: place)
      case 1: scalars.removeSubrange(place..<min(scalars.count, place + dice.below(40)))
      case 2: scalars.insert(contentsOf: pieces[dice.below(pieces.count)].unicodeScalars, at: place)
      case 3: scalars.swapAt(place, dice.below(scalars.count))
      default:
        let from = dice.below(scalars.count)
        let part = scalars[from..<min(scalars.count, from + dice.below(60))]
        scalars.insert(contentsOf: Array(part), at: place)
      }
    }
    // No assertion on which: the process is still here, and the work was bounded.
    var source = ""
    source.unicodeScalars.append(contentsOf: scalars)
    switch outcome(source, content: " a</think>b ") {
    case .text(let text): #expect(text.utf8.count < 1 << 20)
    case .raised, .error: break
    }
  }
}
