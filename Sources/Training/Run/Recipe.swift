// A training run as a file: everything that decides its bits.
//
// In:  recipe.json.
// Out: a model's shape, the tokenizer's size, stages, an optimiser, a seed.
//
//   {"seed": 1, "shards": 2, "vocabulary": 1024, "background": 0.2, "format": "bf16",
//    "start": "looking-back",
//    "model": {"layers": 4, "hidden_size": 128, "query_heads": 4, "head_width": 64,
//              "intermediate_size": 256, "attention": "gqa", "key_value_heads": 2,
//              "rotary_base": 500000, "context": 2048},
//    "optimizer": {"kind": "muon", "weight_decay": 0.05, "clip": 1.0},
//    "stages": [{"name": "induction", "tasks": {"repeats": 1}, "sizes": [[128, 32]],
//                "rate": 0.002, "warm_up": 50, "accuracy": 0.9, "window": 50, "steps": 3000}]}
//
// start is random (the default) or looking-back. attention is mha, gqa (key_value_heads), mqa, mla
// (latent, rotary) or lrkv (rank). muon_rate is the rate of Muon's matrices over that of the
// others. With "average": [5000, 6000] the finished model is the mean of the weights after these
// steps, counted over all stages (WeightAveraging.swift). The keys of a stage are in
// RecipeStage.swift. A key that is not known is an error.
//
// A recipe for a model that goes on (TrainedModel.swift) has no model, no vocabulary and no start.
// With "heads": {"query": 8, "key_value": 4} the model is given more heads first (MoreHeads.swift).

package import Tensors
package import Tokenizers
import Transformers

