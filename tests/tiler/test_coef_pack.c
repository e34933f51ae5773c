/* Coefficients that are packed come back as they were. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tiler/coef_pack.h"

enum { BLOCKS = 50 };

static void round_trip(const int16_t (*blocks)[SM_BLOCK_COEFS], size_t n, size_t *packed_len)
{
    sm_error err = SM_ERROR_INIT;
    sm_buf packed = {0};
    int16_t back[BLOCKS][SM_BLOCK_COEFS];
    memset(back, 0x5A, sizeof back);
    assert_int_equal(sm_coef_pack(blocks[0], n, &packed, &err), SM_OK);
    const uint8_t *end = sm_coef_unpack(packed.data, back[0], n);
    assert_ptr_equal(end, packed.data + packed.len);
    assert_memory_equal(back, blocks, n * sizeof *blocks);
    *packed_len = packed.len;
    sm_buf_free(&packed);
}

static void every_single_coefficient_survives(void **state)
{
    (void)state;
    static const int16_t values[] = {1, -1, 127, 128, -128, -129, 255, 256, 32767, -32768};
    for (size_t v = 0; v < SM_COUNT(values); v++) {
        for (size_t at = 0; at < SM_BLOCK_COEFS; at++) {
            int16_t block[1][SM_BLOCK_COEFS] = {{0}};
            size_t len = 0;
            block[0][at] = values[v];
            round_trip((const int16_t(*)[SM_BLOCK_COEFS])block, 1, &len);
            assert_int_equal(len, 8 + 2);
        }
    }
}

static void empty_and_full_blocks_have_their_sizes(void **state)
{
    (void)state;
    int16_t blocks[BLOCKS][SM_BLOCK_COEFS] = {{0}};
    size_t len = 0;
    round_trip((const int16_t(*)[SM_BLOCK_COEFS])blocks, BLOCKS, &len);
    assert_int_equal(len, BLOCKS * 8);
    for (size_t i = 0; i < BLOCKS; i++)
        for (size_t k = 0; k < SM_BLOCK_COEFS; k++)
            blocks[i][k] = (int16_t)(i * 64 + k + 1);
    round_trip((const int16_t(*)[SM_BLOCK_COEFS])blocks, BLOCKS, &len);
    assert_int_equal(len, BLOCKS * (8 + 128));
}

static void mixed_blocks_come_back_in_order(void **state)
{
    (void)state;
    int16_t blocks[BLOCKS][SM_BLOCK_COEFS] = {{0}};
    uint32_t seed = 7;
    size_t len = 0;
    for (size_t i = 0; i < BLOCKS; i++) {
        for (size_t k = 0; k < SM_BLOCK_COEFS; k++) {
            seed = seed * 1664525u + 1013904223u;
            if ((seed >> 28) < i % 16)
                blocks[i][k] = (int16_t)(seed >> 8);
        }
    }
    round_trip((const int16_t(*)[SM_BLOCK_COEFS])blocks, BLOCKS, &len);
    assert_true(len < BLOCKS * (8 + 128));
}

static void the_bound_is_never_more_than_everything(void **state)
{
    (void)state;
    assert_int_equal(sm_coef_pack_bound(10, 0), 80);
    assert_int_equal(sm_coef_pack_bound(10, 30), 80 + 160);
    assert_int_equal(sm_coef_pack_bound(10, 1u << 30), 10 * 136);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_single_coefficient_survives),
        cmocka_unit_test(empty_and_full_blocks_have_their_sizes),
        cmocka_unit_test(mixed_blocks_come_back_in_order),
        cmocka_unit_test(the_bound_is_never_more_than_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
