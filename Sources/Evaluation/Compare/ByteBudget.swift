// From a part of full attention's bytes to the options of a method.
//
// In:  "1/16"; the layers of a model, the length of a sample; a line of ComparedMethod's table.
// Out: the method whose bytes do not exceed the budget; where none fits, the least that it holds.
//
//     B = ⌊ part · mean over layers of full's bytes after L tokens ⌋      of one layer
//     fits:  Σ over layers of bytes(method, l) <= layers · B       for every prompt of l tokens
//
// L is the sample's length, prompt and answer together: what full attention needs room for. Bytes
// are each method's closed form after the prompt, codes and scores included, so rows that come with
// the answer are not among them; reports show what was held at its end.
//
// A text that is budgeted is taken where it leaves a head at least as many chosen rows as forced
// ones (recent ones, sinks); where none does, the first that fits at all. Of settings the one with
// the most bytes is taken, the earlier one where two have as many.

package import CacheMethods
import Reports
package import Transformers

extension ByteBudget {
  /// B, bytes of one layer on the device, for samples of `length` tokens.
  package func layerBytes(length: Int, layers: [LayerShape]) throws(MethodError) -> Int {
    let full = try cacheMethod(FullMethod.name).held(tokens: length, layers: layers)
    return full * numerator / (denominator * layers.count)
  }
}

extension CacheMethod {
  /// Bytes of all layers on the device after a prompt of `tokens` tokens, in closed form.
  func held(tokens: Int, layers: [LayerShape]) -> Int {
    layers.reduce(0) { $0 + bytes(tokens: tokens, layer: $1).device }
  }
}

/// What a line of the table came to under a budget.
package enum FittedMethod: Sendable {
  /// The method, with all its options.
  case method(any CacheMethod)
  /// No text fits; the sentence says what the smallest one holds.
  case tooSmall(String)
}

extension ComparedMethod {
  /// The method whose bytes fit `layerBytes` of each layer, after prompts of all these lengths.
  package func fitted(
    layerBytes: Int, tokens: [Int], layers: [LayerShape]
  ) throws(MethodError) -> FittedMethod {
    let place = FittingPlace(tokens: tokens, layers: layers)
    switch sizing {
    case .reference: return .method(try cacheMethod(name))
    case .leftOut(let reason): return .tooSmall(reason)
    case .budgeted:
      let fitting = place.fitting(texts(width: place.width), budget: layerBytes)
      if let best = fitting.first(where: { place.choosesEnough($0) }) ?? fitting.first {
        return .method(best)
      }
    case .settings:
      let limit = layerBytes * layers.count
      var best: any CacheMethod
      let fitting = place.methods(texts(width: place.width)).filter { place.held($0) <= limit }
      if let first = fitting.first {
        best = first
        for method in fitting where place.held(method) > place.held(best) { best = method }
        return .method(best)
      }
    }
    return .tooSmall(
      smallest(at: place).map { "no setting fits: the smallest holds \(Reports.bytes($0))" }
        ?? "no setting fits the model's layers")
  }

  /// The fewest bytes that all layers hold under any text; nil where the layers can have none.
  private func smallest(at place: FittingPlace) -> Int? {
    let texts = texts(width: place.width)
    if case .settings = sizing { return place.methods(texts).map(place.held).min() }
    // The smallest budget of a layer that some text meets; what fits a budget fits a larger one.
    var (low, high) = (1, 1 << 40)
    if place.fitting(texts, budget: high).isEmpty { return nil }
    while low < high {
      let middle = (low + high) / 2
      if place.fitting(texts, budget: middle).isEmpty { low = middle + 1 } else { high = middle }
    }
    return place.fitting(texts, budget: low).map(place.held).min()
  }

  /// Why no text can serve every layer of a model; nil where one can.
  package func obstacle(layers: [LayerShape]) -> String? {
    if case .leftOut(let reason) = sizing { return reason }
    var first: String?
    for text in texts(width: layers.first?.width ?? 1) {
      do {
        let method = try cacheMethod(text)
        for layer in layers { try layer.check(try method.makeCache(for: layer).needs) }
        return nil
      } catch {
        first = first ?? "\(error)"
      }
    }
    return first
  }
}

/// Where a budget has to be met: after which prompts, in which layers.
private struct FittingPlace {
  let tokens: [Int]
  let layers: [LayerShape]
  var width: Int { layers.first?.width ?? 1 }

  /// The texts that the layers can have caches of.
  func methods(_ texts: [String]) -> [any CacheMethod] {
    texts.compactMap { text in
      do {
        let method = try cacheMethod(text)
        for layer in layers { _ = try method.makeCache(for: layer) }
        return method
      } catch {
        return nil  // `obstacle` says why, where no text is left
      }
    }
  }

  /// Of these texts, with `budget` bytes of a layer, those whose budget is met.
  func fitting(_ texts: [String], budget: Int) -> [any CacheMethod] {
    methods(texts.map { $0.adding("budget=\(budgetText(budget))") }).filter { method in
      meets(method) && held(method) <= budget * layers.count
    }
  }

  /// The most that all layers hold after any of the prompts.
  func held(_ method: any CacheMethod) -> Int {
    tokens.map { method.held(tokens: $0, layers: layers) }.max() ?? 0
  }

  /// Whether a head has at least as many chosen rows as forced ones, in every layer.
  func choosesEnough(_ method: any CacheMethod) -> Bool {
    tokens.allSatisfy { l in
      layers.allSatisfy { layer in
        let rows = method.attendedRows(tokens: l, layer: layer)
        return rows >= 2 * method.forcedRows(of: rows, tokens: l, layer: layer)
      }
    }
  }

  private func meets(_ method: any CacheMethod) -> Bool {
    do {
      for l in tokens {
        for layer in layers { try method.checkBudget(tokens: l, layer: layer) }
      }
      return true
    } catch {
      return false
    }
  }
}

/// Bytes as the option budget takes them: "24KiB", "1000B".
func budgetText(_ bytes: Int) -> String {
  bytes > 0 && bytes.isMultiple(of: 1024) ? "\(bytes / 1024)KiB" : "\(bytes)B"
}

extension String {
  /// The text of a method with one option more.
  func adding(_ option: String) -> String { self + (contains(":") ? "," : ":") + option }
}
