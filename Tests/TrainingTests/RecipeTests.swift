// Recipes, tasks and the tokenizer they are made in.

import Tasks
import Foundation
import Tensors
import TestSupport
import Testing
import Training
import Tokenizers
import Transformers

private let good = """
  {"seed": 5, "shards": 1, "vocabulary": 600, "background": 0.2, "format": "bf16",
   "model": {"layers": 1, "hidden_size": 8, "query_heads": 2, "head_width": 4,
             "intermediate_size": 8, "attention": "mqa", "rotary_base": 5000, "context": 600},
   "optimizer": {"kind": "muon", "weight_decay": 0.01, "clip": 2.0},
   "stages": [{"name": "a", "tasks": {"repeats": 3, "prose": 1}, "sizes": [[64, 2], [32, 4, 0.5]],
               "rate": 0.01, "last_rate": 0.001, "warm_up": 2, "accuracy": 0.9, "steps": 7,
               "span": 400}]}
  """

private func occurrences(_ part: String, in text: String) -> Int { text.ranges(of: part).count }

@Suite struct RecipeTests {
  private func read(_ text: String) throws -> Recipe {
    var recipe: Recipe?
    try withFolder { folder in
      let path = folder + "/recipe.json"
      try Data(text.utf8).write(to: URL(fileURLWithPath: path))
      recipe = try Recipe(path: path)
    }
    return try #require(recipe)
  }

  @Test(arguments: [
    "Models/needles/recipe", "Models/prose/recipe", "Recipes/repeats", "Recipes/words",
    "Recipes/variants/gqa",
    "Recipes/variants/lrkv", "Recipes/variants/mha", "Recipes/variants/mla",
    "Recipes/variants/mqa",
  ])
  func `every shipped recipe is read`(_ name: String) throws {
    let recipe = try Recipe(path: packageRoot.appendingPathComponent("Examples/\(name).json").path)
    #expect(!recipe.stages.isEmpty)
  }

  @Test(arguments: ["narrow", "joined", "plain"])
  func `every shipped recipe for a model that goes on is read`(_ name: String) throws {
    let path = packageRoot.appendingPathComponent("Examples/Recipes/\(name).json").path
    let shape = tiny(convertedVariants[0].kind)
    let model = TrainedModel<Float>(shape, shape.startingParameters(seed: 1))
    let recipe = try Recipe(path: path, model: model)
    // After a conversion some parts stay as they are; plain lists change all of a model.
    #expect(recipe.shape == shape)
    #expect(recipe.stages.allSatisfy { ($0.trained == .all) == (name == "plain") })
    let state = TrainingState(recipe.shape, seed: recipe.seed, start: recipe.start)
    #expect(state.parameters.map(\.values) == model.parameters.map(\.values))
    // Without the model it says what it lacks.
    #expect(throws: ConfigurationError.self) { try Recipe(path: path) }
  }

  @Test(arguments: ["plain-g1", "plain-g4"])
  func `the recipe of a shipped model that went on is read with its start`(_ name: String) throws {
    let models = packageRoot.appendingPathComponent("Examples/Models").path
    let recipe = try Recipe(
      path: "\(models)/\(name)/recipe.json", model: TrainedModel(folder: "\(models)/needles"))
    // What the recipe makes of its start is the shape of what is shipped.
    let shipped = try TrainedModel(folder: "\(models)/\(name)").shape
    #expect(recipe.shape == shipped)
  }

