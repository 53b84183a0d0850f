// Kernel: a prompt and some decode steps of one layer (LRQK, stages 2 to 8).
//
// In:  the prompt's Q (H, l, d); K, V (M, l + T, d) of all tokens; q (T, H, d) of the new ones.
//      Codes to start the one sweep from: A_Q (C, l H/C, r), A_K (C, l, r). C holders of codes: one
//      per query head (preset `paper`: alternations > 0, new codes by the solver) or one per
//      key/value head (shared codes: alternations = 0, new codes by the maps). k, w;
//      candidates_hole.
// Out: step by step: selected (T, H, k), ascending; missed (T, H) rows that were not in the last
//      set; out (T, H, d); gap (T, H): the score of place k minus that of place k + 1, which says
//      how much rounding the choice bears. Rows are held per query head, as released.
//
//   prompt   sweep; first sets among 0 ..< l − w by the codes of the newest queries
//   step t, with the new token n = l + t:
//     codes    Omega = the last set and the ring without the new token: n − w + 1 ..< n
//     scores   candidates 0 ..< n + 1 − w − candidates_hole (1 as released, quirk Q1)
//     attend   the selected rows, then the ring n + 1 − w ... n

/// A prompt, then codes, scores, sets, copies and attention of several steps.
struct DecodeStepKernel: KernelDefinition {
  let kernel = Kernel.decodeStep
  let summary =
    "a prompt and several decode steps of a layer: selected sets, missed rows, attention"
  let outputs: [KernelOutput] = [
    .integers("selected", "step", "head", "place"), .integers("missed", "step", "head"),
    .reals("out", "step", "head", "width"), .gap("step", "head"),
  ]

  func run<N: KernelNumber>(_ x: Inputs<N>, into out: inout Outputs) {
    let (q, K, V) = (x["q"], x["K"], x["V"])
    let (T, H, d) = (q.shape[0], q.shape[1], q.shape[2])
    let (M, k, w) = (K.shape[0], x.count("k"), x.count("w"))
    let l = K.shape[1] - T
    var codes = TokenCodes(x)
    var sets = (0..<H).map { h in best(codes.scores(codes.newest, h, candidates: l - w), k).elements
    }

    var selected = Grid([T, H, k], filledWith: 0)
    var missed = Grid([T, H], filledWith: 0)
    var gaps = Grid([T, H], filledWith: N.zero)
    var answers = Grid([T, H, d], filledWith: N.zero)
    for t in 0..<T {
      let n = l + t
      let q_hat = codes.encode(q[slice: t], K, newest: n, recent: w, sets: sets)
      let candidates = n + 1 - w - x.count("candidates_hole")
      for h in 0..<H {
        let scores = codes.scores(q_hat, h, candidates: candidates)
        let set = best(scores, k).elements
        missed[t, h] = set.filter { !sets[h].contains($0) }.count
        gaps[t, h] = gap(scores.elements, set)
        sets[h] = set
        let holder = h * M / H
        let answer = attended(
          q[slice: t].rows(h..<h + 1)[slice: 0], K[slice: holder], V[slice: holder],
          set + (n + 1 - w...n))
        for i in 0..<d { answers[t, h, i] = answer.elements[i] }
        for place in 0..<k { selected[t, h, place] = set[place] }
      }
    }
    out.write("selected", integers: selected)
    out.write("missed", integers: missed)
    out.write("out", answers)
    out.write("gap", gaps)
  }

  var cases: [KernelCase] {
    [
      make("paper", "codes of each query head, released solver and candidates", seed: 1),
      make("maps", "linear codes, one A_K for a group of two heads", seed: 2, isAlternating: false),
      make("ring-wrap", "more steps than the ring has rows", seed: 3, T: 11, w: 4),
      make(
        "just-full", "the prompt has k + w tokens: the first choice leaves out one", seed: 4, l: 17,
        hole: 0),
    ]
  }

  private func make(
    _ name: String, _ purpose: String, seed: UInt64, T: Int = 6, l: Int = 41, w: Int = 5,
    hole: Int = 1, isAlternating: Bool = true
  ) -> KernelCase {
    var data = CaseData(seed: seed)
    let (H, M, d, r, k) = (4, 2, 8, 3, 12)
    let C = isAlternating ? H : M
    return KernelCase(
      kernel, name, purpose, seed: seed,
      parameters: [
        "k": Double(k), "w": Double(w), "candidates_hole": Double(hole),
        "alternations": isAlternating ? 2 : 0,
      ],
      [
        data.normals("Q", [("head", H), ("token", l), ("width", d)]),
        data.normals("K", [("key_value_head", M), ("token", l + T), ("width", d)]),
        data.normals("V", [("key_value_head", M), ("token", l + T), ("width", d)]),
        data.normals("A_Q", [("holder", C), ("query", l * H / C), ("rank", r)]),
        data.normals("A_K", [("holder", C), ("token", l), ("rank", r)]),
        data.normals("q", [("step", T), ("head", H), ("width", d)]),
      ])
  }
}

