// The first half of `lrqk explain`: a prompt is factorised, and its rows go to the host.
//
// In:  a run with its trace.
// Out: on the page, stages 0 to 2 of the prompt, then its first selection and what it leaves: the
//      chapters of step 0, one function each. ExplainChapters.swift has their headings.
//
// Some products are formed only to be looked at (QKᵀ, A_Q A_Kᵀ, exact scores). The page says
// "naive" or "check" beside them: the method itself never forms them.

import LRQK
import Reports
import Tensors
import TieredMemory

extension ExplainRun {
  func tellPrompt(on page: inout Page) {
    page.text(
      "One row a token. The numbers are multiples of 0.1, so that sums can be redone by hand.")
    page.blocks(
      [
        matrix("Q (l, d)", data.queries, 1), matrix("K (l, d)", data.keys, 1),
        matrix("V (l, d)", data.values, 1),
      ], gap: 3)
  }

  func tellProduct(on page: inout Page) throws {
    page.text(
      "Attention weighs tokens by QKᵀ, l by l numbers. LRQK fits it without forming it, by codes of "
        + "r numbers a token whose products come close:")
    page.formula("F = 1/2 ‖QKᵀ − A_Q A_Kᵀ‖² + 1/2 ‖Q − A_Q B_Q‖² + 1/2 ‖K − A_K B_K‖²")
    let product = matmul(data.queries, transposed: data.keys, in: .reference)
    page.blocks([matrix("naive: QKᵀ (l, l)", product, 2)])
    page.add("‖QKᵀ‖ = \(decimal(objective.productNorm.squareRoot(), 3))")
    page.text(
      "No codes of width \(parameters.rank) can leave less than the truncated SVD of QKᵀ leaves: "
        + "\(percent(try optimum)) of that norm. This closed-form optimum stands beside every "
        + "error below.")
  }

  func tellStart(on page: inout Page) {
    page.text("Random codes (standard normals, rounded to 0.1). Any start of full rank will do.")
    page.blocks([
      matrix("A_Q (l, r)", data.start.queries, 1), matrix("A_K (l, r)", data.start.keys, 1),
    ])
  }

  func tellSweep(_ s: Int, on page: inout Page) {
    let at = { (name: String) in self.prefill("sweep\(s)/\(name)") }
    if s == 1 && parameters.solver == .gram {
      page.text(
        "With the solver gram, S and C of later sweeps come from the d by d sums below, which saw "
          + "every row once: S = WᵀGW, C = WᵀG (GramSide.swift). A_Q' and A_K' are not formed "
          + "until the end; they are printed to be looked at.")
      page.blocks([
        matrix("check: G_Q = QᵀQ (d, d)", data.queries.gram(in: .reference), 2),
        matrix("check: G_K = KᵀK (d, d)", data.keys.gram(in: .reference), 2),
      ])
    }
    page.text("a. What the sweep needs of the codes, and the bases that fit them best:")
    page.formula("S_Q = A_QᵀA_Q   C_Q = A_QᵀQ   B_Q = S_Q⁻¹ C_Q      (and the same for K)")
    for x in ["Q", "K"] {
      page.blocks([
        matrix("S_\(x) (r, r)", at("S_\(x)")), matrix("C_\(x) (r, d)", at("C_\(x)")),
        matrix("B_\(x) (r, d)", at("B_\(x)")),
      ])
    }
    page.text("b. New codes for queries, linear in Q, with A_K and B_Q held:")
    page.formula("W_Qᵀ = (S_K + B_Q B_Qᵀ)⁻¹ (C_K + B_Q)      A_Q' = Q W_Q")
    page.blocks([
      matrix("S_K + B_Q B_Qᵀ", at("S_K + lambda_Q B_Q B_Q^T")), matrix("W_Q (d, r)", at("W_Q")),
      matrix("A_Q' (l, r)", codes(s).queries),
    ])
    page.text("c. New codes for keys, with the new A_Q' and B_K held:")
    page.formula("W_Kᵀ = (S_Q' + B_K B_Kᵀ)⁻¹ (C_Q' + B_K)      A_K' = K W_K")
    page.blocks([
      matrix("S_Q' = A_Q'ᵀA_Q'", at("S_Q'")), matrix("C_Q' = A_Q'ᵀQ", at("C_Q'")),
      matrix("S_Q' + B_K B_Kᵀ", at("S_Q' + lambda_K B_K B_K^T")),
      matrix("W_K (d, r)", at("W_K")), matrix("A_K' (l, r)", codes(s).keys),
    ])
    page.add(
      "F falls from \(decimal(judge(factors[s - 1]).total, 3)) to "
        + "\(decimal(judge(factors[s]).total, 3)); QKᵀ is missed by "
        + "\(percent(judge(factors[s]).relative)).")
  }

