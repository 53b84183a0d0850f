// lrqk chat: lines in, answers out; what cannot be answered costs its own line and no other.

import Foundation
import Glibc
import Testing

@Suite struct ChatToolTests {
  /// In the shape of common templates; it refuses a message that says "refuse this".
  private static let template =
    "{% for m in messages %}{% if m.content == 'refuse this' %}{{ raise_exception('no') }}{% endif %}"
    + "[{{ m.role }}] {{ m.content }}{{ '\n' }}{% endfor %}"
    + "{% if add_generation_prompt %}[assistant]{% endif %}"

  /// The tiny model, which has learnt to answer, with a chat template.
  private func model(_ template: String? = Self.template) throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    for name in try FileManager.default.contentsOfDirectory(atPath: EvaluationToolTests.tiny) {
      try FileManager.default.copyItem(
        atPath: "\(EvaluationToolTests.tiny)/\(name)", toPath: "\(folder.path)/\(name)")
    }
    if let template {
      try Data(template.utf8).write(
        to: URL(fileURLWithPath: folder.path + "/chat_template.jinja"))
    }
    return folder
  }

  private func chat(
    _ folder: TemporaryFolder, _ input: String, _ options: [String] = []
  ) throws -> Outcome {
    try chat(folder, Array(input.utf8), options)
  }

  private func chat(
    _ folder: TemporaryFolder, _ input: [UInt8], _ options: [String] = []
  ) throws -> Outcome {
    try run("lrqk", ["chat", "-m", folder.path, "-n", "6"] + options, input: input)
  }

  /// What generate answers to a conversation as chat-template lays it out.
  private func answer(
    _ folder: TemporaryFolder, _ messages: [(role: String, content: String)],
    _ options: [String] = []
  ) throws -> String {
    let json = try JSONSerialization.data(
      withJSONObject: messages.map { ["role": $0.role, "content": $0.content] })
    let text = try run(
      "lrqk", ["chat-template", "-m", folder.path, "--messages", "-"], input: Array(json))
    #expect(text.status == 0, "\(text.error)")
    let found = try run(
      "lrqk", ["generate", "-m", folder.path, "-n", "6", "-f", "-", "--no-special"] + options,
      input: Array(text.output.utf8))
    #expect(found.status == 0, "\(found.error)")
    return String(found.output.dropLast())
  }

  @Test(arguments: [
    [], ["--cache", "lrqk:preset=recommended,r=4,k=8,w=4"], ["--cache", "streaming:sinks=2,w=6"],
    ["--temperature", "1", "--seed", "7"],
  ])
  func `every answer is that of generate for the whole conversation`(_ options: [String]) throws {
    let folder = try model()
    let found = try chat(folder, "the grass is\nand the sky\n", options)
    #expect(found.status == 0, "\(found.error)")
    let first = try answer(folder, [("user", "the grass is")], options)
    // Every answer draws numbers of its own.
    let later = options.map { $0 == "7" ? "8" : $0 }
    let second = try answer(
      folder, [("user", "the grass is"), ("assistant", first), ("user", "and the sky")], later)
    #expect(found.output == first + "\n" + second + "\n")
    #expect(!first.isEmpty && !second.isEmpty)
    let accounts = found.error.split(separator: "\n").filter { $0.hasPrefix("answer ") }
    #expect(accounts.count == 2 && accounts[1].hasPrefix("answer 2: 6 tokens "), "\(found.error)")
    #expect(accounts.allSatisfy { $0.contains("; held ") && $0.contains("; moved ") })
  }

  @Test func `lines that cannot be answered leave the conversation as it was`() throws {
    let folder = try model()
    let good = try chat(folder, "the grass is\nand the sky\n")
    #expect(good.status == 0, "\(good.error)")
    let bad =
      Array("\nrefuse this\nthe grass is\r\n/nothing\n".utf8) + [0xC3, 10]
      + Array("   \nrefuse this\nand the sky".utf8)
    let found = try chat(folder, bad)
    #expect(found.output == good.output)
    #expect(found.status == 65)
    let lines = found.complaints.filter { $0.hasPrefix("lrqk: ") }
    #expect(lines.count == 4, "\(found.error)")
    for (line, part) in zip(lines, ["refuses", "'/nothing'", "line 5: not UTF-8", "refuses"]) {
      #expect(line.contains(part), "\(line)")
    }
  }

  @Test func `caches that go on take what they lack as decode steps`() throws {
    // A template whose layout goes on where the answer ended.
    let folder = try model(
      "{% for m in messages %}{{ m.content }}{{ '\n' if m.role == 'assistant' }}{% endfor %}")
    let method = ["--cache", "streaming:sinks=2,w=6"]
    let found = try chat(folder, "the grass is\nand the sky\n", method + ["--keep-cache"])
    #expect(found.status == 0, "\(found.error)")
    let anew = try chat(folder, "the grass is\nand the sky\n", method)
    #expect(found.output.split(separator: "\n")[0] == anew.output.split(separator: "\n")[0])
    let accounts = found.error.split(separator: "\n").filter { $0.hasPrefix("answer ") }
    #expect(accounts.count == 2, "\(found.error)")
    let kept = accounts[1].contains(" before them in ")
    #expect(kept != accounts[1].contains("a new prompt, since the layout has changed"))
  }

  @Test func `a layout that changes gets a new prompt, and the line says so`() throws {
    // It numbers the messages that follow, as templates do that take reasoning out of old answers.
    let folder = try model(
      "{{ messages | length }} {% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}")
    let conversation = "the grass is\nand the sky\n"
    let found = try chat(folder, conversation, ["--keep-cache"])
    let anew = try chat(folder, conversation)
    #expect(found.status == 0 && found.output == anew.output, "\(found.error)")
    let accounts = found.error.split(separator: "\n").filter { $0.hasPrefix("answer ") }
    #expect(accounts.count == 2 && !accounts[0].contains("a new prompt"), "\(found.error)")
    #expect(accounts[1].hasSuffix("; a new prompt, since the layout has changed"))
  }

  @Test func `an interrupt ends the answer, and the conversation goes on`() throws {
    let folder = try model()
    let process = Process()
    process.executableURL = builtProducts.appendingPathComponent("lrqk")
    process.arguments = [
      "chat", "-m", folder.path, "-n", "1000000", "--cache", "streaming:sinks=2,w=6",
    ]
    // The answer goes into a file: a pipe that nobody reads would be full before the interrupt.
    let answer = folder.path + "/answer"
    try Data().write(to: URL(fileURLWithPath: answer))
    let (input, errors) = (Pipe(), Pipe())
    process.standardInput = input
    process.standardOutput = FileHandle(forWritingAtPath: answer)
    process.standardError = errors
    // A shell that runs the tests in the background ignores it, and a thread of a pool blocks it:
    // so would every process below.
    _ = signal(SIGINT, SIG_DFL)
    var interrupt = sigset_t()
    unsafe sigemptyset(&interrupt)
    unsafe sigaddset(&interrupt, SIGINT)
    unsafe pthread_sigmask(SIG_UNBLOCK, &interrupt, nil)
    try process.run()
    var said = ""
    func hear(until part: String) {
      while !said.contains(part), case let new = errors.fileHandleForReading.availableData,
        !new.isEmpty
      {
        said += String(decoding: new, as: UTF8.self)
      }
    }
    try input.fileHandleForWriting.write(contentsOf: Data("the grass is\n".utf8))
    while process.isRunning, try Data(contentsOf: URL(fileURLWithPath: answer)).isEmpty {
      usleep(1000)  // until the answer has begun
    }
    kill(process.processIdentifier, SIGINT)
    hear(until: "a token\n")
    #expect(said.contains(" tokens (stopped) in "), "\(said)")
    try input.fileHandleForWriting.write(contentsOf: Data("/nothing\n".utf8))
    hear(until: "'/nothing'")
    #expect(said.contains("line 2: there is no command '/nothing'"), "\(said)")
    try input.fileHandleForWriting.close()
    process.waitUntilExit()
    #expect(process.terminationStatus == 65)
  }

  @Test func `a device that is too small for an answer costs that answer`() throws {
    let folder = try model()
    let found = try chat(folder, "a\nb\n", ["--device-capacity", "100"])
    #expect(found.status == 65 && found.output.isEmpty, "\(found.output)")
    #expect(found.complaints.count == 2, "\(found.error)")
  }

  @Test func `the conversation can be forgotten, and ended`() throws {
    let folder = try model()
    let once = try chat(folder, "the grass is\n", ["--system", "be brief"])
    #expect(once.status == 0, "\(once.error)")
    let found = try chat(
      folder, "the grass is\n/reset\nthe grass is\n/exit\nnever read\n", ["--system", "be brief"])
    #expect(found.status == 0 && found.output == once.output + once.output, "\(found.error)")
    #expect(try chat(folder, "").status == 0)
    let framed = try answer(folder, [("system", "be brief"), ("user", "the grass is")])
    #expect(once.output == framed + "\n")
  }

  @Test func `a checkpoint that was not taught to converse gets one line`() throws {
    for (template, options, words) in [
      (nil, [], "has no chat template"),
      (
        "{{ raise_exception('no system') if messages[0].role == 'system' }}x",
        ["--system", "be brief"], "no system"
      ),
    ] as [(String?, [String], String)] {
      let found = try chat(try model(template), "hello\n", options)
      #expect(found.status == 65 && found.output.isEmpty, "\(found.error)")
      #expect(found.complaints.count == 1 && found.error.contains(words), "\(found.error)")
    }
    let wrong = try chat(try model(), "", ["--cache", "nothing"])
    #expect(wrong.status == 64 && wrong.error.contains("nothing"), "\(wrong.error)")
  }
}
