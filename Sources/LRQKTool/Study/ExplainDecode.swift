// The second half of `lrqk explain`: one new token.
//
// In:  a run with its trace.
// Out: stages 3 to 6 on the page: chapters of step 1, one function each. ExplainAttention.swift has
//      7 and 8, ExplainChapters.swift the headings.
//
// The alternations of stage 3 are the library's `DecodeSolver`, run once more one at a time.

import LRQK
import Reports
import Tensors
import TieredMemory

extension ExplainRun {
  func tellToken(on page: inout Page) {
    page.blocks([
      matrix("q (1, d)", data.query, 1), matrix("k (1, d)", data.key, 1),
      matrix("v (1, d)", data.value, 1),
    ])
    let slot = after.slots(ofQueryHead: 0)[l] ?? 0
    let left = before.recentTokens.lowerBound
    page.text(
      "Its exact rows go into slot \(slot) of the ring, over those of token \(left), which is on "
        + "the host already. The ring now holds \(list(after.recentTokens)).")
    for event in events where event.step == 1 && event.reason == .ringFlush {
      page.text("All \(w) rows of the ring are new to the host: \(describe(event)).")
    }
  }

  func tellLinearCodes(on page: inout Page) {
    page.text(
      "Linear codes are products with the maps of the prompt: no system, no Omega, no bases.")
    page.formula("q_hat = q W_Q      k_hat = k W_K")
    page.blocks([
      matrix("W_Q (d, r)", before.matrices[0].queries),
      matrix("W_K (d, r)", before.matrices[0].keys),
      matrix("q_hat (1, r)", decode("q_hat")), matrix("k_hat (1, r)", decode("k_hat")),
    ])
    page.add("k_hat becomes row \(l) of A_K.")
  }

  func tellOmega(on page: inout Page) {
    let omega = tokens("step1/head0/omega")
    page.text(
      "Omega = \(list(omega)): the old selection and the ring without the new token, whose code "
        + "does not exist yet. On these tokens q_hat is to give the exact scores.")
    page.formula("q K_Omegaᵀ (1, n)      A_OmegaᵀA_Omega (r, r)      n = \(omega.count)")
    let labels = omega.map { "\($0)" }
    page.blocks([
      matrix("K_Omega (n, d)", knownKeys.gather(rows: omega), 1, labels: labels),
      matrix("A_Omega (n, r)", before.keyCodes[0].gather(rows: omega), labels: labels),
      matrix("(q K_Omegaᵀ)ᵀ", decode("q K_Omega^T").transposed(), 2, labels: labels),
      matrix("A_OmegaᵀA_Omega", decode("A_Omega^T A_Omega")),
    ])
  }

  func tellAlternations(on page: inout Page) throws {
    page.formula("k_hat_0 = k B_Kᵀ (B_K B_Kᵀ)⁻¹")
    page.formula("q_hat = [q B_Qᵀ + q K_Omegaᵀ A_Omega + (q kᵀ) k_hat]")
    page.formula("        [B_Q B_Qᵀ + A_OmegaᵀA_Omega + k_hatᵀk_hat]⁻¹")
    page.formula("k_hat = [k B_Kᵀ + (q kᵀ) q_hat] [B_K B_Kᵀ + q_hatᵀq_hat]⁻¹")
    let (B_Q, B_K) = before.matrices[0]
    let product = SelectedProducts(
      codes: before.keyCodes[0].gather(rows: tokens("step1/head0/omega")),
      exactScores: decode("q K_Omega^T"))
    var solver = try DecodeSolver(
      query: data.query, key: data.key, queryBasis: B_Q, keyBasis: B_K, selected: [product],
      weights: AlternationWeights(), rule: parameters.stepRule,
      location: Location(layer: 0, head: 0, step: 1))
    page.blank()
    page.text("The parts of both systems (check: formed again, to be looked at):")
    page.blocks([
      matrix("q B_Qᵀ", matmul(data.query, transposed: B_Q, in: .reference)),
      matrix("q K_Omegaᵀ A_Omega", product.cross),
      matrix("q kᵀ", matmul(data.query, transposed: data.key, in: .reference), 2),
      matrix("k B_Kᵀ", matmul(data.key, transposed: B_K, in: .reference)),
    ])
    page.blocks([
      matrix("B_Q B_Qᵀ", matmul(B_Q, transposed: B_Q, in: .reference)),
      matrix("B_K B_Kᵀ", matmul(B_K, transposed: B_K, in: .reference)),
      matrix("k_hat_0 (1, r)", decode("k_hat_0")),
    ])
    for n in 1...(parameters.alternation?.iterations.limit ?? 1) {
      try solver.alternate()
      page.blocks([
        matrix("alternation \(n): q_hat (1, r)", solver.queryCodes),
        matrix("k_hat (1, r)", solver.keyCode),
        matrix("‖change of k_hat‖²", Tensor(shape: [1, 1], elements: [solver.change]), 6),
      ])
    }
    precondition(
      solver.queryCodes == decode("q_hat") && solver.keyCode == decode("k_hat"),
      "the alternations shown are not those of the cache")
    let q_hat = decode("q_hat")
    let k_hat = decode("k_hat")
    page.text(
      "check: q_hat · k_hat = \(decimal(dot(q_hat, k_hat), 3)) for q · k = "
        + "\(decimal(dot(data.query, data.key), 3)). k_hat becomes row \(l) of A_K.")
  }

