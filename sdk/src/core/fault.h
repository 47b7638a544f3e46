/* fault.h - switches that make the host break its own contract, in test builds only.
 *
 * tests/contract builds the library with -DPENSTOCK_FAULTS and turns one on at a time, to prove that the
 * test of that rule catches it. In every other build PST_FAULT() is the constant 0. */
#ifndef PST_CORE_FAULT_H
#define PST_CORE_FAULT_H

#ifdef PENSTOCK_FAULTS
#include <stdlib.h>
#include <string.h>

static inline int pst_fault_is(const char *name)
{
    const char *wanted = getenv("PENSTOCK_FAULT");
    return wanted && strcmp(wanted, name) == 0;
}
#define PST_FAULT(name) pst_fault_is(#name)
#else
#define PST_FAULT(name) 0
#endif

#endif
