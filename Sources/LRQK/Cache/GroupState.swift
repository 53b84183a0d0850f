// What the device keeps for one group of heads that shares codes.
//
// In:  the factorisation of the prompt, then q (G, d) and k (1, d) of each new token.
// Out: their codes q_hat (G, r) and k_hat (1, r); A_K grows by one row.
//
// A group is one query head (codes per query head: G = 1) or all query heads of a key/value head.
// Held on the device: A_K; then either the bases B_Q, B_K (alternating codes) or the maps W_Q, W_K
// (linear codes), and with a map refresh the two Gram matrices. The next file,
// LRQKCache.swift, is all groups of a layer together.

import Tensors
import TieredMemory

/// Two matrices of one shape on the device, one of the queries and one of the keys.
struct DevicePair<T: Scalar>: Sendable {
  var queries: DeviceBuffer<T>
  var keys: DeviceBuffer<T>
  let shape: [Int]

  init(
    _ queries: Tensor<T>, _ keys: Tensor<T>, named names: (String, String), of label: String,
    on device: inout DeviceTier
  ) throws(DeviceTierError) {
    self.queries = try device.allocate("\(names.0) of \(label)", holding: queries.elements)
    self.keys = try device.allocate("\(names.1) of \(label)", holding: keys.elements)
    shape = queries.shape
  }

  var tensors: (queries: Tensor<T>, keys: Tensor<T>) {
    (
      Tensor(shape: shape, elements: queries.elements),
      Tensor(shape: shape, elements: keys.elements)
    )
  }
}

/// What turns rows into codes.
enum Coder<E: Scalar>: Sendable {
  /// B_Q and B_K, (r, d): codes are fitted to them, and they move with every token.
  case bases(DevicePair<E>)
  /// W_Q and W_K, (d, r): codes are products with them.
  ///
  /// `grams` are QᵀQ and KᵀK, (d, d) each, over all tokens so far: only with a map refresh.
  case maps(DevicePair<E>, grams: DevicePair<Double>?)

  /// B_Q and B_K, or W_Q and W_K.
  var matrices: DevicePair<E> {
    switch self {
    case .bases(let pair), .maps(let pair, _): pair
    }
  }
}

/// Codes, bases or maps of one group, on the device.
struct GroupState<E: Scalar>: Sendable {
  /// A_K, (l, r).
  var codes: CodeStore<E>
  private var coder: Coder<E>
  /// Largest finite |A_K| since the prompt or the last map refresh.
  private(set) var largestCode: Double

  init(
    _ prompt: PromptCodes<E>, _ parameters: Parameters, label: String,
    on device: inout DeviceTier
  ) throws {
    let factors = prompt.factorization
    codes = try CodeStore(factors.keyCodes, label: "A_K of \(label)", on: &device)
    switch parameters.codes {
    case .alternating:
      coder = .bases(
        try DevicePair(
          factors.queryBasis, factors.keyBasis, named: ("B_Q", "B_K"), of: label, on: &device))
    case .linear:
      guard let W_Q = factors.queryMap, let W_K = factors.keyMap else {
        throw LRQKError.parameter("linear codes need the maps of at least one sweep")
      }
      let maps = try DevicePair(W_Q, W_K, named: ("W_Q", "W_K"), of: label, on: &device)
      var grams: DevicePair<Double>?
      if let (Q, K) = prompt.grams {
        grams = try DevicePair(Q, K, named: ("QᵀQ", "KᵀK"), of: label, on: &device)
      }
      coder = .maps(maps, grams: grams)
    }
    largestCode = largestMagnitude(factors.keyCodes.elements)
  }

  /// B_Q and B_K, or W_Q and W_K.
  var matrices: (queries: Tensor<E>, keys: Tensor<E>) { coder.matrices.tensors }

  /// q_hat = q W_Q and k_hat = k W_K.
  func linearCodes(query: Tensor<E>, key: Tensor<E>) -> (query: Tensor<E>, key: Tensor<E>) {
    let (W_Q, W_K) = matrices
    return (matmul(query, W_Q, in: .reference), matmul(key, W_K, in: .reference))
  }

  /// Both bases after the new token's codes (stage 4, see BasisUpdate.swift).
  mutating func updateBases(
    _ update: BasisUpdate, query: Tensor<E>, key: Tensor<E>, codes: DecodeSolver<E>
  ) {
    let factor = update.factor
    guard factor != 0, case .bases(var pair) = coder else { return }
    let (B_Q, B_K) = pair.tensors
    pair.queries.elements =
      updatedBasis(B_Q, codes: codes.queryCodes, rows: query, factor: factor).elements
    pair.keys.elements =
      updatedBasis(B_K, codes: codes.keyCode, rows: key, factor: factor).elements
    coder = .bases(pair)
  }

  /// Appends k_hat as the new row of A_K; NaN and infinity throw, unless a breakdown is to proceed.
  mutating func append(_ k_hat: [E], _ breakdown: Breakdown, _ location: Location) throws(LRQKError)
  {
    if !k_hat.allSatisfy(\.isFinite) {
      if breakdown == .stop {
        throw .overflow(what: "k_hat", largestBefore: largestCode, location)
      }
    } else {
      largestCode = max(largestCode, largestMagnitude(k_hat))
    }
    codes.append(k_hat)
  }

  // MARK: Refreshing the maps

  /// G += xᵀx for the new token's queries and key.
  mutating func addToGrams(query: Tensor<E>, key: Tensor<E>) {
    guard case .maps(let maps, var grams?) = coder else { return }
    let sums = grams.tensors
    func added(_ gram: Tensor<Double>, _ rows: Tensor<E>) -> [Double] {
      (gram + rows.converted(to: Double.self).gram(in: .reference)).elements
    }
    grams.queries.elements = added(sums.queries, query)
    grams.keys.elements = added(sums.keys, key)
    coder = .maps(maps, grams: grams)
  }

  /// New maps from the Gram matrices, and a new code for every token: A_K = K W_K.
  ///
  /// `keys` are all tokens' exact keys, (l, d): most of them had to come from the host for this.
  /// The group has `queryHeads` queries a token.
  mutating func refresh(
    keys: Tensor<E>, queryHeads: Int, _ parameters: Parameters, _ location: Location
  ) throws(LRQKError) {
    guard case .maps(var maps, let grams?) = coder else { return }
    let sums = grams.tensors
    let new = try spectralMaps(
      queryGram: SummedGram(sums.queries, rows: queryHeads * keys.rows, of: E.self),
      keyGram: SummedGram(sums.keys, rows: keys.rows, of: E.self), rank: codes.rank, location)
    let W_K: Tensor<E> = new.keys.converted()
    maps.queries.elements = new.queries.converted(to: E.self).elements
    maps.keys.elements = W_K.elements
    coder = .maps(maps, grams: grams)
    codes.replaceAll(matmul(keys, W_K, in: parameters.arithmetic))
    largestCode = largestMagnitude(codes.allRows.elements)
  }
}

@specialized(where E == Float)
@specialized(where E == Double)
func largestMagnitude<E: Scalar>(_ elements: [E]) -> Double {
  var largest = E.zero
  for x in elements where abs(x) > largest { largest = abs(x) }
  return Double(largest)
}
