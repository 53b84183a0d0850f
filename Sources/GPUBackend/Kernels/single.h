// The program of every device: no doubles. Expanded by KernelSource.swift; a compiler that has a
// file system reads it as it stands.
#include "prelude.h"
#include "scores.h"
#include "selection.h"
#include "residency.h"
#include "rows.h"
#include "attention.h"
#include "model.h"
