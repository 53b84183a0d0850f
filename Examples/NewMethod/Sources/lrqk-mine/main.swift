// The tool with one method more: lrqk-mine methods, lrqk-mine replay --cache largest-keys, ...

import LRQKTool
import MyMethod

runTool(adding: [LargestKeys.self])
