// Which selected token's row lies in which device slot: hit and miss.
//
// In:  at each step, the tokens whose rows are needed, ascending.
// Out: a plan: who is there already (hits), who must be copied and into which slots (misses), who
//      gives up a slot.
//
//   hits     needed and held        stay in their slots
//   freed    held, not needed       give their slots back
//   misses   needed, not held       take the lowest free slots, in token order
//
// The tokens held and the tokens needed are both sorted, so one merge of the two lists tells
// everything in O(k). (The released code compares every pair: a k by k table of booleans per head,
// 128 MiB a layer for 32 heads and k = 2048.) Slots are given out lowest first, in token order,
// and a token that stays keeps its slot: rows never move within the device.
//
// One pool serves one query head, or one key/value head whose query heads share rows. The pool is
// the same for both; where rows are shared, the needed list is the `union` of the heads' lists. The
// next file, HeadSharing.swift, says which heads share.

/// What has to happen so that the needed tokens lie on the device.
public struct ResidencyPlan: Sendable, Equatable {
  /// Needed tokens that lay there already.
  public let hits: Int
  /// Needed tokens that did not, ascending; `hits + missedTokens.count` is the number needed.
  public let missedTokens: [Int]
  /// The slot for each missed token.
  public let missedSlots: [Int]
  /// Tokens that lay there and are no longer needed, ascending; their slots are free or reused.
  public let freedTokens: [Int]
  /// The rows that a device buffer needs to contain every slot in use.
  public let slotsNeeded: Int

  /// Needed tokens that must be copied.
  public var misses: Int { missedTokens.count }
}

/// The device slots of one head's selected tokens.
public struct SlotPool: Sendable {
  /// The tokens that lie on the device, ascending.
  public private(set) var tokens: [Int] = []
  /// The slot of each of `tokens`.
  public private(set) var slots: [Int] = []
  /// All slots given out so far are below this; it never falls.
  public private(set) var slotCount: Int
  /// Bit s % 64 of word s / 64 is set while slot s, below slotCount, is free.
  private var free: [UInt64]

  /// An empty pool whose slots start at `reserved`: the slots below are managed by the caller, such
  /// as the recent ring.
  public init(reserving reserved: Int = 0) {
    precondition(reserved >= 0, "no negative number of slots can be reserved")
    slotCount = reserved
    free = Array(repeating: 0, count: (reserved + 63) / 64)
  }

  /// A pool in whose slot s token `residents[s]` lies, or none where that is negative.
  ///
  /// Each token is there once. The first `reserved` slots are managed by the caller and ignored
  /// here.
  public init(residents: [Int], reserving reserved: Int = 0) {
    self.init(reserving: residents.count)
    slots = (reserved..<residents.count).filter { residents[$0] >= 0 }
      .sorted { residents[$0] < residents[$1] }
    tokens = slots.map { residents[$0] }
    Self.checkAscent(tokens)
    for slot in reserved..<residents.count where residents[slot] < 0 {
      free[slot / 64] |= 1 << UInt64(slot % 64)
    }
  }

  /// The token that lies in each slot below `slotCount`, or -1.
  public var residents: [Int] {
    var residents = [Int](repeating: -1, count: slotCount)
    for (token, slot) in zip(tokens, slots) { residents[slot] = token }
    return residents
  }

