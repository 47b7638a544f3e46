/* contract.h - what the contract tests share. */
#ifndef PST_TEST_CONTRACT_H
#define PST_TEST_CONTRACT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "puppet.h"

static inline uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static inline int reset(void **state)
{
    (void)state;
    puppet_reset();
    return 0;
}

#define CONTRACT_TEST(f) cmocka_unit_test_setup(f, reset)

static const pst_str object_key = {"object", 6};

#endif