  func tellSpectral(on page: inout Page) {
    page.text(
      "With R_QᵀR_Q = QᵀQ and R_KᵀR_K = KᵀK (d by d), the SVD of the small R_Q R_Kᵀ = U Σ Vᵀ is "
        + "all of QKᵀ, and its r largest parts make the best codes:")
    page.formula(
      "W_Q = R_Q⁺ U_r Σ_r^½", "W_K = R_K⁺ V_r Σ_r^½", "A_Q = Q W_Q", "A_K = K W_K")
    if let f = factors.first, let W_Q = f.queryMap, let W_K = f.keyMap {
      page.blocks([
        matrix("check: G_Q = QᵀQ (d, d)", data.queries.gram(in: .reference), 2),
        matrix("check: G_K = KᵀK (d, d)", data.keys.gram(in: .reference), 2),
        matrix("W_Q (d, r)", W_Q), matrix("W_K (d, r)", W_K),
      ])
    }
  }

  func tellFactors(on page: inout Page) throws {
    let last = factors[factors.count - 1]
    let (A_Q, A_K) = codes(factors.count - 1)
    page.text(
      "The bases are fitted once more to the final codes; then A_Q is dropped but for its last row."
    )
    page.formula("B_Q = (A_QᵀA_Q)⁻¹ A_QᵀQ      B_K = (A_KᵀA_K)⁻¹ A_KᵀK")
    page.blocks([
      matrix("A_Q (l, r)", A_Q), matrix("A_K (l, r)", A_K),
      matrix("B_Q (r, d)", last.queryBasis), matrix("B_K (r, d)", last.keyBasis),
    ])
    page.blocks(
      [
        matrix("naive: QKᵀ", matmul(data.queries, transposed: data.keys, in: .reference), 1),
        matrix("check: A_Q A_Kᵀ", matmul(A_Q, transposed: A_K, in: .reference), 1),
      ], gap: 3)
    let names =
      parameters.solver == .spectral
      ? ["spectral"]
      : factors.indices.map {
        $0 == 0 ? "start" : "sweep \($0)"
      }
    let best = percent(try optimum)
    page.table(
      ["after", "F", "‖QKᵀ − A_Q A_Kᵀ‖ / ‖QKᵀ‖", "optimum"],
      zip(names, factors).map { name, f in
        [name, decimal(judge(f).total, 3), percent(judge(f).relative), best]
      }, left: [0])
    if parameters.solver == .spectral {
      page.text(
        "With the closed form B_Q = W_Kᵀ and B_K = W_Qᵀ, as long as Q and K have full column rank.")
    }
    page.text(
      "(F also asks that the codes rebuild Q and K, so its minimum need not reach the optimum.)")
  }

  func tellFirstSet(on page: inout Page) {
    let first = firstSet
    let scores = prefill("scores").elements
    let q = data.queries.rows(l - 1..<l)
    let exact = matmul(q, transposed: data.keys, in: .reference).elements
    page.text(
      "The newest query's code scores every token older than the \(w) recent ones. The \(k) largest "
        + "scores win; of equal ones the older token.")
    page.formula(
      "q_hat = A_Q[\(l - 1)]      s_t = q_hat · A_K[t]      t = 0 ... l − w − 1 = \(l - w - 1)")
    page.table(
      ["token", "s_t", "selected", "check: q · K[t]", "exact choice"],
      scores.indices.map { t in
        [
          "\(t)", decimal(scores[t], 3), first.contains(t) ? "yes" : "", decimal(exact[t], 3),
          firstBest.contains(t) ? "yes" : "",
        ]
      }, left: [2, 4])
    page.text("Selected: \(list(first)). Exact scores would select \(list(firstBest)).")
  }

  func tellOffload(on page: inout Page) {
    let slots = before.slots(ofQueryHead: 0)
    page.text(
      "All exact rows of K and V go to the host. The device keeps the ring of recent tokens (slots 0 "
        + "to \(w - 1)), the selected rows, and the codes of all tokens.")
    let rows = slots.sorted { $0.value < $1.value }.map { token, slot in
      ["\(slot)", "\(token)", slot < w ? "recent" : "selected"]
    }
    page.table(["slot", "token", "because"], rows, left: [2])
    for event in events where event.step == 0 {
      page.add("ledger: \(describe(event))")
    }
  }

  // MARK: Small things

  /// A_Q and A_K after `s` sweeps.
  private func codes(_ s: Int) -> (queries: Tensor<Double>, keys: Tensor<Double>) {
    let f = factors[s]
    return (f.queryCodes ?? Tensor(repeating: 0, shape: [l, parameters.rank]), f.keyCodes)
  }
}

/// A share as a percentage with two decimals: "12.34 %".
func percent(_ x: Double) -> String { decimal(100 * x, 2) + " %" }

/// One event of the ledger in words.
func describe(_ event: TransferEvent) -> String {
  let way = event.direction == .hostToDevice ? "host to device" : "device to host"
  return
    "\(event.reason.rawValue), \(way), \(event.rows) row\(event.rows == 1 ? "" : "s"), \(event.bytes) bytes"
}
