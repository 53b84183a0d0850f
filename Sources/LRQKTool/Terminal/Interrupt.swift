// Ctrl-C while an answer is written: the answer ends, and not the program.
//
// In:  SIGINT, during `Interrupt.asking`.
// Out: a request, which the command looks at between two tokens. A second one ends the process at
//      once, and so does one outside of `asking`.

import Foundation
import Synchronization

private let isRaised = Atomic(false)

/// A handler may call little; a store and `signal` are allowed.
private func handle(_ number: Int32) {
  isRaised.store(true, ordering: .relaxed)
  _ = signal(SIGINT, SIG_DFL)
}

/// Ctrl-C as a request.
enum Interrupt {
  /// Whether it came since `asking` began.
  static var isAsked: Bool { isRaised.load(ordering: .relaxed) }

  /// Runs `body`, in which Ctrl-C is a request; where it is ignored it stays ignored.
  static func asking<Result>(_ body: () throws -> Result) rethrows -> Result {
    isRaised.store(false, ordering: .relaxed)
    let before = Foundation.signal(SIGINT, handle)
    let isIgnored =
      unsafe unsafeBitCast(before, to: Int.self)
      == unsafeBitCast(SIG_IGN, to: Int.self)
    if isIgnored { _ = Foundation.signal(SIGINT, SIG_IGN) }
    defer { if !isIgnored { _ = Foundation.signal(SIGINT, SIG_DFL) } }
    return try body()
  }
}
