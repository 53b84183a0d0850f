// lrqk inspect: what a checkpoint is, and what each cache method would hold for it.

import ArgumentParser
import CacheMethods
import Evaluation
import Foundation
import Reports
import Tensors
import Transformers

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Show a checkpoint's architecture, sizes, and cache bytes for each method.",
    discussion: """
      Cache bytes are closed forms for float32 rows, as this package holds them, after a prompt of \
      --tokens tokens, over all layers; tests hold them against measured buffers. They are held \
      between steps: offload brings one layer's rows for its step, and once decoding has begun \
      lrqk-prefill-offload holds what lrqk does.
      """)

  @OptionGroup var model: ModelOption

  @Option(help: "Length of the prompt that cache bytes are given for.")
  var tokens = 4096

  @Option(
    help: "A method to show, METHOD[:option=value,...]; again for more. (default: all that apply)",
    completion: .cacheMethods)
  var cache: [String] = []

  @Flag(help: "Print one JSON object.")
  var json = false

  func validate() throws {
    if !(1...1 << 30).contains(tokens) {
      throw ValidationError("--tokens \(tokens): it must be from 1 to \(1 << 30)")
    }
    do { _ = try methods() } catch { throw ValidationError("--cache \(error)") }
  }

  /// The methods asked for, or all of them with codes no wider than a head.
  private func methods(headWidth: Int? = nil) throws(MethodError) -> [any CacheMethod] {
    let all = cacheMethods.map { method in
      let hasCodes = method.optionList.contains { $0.name == "r" }
      return hasCodes ? "\(method.name):r=\(min(16, headWidth ?? 16))" : method.name
    }
    var chosen: [any CacheMethod] = []
    for text in cache.isEmpty ? all : cache { chosen.append(try cacheMethod(text)) }
    return chosen
  }

  func run() throws {
    do {
      let decoder = try openDecoder(model.model)
      let layer = decoder.layerShapes[0]
      var methods = try methods(headWidth: decoder.configuration.headWidth)
      if cache.isEmpty {
        // Of all methods those that this layer can have, with nothing but their defaults: one that
        // needs a file made beforehand has to be asked for.
        methods.removeAll {
          !$0.applies(to: layer) || (try? layer.check($0.makeCache(for: layer).needs)) == nil
        }
      }
      // A method that this model cannot have is an error here, not a figure.
      try checkCaches(methods, decoder, model.model)
      for (method, layer) in methods.flatMap({ m in decoder.layerShapes.map { (m, $0) } }) {
        try method.checkBudget(tokens: tokens, layer: layer)
      }
      let report = InspectReport(decoder, methods, tokens: tokens)
      show(json ? try jsonText(report) : report.text(width: terminalWidth))
    } catch {
      fail(error, model.model)
    }
  }
}
