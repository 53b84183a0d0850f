// The language: what each construct gives, and which constructs are refused.

import ChatTemplates
import Tensors
import TestSupport
import Testing

private func outcome(_ source: String, _ extra: [String: ChatValue] = [:]) -> ChatOutcome {
  ChatOutcome { () throws(ChatTemplateError) in
    try ChatTemplate(source: source, name: "snippet").render(
      [.init(role: "user", content: "Hi"), .init(role: "assistant", content: "Ho")],
      addingGenerationPrompt: false, date: fixtureDate, extra: extra)
  }
}

@Suite("The subset of Jinja")
struct ChatSubsetTests {
  @Test("every snippet has the text, the refusal or the kind of error that Jinja gives it")
  func snippets() throws {
    let fixture = try chatFixtureJSON("snippets.json")
    let context = try chatVariables(fixture["context"])
    let snippets = try #require(fixture["snippets"]?.arrayValue)
    #expect(snippets.count >= 120)
    for snippet in snippets {
      let source = try #require(snippet["template"]?.stringValue)
      let expected = try ChatOutcome(snippet)
      #expect(outcome(source, context) == expected, "\(source)")
    }
  }

  @Test(
    "what is left out is refused by name while parsing",
    arguments: [
      ("{% include 'x' %}", "the statement 'include'"),
      ("{% import 'x' as y %}", "the statement 'import'"),
      ("{% from 'x' import y %}", "the statement 'from'"),
      ("{% extends 'x' %}", "the statement 'extends'"),
      ("{% block b %}{% endblock %}", "the statement 'block'"),
      ("{% call m() %}{% endcall %}", "the statement 'call'"),
      ("{% filter upper %}{% endfilter %}", "the statement 'filter'"),
      ("{% with a = 1 %}{% endwith %}", "the statement 'with'"),
      ("{% autoescape true %}{% endautoescape %}", "the statement 'autoescape'"),
      ("{% do x.append(1) %}", "the statement 'do'"),
      ("{% trans %}{% endtrans %}", "the statement 'trans'"),
      ("{% print 1 %}", "the statement 'print'"),
      ("{% raw %}{{ x }}{% endraw %}", "the statement 'raw'"),
      ("{%- raw -%}{% endraw %}", "the statement 'raw'"),
      ("{% for x in y recursive %}{% endfor %}", "a recursive loop"),
      ("{% for a, (b, c) in x %}{% endfor %}", "brackets inside a list of names"),
      ("{% for ((a, b), c) in x %}{% endfor %}", "brackets inside a list of names"),
      ("{% set a, b.c = 1, 2 %}", "an attribute among several names"),
      ("{{ 2 ** 3 }}", "the operator **"),
      ("{{ x | wordcount }}", "the filter 'wordcount'"),
      ("{{ x | map('wordcount') }}", "the filter 'wordcount'"),
      ("{{ x | a.b }}", "the filter 'a'"),
      ("{{ x is sameas true }}", "the test 'sameas'"),
      ("{{ x | select('sameas', 1) }}", "the test 'sameas'"),
      ("{{ cycler(1, 2) }}", "the function 'cycler'"),
      ("{{ joiner() }}", "the function 'joiner'"),
      ("{{ lipsum() }}", "the function 'lipsum'"),
      ("{{ self.title() }}", "the name 'self'"),
      ("{% macro m() %}{{ varargs }}{% endmacro %}", "the name 'varargs'"),
      ("{% macro m() %}{{ kwargs }}{% endmacro %}", "the name 'kwargs'"),
      ("{% macro m() %}{{ caller() }}{% endmacro %}", "the name 'caller'"),
      ("{{ f(*x) }}", "an argument with '*'"),
      ("{{ f(**x) }}", "an argument with '**'"),
      ("{{ x[1, 2] }}", "an index of several parts"),
      ("{{ x.__class__ }}", "the attribute '__class__', which begins with _,"),
      ("{{ x.a._b }}", "the attribute '_b', which begins with _,"),
      ("{% set ns._a = 1 %}", "the attribute '_a', which begins with _,"),
      ("{{ 0x10 }}", "a number that goes on with 'x'"),
      ("{{ 1_000 }}", "a number that goes on with '_'"),
      ("{{ 99999999999999999999 }}", "an integer of more than 64 bits"),
      ("{{ '\\N{DASH}' }}", "the escape '\\N'"),
      ("{{ '\\é' }}", "the escape '\\é'"),
      ("{{ größe }}", "the character 'ö' in a tag"),
    ])
  func leftOutByTheParser(source: String, construct: String) {
    let isFound = source.contains("map('") || source.contains("select('")
    let error = #expect(throws: ChatTemplateError.self) {
      let template = try ChatTemplate(source: "\n" + source, name: "refused")
      // Names of filters and tests inside strings are read when they are used.
      if isFound {
        _ = try template.render(
          [.init(role: "user", content: "")], addingGenerationPrompt: false,
          extra: ["x": .list([.text("a")])])
      }
    }
    #expect(error?.problem == .unsupported(construct))
    #expect(error?.line == 2)
  }

  @Test(
    "what is left out and can be seen only while rendering is refused by name too",
    arguments: [
      ("{{ 'a'.encode() }}", "the method 'encode' of a str"),
      ("{{ 'a'.format(1) }}", "the method 'format' of a str"),
      ("{{ {}.update() }}", "the method 'update' of a dict"),
      ("{{ [].append(1) }}", "the method 'append' of a list"),
      ("{{ {}.items }}", "the method 'items' of a dict without a call"),
      ("{{ 'a'.upper }}", "the method 'upper' of a str without a call"),
      ("{{ {}['keys'] }}", "the method 'keys' of a dict without a call"),
      ("{{ '%s' % 1 }}", "formatting with %"),
      ("{{ [1] * 2 }}", "a list times a number"),
      ("{{ {1: 2} }}", "a key that is no str"),
      ("{{ namespace() }}", "printing a namespace"),
      ("{{ range }}", "printing a function"),
      ("{% for x in [1] %}{{ loop }}{% endfor %}", "printing the loop variable"),
      ("{% for x in [1] %}{{ loop.depth }}{% endfor %}", "loop.depth"),
      (
        "{% for x in [1] %}{{ loop.changed(x) }}{% endfor %}",
        "the method 'changed' of the loop variable"
      ),
      ("{% macro m() %}{% endmacro %}{{ [m] }}", "a macro inside a list, a dict or a namespace"),
      (
        "{% set n = namespace() %}{% set n.n = n %}",
        "a namespace inside a list, a dict or a namespace"
      ),
      ("{{ '1' | int(0, 16) }}", "the filter 'int' with another base than 10"),
      ("{{ 'ab'.replace('', '-') }}", "replacing an empty str"),
      ("{{ 'a b'.split(none, 1) }}", "split() at white space with a limit"),
      ("{{ strftime_now('%U') }}", "the date format '%U'"),
      ("{{ strftime_now('%') }}", "the date format '%'"),
      ("{{ dict([('a', 1)]) }}", "dict() of a list"),
      ("{{ 1.real }}", "an attribute of an int"),
    ])
  func leftOutByTheRenderer(source: String, construct: String) throws {
    let template = try ChatTemplate(source: source, name: "refused")
    let error = #expect(throws: ChatTemplateError.self) {
      _ = try template.render([.init(role: "user", content: "")], addingGenerationPrompt: false)
    }
    #expect(error?.problem == .unsupported(construct))
  }

  @Test("two spellings of one letter are two texts, two keys and two members")
  func spellings() {
    let letters: [String: ChatValue] = [
      "a": .text("\u{E9}"), "b": .text("e\u{301}"),
      "both": .mapping([.init("\u{E9}", .integer(1)), .init("e\u{301}", .integer(2))]),
    ]
    #expect(
      outcome("{{ a == b }}{{ a in both }}{{ both[a] }}{{ both[b] }}{{ both | length }}", letters)
        == .text("FalseTrue122"))
  }

  @Test("of equal keys the last value holds, at the first place")
  func equalKeys() {
    let value = ChatValue.mapping([
      .init("k", .integer(1)), .init("l", .integer(2)), .init("k", .integer(3)),
    ])
    #expect(outcome("{{ v | tojson }}", ["v": value]) == .text("{\"k\": 3, \"l\": 2}"))
  }

  @Test("every float reads back from its text, and the text has Python's form")
  func floats() throws {
    var dice = SeededNumbers(seed: 5)
    var values: [Double] = []
    for _ in 0..<2000 {
      let value = Double(bitPattern: dice.next())
      if value.isFinite { values.append(value) }
    }
    values += (-330...308).compactMap { Double("1e\($0)") } + [9_007_199_254_740_992, 1.8e16, -1.5]
    let rendered = outcome(
      "{% for v in values %}{{ v }} {% endfor %}", ["values": .list(values.map { .number($0) })])
    guard case .text(let texts) = rendered else {
      Issue.record("\(rendered)")
      return
    }
    let parts = texts.split(separator: " ").map(String.init)
    #expect(parts.count == values.count)
    for (value, text) in zip(values, parts) {
      #expect(Double(text) == value)
      // An exponent, of two digits at least, below 1e-4 and from 1e16 on.
      let isLong = value != 0 && (value.magnitude < 1e-4 || value.magnitude >= 1e16)
      #expect(text.contains("e") == isLong, "\(text)")
      #expect(text.contains(".") || isLong, "\(text)")
    }
  }
}
