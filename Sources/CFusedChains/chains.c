#include "CFusedChains.h"
void chains_placeholder(void) {}
