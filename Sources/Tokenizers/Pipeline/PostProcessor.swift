// Special tokens around the ids of a text.
//
// In:  the ids of a text.
// Out: the same with, for example, <s> in front.
//
//   TemplateProcessing: single = [SpecialToken "<s>", Sequence "A"]
//
// Templates for pairs of texts are read past: this package encodes one text at a time. ByteLevel
// moves the offsets of tokens, which are not computed here, and leaves ids alone.

/// The post-processor of a tokenizer.
struct PostProcessor: Sendable {
  /// What a template puts down.
  private enum Piece: Sendable {
    case text
    case special([Int])
  }

  /// Templates, one after the other: the text of each is what the one before it made.
  private var templates: [[Piece]] = []

  /// Reads `post_processor`; nil adds nothing.
  init(_ part: TokenizerPart?, knows: (Int) -> Bool) throws(TokenizerError) {
    if let part { try read(part, knows) }
  }

  private mutating func read(
    _ part: TokenizerPart, _ knows: (Int) -> Bool
  ) throws(TokenizerError) {
    let type = try part.type()
    switch type {
    case "Sequence":
      try part.allow("type", "processors")
      for step in try part.required("processors").elements() { try read(step, knows) }
    case "ByteLevel":
      try part.allow("type", "add_prefix_space", "trim_offsets", "use_regex")
    case "TemplateProcessing":
      try part.allow("type", "single", "pair", "special_tokens")
      templates.append(try Self.template(part, knows))
    default:
      throw part.unsupported(type, known: "Sequence, ByteLevel, TemplateProcessing")
    }
  }

  private static func template(
    _ part: TokenizerPart, _ knows: (Int) -> Bool
  ) throws(TokenizerError) -> [Piece] {
    let specials = try part.required("special_tokens")
    var pieces: [Piece] = []
    for piece in try part.required("single").elements() {
      try piece.allow("Sequence", "SpecialToken")
      switch (piece.member("Sequence"), piece.member("SpecialToken")) {
      case (let sequence?, nil):
        try sequence.allow("id", "type_id")
        if try sequence.required("id").string() != "A" { throw sequence.fault("not sequence A") }
        pieces.append(.text)
      case (nil, let special?):
        try special.allow("id", "type_id")
        let token = try specials.required(try special.required("id").string())
        try token.allow("id", "ids", "tokens")
        var ids: [Int] = []
        for id in try token.required("ids").elements() {
          ids.append(try id.tokenID())
          if !knows(ids[ids.count - 1]) { throw id.fault("no token has this id") }
        }
        pieces.append(.special(ids))
      default:
        throw piece.fault("neither a Sequence nor a SpecialToken")
      }
    }
    let texts = pieces.count { if case .text = $0 { true } else { false } }
    if texts != 1 { throw part.fault("the template holds the text \(texts) times, not once") }
    return pieces
  }

  /// The ids of a text as the model wants them, with special tokens or with the text alone.
  func process(_ ids: [Int], addingSpecialTokens: Bool) -> [Int] {
    templates.reduce(ids) { ids, template in
      template.flatMap { piece in
        switch piece {
        case .text: ids
        case .special(let special): addingSpecialTokens ? special : []
        }
      }
    }
  }

  /// The special tokens before and after the text.
  var ends: (before: [Int], after: [Int]) {
    let marked = process([-1], addingSpecialTokens: true)
    let halves = marked.split(separator: -1, omittingEmptySubsequences: false)
    return (Array(halves.first ?? []), Array(halves.last ?? []))
  }
}