/// What recipe.json says.
package struct Recipe: Sendable {
  /// The file as it is, and the seed that was given instead of its own: two runs with the same text
  /// have the same bits.
  package let text: String
  /// The seed of parameters and batches.
  package let seed: UInt64
  /// Tapes of a step.
  package let shards: Int
  /// What is trained.
  package let shape: ModelShape
  /// How parameters begin.
  package let start: ModelStart
  /// How a step changes parameters.
  package let optimizer: Optimizer
  /// The weight of tokens that are not asked for.
  package let background: Double
  /// How the finished model's weights are stored.
  package let format: StorageFormat
  /// The steps whose weights the finished model is the mean of; none: it has the last ones.
  package let averaged: Set<Int>
  /// Stages, their tasks by name.
  package let stages: [RecipeStage]

  /// Reads the recipe at `path`, a file, a pipe or standard input (`-`).
  ///
  /// `seed` stands for the one that it names. With a `model` the recipe says how that one goes on.
  package init(
    path: String, seed given: UInt64? = nil, model from: TrainedModel<Float>? = nil
  ) throws {
    // Read once: the recipe may come through a pipe.
    let bytes = try readInput(at: path, limit: 4_000_000)
    var file = try ConfigurationReader(bytes: bytes, file: path)
    let words = String(decoding: bytes, as: UTF8.self)
    text = given.map { "\(words)\nseed \($0)\n" } ?? words
    let named = UInt64(try file.integer("seed", in: 0...(1 << 31)) ?? 0)
    let seed = given ?? named
    self.seed = seed
    shards = try file.integer("shards", in: 1...64) ?? 2
    background = try file.share("background", upTo: 1) ?? 0.2
    let formats: [String: StorageFormat] = ["f32": .float32, "f16": .float16, "bf16": .bfloat16]
    let format = try file.text("format") ?? "f32"
    guard let format = formats[format] else {
      throw file.fault("format", .unsupported(value: format, supported: "f32, f16 or bf16"))
    }
    self.format = format
    (shape, start) =
      try from.map { try Self.model($0, seed: seed, &file) } ?? Self.model(&file)
    optimizer = try Self.optimizer(try file.object("optimizer"))
    let list = try file.require("stages", file.value("stages")?.arrayValue)
    stages = try list.indices.map { n in
      try RecipeStage(try ConfigurationReader(list[n], file: path, prefix: "stages[\(n)]."))
    }
    if stages.isEmpty { throw file.fault("stages", .missing) }
    averaged = try Self.averaged(&file, steps: stages.reduce(0) { $0 + $1.steps })
    for stage in stages {
      for size in stage.sizes where size.length > shape.contextLength {
        throw file.fault(
          "stages", .inconsistent("\(size.length) tokens exceed the context \(shape.contextLength)")
        )
      }
      let longest = stage.sizes.map(\.length).max() ?? 0
      for (key, reach) in [("span", stage.span), ("thin_from", stage.thinFrom)] {
        guard let reach, !(longest...shape.contextLength).contains(reach) else { continue }
        throw file.fault(
          "stages",
          .inconsistent(
            "\(key) \(reach) is not from \(longest), the longest text, to the context "
              + "\(shape.contextLength)"))
      }
      if stage.thinFrom != nil && stage.span != nil {
        throw file.fault("stages", .inconsistent("a stage has a span or thin_from, not both"))
      }
    }
    try file.finish()
  }

  /// The shape and the start of a model that goes on: the recipe may give it more heads.
  private static func model(
    _ given: TrainedModel<Float>, seed: UInt64, _ file: inout ConfigurationReader
  ) throws -> (ModelShape, ModelStart) {
    for key in ["vocabulary", "model", "start"] where file.value(key) != nil {
      throw file.fault(
        key, .inconsistent("the model is given already; take this out of the recipe"))
    }
    let model =
      try file.object("heads").map {
        given.with(try MoreHeads($0, for: given.shape), seed: seed)
      } ?? given
    return (model.shape, .given(model.parameters))
  }

  /// The shape and the start of a model that begins.
  private static func model(
    _ file: inout ConfigurationReader
  ) throws -> (ModelShape, ModelStart) {
    if file.value("heads") != nil {
      throw file.fault("heads", .inconsistent("only a model that goes on, --from, gets more heads"))
    }
    let vocabulary = try file.require(
      "vocabulary", try file.integer("vocabulary", in: 258...(1 << 16)))
    var model = try file.require("model", try file.object("model"))
    let shape = try Self.shape(vocabulary, &model)
    try model.finish()
    let word = try file.text("start") ?? ModelStart.random.name
    guard let start = [ModelStart.random, .induction].first(where: { $0.name == word }) else {
      throw file.fault("start", .unsupported(value: word, supported: "random or looking-back"))
    }
    return (shape, start)
  }

  private static func averaged(
    _ file: inout ConfigurationReader, steps: Int
  ) throws -> Set<Int> {
    guard let value = file.value("average") else { return [] }
    let list = value.arrayValue ?? []
    let numbers = list.compactMap(\.intValue)
    guard !numbers.isEmpty, numbers.count == list.count, Set(numbers).count == numbers.count,
      numbers.allSatisfy((1...steps).contains)
    else {
      throw file.fault(
        "average", .wrongKind(expected: "a list of different steps from 1 to \(steps)"))
    }
    return Set(numbers)
  }

  private static func shape(
    _ vocabulary: Int, _ model: inout ConfigurationReader
  ) throws -> ModelShape {
    func size(_ key: String, upTo most: Int) throws -> Int {
      try model.require(key, try model.integer(key, in: 1...most))
    }
    let heads = try size("query_heads", upTo: 256)
    let width = try size("head_width", upTo: 1024)
    if width % 2 != 0 {
      throw model.fault("head_width", .outOfRange(value: "\(width)", allowed: "even"))
    }
    let name = try model.require("attention", try model.text("attention"))
    let attention: AttentionKind
    switch name {
    case "mha": attention = .grouped(keyValueHeads: heads)
    case "mqa": attention = .grouped(keyValueHeads: 1)
    case "gqa":
      let shared = try size("key_value_heads", upTo: heads)
      if heads % shared != 0 {
        throw model.fault("key_value_heads", .inconsistent("\(shared) does not divide \(heads)"))
      }
      attention = .grouped(keyValueHeads: shared)
    case "mla":
      let rotary = try size("rotary", upTo: 1024)
      if rotary % 2 != 0 {
        throw model.fault("rotary", .outOfRange(value: "\(rotary)", allowed: "even"))
      }
      attention = .latent(latent: try size("latent", upTo: 1 << 14), rotary: rotary)
    case "lrkv":
      attention = .lowRank(
        rank: try model.require("rank", try model.integer("rank", in: 0...width)))
    default:
      throw model.fault(
        "attention", .unsupported(value: name, supported: "mha, gqa, mqa, mla or lrkv"))
    }
    var shape = ModelShape(
      vocabulary: vocabulary, layers: try size("layers", upTo: 256),
      hiddenSize: try size("hidden_size", upTo: 1 << 14), queryHeads: heads, headWidth: width,
      intermediateSize: try size("intermediate_size", upTo: 1 << 16), attention: attention)
    shape.rotaryBase = try model.number("rotary_base", above: 1) ?? shape.rotaryBase
    shape.contextLength = try size("context", upTo: 1 << 20)
    return shape
  }

  private static func optimizer(_ reader: ConfigurationReader?) throws -> Optimizer {
    var optimizer = Optimizer()
    guard var reader else { return optimizer }
    let decay = try reader.share("weight_decay", upTo: 10)
    switch try reader.text("kind") ?? "adamw" {
    case "adamw": break
    case "muon":
      var muon = Muon()
      muon.weightDecay = decay ?? muon.weightDecay
      muon.rateFactor = try reader.number("muon_rate", above: 0, upTo: 100) ?? muon.rateFactor
      optimizer.muon = muon
    case let other:
      throw reader.fault("kind", .unsupported(value: other, supported: "adamw or muon"))
    }
    optimizer.weightDecay = decay ?? optimizer.weightDecay
    optimizer.clip = try reader.number("clip", above: 0) ?? optimizer.clip
    optimizer.squareDecay =
      try reader.number("square_decay", above: 0, upTo: 0.9999999)
      ?? optimizer.squareDecay
    try reader.finish()
    return optimizer
  }
}

