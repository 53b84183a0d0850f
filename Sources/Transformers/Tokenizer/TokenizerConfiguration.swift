// tokenizer_config.json, as far as it matters here.
//
// In:  the file beside tokenizer.json, if there is one.
// Out: the tokens that begin and end a text, checked against what tokenizer.json does.
//
// Read are `bos_token`, `eos_token`, `add_bos_token`, `add_eos_token` and `split_special_tokens`. What encoding does stands
// in tokenizer.json alone; if the two files contradict each other, that is an error and no guess.
// The other keys concern chat templates (not a tokenizer's business) or Python.

internal import Tensors

/// What tokenizer_config.json says.
struct TokenizerConfiguration: Sendable {
  /// id of `bos_token` and `eos_token`.
  private(set) var begin: Int?
  private(set) var end: Int?

  /// No file.
  init() {}

  /// Reads the file; `id` finds a token's id, `ends` are the special tokens around each text.
  init(
    _ part: TokenizerPart, id: (Scalars) -> Int?, ends: (before: [Int], after: [Int])
  ) throws(TokenizerError) {
    begin = try Self.token(part.member("bos_token"), id)
    end = try Self.token(part.member("eos_token"), id)
    try Self.check(part, "add_bos_token", begin, ends.before.contains)
    try Self.check(part, "add_eos_token", end, ends.after.contains)
    if part.member("split_special_tokens") != nil, try part.flag("split_special_tokens") {
      throw part.fault("split_special_tokens is true, which is not supported")
    }
  }

  /// The id of a token, written as a string or as an object with its `content`.
  private static func token(
    _ part: TokenizerPart?, _ id: (Scalars) -> Int?
  ) throws(TokenizerError) -> Int? {
    guard let part else { return nil }
    let text = part.value.objectValue == nil ? part : try part.required("content")
    guard let id = id(try text.scalars()) else {
      throw text.fault("tokenizer.json has no \(quoted(try text.scalars()))")
    }
    return id
  }

  private static func check(
    _ part: TokenizerPart, _ key: String, _ token: Int?, _ isAdded: (Int) -> Bool
  ) throws(TokenizerError) {
    guard part.member(key) != nil, let token else { return }
    let wanted = try part.flag(key)
    if wanted != isAdded(token) {
      throw part.fault(
        "\(key) is \(wanted), but tokenizer.json's post_processor \(wanted ? "does not" : "does"); "
          + "change one of them")
    }
  }
}
