// The command-line tool: one file a subcommand, this one lists them.

import ArgumentParser

@main
struct LRQKCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lrqk",
    abstract: "Study, check and measure LRQK, the low-rank query/key attention of arXiv 2510.23649.",
    version: "0.1.0",
    subcommands: [ReplayCommand.self, BenchCommand.self])
}
