/* Numbers that look random and are the same on every machine and run. Header only. */
#ifndef SM_TESTS_SUPPORT_RANDOM_H
#define SM_TESTS_SUPPORT_RANDOM_H

#include <stddef.h>
#include <stdint.h>

typedef struct sm_random {
    uint64_t x; /* not 0 */
} sm_random;

/* xorshift64* */
static inline uint32_t sm_random_u32(sm_random *r)
{
    r->x ^= r->x >> 12;
    r->x ^= r->x << 25;
    r->x ^= r->x >> 27;
    return (uint32_t)((r->x * UINT64_C(0x2545F4914F6CDD1D)) >> 32);
}

/* 0..n-1 */
static inline uint32_t sm_random_below(sm_random *r, uint32_t n)
{
    return sm_random_u32(r) % n;
}

static inline void sm_random_bytes(sm_random *r, uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(sm_random_u32(r) >> 11);
}

/* 0..n-1 in any order. */
static inline void sm_random_order(sm_random *r, uint32_t *order, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t k = sm_random_below(r, i + 1);
        order[i] = order[k];
        order[k] = i;
    }
}

#endif
