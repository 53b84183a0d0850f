// lrqk, the program: the tool with the methods of this package and no others.
//
// A program of another package is these two lines with its own methods (Docs/extending.md).

import LRQKTool

runTool()
