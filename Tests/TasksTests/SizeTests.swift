// Lengths, determinism and misfits, for all thirteen tasks.

import Tasks
import Testing

@Suite struct SizeTests {
  @Test(arguments: RulerTask.allCases)
  func `prompt and answer fit the length, and one step more would not`(task: RulerTask) throws {
    for (length, index) in [(900, 0), (900, 1), (1777, 2), (4096, 0), (6000, 1)] {
      let generator = generator(seed: 3)
      let sample = try generator.sample(task, length: length, index: index)
      let room = length - task.tokensToGenerate
      #expect(sample.tokens == countingForm.encode(sample.prompt))
      #expect(sample.tokens.count <= room)
      // fwe passes over sizes at which ranks tie; they are told by the counts of words.
      var units = sample.units + sample.step
      while true {
        let next = try generator.sample(task, length: length, index: index, units: units)
        if next.tokens.count > room { break }
        #expect(task == .frequentWords && !isUnique(next), "\(length): \(units) units fit, too")
        units += sample.step
      }
    }
  }

  /// Whether the three words asked for are more frequent than all others, and in their order.
  private func isUnique(_ sample: RulerSample) -> Bool {
    let counts = codedCounts(sample)
    let asked = sample.references.map { counts[$0] ?? 0 }
    let others = counts.filter { !sample.references.contains($0.key) && $0.key != "..." }.values
    return asked[0] > asked[1] && asked[1] > asked[2] && asked[2] > (others.max() ?? 0)
  }

  @Test(arguments: RulerTask.allCases)
  func `a sample is a function of seed, task, length and number`(task: RulerTask) throws {
    let one = generator(seed: 11)
    let sample = try one.sample(task, length: 1000, index: 4)
    _ = try one.sample(task, length: 1000, index: 3)
    #expect(try one.sample(task, length: 1000, index: 4).prompt == sample.prompt)
    #expect(
      try generator(seed: 11).sample(task, length: 1000, index: 4).promptHash
        == sample.promptHash)
    for other in [
      try generator(seed: 12).sample(task, length: 1000, index: 4),
      try one.sample(task, length: 1000, index: 5), try one.sample(task, length: 1010, index: 4),
    ] {
      #expect(other.references != sample.references || other.prompt != sample.prompt)
      #expect(other.promptHash != sample.promptHash)
    }
  }

  @Test(arguments: RulerTask.allCases)
  func `a length that the smallest sample does not fit is an error of one line`(task: RulerTask)
    throws
  {
    for length in [1, task.tokensToGenerate, task.tokensToGenerate + 20] {
      let error = #expect(throws: MisfitError.self) {
        try generator().sample(task, length: length, index: 0)
      }
      let text = try #require(error).description
      #expect(text.hasPrefix("\(task.rawValue) does not fit \(length) tokens"), "\(text)")
    }
  }

  @Test func `tasks are named as in RULER`() throws {
    #expect(
      try RulerTask.list("all").map(\.rawValue) == [
        "niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2",
        "niah_multikey_3", "niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe", "qa_1", "qa_2",
      ])
    #expect(try RulerTask.list("vt,cwe") == [.variableTracking, .commonWords])
    for text in ["", "vt,", "vt,vt", "niah", "VT"] {
      #expect(throws: TaskError.self) { try RulerTask.list(text) }
    }
    let limits = RulerTask.allCases.map(\.tokensToGenerate)
    #expect(limits == Array(repeating: 128, count: 8) + [30, 120, 50, 32, 32])
  }
}

/// How often each coded word of an fwe sample appears.
func codedCounts(_ sample: RulerSample) -> [String: Int] {
  let text = sample.text.split(separator: "\n")[0]
    .replacing(
      "Read the following coded text and track the frequency of each coded word. "
        + "Find the three most frequently appeared coded words. ", with: "")
  return Dictionary(text.split(separator: " ").map { (String($0), 1) }, uniquingKeysWith: +)
}
