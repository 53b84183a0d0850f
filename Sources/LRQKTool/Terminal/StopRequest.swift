// Ctrl-C and kill, for a command that has something to save.
//
// In:  SIGINT, SIGTERM, SIGHUP (a terminal that is closed).
// Out: the number of the first one, which the command looks at between two steps. The second one
//      ends the process at once, as if nothing had been asked for.

import Foundation
import Synchronization

/// The first signal; 0 before it.
private let asked = Atomic<Int32>(0)

/// What a second signal ends at once.
private func handle(_ number: Int32) {
  // A handler may call little; these are allowed, and so is an atomic store.
  asked.store(number, ordering: .relaxed)
  for number in [SIGINT, SIGTERM, SIGHUP] { _ = signal(number, SIG_DFL) }
  let line: StaticString =
    "\nstopping after this step, with a checkpoint; once more ends at once\n"
  _ = unsafe write(2, line.utf8Start, line.utf8CodeUnitCount)
}

/// What the process was asked to do.
enum StopRequest {
  /// The signal that asked to stop; nil where none did.
  static var signal: Int32? {
    let number = asked.load(ordering: .relaxed)
    return number == 0 ? nil : number
  }

  /// From here on a signal is a request.
  ///
  /// One that is ignored, as nohup has it, stays ignored.
  static func listen() {
    for number in [SIGINT, SIGTERM, SIGHUP] {
      let before = Foundation.signal(number, handle)
      if unsafe unsafeBitCast(before, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self) {
        _ = Foundation.signal(number, SIG_IGN)
      }
    }
  }
}
