// Synthetic questions in the place of a data set: documents about invented people and towns.
//
// In:  a stream of choices, a number of documents.
// Out: documents, a question that one of them answers, a question that needs two of them.
//
//   town     Title, a line break, three sentences: river, founding year, what it is known for
//   person   Title, a line break, three sentences: birthplace, trade, a fact
//   one      What trade does {person} follow?                  one document
//   two      Which river flows through the town where {person} was born?   two documents
//
// Names are made of our own syllables; no two documents share one. Scores on it say nothing about
// SQuAD or HotpotQA.

/// Invented documents and two questions on them.
struct SyntheticQuestions {
  private(set) var documents: [String] = []
  private(set) var oneDocument: Question
  private(set) var twoDocuments: Question

  /// Half of the documents are towns.
  init(documents count: Int, _ draws: inout RandomStream) {
    var names: Set<String> = []
    let towns = (0..<count / 2).map { _ in
      (name: Self.name(Self.townEnds, &names, &draws), river: Self.name(["a"], &names, &draws))
    }
    for town in towns {
      documents.append(
        "\(town.name)\n\(town.name) is a small town on the river \(town.river). "
          + "It was founded in \(1200 + draws.below(700)). "
          + "The town is known for its \(draws.pick(WordLists.adjectives)) "
          + "\(draws.pick(WordLists.nouns)).")
    }
    var people: [(name: String, town: Int, trade: String)] = []
    for _ in towns.count..<count {
      let first = Self.name(["o", "a", "i", "en"], &names, &draws)
      let last = Self.name(["er", "ock", "und", "ell"], &names, &draws)
      let person = (
        name: "\(first) \(last)", town: draws.below(towns.count),
        trade: "\(draws.pick(Self.trades)) of \(SyntheticProse.plural(draws.pick(WordLists.nouns)))"
      )
      people.append(person)
      documents.append(
        "\(person.name)\n\(person.name) was born in \(towns[person.town].name). "
          + "By trade \(first) is a \(person.trade). "
          + "Everybody remembers the \(draws.pick(WordLists.adjectives)) "
          + "\(draws.pick(WordLists.nouns)) that \(first) once "
          + "\(SyntheticProse.past(draws.pick(WordLists.verbs))).")
    }
    let asked = people[0]
    let document = towns.count
    oneDocument = Question(
      text: "What is the trade of \(asked.name)?", answers: [asked.trade], gold: [document],
      near: [])
    twoDocuments = Question(
      text: "Which river flows through the town where \(asked.name) was born?",
      answers: [towns[asked.town].river], gold: [document, asked.town], near: [])
  }

  private static let starts = [
    "Bal", "Bre", "Cor", "Dan", "Dor", "El", "Fal", "Fen", "Gar", "Gil", "Hal", "Har", "Ist", "Jor",
    "Kel", "Kor", "Lan", "Lor", "Mar", "Mel", "Nor", "Ol", "Pel", "Quin", "Ral", "Rin", "Sal",
    "Sel", "Tar", "Tol", "Ul", "Var", "Vel", "Wes", "Yar", "Zel",
  ]
  private static let middles = [
    "ab", "am", "an", "ar", "av", "eb", "ed", "el", "em", "en", "id", "il", "im", "in", "iv", "od",
    "ol", "om", "on", "or", "ub", "ul", "um", "un", "ur",
  ]
  private static let townEnds = ["stead", "ham", "wick", "field", "ford", "by", "mouth", "ton"]
  private static let trades = [
    "seller", "maker", "collector", "painter", "carver", "keeper", "mender", "buyer",
  ]

  /// A name that is not in `names` yet; longer ones once the short ones run out.
  private static func name(
    _ ends: [String], _ names: inout Set<String>, _ draws: inout RandomStream
  ) -> String {
    var middles = 1
    while true {
      let name =
        draws.pick(starts)
        + (0..<middles).map { _ in draws.pick(Self.middles) }.joined() + draws.pick(ends)
      if names.insert(name).inserted { return name }
      middles = 2 + draws.below(2)
    }
  }
}
