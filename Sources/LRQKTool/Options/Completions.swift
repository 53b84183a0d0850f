// What a shell completes behind an option that takes one of a few words.
//
// In:  the kinds of words: cases of a type, cache methods, weight methods, tasks, kernels.
// Out: lists, which go into the script of `lrqk --generate-completion-script` (Docs/installing.md).
//
// Files and folders are completed by the shell: `.file(extensions:)` and `.directory` stand beside
// the options themselves.

import ArgumentParser
import CacheMethods
import Conformance
import Tasks
import Tensors

extension CompletionKind {
  /// The words of a type, as `choice(_:as:)` reads them.
  static func words<C: CaseIterable & RawRepresentable<String>>(of type: C.Type) -> CompletionKind {
    .list(C.allCases.map { optionWord($0.rawValue) })
  }

  /// The names of the cache methods; their options are for `lrqk methods` to list.
  static var cacheMethods: CompletionKind {
    .list(["help"] + CacheMethods.cacheMethods.map { $0.name })
  }

  /// The names of the weight methods.
  static var weightMethods: CompletionKind {
    .list(["help"] + CacheMethods.weightMethods.map { $0.name })
  }

  /// RULER's tasks.
  static var tasks: CompletionKind { .list(["all"] + RulerTask.allCases.map(\.rawValue)) }

  /// Kernels with cases.
  static var kernels: CompletionKind { .list(Kernel.allCases.map(\.name)) }
}
