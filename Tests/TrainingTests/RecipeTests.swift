// Recipes, tasks and the tokenizer they are made in.

import Evaluation
import Foundation
import Tensors
import Testing
import Training
import Transformers

private let good = """
  {"seed": 5, "shards": 1, "vocabulary": 600, "background": 0.2, "format": "bf16",
   "model": {"layers": 1, "hidden_size": 8, "query_heads": 2, "head_width": 4,
             "intermediate_size": 8, "attention": "mqa", "rotary_base": 5000, "context": 600},
   "optimizer": {"kind": "muon", "weight_decay": 0.01, "clip": 2.0},
   "stages": [{"name": "a", "tasks": {"repeats": 3, "prose": 1}, "sizes": [[64, 2], [32, 4, 0.5]],
               "rate": 0.01, "last_rate": 0.001, "warm_up": 2, "accuracy": 0.9, "steps": 7}]}
  """

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
    #expect(stage.accuracy == 0.9 && stage.window == 50)
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
      ("\"head_width\": 4", "\"head_width\": 3", "model.head_width"),
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

  @Test func `the tokenizer keeps digits single and words whole`() throws {
    let made = try ModelTokenizer(vocabulary: 2048, samples: 3)
    let tokenizer = made.tokenizer
    #expect(tokenizer.vocabularySize <= 2048 && tokenizer.endID == made.endID)
    #expect(tokenizer.encode("1234567", addingSpecialTokens: false).count == 7)
    // A word of a key takes two tokens or so, not one a letter.
    let keys = WordLists.nouns.map { "-\($0)" }
    let tokens = keys.reduce(0) {
      $0 + tokenizer.encode($1, addingSpecialTokens: false).count
    }
    #expect(Double(tokens) < 2.2 * Double(keys.count), "\(tokens) tokens")
    // The same files from the same call.
    #expect(try ModelTokenizer(vocabulary: 2048, samples: 3).files[0].bytes == made.files[0].bytes)
  }

  @Test(arguments: ["repeats", "prose", "niah_multikey_2", "niah_multiquery", "vt"])
  func `texts have the length that is asked for, and their answers are asked for`(
    _ name: String
  ) throws {
    let made = try ModelTokenizer(vocabulary: 1500, samples: 3)
    let task = try trainingTask(
      name, tokenizer: made.tokenizer, endID: made.endID, background: 0.2)
    for index in 0..<3 {
      let numbers = RandomNumbers(seed: 9, stream: UInt64(index))
      let (tokens, weights) = try task.text(length: 500, numbers)
      #expect(tokens.count == 501 && weights.count == 501)
      #expect(tokens.allSatisfy { $0 >= 0 && $0 < made.tokenizer.vocabularySize })
      #expect(weights.contains(1))
      #expect(try task.text(length: 500, numbers).tokens == tokens)
      if name == "niah_multikey_2" {
        // What is asked for is the number of the needle and the end of the text.
        let asked = tokens.indices.filter { weights[$0] == 1 }
        let answer = made.tokenizer.decode(asked.map { tokens[$0] })
        let prompt = made.tokenizer.decode(Array(tokens[..<asked[0]]))
        let number = answer.filter(\.isNumber)
        #expect(number.count == 7 && prompt.contains("is: \(number)."))
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
