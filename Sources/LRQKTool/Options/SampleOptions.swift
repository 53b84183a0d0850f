// The options that name tasks and samples: those of `ruler`, `sweep` and `compare`.

import ArgumentParser
import ChatTemplates
import Foundation
import Tasks
import Tensors
import Tokenizers

struct SampleOptions: ParsableArguments {
  @Option(help: "Tasks, separated by commas, or all.", completion: .tasks)
  var tasks = "all"

  @Option(help: "Samples of every task at every length.")
  var samples = 20

  @Option(help: "Seed of the samples.", transform: seedNumber)
  var seed: UInt64 = 0

  @Option(
    help: "A text file for the prose of the haystacks, UTF-8; - is standard input.",
    completion: .file())
  var haystack: String?

  @Option(
    help: "SQuAD (for qa_1) or HotpotQA (for qa_2) as JSON; may be given for both.",
    completion: .file(extensions: ["json"]))
  var qa: [String] = []

  @Flag(help: "The task is a user's message: the checkpoint's chat template frames it.")
  var chat = false

  @Flag(help: "Leave the worked examples of vt and cwe away.")
  var noExamples = false

  @Option(help: "Most tokens of an answer. (default: the task's, 30 to 128)")
  var answerTokens: Int?

  @Flag(
    help:
      "The question comes as decode steps, under each method; without it the prompt's full pass takes it."
  )
  var decodeQuestions = false

  func validate() throws {
    let tasks = try taskList()
    if !(1...100_000).contains(samples) {
      throw ValidationError("--samples \(samples): it must be from 1 to 100000")
    }
    if let answerTokens, !(1...4096).contains(answerTokens) {
      throw ValidationError("--answer-tokens \(answerTokens): it must be from 1 to 4096")
    }
    if ([haystack].compactMap { $0 } + qa).count(where: isStandardInput) > 1 {
      throw ValidationError("standard input can be read once: name files for the other inputs")
    }
    let prose: Set<RulerTask> = [
      .niahSingle2, .niahSingle3, .niahMultikey1, .niahMultivalue, .niahMultiquery,
    ]
    if haystack != nil && prose.isDisjoint(with: tasks) {
      throw ValidationError("--haystack has no effect: none of the tasks hides needles in prose")
    }
    if noExamples && !tasks.contains(where: \.hasExample) {
      throw ValidationError("--no-examples has no effect: none of the tasks has one")
    }
  }

  func taskList() throws -> [RulerTask] {
    do { return try RulerTask.list(tasks) } catch { throw ValidationError("--tasks: \(error)") }
  }

  /// The generator of the samples in the model's tokens.
  func generator(_ folder: String, _ tokenizer: Tokenizer) throws -> RulerGenerator {
    var form = PromptForm(tokenizer)
    if chat {
      guard let template = try ChatTemplate(folder: folder) else {
        throw InputError("\(folder): the checkpoint has no chat template; leave --chat away")
      }
      form = PromptForm(tokenizer) { text in
        try template.render(
          [ChatMessage(role: "user", content: text)], addingGenerationPrompt: true)
      }
    }
    let tasks = try taskList()
    var sets: [QuestionSet] = []
    for path in qa {
      let set = try QuestionSet(file: path)
      if !tasks.contains(set.task) {
        throw ValidationError("--qa \(path) has no effect: \(set.task.rawValue) is not run")
      }
      if sets.contains(where: { $0.task == set.task }) {
        throw ValidationError("--qa \(path): there is another file for \(set.task.rawValue)")
      }
      sets.append(set)
    }
    return RulerGenerator(
      seed: seed, form: form,
      haystack: try haystack.map { try Haystack(file: $0) } ?? Haystack(), questions: sets,
      hasExamples: !noExamples, answerLimit: answerTokens)
  }

  /// The files that these options read.
  var files: CommandFiles {
    var files = CommandFiles()
    files.reads(haystack, "--haystack")
    for path in qa { files.reads(path, "--qa") }
    return files
  }
}
