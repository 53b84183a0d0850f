// Reverse mode: from a loss back to everything that it depends on.
//
// In:  values that operations compute, each with a rule for the way back.
// Out: the gradient of one number with respect to each of them.
//
// An operation y = f(x) appends y to the tape together with its rule: given ∂loss/∂y, add
// ∂loss/∂x = ∂loss/∂y · ∂y/∂x to what x has already. A value can be used several times; its
// gradient is the sum over its uses. Since a value stands on the tape after everything it was made
// of, one walk from the end to the beginning finds every gradient complete before it is passed on.
//
//   tape:      W ── x ── y = x Wᵀ ── z = silu(y) ── loss
//   backward:  dW ◄─ dx ◄─ dy ◄──────── dz ◄───────── 1
//
// Such a rule is also called a vector-Jacobian product (VJP). One rule a file: LinearRule,
// HeadRules, NormRule, RotaryRule, AttentionRule, GateRule, EmbeddingRule, LossRule,
// DistillationRules. Each is held against finite differences in Double.
//
// A tape belongs to one thread. Training puts the halves of a batch on tapes of their own and adds
// the gradients afterwards, in order, so that sums do not depend on the number of cores.

package import Tensors

/// A tensor on a tape, and what the loss says about it.
package final class Variable<E: Scalar> {
  /// What was computed.
  package let value: Tensor<E>
  /// ∂loss/∂value, of the shape of `value`; nil before `backward`, or where the loss does not
  /// depend on it.
  package var gradient: Tensor<E>? { sum.map { Tensor(shape: value.shape, elements: $0) } }

  fileprivate var sum: [E]?
  fileprivate let isLeaf: Bool
  fileprivate var rule: ((Tensor<E>) -> Void)?

  fileprivate init(_ value: Tensor<E>, isLeaf: Bool, rule: ((Tensor<E>) -> Void)?) {
    self.value = value
    self.isLeaf = isLeaf
    self.rule = rule
  }

  /// The gradient's elements, row-major, which the variable then gives up; none where the loss does
  /// not depend on it.
  func takeGradient() -> [E] {
    defer { sum = nil }
    return sum ?? []
  }

  /// Adds to the gradient: `body` gets its elements, which are 0 at first, and adds to them.
  func accumulate(_ body: (inout MutableSpan<E>) -> Void) {
    var elements = sum ?? zeros(value.count)
    sum = nil  // so that `elements` is the only holder, and is not copied
    do {
      var span = elements.mutableSpan
      body(&span)
    }
    sum = elements
  }

  /// Adds a whole gradient.
  func accumulate(_ gradient: Tensor<E>) {
    precondition(gradient.count == value.count, "a gradient of another size")
    if sum == nil {
      sum = gradient.elements
    } else {
      let elements = gradient.elements
      accumulate { out in Training.add(elements.span, to: &out) }
    }
  }
}

/// The operations of one computation, in the order in which they ran.
package final class Tape<E: Scalar> {
  private var nodes: [Variable<E>] = []
  private let records: Bool

  /// An empty tape; one that records nothing keeps no value in between, and has no way back.
  package init(records: Bool = true) { self.records = records }

  /// A value that nothing computed: a parameter, or input to differentiate by.
  ///
  /// It keeps its gradient.
  package func leaf(_ value: Tensor<E>) -> Variable<E> {
    Variable(value, isLeaf: true, rule: nil)
  }

  /// Appends what an operation computed; `rule` gets ∂loss/∂value and adds to its inputs'
  /// gradients.
  func record(_ value: Tensor<E>, rule: @escaping (Tensor<E>) -> Void) -> Variable<E> {
    let node = Variable(value, isLeaf: false, rule: records ? rule : nil)
    if records { nodes.append(node) }
    return node
  }

  /// The gradients of `loss`, a single number, in every leaf that it depends on.
  ///
  /// The tape is empty afterwards; values and gradients in between are given back on the way.
  package func backward(from loss: Variable<E>) {
    precondition(
      loss.value.count == 1, "a gradient is that of one number, not of \(loss.value.shape)")
    loss.sum = [1]
    while let node = nodes.popLast() {
      if let sum = node.sum, let rule = node.rule {
        node.sum = nil
        rule(Tensor(shape: node.value.shape, elements: sum))
      }
      node.rule = nil  // and with it the values that only this rule held
    }
  }
}

extension Tape {
  /// x + y, of one shape: ∂x = ∂y = ∂(x + y).
  package func add(_ x: Variable<E>, _ y: Variable<E>) -> Variable<E> {
    record(x.value + y.value) { gradient in
      x.accumulate(gradient)
      y.accumulate(gradient)
    }
  }
}

extension Tape {
  /// The same elements under another shape.
  package func reshaped(_ x: Variable<E>, _ shape: [Int]) -> Variable<E> {
    record(x.value.reshaped(shape)) { x.accumulate($0) }
  }
}
