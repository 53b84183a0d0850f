// The options that have a letter, in every command that has them.
//
//   -m  --model            the checkpoint's folder
//   -p  --prompt           a prompt
//   -f  --prompt-file      a file that is the prompt
//   -n  --max-new-tokens   most tokens in an answer
//
// The letters r, k and w come with LRQK's table of choices (TableOptions.swift).

import ArgumentParser

extension NameSpecification {
  /// -m, --model.
  static var model: NameSpecification { [.customShort("m"), .customLong("model")] }
  /// -p, --prompt.
  static var prompt: NameSpecification { [.customShort("p"), .customLong("prompt")] }
  /// -f, --prompt-file.
  static var promptFile: NameSpecification { [.customShort("f"), .customLong("prompt-file")] }
  /// -n, --max-new-tokens.
  static var maxNewTokens: NameSpecification {
    [.customShort("n"), .customLong("max-new-tokens")]
  }
}