/// Codes of all tokens so far, and what makes those of new ones.
private struct TokenCodes<N: KernelNumber> {
  /// A_K of each holder of codes, (tokens, r).
  private var A_K: [Grid<N>] = []
  /// Codes of the prompt's newest queries, (H, r).
  let newest: Grid<N>
  private var queryMatrices: [Grid<N>] = []
  private var keyMatrices: [Grid<N>] = []
  private let alternations: Int

  /// The prompt's: one sweep.
  init(_ x: Inputs<N>) {
    alternations = x.count("alternations")
    let (Q, K, A_Q, A_0) = (x["Q"], x["K"], x["A_Q"], x["A_K"])
    let (H, M, C, l) = (Q.shape[0], K.shape[0], A_0.shape[0], A_0.shape[1])
    let one = N(rounding: 1)
    var last: [N] = []
    for c in 0..<C {
      let heads = (c * H / C..<(c + 1) * H / C).map { Q[slice: $0] }
      let keys = K[slice: c * M / C].rows(0..<l)
      let queries = Grid([heads.count * l, Q.shape[2]], heads.flatMap(\.elements))
      let new = sweptRows(
        queries, keys, A_Q: A_Q[slice: c], A_K: A_0[slice: c], lambdaQ: one, lambdaK: one)
      let codes = (queries: queries * new.W_Q, keys: keys * new.W_K)
      A_K.append(codes.keys)
      queryMatrices.append(alternations > 0 ? basis(of: codes.queries, queries) : new.W_Q)
      keyMatrices.append(alternations > 0 ? basis(of: codes.keys, keys) : new.W_K)
      for head in heads { last += (head.rows(l - 1..<l) * new.W_Q).elements }
    }
    newest = Grid([H, A_0.shape[2]], last)
  }

  /// Scores of the first candidates for the code of head `h`.
  func scores(_ q_hat: Grid<N>, _ h: Int, candidates: Int) -> Grid<N> {
    let codes = A_K[h * A_K.count / q_hat.shape[0]]
    return Grid([candidates], (0..<candidates).map { proxyScore(q_hat, h, codes, $0).stored })
  }

  /// Appends the code of token `newest` to every holder; the queries' codes, (H, r).
  mutating func encode(
    _ q: Grid<N>, _ K: Grid<N>, newest n: Int, recent w: Int, sets: [[Int]]
  ) -> Grid<N> {
    let (H, C, M) = (q.shape[0], A_K.count, K.shape[0])
    var all: [N] = []
    for c in 0..<C {
      let heads = c * H / C..<(c + 1) * H / C
      let keys = K[slice: c * M / C]
      let (own, key) = (q.rows(heads), keys.rows(n..<n + 1))
      let q_hat: Grid<N>
      let k_hat: Grid<N>
      if alternations == 0 {
        (q_hat, k_hat) = (own * queryMatrices[c], key * keyMatrices[c])
      } else {
        let omegas = heads.map { sets[$0] + (n + 1 - w..<n) }
        func rows(_ from: Grid<N>) -> Grid<N> {
          let gathered = omegas.flatMap { $0.flatMap { from.rows($0..<$0 + 1).elements } }
          return Grid([heads.count, omegas[0].count, from.shape[1]], gathered)
        }
        let one = N(rounding: 1)
        let new = newCodes(
          q: own, k: key, B_Q: queryMatrices[c], B_K: keyMatrices[c], A_Omega: rows(A_K[c]),
          K_Omega: rows(keys), lambda1: one, lambda2: one, alternations: alternations)
        (q_hat, k_hat) = (new.q_hat, new.k_hat)
        (queryMatrices[c], keyMatrices[c]) = (new.B_Q, new.B_K)
      }
      A_K[c] = Grid([n + 1, k_hat.shape[1]], A_K[c].elements + k_hat.elements)
      all += q_hat.elements
    }
    return Grid([H, all.count / H], all)
  }
}

/// The smallest score of `set` minus the largest of the others; 0 where there are no others.
private func gap<N: KernelNumber>(_ scores: [N], _ set: [Int]) -> N {
  let chosen = Set(set)
  let others = scores.indices.filter { !chosen.contains($0) }.map { scores[$0] }
  guard let next = others.max(), let last = set.map({ scores[$0] }).min() else { return .zero }
  return (last - next).stored
}
