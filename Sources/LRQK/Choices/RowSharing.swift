// Who has codes and rows of its own.
//
// In:  names.
// Out: the choices that the cache reads at every step (stages 3 to 8).
//
// A row holder is one query head, or one key/value head for all query heads of its group: it has
// slots on the device, and it moves the rows that are missing there (TieredMemory's
// HeadSharing.swift). The next file, Parameters.swift, is all choices together.

public import TieredMemory

/// Who has codes of its own.
public enum CodeSharing: String, Sendable, CaseIterable {
  /// Every query head, as released: G copies of A_K for each key/value head.
  case perQueryHead
  /// Every key/value head: its G queries are stacked, A_K is held once (ours).
  case perKeyValueHead
}

/// Who holds selected rows on the device and moves them, and which of them a head attends to.
public enum RowSharing: Sendable, Equatable {
  /// Every query head holds, moves and attends to its own rows, as released.
  case perQueryHead
  /// The heads of a group share rows: a row that several want is held and moved once (ours).
  case perKeyValueHead(attended: Attended)

  /// Rows held by `holders`, where each head attends to those that it chose.
  public init(_ holders: RowHolders) {
    self = holders == .perQueryHead ? .perQueryHead : .perKeyValueHead(attended: .own)
  }

  /// Who holds rows in slots on the device.
  public var holders: RowHolders {
    self == .perQueryHead ? .perQueryHead : .perKeyValueHead
  }

  /// Which of the selected rows a head attends to.
  public var attended: Attended {
    if case .perKeyValueHead(let attended) = self { attended } else { .own }
  }
}

/// Which of its group's rows a query head attends to.
public enum Attended: String, Sendable, CaseIterable {
  /// The k that it chose itself, as released.
  case own
  /// The union of its group's sets, up to G k (ours). With linear codes this changes neither memory
  /// nor traffic. With alternating codes the extra rows enter Omega, so later selections differ.
  case group
}

/// Whether rows that are already on the device stay there.
public enum Reuse: String, Sendable, CaseIterable {
  /// Only missed rows move.
  case hitMiss
  /// All selected rows move at every step: the released "no hit/miss" variant.
  case reloadAll = "none"
}
