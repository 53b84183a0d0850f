// The process's own streams: every write and every read of them is checked.
//
// In:  text for standard output or standard error, or the wish to read standard input.
// Out: bytes that are there; or exit status 74, with a line where one can still be said.
//
//   standard output   the result. Where it cannot be written, the tool says so and ends with 74. A
//                     reader that has left (lrqk ... | head -1) is no fault: the tool ends in
//                     silence with 141, as SIGPIPE would end it.
//   standard error    words beside the result. Where they cannot be written, the work goes on to
//                     its end, and the exit status is 74 instead of any other.
//   standard input    read to its end, or an error.
//
// A stream that is closed at the start is opened on /dev/null in the direction that does not serve:
// its use still fails, and no file opened later gets its number, which messages would run into.
//
// This file and CommandFiles.swift are where the tool meets C.

import Foundation
import Glibc
import Synchronization

/// The three streams.
enum Streams {
  /// Whether a line for standard error was lost.
  private static let hasLostLines = Atomic(false)

  /// Makes the streams safe to use; to be called before any file is opened.
  static func prepare() {
    // A write to a pipe without a reader returns an error then, which is dealt with below.
    _ = Glibc.signal(SIGPIPE, SIG_IGN)
    for descriptor: Int32 in 0...2 where fcntl(descriptor, F_GETFD) < 0 {
      // The system gives the lowest free number: this one.
      let opened = unsafe open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY)
      if opened != descriptor { Glibc.exit(EX_IOERR) }
    }
  }

  /// Ends the tool with `status`, or with 74 where a line for standard error was lost.
  static func exit(_ status: Int32) -> Never {
    Glibc.exit(hasLostLines.load(ordering: .relaxed) ? EX_IOERR : status)
  }

  /// Writes `text` to standard output as it is; ends the tool where that fails.
  static func writeOutput(_ text: String) {
    guard let code = write(text, to: 1) else { return }
    if code == EPIPE { Glibc.exit(128 + SIGPIPE) }
    writeErrors("lrqk: standard output: cannot write; the rest is lost\n")
    Glibc.exit(EX_IOERR)
  }

  /// Writes `text` to standard error as it is; a failure shows in the exit status.
  static func writeErrors(_ text: String) {
    if write(text, to: 2) != nil { hasLostLines.store(true, ordering: .relaxed) }
  }

  /// What comes next in standard input, at most 64 KiB; empty at its end.
  static func readInput() throws(StreamError) -> [UInt8] {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = unsafe buffer.withUnsafeMutableBytes {
        unsafe read(0, $0.baseAddress, $0.count)
      }
      if count >= 0 { return Array(buffer[..<count]) }
      let code = errno
      if code == EAGAIN {
        wait(for: POLLIN, 0)
      } else if code != EINTR {
        throw StreamError(
          "standard input: cannot read: \(systemReason(code))")
      }
    }
  }

  /// Writes all bytes; returns the system's error number where that fails, otherwise nil.
  private static func write(_ text: String, to descriptor: Int32) -> Int32? {
    let bytes = Array(text.utf8)
    var written = 0
    while written < bytes.count {
      let step = unsafe bytes.withUnsafeBytes { buffer in
        unsafe Glibc.write(
          descriptor, buffer.baseAddress?.advanced(by: written), buffer.count - written)
      }
      if step >= 0 {
        written += step
        continue
      }
      let code = errno
      if code == EAGAIN {
        wait(for: POLLOUT, descriptor)
      } else if code != EINTR {
        return code
      }
    }
    return nil
  }

  /// Waits until a stream that does not block is ready again.
  private static func wait(for event: Int32, _ descriptor: Int32) {
    var ready = pollfd(fd: descriptor, events: Int16(event), revents: 0)
    _ = unsafe poll(&ready, 1, -1)
  }
}

/// A standard stream that cannot be read: exit status 74.
struct StreamError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// The system's words for an error number.
func systemReason(_ code: Int32) -> String {
  unsafe strerror(code).map { unsafe String(cString: $0) } ?? "error \(code)"
}