  func tellBases(on page: inout Page) {
    let (B_Q, B_K) = before.matrices[0]
    let (newQ, newK) = (decode("B_Q"), decode("B_K"))
    switch parameters.alternation?.basisUpdate {
    case .frozen:
      page.text("Frozen: B_Q and B_K of the prompt are kept.")
    case .damped(let damping):
      page.formula(
        "B_Q' = B_Q − \(damping.factor) eta q_hatᵀ(q_hat B_Q − q)", "eta = 1 / ‖q_hat‖²")
    default:
      page.formula("B_Q' = B_Q − eta q_hatᵀ(q_hat B_Q − q)", "eta = 1 / ‖q_hat‖²")
      page.text(
        "A gradient step with exact line search (but for 1e-6 in eta). For one query it is a "
          + "projection: afterwards q_hat B_Q' = q, as the norms show. Older rows of A_K keep their "
          + "codes of the old basis."
      )
    }
    func residual(
      _ code: String, _ basis: Tensor<Double>, _ row: Tensor<Double>
    ) -> Tensor<Double> {
      matmul(decode(code), basis, in: .reference) - row
    }
    func miss(_ code: String, _ basis: Tensor<Double>, _ row: Tensor<Double>) -> String {
      decimal(norm(residual(code, basis, row)), 4)
    }
    if parameters.alternation?.basisUpdate != .frozen {
      page.blocks([
        matrix("check: q_hat B_Q − q", residual("q_hat", B_Q, data.query)),
        matrix("k_hat B_K − k", residual("k_hat", B_K, data.key)),
      ])
      page.blocks([
        matrix("1 / ‖q_hat‖²", Tensor(shape: [1, 1], elements: [1 / decode("q_hat").squaredNorm])),
        matrix("1 / ‖k_hat‖²", Tensor(shape: [1, 1], elements: [1 / decode("k_hat").squaredNorm])),
      ])
    }
    page.blocks([matrix("B_Q' (r, d)", newQ), matrix("B_K' (r, d)", newK)])
    page.table(
      ["check", "with B", "with B'"],
      [
        ["‖q_hat B_Q − q‖", miss("q_hat", B_Q, data.query), miss("q_hat", newQ, data.query)],
        ["‖k_hat B_K − k‖", miss("k_hat", B_K, data.key), miss("k_hat", newK, data.key)],
      ], left: [0])
  }

  func tellScores(on page: inout Page) {
    let scores = decode("scores").elements
    let chosen = step.selected[0]
    let exact = exactScores
    page.text(
      "r products a token instead of d, and no exact key of an older token is read. Candidates are "
        + "0 to \(scores.count - 1)"
        + (parameters.candidates == .released
          ? "; token \(scores.count), just pushed out of the ring, is left out (quirk Q1)." : "."))
    page.formula("s_t = q_hat · A_K[t]")
    page.table(
      ["token", "s_t", "selected", "check: q · K[t]", "exact choice"],
      scores.indices.map { t in
        [
          "\(t)", decimal(scores[t], 3), chosen.contains(t) ? "yes" : "", decimal(exact[t], 3),
          best.contains(t) ? "yes" : "",
        ]
      }, left: [2, 4])
    page.text(
      "Selected: \(list(chosen)). Exact scores would select \(list(best)): in common "
        + "\(chosen.filter(best.contains).count) of \(k).")
    page.text(
      "The proxy scores of places \(k) and \(k + 1) are \(decimal(step.gaps[0], 3)) apart. Were every "
        + "proxy score off by less than half of that, this would be the exact choice.")
  }
}
