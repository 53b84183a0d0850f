// lrqk methods: the ways to keep keys and values, and what each can be told.

import ArgumentParser
import CacheMethods

struct MethodsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "methods",
    abstract: "List the cache methods and their options.",
    discussion: """
      A method is named METHOD[:option=value,...] wherever there is a --cache: options that are not \
      given have the value shown here. `--cache help` prints them as well. Weight methods, which change \
      a checkpoint once (lrqk convert), stand at the end. Docs/methods.md says what the methods do.
      """)

  func run() {
    show(methodList)
    show("\nFor lrqk convert --method:\n\n" + weightMethodList)
  }
}
