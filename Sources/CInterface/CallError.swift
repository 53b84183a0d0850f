// Why a call failed: a status and one sentence.
//
// In:  an error of any module, or a check that failed here.
// Out: the `lrqk_status` that lrqk.h promises for it, and the sentence.
//
// Every function of lrqk.h ends in `answer` below or in `withCache` (Handles.swift), where errors
// become numbers. The next file, Arrays.swift, checks every pointer.

import CLRQK
import LRQK
import Tensors
import TieredMemory

/// A failed call: a status other than LRQK_OK, and the reason.
struct CallError: Error {
  let status: lrqk_status
  let sentence: String

  init(_ status: lrqk_status, _ sentence: String) {
    self.status = status
    self.sentence = sentence
  }

  /// The status and the sentence of an error of any module.
  init(_ error: any Error) {
    switch error {
    case let error as CallError:
      self = error
    case let error as LRQKError:
      self.init(Self.status(of: error), "\(error)")
    case let error as DeviceTierError:
      self.init(LRQK_ERROR_MEMORY, "\(error)")
    default:
      self.init(LRQK_ERROR_INTERNAL, "\(error)")
    }
  }

  private static func status(of error: LRQKError) -> lrqk_status {
    switch error {
    case .parameter: LRQK_ERROR_PARAMETER
    case .shape, .promptTooShort: LRQK_ERROR_SIZE
    case .nonFiniteInput: LRQK_ERROR_NON_FINITE
    case .singular, .overflow, .decomposition: LRQK_ERROR_BREAKDOWN
    }
  }
}

// Options.swift still has the older name.

/// Runs a plain function's body; its status, and its message in the caller's buffer.
func answer(
  _ message: UnsafeMutablePointer<CChar>?, _ size: Int, _ body: () throws -> Void
) -> lrqk_status {
  do {
    try body()
    unsafe write("", to: message, size)
    return LRQK_OK
  } catch {
    let failure = CallError(error)
    unsafe write(failure.sentence, to: message, size)
    return failure.status
  }
}

/// Writes as much of `sentence` as fits into `size` bytes, in whole characters, and a final NUL.
func write(_ sentence: String, to message: UnsafeMutablePointer<CChar>?, _ size: Int) {
  guard let message = unsafe message, size > 0 else { return }
  let bytes = Array(sentence.utf8)
  var end = min(bytes.count, size - 1)
  // A byte 10xxxxxx continues the character before it.
  while end < bytes.count && end > 0 && bytes[end] & 0xC0 == 0x80 { end -= 1 }
  for i in 0..<end { unsafe message[i] = CChar(bitPattern: bytes[i]) }
  unsafe message[end] = 0
}
