// All keys of a layer on the device, for a method that reads them all.
//
// In:  what the host holds, and what is pending in the ring.
// Out: the keys of every token, in device memory that is given back afterwards.
//
// LRQK's map refresh is such a reader.

public import Tensors

extension ResidentRows {
  /// Copies all keys of every key/value head to the device, for a method that reads them all.
  ///
  /// Counted as `reload` of keys as they are held: the host sends nothing else. Pending keys are in
  /// the ring already. Keys in a form are read into a second buffer. `release` gives the memory
  /// back.
  public mutating func bringAllKeys(tiers: inout Tiers) throws(DeviceTierError) -> BroughtKeys<E> {
    var buffers: [DeviceBuffer<E>] = []
    for (m, host) in hosts.enumerated() {
      record(
        .hostToDevice, holder: m, rows: host.count, .reload, &tiers,
        bytesPerRow: keyBytes)
      buffers.append(
        try tiers.device.allocate("all keys of head \(m)", holding: host.keys))
    }
    let keys = hosts.indices.map { m in
      let (x, n) = place(ofHolder: holders.firstHolder(ofKeyValueHead: m))
      let store = stores[x]
      var keys = buffers[m].elements
      for token in hosts[m].count..<length {
        let slot = store.ringSlot(ring.slot(of: token), of: n)
        keys += store.keys.elements[slot * keyWidth..<(slot + 1) * keyWidth]
      }
      return readKeys(keys, head: m)
    }
    if packing != nil {
      for (m, keys) in keys.enumerated() {
        buffers.append(
          try tiers.device.allocate("all keys of head \(m), read", holding: keys.elements))
      }
    }
    return BroughtKeys(keys: keys, buffers: buffers)
  }

  /// Gives back the device memory of `bringAllKeys`.
  public func release(_ keys: consuming BroughtKeys<E>, on device: inout DeviceTier) {
    for m in keys.buffers.indices { device.free(&keys.buffers[m]) }
  }
}

/// All keys of a layer, on the device for a while.
public struct BroughtKeys<E: Scalar>: Sendable {
  /// K of each key/value head, (l, d).
  public let keys: [Tensor<E>]
  fileprivate var buffers: [DeviceBuffer<E>]
}
