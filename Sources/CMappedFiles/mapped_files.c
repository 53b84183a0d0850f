#define _GNU_SOURCE  // sigaction and siginfo_t
#include "CMappedFiles.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { PLACES = 512, PATH_BYTES = 1024 };

// A place is free while `state` is 0, being written while it is 1, and readable while it is 2.
typedef struct {
  atomic_int state;
  const char *start;
  size_t length;
  char path[PATH_BYTES];
} mapped_file;

static mapped_file files[PLACES];
static int exit_status;

// Copies a path, its end if it is too long; control characters become question marks.
static void copy_path(char *to, const char *from) {
  size_t length = strlen(from);
  if (length >= PATH_BYTES) from += length - (PATH_BYTES - 1);
  size_t i = 0;
  for (; from[i] != 0; i++) {
    unsigned char byte = (unsigned char)from[i];
    to[i] = byte < 0x20 || byte == 0x7f ? '?' : from[i];
  }
  to[i] = 0;
}

int mapped_files_enter(const void *start, size_t length, const char *path) {
  for (int place = 0; place < PLACES; place++) {
    int free_place = 0;
    if (!atomic_compare_exchange_strong(&files[place].state, &free_place, 1)) continue;
    files[place].start = start;
    files[place].length = length;
    copy_path(files[place].path, path);
    atomic_store(&files[place].state, 2);
    return place;
  }
  return -1;
}

void mapped_files_leave(int place) {
  if (place >= 0 && place < PLACES) atomic_store(&files[place].state, 0);
}

// Writes a text to standard error. Where that fails the exit status still says what happened.
static void say(const char *text) {
  ssize_t written = write(STDERR_FILENO, text, strlen(text));
  (void)written;
}

static void on_fault(int number, siginfo_t *information, void *context) {
  (void)context;
  const char *address = information->si_addr;
  for (int place = 0; place < PLACES; place++) {
    mapped_file *file = &files[place];
    if (atomic_load(&file->state) != 2) continue;
    if (address < file->start || address >= file->start + file->length) continue;
    say("lrqk: ");
    say(file->path);
    say(": the file was made shorter, or its disk failed, while it was in use; "
        "put the whole file back and run again\n");
    _exit(exit_status);
  }
  // Not ours: the same fault again, with the default action.
  signal(number, SIG_DFL);
}

int mapped_files_watch(int status) {
  exit_status = status;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  return sigaction(SIGBUS, &action, NULL);
}
