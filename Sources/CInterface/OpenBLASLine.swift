// Which kernels OpenBLAS runs, for C.
//
// In:  nothing.
// Out: one line, text that lives as long as the library.

import CLRQK
import Glibc
import Tensors

/// The line, made once and only read after that, so it may be shared.
private nonisolated(unsafe) let line: UnsafePointer<CChar> = {
  guard let copy = unsafe strdup("\(LibraryKernels.current)") else {
    preconditionFailure("no memory for one line")
  }
  return unsafe UnsafePointer(copy)
}()

/// OpenBLAS's version and core type, and the better one, where there is one.
@c @implementation
public func lrqk_openblas() -> UnsafePointer<CChar>? { unsafe line }
