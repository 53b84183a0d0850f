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

@Suite struct ChatSubsetTests {
  @Test("every snippet has the text, the refusal or the kind of error that Jinja gives it")
  func snippets() throws {
    let fixture = try chatFixtureJSON("snippets.json")
    let context = try chatVariables(fixture["context"])
    let snippets = try #require(fixture["snippets"]?.arrayValue)
    #expect(snippets.count >= 430)
    for snippet in snippets {
      let source = try #require(snippet["template"]?.stringValue)
      let expected = try ChatOutcome(snippet)
      #expect(outcome(source, context) == expected, "\(source)")
    }
  }

  @Test(
    "statements that Jinja itself refuses to read, and names that cannot be set, stop the parser",
    arguments: [
      ("{% do x.append(1) %}", "the statement 'do'"),
      ("{% trans %}{% endtrans %}", "the statement 'trans'"),
      ("{% nonsense %}", "the statement 'nonsense'"),
      ("{% set a, b.c = 1, 2 %}", "an attribute among several names"),
      ("{% set ns._a = 1 %}", "the attribute '_a', which begins with _,"),
      ("{% set größe = 1 %}", "the name 'größe'"),
      ("{% macro m(caller) %}{% endmacro %}", "a parameter with the name 'caller'"),
    ])
  func leftOutByTheParser(source: String, construct: String) {
    let error = #expect(throws: ChatTemplateError.self) {
      _ = try ChatTemplate(source: "\n" + source, name: "refused")
    }
    #expect(error?.problem == .unsupported(construct))
    #expect(error?.line == 2)
  }

  @Test(
    "what is left out is refused by name where it is reached, and only there",
    arguments: [
      ("{% include 'x' %}", "the statement 'include'"),
      ("{% import 'x' as y %}", "the statement 'import'"),
      ("{% from 'x' import y %}", "the statement 'from'"),
      ("{% extends 'x' %}", "the statement 'extends'"),
      ("{% block b %}{% endblock b %}", "the statement 'block'"),
      ("{% autoescape true %}{% endautoescape %}", "the statement 'autoescape'"),
      ("{% for x in y recursive %}{% endfor %}", "a recursive loop"),
      ("{{ 'x' | wordwrap }}", "the filter 'wordwrap'"),
      ("{{ ['x'] | map('wordwrap') }}", "the filter 'wordwrap'"),
      ("{{ [] | groupby('a') }}", "the filter 'groupby'"),
      ("{{ 1 is sameas 1 }}", "the test 'sameas' of an int and an int"),
      ("{{ cycler(1, 2) }}", "the function 'cycler'"),
      ("{{ joiner() }}", "the function 'joiner'"),
      ("{{ lipsum() }}", "the function 'lipsum'"),
      ("{{ self.title() }}", "the name 'self'"),
      ("{{ {}[1, 2] }}", "an index of several parts"),
      ("{{ {}.__class__ }}", "the attribute '__class__', which begins with __,"),
      ("{{ 99999999999999999999 }}", "an integer of more than 64 bits"),
      ("{{ '\\N{DASH}' }}", "the escape '\\N'"),
      ("{{ '\\é' }}", "the escape '\\é'"),
      ("{{ größe }}", "the name 'größe'"),
      ("{{ 'a'.encode() }}", "the method 'encode' of a str"),
      ("{{ '{a.b}'.format(a=1) }}", "a field of format() that looks into its argument"),
      ("{{ '{:{}}'.format(1, 2) }}", "a field inside a field of format()"),
      ("{{ '{:=5}'.format(1) }}", "the format '=5'"),
      ("{{ {}.update() }}", "the method 'update' of a dict"),
      ("{{ [].append(1) }}", "the method 'append' of a list"),
      ("{{ {}.items }}", "the method 'items' of a dict without a call"),
      ("{{ 'a'.upper }}", "the method 'upper' of a str without a call"),
      ("{{ {}['keys'] }}", "the method 'keys' of a dict without a call"),
      ("{{ ('a' | safe).unescape() }}", "the method 'unescape' of a str"),
      ("{{ '%s' % 1 }}", "formatting with %"),
      ("{{ ('%s' | safe) % 1 }}", "formatting with %"),
      ("{{ {1.5: 2} }}", "a key that is a float"),
      ("{{ {(1,): 2} }}", "a key that is a tuple"),
      ("{{ (-8) ** 0.5 }}", "a complex number"),
      ("{{ namespace() }}", "printing a namespace"),
      ("{{ range }}", "printing a function"),
      ("{{ range(2) }}", "printing a range"),
      ("{{ [1] | map('abs') }}", "printing an iterator"),
      ("{{ {}.keys() == {}.keys() }}", "comparing a dict's keys with a dict's keys"),
      (
        "{% set x = [1, 2] | reverse %}{% for a in x %}{% break %}{% endfor %}{{ x | list }}",
        "going on with an iterator after 'break'"
      ),
      ("{% for x in [1] %}{{ loop }}{% endfor %}", "printing the loop variable"),
      (
        "{% for x in [1] %}{{ loop.changed(x) }}{% endfor %}",
        "the method 'changed' of the loop variable"
      ),
      (
        "{% for x in [1] %}{{ [loop] }}{% endfor %}",
        "the loop variable inside a list, a dict or a namespace"
      ),
      ("{{ '1' | int(0, 16) }}", "the filter 'int' with another base than 10"),
      ("{{ strftime_now('%U') }}", "the date format '%U'"),
      ("{{ strftime_now('%') }}", "the date format '%'"),
      ("{{ 1.real }}", "an attribute of an int"),
    ])
  func leftOutByTheRenderer(source: String, construct: String) throws {
    let message = [ChatMessage(role: "user", content: "")]
    let template = try ChatTemplate(source: "\n" + source, name: "refused")
    let error = #expect(throws: ChatTemplateError.self) {
      _ = try template.render(message, addingGenerationPrompt: false)
    }
    #expect(error?.problem == .unsupported(construct))
    #expect(error?.line == 2)
    let unreached = try ChatTemplate(
      source: "{% if false %}" + source + "{% endif %}ok", name: "unreached")
    #expect(try unreached.render(message, addingGenerationPrompt: false) == "ok")
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
