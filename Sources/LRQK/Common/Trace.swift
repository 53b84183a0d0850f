// A record of every intermediate, by name.
//
// In:  names and tensors, from whichever stage of the method runs.
// Out: a table that `lrqk explain` and the tests read.
//
// Without a trace nothing is computed and nothing is copied, because values come as autoclosures.

import Synchronization
public import Tensors

/// Every intermediate of a run, by name, in Double.
///
/// Names read from the outside in: "prefill/head0/sweep1/W_Q", "step1/head0/q_hat".
///
/// Codes, bases, maps and everything of a sweep are counted by group of heads that shares codes;
/// Omega and its products, scores and selected sets by query head. So with shared codes
/// "step1/head1/scores" is query head 1's, and "step1/head1/q_hat" the (G, r) codes of group 1.
public final class Trace: Sendable {
  private let table = Mutex<[String: Tensor<Double>]>([:])

  /// An empty trace.
  public init() {}

  /// The tensor of that name, if it was recorded.
  public subscript(name: String) -> Tensor<Double>? { table.withLock { $0[name] } }

  /// All names, sorted.
  public var names: [String] { table.withLock { $0.keys.sorted() } }

  func record(_ name: String, _ tensor: Tensor<Double>) { table.withLock { $0[name] = tensor } }
}

/// A trace, or none, and the part of the name that is known so far.
struct TraceScope: Sendable {
  let trace: Trace?
  let prefix: String

  init(_ trace: Trace?, _ prefix: @autoclosure () -> String) {
    self.trace = trace
    self.prefix = trace == nil ? "" : prefix()
  }

  func callAsFunction<E: Scalar>(_ name: String, _ value: @autoclosure () -> Tensor<E>) {
    if let trace { trace.record("\(prefix)/\(name)", value().converted()) }
  }

  func callAsFunction<E: Scalar>(_ name: String, row: @autoclosure () -> [E]) {
    if let trace {
      let row = row()
      let tensor = Tensor<E>(shape: [1, row.count], elements: row)
      trace.record("\(prefix)/\(name)", tensor.converted())
    }
  }

  func callAsFunction(_ name: String, tokens: @autoclosure () -> [Int]) {
    if let trace {
      let tokens = tokens()
      trace.record(
        "\(prefix)/\(name)", Tensor(shape: [1, tokens.count], elements: tokens.map(Double.init)))
    }
  }

  func inside(_ name: @autoclosure () -> String) -> TraceScope {
    trace == nil ? self : TraceScope(trace, "\(prefix)/\(name())")
  }
}
