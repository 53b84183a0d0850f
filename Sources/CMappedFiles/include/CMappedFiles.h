// Which file a memory fault belongs to.
//
// A file that is mapped and then made shorter by another process leaves pages without bytes.
// Touching one raises SIGBUS, and by default the process ends without a word. Here a table holds
// the mapped ranges with the paths of their files, and a handler looks the faulting address up,
// writes one line to standard error that names the file, and ends the process.
//
// In C because a signal may arrive anywhere, within an allocation too: the handler calls write and
// _exit, compares numbers, and does nothing else. The table has a fixed size for the same reason. A
// mapping that finds no room in it works all the same; a fault in it then ends the process without
// the line.

#ifndef CMAPPEDFILES_H
#define CMAPPEDFILES_H

#include <stddef.h>

// Enters the mapping of `length` bytes at `start`, from the file at `path`. Returns its place in
// the table, or -1 where the table is full.
int mapped_files_enter(const void *start, size_t length, const char *path);

// Takes back what mapped_files_enter returned; -1 is allowed. Call it before the mapping ends.
void mapped_files_leave(int place);

// From now on a fault in a mapped file ends the process with `status` and one line that names the
// file. Any other SIGBUS keeps its default action. Returns 0, or -1 where the system refuses.
int mapped_files_watch(int status);

#endif
