// qa_1 and qa_2: a question, and documents of which one or two hold the answer.
//
// In:  questions with their documents, and other documents.
// Out: a draft for any number of documents.
//
//   documents    those with the answer, then those that the question brings along, then random
//                ones; shuffled; "Document i:\n text", an empty line between them
//   instruction  before and after the documents
//
// Source: RULER's qa.py. Its data sets (SQuAD 2.0's dev set for qa_1, HotpotQA's distractor dev set
// for qa_2) are not ours to give away: QuestionFile.swift reads a user's copy. Without one the
// tasks run on synthetic questions (SyntheticQuestions.swift), and everything that is printed says
// so.

/// A question and where its answer stands.
struct Question: Sendable {
  let text: String
  /// Accepted answers, each with at least one character.
  let answers: [String]
  /// Documents with the answer, by number.
  let gold: [Int]
  /// Documents that come first among the others.
  let near: [Int]
}

/// Questions on a common set of documents.
package struct QuestionSet: Sendable {
  let questions: [Question]
  let documents: [String]
  /// Which task it serves.
  package let task: RulerTask
  /// "stand-in: ...", or the file's name and hash.
  package let description: String
}

/// Where the questions of a task come from.
package enum QuestionSource: Sendable {
  /// Documents about invented people and towns, other ones for every sample.
  case standIn
  /// A user's data set.
  case set(QuestionSet)

  /// One line for reports.
  package var description: String {
    switch self {
    case .standIn: "stand-in: invented people and towns, no real data set"
    case .set(let set): set.description
    }
  }
}

/// One sample of a question task.
struct QuestionFamily: SampleFamily {
  let floor: Int
  let step: Int
  let most: Int
  private let stream: SampleStream
  private let question: Question
  private let documents: [String]

  /// Sample `index` asks question number `index` of a data set.
  init(_ source: QuestionSource, task: RulerTask, length: Int, index: Int, stream: SampleStream)
    throws(TaskError)
  {
    self.stream = stream
    switch source {
    case .standIn:
      var draws = stream.draws("people")
      // More than any length here holds: a document has at least 20 words.
      let made = SyntheticQuestions(documents: max(12, length / 20), &draws)
      documents = made.documents
      question = task == .question1 ? made.oneDocument : made.twoDocuments
    case .set(let set):
      guard index < set.questions.count else {
        throw TaskError(
          "\(task.rawValue): the file has \(set.questions.count) questions that can be answered; "
            + "take at most as many samples")
      }
      question = set.questions[index]
      documents = set.documents
    }
    step = length < 4096 ? 1 : 10
    floor = question.gold.count
    most = documents.count
  }

  func draft(_ units: Int) -> Draft {
    var draws = stream.draws("documents")
    var chosen = question.gold
    var taken = Set(chosen)
    for number in question.near where chosen.count < units && taken.insert(number).inserted {
      chosen.append(number)
    }
    while chosen.count < units {
      let number = draws.below(documents.count)
      if taken.insert(number).inserted { chosen.append(number) }
    }
    draws.shuffle(&chosen)
    let gold = Set(question.gold)
    let marked = Set(chosen.indices.filter { gold.contains(chosen[$0]) })
    let context = MarkedText(
      chosen.enumerated().map { "Document \($0 + 1):\n\(documents[$1])" }, separator: "\n\n",
      marked: marked)
    return Draft(
      text: MarkedText([
        Self.instruction + "\n\nThe following are given documents.\n\n"
      ]) + context + "\n\n\(Self.instruction)\n\nQuestion: \(question.text)",
      prefix: " Answer:", references: question.answers,
      answer: MarkedText(" \(question.answers[0])", marking: [question.answers[0]]))
  }

  private static let instruction =
    "Answer the question based on the given documents. Only give me the answer and do not output "
    + "any other words."
}