  /// Makes `needed`, ascending and distinct, the tokens that lie on the device.
  ///
  /// The plan holds when the caller has copied each missed token's row into its slot. Missed tokens
  /// take free slots in slot order, then new ones. O(tokens held + tokens needed).
  public mutating func update(to needed: [Int]) -> ResidencyPlan {
    Self.checkAscent(needed)
    // 1. One merge. Each iteration writes at the ends of all three lists and then advances only the
    //    ends that it meant: three stores cost less than one mispredicted branch.
    var newSlots = [Int](repeating: 0, count: needed.count)
    var missedPlaces = newSlots  // in needed
    var freedPlaces = [Int](repeating: 0, count: tokens.count)  // in tokens
    var place = 0
    var held = 0
    var missed = 0
    var freed = 0
    do {
      let (wanted, holding, holdingSlots) = (needed.span, tokens.span, slots.span)
      var slotsOut = newSlots.mutableSpan
      var missedOut = missedPlaces.mutableSpan
      var freedOut = freedPlaces.mutableSpan
      while place < wanted.count && held < holding.count {
        let want = wanted[place]
        let have = holding[held]
        slotsOut[place] = holdingSlots[held]  // right if want == have, written again otherwise
        missedOut[missed] = place
        freedOut[freed] = held
        missed += want < have ? 1 : 0
        freed += have < want ? 1 : 0
        place += want <= have ? 1 : 0
        held += have <= want ? 1 : 0
      }
    }
    missedPlaces.replaceSubrange(missed..., with: place..<needed.count)
    freedPlaces.replaceSubrange(freed..., with: held..<tokens.count)

    // 2. Tokens only held give their slots back.
    let freedTokens = freedPlaces.map { tokens[$0] }
    for place in freedPlaces { free[slots[place] / 64] |= 1 << UInt64(slots[place] % 64) }

    // 3. Missed tokens, in token order, take the lowest free slots; then the pool grows.
    let missedTokens = missedPlaces.map { needed[$0] }
    var missedSlots: [Int] = []
    missedSlots.reserveCapacity(missedPlaces.count)
    var word = 0
    while missedSlots.count < missedPlaces.count && word < free.count {
      if free[word] == 0 {
        word += 1
      } else {
        missedSlots.append(word * 64 + free[word].trailingZeroBitCount)
        free[word] &= free[word] - 1
      }
    }
    let grown = slotCount + missedPlaces.count - missedSlots.count
    missedSlots += slotCount..<grown
    slotCount = grown
    free += repeatElement(0, count: (slotCount + 63) / 64 - free.count)
    for (place, slot) in zip(missedPlaces, missedSlots) { newSlots[place] = slot }

    tokens = needed
    slots = newSlots
    return ResidencyPlan(
      hits: needed.count - missedTokens.count, missedTokens: missedTokens,
      missedSlots: missedSlots, freedTokens: freedTokens, slotsNeeded: slotCount)
  }

  /// The slots of `wanted`, ascending tokens that all lie on the device.
  ///
  /// Int32, as kernels read them.
  public func slots(for wanted: [Int]) -> [Int32] {
    var result = [Int32](repeating: 0, count: wanted.count)
    var found = 0
    do {
      // One pass over the tokens held, without a branch on what is wanted: a slot is written again
      // until it is the right one.
      let (asked, holding, holdingSlots) = (wanted.span, tokens.span, slots.span)
      var out = result.mutableSpan
      var held = 0
      while found < asked.count && held < holding.count {
        out[found] = Int32(holdingSlots[held])
        found += asked[found] == holding[held] ? 1 : 0
        held += 1
      }
    }
    precondition(
      found == wanted.count,
      "token \(wanted[min(found, wanted.count - 1)]) does not lie on the device, or the list does "
        + "not ascend")
    return result
  }

  /// The tokens that occur in any of several ascending lists, each once, ascending.
  ///
  /// This is what a key/value head needs when its query heads share rows. The lists are merged in
  /// pairs, then the results in pairs, and so on: O(tokens · log lists).
  public static func union(of sorted: [[Int]]) -> [Int] {
    for list in sorted { checkAscent(list) }
    var lists = sorted
    while lists.count > 1 {
      lists = stride(from: 0, to: lists.count, by: 2).map { pair in
        pair + 1 < lists.count ? merged(lists[pair], lists[pair + 1]) : lists[pair]
      }
    }
    return lists.first ?? []
  }

  private static func merged(_ a: [Int], _ b: [Int]) -> [Int] {
    var union = [Int](repeating: 0, count: a.count + b.count)
    var count = 0
    var i = 0
    var j = 0
    do {
      let (a, b) = (a.span, b.span)
      var out = union.mutableSpan
      while i < a.count && j < b.count {
        let x = a[i]
        let y = b[j]
        out[count] = min(x, y)
        count += 1
        i += x <= y ? 1 : 0
        j += y <= x ? 1 : 0
      }
    }
    union.removeLast(union.count - count)
    union += a[i...]
    union += b[j...]
    return union
  }

  private static func checkAscent(_ tokens: [Int]) {
    var previous = -1
    for token in tokens {
      precondition(token > previous, "tokens ascend from 0: \(token) follows \(previous)")
      previous = token
    }
  }
}
