// Standard input, line by line, as the lines come: from a pipe, a file or a person.
//
// In:  standard input.
// Out: each line's bytes without their end (LF or CRLF); the last one may have none.

import Glibc

/// The lines of standard input.
struct InputLines {
  /// Whether a person types them.
  static var areTyped: Bool { isatty(0) == 1 }

  /// The number of the line that came last, from 1.
  private(set) var number = 0
  private var whole: ArraySlice<[UInt8]> = []
  /// What has come of a line without its end.
  private var begun: [UInt8] = []

  /// The next line; nil at the end of the input.
  mutating func next() throws(StreamError) -> [UInt8]? {
    while whole.isEmpty {
      let part = try Streams.readInput()
      if part.isEmpty {
        if begun.isEmpty { return nil }
        whole = [begun]
        begun = []
        break
      }
      var lines = (begun + part).split(separator: 10, omittingEmptySubsequences: false)
        .map(Array.init)
      begun = lines.removeLast()
      whole = lines[...]
    }
    number += 1
    let line = whole.removeFirst()
    return line.last == 13 ? line.dropLast() : line
  }
}
