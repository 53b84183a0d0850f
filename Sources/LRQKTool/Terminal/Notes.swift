// What a user should know about a run that goes well: lines on standard error.
//
// In:  a checkpoint folder; lengths of sequences.
// Out: an open decoder; lines "lrqk: note: ...", each once.
//
// The library says nothing by itself: what it notices while it reads a folder, it keeps as notes.
// The commands open a model through here, so that every one of them shows those.
//
// Notes wait for the first word of the result, or of progress. Where the input turns out to be of
// no use, its one line stands alone.

import Reports
import Synchronization
import Transformers

/// Notes that wait.
private let waiting = Mutex<[String]>([])

/// Adds a line about a run that goes well, for standard error.
func note(_ text: String) { waiting.withLock { $0.append(text) } }

/// Prints the notes that wait.
func showNotes() {
  let notes = waiting.withLock { notes in
    defer { notes = [] }
    return notes
  }
  for text in notes { Streams.writeErrors(visible("lrqk: note: \(text)") + "\n") }
}

/// Opens the model in `folder` and shows what there is to know about it.
func openDecoder(_ folder: String) throws -> Decoder {
  let decoder = try Decoder(folder: folder)
  for text in decoder.notes { note(text) }
  return decoder
}

/// Says once where a sequence is longer than the model was made for.
struct LengthNote {
  private let reach: Int
  private var isShown = false

  init(_ decoder: Decoder) { reach = decoder.configuration.reach }

  /// Says it if `length` tokens are too many; `what` has them, such as "the prompt".
  mutating func check(_ length: Int, _ what: String) {
    if length <= reach || isShown { return }
    isShown = true
    note("\(what) has \(length) tokens; \(ModelConfiguration.beyondReach(reach))")
  }
}
