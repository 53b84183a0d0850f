// Conversations in the shape of each model family, against transformers' own rendering.

import ChatTemplates
import Tensors
import Testing

private let families = [
  "llama2", "llama3", "llama31", "mistral01", "mistral03", "phi3", "qwen2", "qwen25", "qwen3",
]

private func isLeap(_ year: Int) -> Bool {
  year.isMultiple(of: 400) || (year.isMultiple(of: 4) && !year.isMultiple(of: 100))
}

private func days(in month: Int, of year: Int) -> Int {
  [31, isLeap(year) ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]
}

@Suite struct ChatTemplateTests {
  @Test("every conversation has the text that transformers gives it", arguments: families)
  func conversations(family: String) throws {
    let fixture = try chatFixtureJSON("conversations.json")
    let templates = try #require(fixture["templates"]?.arrayValue)
    #expect(templates.count == families.count)
    let entry = try #require(templates.first { $0["name"]?.stringValue == family })
    let template = try ChatTemplate(
      source: String(decoding: try chatFixture("\(family).jinja"), as: UTF8.self), name: family,
      variables: try chatVariables(entry["variables"]))
    let cases = try #require(entry["cases"]?.arrayValue)
    #expect(cases.count >= 34)
    for entry in cases {
      let name = try #require(entry["conversation"]?.stringValue)
      let turns = try #require(fixture["conversations"]?[name]?.arrayValue)
      let messages = try turns.map { turn in
        let words = try #require(turn.arrayValue).compactMap(\.stringValue)
        return ChatMessage(role: words[0], content: words[1])
      }
      let extra = try chatVariables(entry["extra"])
      let prompt = try #require(entry["prompt"]?.boolValue as Bool?)
      let outcome = ChatOutcome { () throws(ChatTemplateError) in
        try template.render(
          messages, addingGenerationPrompt: prompt, date: fixtureDate, extra: extra)
      }
      let expected = try ChatOutcome(entry)
      #expect(outcome == expected, "\(family), \(name), prompt \(prompt), \(extra.keys)")
    }
  }

  @Test("a template renders the same text twice: nothing is kept between calls")
  func repeatable() throws {
    let template = try ChatTemplate(
      source: "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
        + "{% endfor %}{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(ns.n) }}", name: "twice")
    let messages = [ChatMessage(role: "user", content: "a"), .init(role: "user", content: "b")]
    for _ in 0..<2 {
      #expect(try template.render(messages, addingGenerationPrompt: false) == "<2>")
    }
  }

  @Test("variables of the call go before the checkpoint's; the call's own cannot be replaced")
  func variables() throws {
    let template = try ChatTemplate(
      source: "{{ bos_token }}{{ mode }}", name: "variables",
      variables: ["bos_token": .text("<s>"), "mode": .integer(1)])
    let messages = [ChatMessage(role: "user", content: "")]
    #expect(
      try template.render(messages, addingGenerationPrompt: true, extra: ["mode": .number(0.5)])
        == "<s>0.5")
    for name in ["messages", "add_generation_prompt"] {
      let outcome = ChatOutcome { () throws(ChatTemplateError) in
        try template.render(messages, addingGenerationPrompt: true, extra: [name: .none])
      }
      #expect(outcome == .error("evaluation"))
    }
  }

  @Test("a conversation without messages is refused")
  func noMessages() throws {
    let template = try ChatTemplate(source: "x", name: "empty")
    let outcome = ChatOutcome { () throws(ChatTemplateError) in
      try template.render([], addingGenerationPrompt: true)
    }
    #expect(outcome == .error("evaluation"))
  }

  @Test("an error is one line that names the template, the line and the fault")
  func errorText() {
    let error = #expect(throws: ChatTemplateError.self) {
      _ = try ChatTemplate(source: "a\n\n{{ x | wordwrap }}", name: "t")
        .render([.init(role: "user", content: "")], addingGenerationPrompt: false)
    }
    #expect(
      error?.description
        == "chat template 't', line 3: the filter 'wordwrap' is outside the subset; "
        + "write the prompt by hand or simplify the template")
    let raising = #expect(throws: ChatTemplateError.self) {
      _ = try ChatTemplate(source: "\n{{ raise_exception('a\nb') }}", name: "t")
        .render([.init(role: "user", content: "")], addingGenerationPrompt: false)
    }
    #expect(
      raising?.description
        == "chat template 't', line 2: the template refuses the conversation: 'a\\nb'")
  }

  @Test(
    "an error in an expression of several lines names the line that it is on",
    arguments: [
      ("{{ raise_exception(\n'a'\n) }}", 1),
      ("{{ [1,\n2,\nmissing.a\n,\n3] }}", 3),
      ("{{ 'a'\n| trim\n| abs\n| string }}", 3),
      ("{{ 'a'\n.upper()\n.upper(1)\n.upper() }}", 3),
      ("{{ messages\n[0]\n[0:\n'a']\n}}", 3),
      ("{{ 1\n+ 1\n+ missing\n}}", 1),
      ("{% set x =\n1 %}\n{% set a, b =\n1,\n2,\n3 %}", 3),
    ])
  func errorLine(source: String, line: Int) {
    let error = #expect(throws: ChatTemplateError.self) {
      _ = try ChatTemplate(source: source, name: "t")
        .render([.init(role: "user", content: "")], addingGenerationPrompt: false)
    }
    #expect(error?.line == line, "\(source)")
  }

  @Test("weekdays follow one another from a known Thursday on, over leap years and centuries")
  func weekdays() throws {
    let template = try ChatTemplate(source: "{{ strftime_now('%A %j') }}", name: "date")
    let names = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"]
    let message = [ChatMessage(role: "user", content: "")]
    // 1970-01-01 was a Thursday.
    var day = 0
    for year in 1970..<2105 where year % 7 < 2 || year == 2100 {
      day = (1970..<year).reduce(0) { $0 + (isLeap($1) ? 366 : 365) }
      var dayOfYear = 0
      for month in 1...12 {
        for date in 1...days(in: month, of: year) {
          dayOfYear += 1
          let digits = String(dayOfYear)
          let padded = String(repeating: "0", count: 3 - digits.count) + digits
          // One day of three is enough.
          if dayOfYear % 3 == 0 {
            let text = try template.render(
              message, addingGenerationPrompt: false,
              date: ChatDate(year: year, month: month, day: date))
            #expect(text == "\(names[day % 7]) \(padded)", "\(year)-\(month)-\(date)")
          }
          day += 1
        }
      }
    }
  }

  @Test("now is a date that exists")
  func now() {
    #expect(ChatDate.now().year >= 2024)
  }
}