extension Recipe {
  /// Whether a stage learns from a text of the user's.
  package var readsText: Bool { taskNames.contains("text") }

  /// Whether all stages learn from a text of the user's and from nothing else.
  package var readsTextAlone: Bool { taskNames == ["text"] }

  private var taskNames: Set<String> { Set(stages.flatMap { $0.tasks.map(\.name) }) }

  /// The run that the recipe describes, with this tokenizer, and a teacher and a text where a stage
  /// wants one.
  package func trainer(
    _ tokenizer: Tokenizer, teacher: TrainedModel<Float>? = nil, text: TrainingText? = nil
  ) throws -> Trainer {
    let borders = (0..<tokenizer.vocabularySize).filter {
      let text = tokenizer.decode([$0])
      return text.hasSuffix(".") || text.hasSuffix("\n")
    }
    let whole = try stages.map { stage in
      var whole = Stage(
        name: stage.name,
        tasks: try stage.tasks.map { name, share in
          TaskShare(
            name: name, share: share,
            task: try trainingTask(
              name, tokenizer: tokenizer, background: background, text: text))
        },
        sizes: stage.sizes, schedule: stage.schedule, accuracy: stage.accuracy,
        window: stage.window, steps: stage.steps)
      whole.stretching = stage.span.map { PositionGaps(span: $0, borders: Set(borders)) }
      whole.thinning = stage.thinFrom.map { HaystackThinning(length: $0, borders: Set(borders)) }
      (whole.comparison, whole.trained) = (stage.comparison, stage.trained)
      return whole
    }
    var trainer = Trainer(shape, stages: whole, seed: seed)
    trainer.optimizer = optimizer
    trainer.shards = shards
    trainer.averaged = averaged
    trainer.teacher = teacher
    try trainer.checkTeacher()
    return trainer
  }
}