  @Test func `a recipe is read whole`() throws {
    let recipe = try read(good)
    #expect(recipe.seed == 5 && recipe.shards == 1 && recipe.background == 0.2)
    #expect(recipe.shape.attention == .grouped(keyValueHeads: 1))
    #expect(recipe.shape.rotaryBase == 5000 && recipe.shape.contextLength == 600)
    #expect(recipe.optimizer.muon?.weightDecay == 0.01 && recipe.optimizer.clip == 2)
    let stage = try #require(recipe.stages.first)
    #expect(stage.tasks.map(\.name) == ["repeats", "prose"] && stage.tasks.map(\.share) == [3, 1])
    #expect(
      stage.sizes == [BatchSize(length: 64, count: 2), BatchSize(length: 32, count: 4, share: 0.5)])
    #expect(stage.schedule == Schedule(rate: 0.01, lastRate: 0.001, warmUp: 2, steps: 7))
    #expect(stage.accuracy == 0.9 && stage.window == 50 && stage.span == 400)
  }

  @Test func `a recipe names the steps that are averaged`() throws {
    #expect(try read(good).averaged.isEmpty)
    let text = good.replacing("\"seed\": 5", with: "\"seed\": 5, \"average\": [3, 7]")
    #expect(try read(text).averaged == [3, 7])
  }

  @Test(
    arguments: [
      "\"mha\"", "\"mla\", \"latent\": 4, \"rotary\": 2", "\"lrkv\", \"rank\": 1",
    ])
  func `every kind of attention can begin by looking back`(_ kind: String) throws {
    let text = good.replacing("\"seed\": 5", with: "\"seed\": 5, \"start\": \"looking-back\"")
      .replacing("\"mqa\"", with: kind)
    #expect(try read(text).start.name == "looking-back")
  }

  @Test(
    arguments: [
      ("\"vocabulary\": 600", "\"vocabulary\": 100", "vocabulary"),
      ("\"seed\": 5", "\"sead\": 5", "sead"), ("\"mqa\"", "\"mha2\"", "model.attention"),
      ("\"mqa\"", "\"gqa\", \"key_value_heads\": 3", "model.key_value_heads"),
      ("\"layers\": 1", "\"layers\": 0", "model.layers"), ("\"bf16\"", "\"int8\"", "format"),
      ("\"muon\"", "\"sgd\"", "optimizer.kind"), ("[64, 2]", "[64]", "stages[0].sizes"),
      ("[64, 2]", "[6400, 2]", "stages"), ("\"repeats\": 3", "\"repeats\": -3", "stages[0].tasks"),
      ("\"rate\": 0.01,", "", "stages[0].rate"),
      ("\"steps\": 7", "\"steps\": 0", "stages[0].steps"),
      ("\"span\": 400", "\"span\": 63", "stages"),
      ("\"span\": 400", "\"span\": 601", "stages"),
      ("\"span\": 400", "\"thin_from\": 63", "stages"),
      ("\"span\": 400", "\"span\": 400, \"thin_from\": 400", "stages"),
      ("\"head_width\": 4", "\"head_width\": 3", "model.head_width"),
      ("\"seed\": 5", "\"seed\": 5, \"start\": \"warm\"", "start"),
      ("\"seed\": 5", "\"seed\": 5, \"average\": [8]", "average"),
      ("\"seed\": 5", "\"seed\": 5, \"average\": [2, 2]", "average"),
      ("\"seed\": 5", "\"seed\": 5, \"average\": []", "average"),
    ])
  func `each fault is named with its key`(_ part: String, _ wrong: String, _ key: String) throws {
    #expect(good.contains(part))
    do {
      _ = try read(good.replacingOccurrences(of: part, with: wrong))
      Issue.record("accepted \(wrong)")
    } catch let error as ConfigurationError {
      #expect(error.key == key, "\(error)")
      #expect(!error.description.utf8.contains(10))
    }
  }

  @Test func `the tokenizer cuts numbers into groups of three digits and keeps words whole`()
    throws
  {
    let made = try ModelTokenizer(vocabulary: 5120, samples: 3)
    let tokenizer = made.tokenizer
    #expect(tokenizer.vocabularySize <= 5120 && tokenizer.endID == ModelTokenizer.endID)
    // Every group of three, the first of a number and the next.
    for number in (100...999).map({ $0 * 10_010 + 7 }) + [1_000_000, 1_007_000, 1_023_004] {
      let tokens = tokenizer.encode(" \(number)", addingSpecialTokens: false)
      #expect(
        tokens.map { tokenizer.decode([$0]) } == [
          " \(number / 10_000)", String(String(number).dropFirst(3).prefix(3)), "\(number % 10)",
        ])
    }
    // A variable's name begins with a letter that is a token of its own.
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" {
      #expect(tokenizer.encode(" \(letter)QZXJ", addingSpecialTokens: false).count == 5)
    }
    // The first token of every text is the one that begins it.
    let texts =
      tokenizer.encode("a").count - tokenizer.encode("a", addingSpecialTokens: false).count
    #expect(texts == 1 && tokenizer.encode("a")[0] == 0)
    // A word of a key is one token.
    let keys = WordLists.nouns.map { "-\($0)" }
    let tokens = keys.reduce(0) {
      $0 + tokenizer.encode($1, addingSpecialTokens: false).count
    }
    #expect(tokens == keys.count)
    // The same files from the same call.
    #expect(try ModelTokenizer(vocabulary: 5120, samples: 3).files[0].bytes == made.files[0].bytes)
  }

  @Test func `half of the repeats are groups of digits alone`() throws {
    let made = try ModelTokenizer(vocabulary: 5120, samples: 3)
    let task = try trainingTask("repeats", tokenizer: made.tokenizer, background: 0)
    var ofDigits = 0
    for index in 0..<40 {
      let tokens = try task.text(length: 60, RandomNumbers(seed: 5, stream: UInt64(index))).tokens
      let areDigits = tokens.map { token in
        made.tokenizer.decode([token]).drop { $0 == " " }.allSatisfy(\.isNumber)
      }
      let share = Double(areDigits.count { $0 }) / 61
      // Of all 5,120 tokens two in five are digits: nothing lies between.
      #expect(share == 1 || share < 0.8, "text \(index): \(share)")
      ofDigits += share == 1 ? 1 : 0
    }
    // 20 expected, deviation √10.
    #expect((10...30).contains(ofDigits), "\(ofDigits) of 40")
  }

  @Test(
    arguments: [
      "repeats", "pairs", "updates", "prose", "recital", "niah_single_1", "niah_multikey_2",
      "niah_multivalue", "niah_multiquery", "vt", "fwe", "survey", "chain",
      "values",
    ])
  func `texts have the length that is asked for, and their answers are asked for`(
    _ name: String
  ) throws {
    let made = try ModelTokenizer(vocabulary: 1500, samples: 3)
    let task = try trainingTask(
      name, tokenizer: made.tokenizer, background: 0.2)
    for index in 0..<3 {
      let numbers = RandomNumbers(seed: 9, stream: UInt64(index))
      let (tokens, weights) = try task.text(length: 500, numbers)
      #expect(tokens.count == 501 && weights.count == 501)
      #expect(tokens.allSatisfy { $0 >= 0 && $0 < made.tokenizer.vocabularySize })
      #expect(weights.contains(1))
      #expect(try task.text(length: 500, numbers).tokens == tokens)
      if name == "repeats" {
        // After the first token of a repeat, what has to be looked up stands behind an earlier
        // place of that token; what follows weighs a little less.
        for t in tokens.indices.dropFirst() where weights[t] > 0 {
          #expect(weights[t] == (weights[t - 1] == 0 ? 1 : 0.9))
          let isSeen = (1..<t).contains {
            tokens[$0 - 1] == tokens[t - 1] && tokens[$0] == tokens[t]
          }
          #expect(isSeen, "place \(t)")
        }
      }
      if name == "niah_multikey_2" {
        // What has to be looked up is the first group of a number in the context; what has a little
        // less weight, the rest of the number, the mark and the end.
        let text = made.tokenizer.decode(tokens)
        let first = try #require(tokens.indices.first { weights[$0] == 1 })
        let group = made.tokenizer.decode([tokens[first]])
        #expect(group.dropFirst().allSatisfy(\.isNumber) && group.hasPrefix(" "))
        let rest = tokens[(first + 1)...].prefix { $0 != ModelTokenizer.endID }
        let number = group.dropFirst() + made.tokenizer.decode(Array(rest)).dropLast()
        #expect(number.count == 7 && text.contains("is: \(number)."))
        #expect(weights[(first + 1)...].prefix(rest.count + 1).allSatisfy { $0 == 0.9 })
      }
      if name == "pairs" {
        // A value that is asked for follows the same key as before; what is behind its first token
        // is copied.
        let text = made.tokenizer.decode(tokens)
        #expect(weights.contains(0.9))
        for t in tokens.indices where weights[t] == 1 {
          let value = made.tokenizer.decode([tokens[t]])
          #expect(occurrences(value, in: text) >= 2, "\(value) stands alone")
        }
      }
      if name == "updates" {
        // What is asked for is the value that the same key had in its last line.
        let text = made.tokenizer.decode(Array(tokens.dropFirst()))
        var last: [String: Substring] = [:]
        var asked = 0
        for line in text.split(separator: "\n").dropLast() {
          let words = line.split(separator: " ")
          let key = words[0].filter { $0 != ":" }
          let value = try #require(words.last { $0.hasSuffix(".") })
          let former = words.last == value ? nil : words.last
          #expect(former == last[key], "\(line)")
          asked += former == nil ? 0 : 1
          last[key] = value.dropLast()
        }
        // The line at the end, cut off, may have one more.
        #expect(asked > 3 && (asked...asked + 1).contains(weights.count { $0 == 1 }))
      }
      if name == "repeats" {
        // Every token that is asked for follows its predecessor as it did before.
        for t in tokens.indices where weights[t] == 1 {
          #expect((1..<t).contains { tokens[$0] == tokens[t] && tokens[$0 - 1] == tokens[t - 1] })
        }
      }
    }
  }
}
