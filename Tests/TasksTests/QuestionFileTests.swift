// SQuAD and HotpotQA files: what is read, what is refused.

import Tasks
import TestSupport
import Testing

private let squad = """
  {"version": "v2.0", "data": [
    {"title": "Rivers", "paragraphs": [
      {"context": "The Aba is long.", "qas": [
        {"id": "1", "question": "How is the Aba?", "is_impossible": false,
         "answers": [{"text": "long", "answer_start": 11}, {"text": "long", "answer_start": 11},
                     {"text": "very long", "answer_start": 0}]},
        {"id": "2", "question": "Who is the Aba?", "is_impossible": true, "answers": []}]},
      {"context": "The Ebo is short.", "qas": [
        {"id": "3", "question": "How is the Ebo?", "is_impossible": false,
         "answers": [{"text": "short", "answer_start": 11}]}]}]},
    {"title": "Hills", "paragraphs": [{"context": "No hill is here.", "qas": []}]}]}
  """

private let hotpot = """
  [{"_id": "x", "question": "Which river?", "answer": "Aba", "type": "bridge",
    "supporting_facts": [["Town", 0], ["River", 1]],
    "context": [["Town", ["A town.", " It is on the Aba."]], ["River", ["The Aba.", " Long."]],
                ["Hill", ["A hill."]]]}]
  """

@Suite struct QuestionFileTests {
  @Test func `SQuAD serves qa_1, one question a sample, impossible ones left out`() throws {
    let file = try TemporaryFile(squad)
    let set = try QuestionSet(file: file.path)
    #expect(set.task == .question1)
    let generator = generator(questions: [set])
    let first = try generator.sample(.question1, length: 600, index: 0)
    #expect(first.references == ["long", "very long"])
    #expect(first.units == 3)  // every document there is
    #expect(first.needleTexts.count == 1 && first.needleTexts[0].hasSuffix("The Aba is long."))
    #expect(first.text.contains("Question: How is the Aba?"))
    #expect(try generator.sample(.question1, length: 600, index: 1).references == ["short"])
    #expect(throws: TaskError.self) {
      try generator.sample(.question1, length: 600, index: 2)
    }
    // Documents of the same article come before others.
    let two = try generator.sample(.question1, length: 600, index: 1, units: 2)
    #expect(two.text.contains("The Aba is long.") && !two.text.contains("No hill"))
    #expect(generator.source(.question1).description.hasPrefix("file, fnv1a "))
    #expect(generator.source(.question2).description.contains("stand-in"))
  }

  @Test func `HotpotQA serves qa_2, both documents with the answer are in`() throws {
    let file = try TemporaryFile(hotpot)
    let set = try QuestionSet(file: file.path)
    #expect(set.task == .question2)
    let sample = try generator(questions: [set]).sample(.question2, length: 600, index: 0)
    #expect(sample.references == ["Aba"] && sample.units == 3)
    #expect(sample.needleTexts.map { $0.split(separator: "\n")[1] }.sorted() == ["River", "Town"])
    #expect(sample.text.contains("Town\nA town. It is on the Aba."))
  }

  @Test(arguments: [
    "", "{", "{}", "[]", "[1]", "{\"data\": 1}", "{\"data\": []}", "{\"data\": [{}]}",
    "[{\"answer\": \"a\"}]", "{\"data\": [{\"paragraphs\": [{\"context\": 3, \"qas\": []}]}]}",
    hotpot.replacing("\"Town\", 0", with: "\"Nowhere\", 0").replacing(
      "River\", 1", with: "Sea\", 1"),
    hotpot.replacing("[\"A hill.\"]", with: "\"A hill.\""),
    hotpot.replacing("\"Which river?\"", with: "null"),
    squad.replacing("\"text\": \"short\"", with: "\"text\": 1"),
  ])
  func `a file of another form is an error of one line`(text: String) throws {
    let file = try TemporaryFile(text)
    let error = #expect(throws: TaskError.self) { try QuestionSet(file: file.path) }
    let line = try #require(error).description
    #expect(line.hasPrefix(file.path) && !line.contains("\n"), "\(line)")
  }

  @Test func `haystacks without words and files that are not there are errors`() throws {
    #expect(throws: (any Error).self) { try Haystack(file: TemporaryFile().path) }
    #expect(throws: (any Error).self) { try QuestionSet(file: TemporaryFile().path) }
    let empty = try TemporaryFile(" \n\t ")
    #expect(throws: TaskError.self) { try Haystack(file: empty.path) }
  }
}
