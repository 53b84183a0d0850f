// A user's copy of SQuAD 2.0 or HotpotQA.
//
// In:  {"data": [{"title", "paragraphs": [{"context", "qas": [{"question", "answers": [{"text"}],
//      "is_impossible"}]}]}]}                                       SQuAD, for qa_1
//      [{"question", "answer", "context": [[title, [sentence, ...]], ...],
//      "supporting_facts": [[title, sentence], ...]}]               HotpotQA, for qa_2
// Out: questions in the order of the file. SQuAD's impossible ones are left out, as upstream does;
//      documents with the same text are one.
//
// Keys that are not named here are not needed and not read.

import Tensors

extension QuestionSet {
  /// Bytes of the largest file that is read; HotpotQA's dev set has 46 MB.
  static let fileLimit = 96 << 20

  /// Reads a file, a pipe or standard input (`-`); its form says which task it serves.
  package init(file path: String) throws {
    try self.init(bytes: try readInput(at: path, limit: Self.fileLimit), name: path)
  }

  init(bytes: [UInt8], name: String) throws(TaskError) {
    let json: JSONValue
    do {
      json = try JSONValue(parsing: bytes, depthLimit: 16)
    } catch {
      throw TaskError("\(name): no JSON: \(error)")
    }
    var reader = QuestionReader(name: name)
    if let articles = json["data"]?.arrayValue {
      task = .question1
      try reader.squad(articles)
    } else if let items = json.arrayValue {
      task = .question2
      try reader.hotpot(items)
    } else {
      throw TaskError(
        "\(name): neither SQuAD (an object with \"data\") nor HotpotQA (a list)")
    }
    if reader.questions.isEmpty {
      throw TaskError("\(name): there is no question with an answer in it")
    }
    questions = reader.questions
    documents = reader.documents
    description = "file, fnv1a \(hexadecimal(fnv1a(bytes)))"
  }
}

/// Collects questions and different documents.
private struct QuestionReader {
  let name: String
  var questions: [Question] = []
  var documents: [String] = []
  private var numbers: [[UInt8]: Int] = [:]  // by bytes: composed letters are other documents

  init(name: String) { self.name = name }

  private mutating func number(of document: String) -> Int {
    let key = Array(document.utf8)
    if let number = numbers[key] { return number }
    numbers[key] = documents.count
    documents.append(document)
    return documents.count - 1
  }

  private func required<T>(_ value: T?, _ what: String) throws(TaskError) -> T {
    guard let value else { throw TaskError("\(name): \(what) is missing or of another kind") }
    return value
  }

  mutating func squad(_ articles: [JSONValue]) throws(TaskError) {
    for (a, article) in articles.enumerated() {
      let paragraphs = try required(article["paragraphs"]?.arrayValue, "data[\(a)].paragraphs")
      var near: [Int] = []
      for paragraph in paragraphs {
        near.append(
          number(of: try required(paragraph["context"]?.stringValue, "a context in data[\(a)]")))
      }
      for (p, paragraph) in paragraphs.enumerated() {
        let place = "data[\(a)].paragraphs[\(p)].qas"
        for item in try required(paragraph["qas"]?.arrayValue, place) {
          if item["is_impossible"]?.boolValue == true { continue }
          var answers: [String] = []
          for answer in try required(item["answers"]?.arrayValue, "answers in \(place)") {
            let text = try required(answer["text"]?.stringValue, "text of an answer in \(place)")
            if !text.isEmpty && !answers.contains(text) { answers.append(text) }
          }
          if answers.isEmpty { continue }
          questions.append(
            Question(
              text: try required(item["question"]?.stringValue, "question in \(place)"),
              answers: answers, gold: [near[p]], near: near))
        }
      }
    }
  }

  mutating func hotpot(_ items: [JSONValue]) throws(TaskError) {
    for (n, item) in items.enumerated() {
      let place = "[\(n)]"
      let answer = try required(item["answer"]?.stringValue, "answer of \(place)")
      if answer.isEmpty { continue }
      var supporting: [String] = []
      for fact in try required(item["supporting_facts"]?.arrayValue, "supporting_facts of \(place)")
      {
        let title = fact.arrayValue?.first?.stringValue
        supporting.append(try required(title, "a supporting fact's title of \(place)"))
      }
      var (gold, near): ([Int], [Int]) = ([], [])
      for document in try required(item["context"]?.arrayValue, "context of \(place)") {
        let parts = document.arrayValue ?? []
        guard parts.count == 2, let title = parts[0].stringValue,
          let sentences = parts[1].arrayValue
        else { throw TaskError("\(name): context of \(place) is no list of [title, [...]]") }
        var text = title + "\n"
        for sentence in sentences {
          text += try required(sentence.stringValue, "a sentence of \(place)")
        }
        let number = number(of: text)
        if supporting.contains(where: { $0.utf8.elementsEqual(title.utf8) }) {
          if !gold.contains(number) { gold.append(number) }
        } else {
          near.append(number)
        }
      }
      if gold.isEmpty {
        throw TaskError("\(name): no document of \(place) has a supporting fact's title")
      }
      questions.append(
        Question(
          text: try required(item["question"]?.stringValue, "question of \(place)"),
          answers: [answer], gold: gold, near: near))
    }
  }
}
