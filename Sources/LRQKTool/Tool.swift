// The command-line tool: thin, one file a subcommand, this one lists them.
//
// In:  arguments.
// Out: text on standard output; or one line on standard error that says what is wrong and what to
//      do. Exit status 0, 1 for a failed run or comparison, 64 for arguments that make no sense, 65
//      for a file that cannot be used, 69 for a device that is not there, 74 for a standard stream
//      that cannot be read or written.
//
// ArgumentParser would print its usage text under every error. One line is enough here: `main` is
// written out for that reason alone.

import ArgumentParser
public import CacheMethods
import Foundation
import Tensors

/// Runs the tool with the arguments of this process, and ends it.
///
/// `methods` are cache methods of another package: every command knows them beside ours.
public func runTool(adding methods: [any CacheMethod.Type] = []) -> Never {
  addCacheMethods(methods)
  LRQKCommand.main()
}

struct LRQKCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lrqk",
    abstract:
      "Study, check and measure LRQK, the low-rank query/key attention of arXiv 2510.23649.",
    discussion: """
      Start with lrqk demo, needles that a small model finds in a long prompt; then lrqk explain, eight \
      tokens, every number of the method beside its formula.
      """,
    version: "0.1.0",
    groupedSubcommands: [
      CommandGroup(
        name: "Study the method",
        subcommands: [
          DemoCommand.self, ExplainCommand.self, ReplayCommand.self, FrontierCommand.self,
          ViewCommand.self,
        ]),
      CommandGroup(
        name: "Run a model",
        subcommands: [
          GenerateCommand.self, ChatCommand.self, LogitsCommand.self, TokenizeCommand.self,
          ChatTemplateCommand.self, InspectCommand.self, CaptureCommand.self, HeadsCommand.self,
          MethodsCommand.self,
        ]),
      CommandGroup(
        name: "Check a kernel", subcommands: [CheckCommand.self, GoldenCommand.self]),
      CommandGroup(
        name: "Train a model",
        subcommands: [TrainCommand.self, CalibrateCommand.self, ConvertCommand.self]),
      CommandGroup(
        name: "Measure",
        subcommands: [
          RulerCommand.self, SweepCommand.self, CompareCommand.self, OverviewCommand.self,
          PerplexityCommand.self, MergeCommand.self, BenchCommand.self,
        ]),
    ])

  static func main() -> Never {
    Streams.prepare()
    KernelChoice(running: .current, environment: ProcessInfo.processInfo.environment).apply()
    keepFreedMemory()
    nameTruncatedFiles(status: 65)
    do {
      let arguments = try writtenArguments(try givenArguments())
      var command = try parseAsRoot(arguments)
      try command.run()
      showNotes()
      Streams.exit(0)
    } catch {
      let status = exitCode(for: error)
      if status == .success {
        show(fullMessage(for: error))  // --help and its like
      } else {
        let text = message(for: error).split(separator: "\n").joined(separator: " ")
        if !text.isEmpty { say("lrqk: \(text)") }
      }
      Streams.exit(status.rawValue)
    }
  }
}
