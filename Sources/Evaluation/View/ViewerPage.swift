// One page that shows one or two traces, without a network.
//
// In:  traces; the page's parts in Page/: index.html, page.css and five scripts.
// Out: HTML with everything inside. Its Content-Security-Policy forbids every request.
//
//   Page/data.js       reads a packed trace; sets of any step
//   Page/step.js       what one step of a layer and a head says: counts, fates, scores
//   Page/pictures.js   the map of all steps, bytes over time
//   Page/method.js     one method: numbers, text, table
//   Page/page.js       the controls

import Foundation
import Reports

/// The page that `lrqk view` writes.
package enum ViewerPage {
  /// HTML of one trace, or of two that have the same prompt side by side.
  package static func html(_ traces: [GenerationTrace]) throws -> String {
    guard let first = traces.first, traces.count <= 2 else {
      throw EvaluationError("a page shows one trace or two, not \(traces.count)")
    }
    for trace in traces.dropFirst() {
      let prompts = [first, trace].map { $0.tokens.prefix($0.promptTokens) }
      if prompts[0] != prompts[1] {
        throw EvaluationError("the two traces have different prompts; show each on its own page")
      }
      if first.layers.map(\.queryHeads) != trace.layers.map(\.queryHeads) {
        throw EvaluationError("the two traces are of models with different layers or heads")
      }
    }
    if traces.contains(where: \.steps.isEmpty) {
      throw EvaluationError("a trace without steps has nothing to show; generate 2 tokens or more")
    }
    let data = try jsonText(traces.map(PackedTrace.init), isPretty: false)
    return text(PackageResources.index_html)
      .replacing("/*STYLE*/", with: text(PackageResources.page_css))
      .replacing("/*SCRIPT*/", with: script)
      // Within a script element only "</script" and "<!--" mean something to a browser.
      .replacing("/*DATA*/", with: data.replacing("<", with: "\\u003c"))
  }

  private static var script: String {
    [
      PackageResources.data_js, PackageResources.step_js, PackageResources.pictures_js,
      PackageResources.method_js, PackageResources.page_js,
    ].map(text).joined(separator: "\n")
  }

  private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
}
