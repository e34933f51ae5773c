/* Tests of bench/model.c and model_share.c: bandwidth is shared as it should be, and nothing is
 * won or lost on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/model.h"
#include "common/buf.h"
#include "tests/support/check.h"

#define MB UINT64_C(1000000)

/* One rank, one brick, everything fast but the CPU; no overhead. */
static const sm_model_config PLAIN = {.nodes = 1,
                                      .ranks_per_node = 1,
                                      .servers = 1,
                                      .bricks = 1,
                                      .tasks = 1,
                                      .shards = 1,
                                      .convert_mb_s = 10,
                                      .brick_mb_s = 1e6,
                                      .brick_write_mb_s = 1e6,
                                      .node_mb_s = 1e6,
                                      .server_mb_s = 1e6,
                                      .out_ratio = 1,
                                      .retry_for_s = 600,
                                      .seed = 1};

static sm_model_result model_of(const sm_model_config *config, const sm_schedule_item *slides,
                                uint32_t n)
{
    sm_error err = SM_ERROR_INIT;
    sm_model_result result;
    SM_CHECK_OK(sm_model_run(config, slides, n, &result, &err), &err);
    return result;
}

static sm_schedule_item *draw(uint32_t n, uint64_t bytes, uint32_t bricks)
{
    sm_error err = SM_ERROR_INIT;
    sm_schedule_item *slides = sm_malloc_array(n, sizeof *slides);
    assert_non_null(slides);
    SM_CHECK_OK(sm_model_draw(n, bytes, bricks, 1, slides, &err), &err);
    return slides;
}

static void near(const char *what, double got, double want, double part)
{
    if (!(fabs(got - want) <= part * fabs(want)))
        fail_msg("%s: %.9g, wanted %.9g within %g", what, got, want, part);
}

/* A cluster with everything in it, small and busy. */
static sm_model_config busy(void)
{
    sm_model_config c = PLAIN;
    c.nodes = 4;
    c.ranks_per_node = 4;
    c.tasks = 4;
    c.shards = 10;
    c.servers = 2;
    c.bricks = 4;
    c.streams_per_brick = 4;
    c.convert_mb_s = 50;
    c.stream_mb_s = 100;
    c.brick_mb_s = 120;
    c.brick_write_mb_s = 80;
    c.server_mb_s = 300;
    c.node_mb_s = 200;
    c.mount_mb_s = 250;
    c.out_ratio = 0.6;
    c.overhead_s = 0.5;
    c.task_start_s = 5;
    c.restart_s = 60;
    c.ping_timeout_s = 20;
    return c;
}

static void flows_share_max_min_fairly(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_share *s = NULL;
    SM_CHECK_OK(sm_share_new(2, 4, &s, &err), &err);
    const sm_share_use first = {0, SM_SHARE_UNIT}, second = {1, SM_SHARE_UNIT};
    const sm_share_use both[] = {first, second}, twice = {1, 2 * SM_SHARE_UNIT};
    sm_share_set(s, 0, 10, SM_LIMIT_BRICK);
    sm_share_set(s, 1, 100, SM_LIMIT_NODE);
    sm_share_add(s, 0, 1000, 2, SM_LIMIT_CPU, &first, 1);
    sm_share_add(s, 1, 1000, 1000, SM_LIMIT_CPU, &first, 1);
    sm_share_add(s, 2, 1000, 1000, SM_LIMIT_CPU, both, 2);
    sm_share_add(s, 3, 1000, 1000, SM_LIMIT_CPU, &twice, 1);
    sm_share_solve(s);
    near("its own limit", sm_share_rate(s, 0), 2, 1e-12);
    near("half of what is left", sm_share_rate(s, 1), 4, 1e-12);
    near("the tighter of two", sm_share_rate(s, 2), 4, 1e-12);
    near("the rest, at double cost", sm_share_rate(s, 3), 48, 1e-12);
    assert_int_equal(sm_share_limits(s)[SM_LIMIT_CPU], 1);
    assert_int_equal(sm_share_limits(s)[SM_LIMIT_BRICK], 2);
    assert_int_equal(sm_share_limits(s)[SM_LIMIT_NODE], 1);
    uint32_t ended[4];
    assert_int_equal(sm_share_advance(s, 10, ended), 0);
    near("moved so far", sm_share_remove(s, 3), 480, 1e-12);
    near("at double cost", sm_share_moved(s, 1), 960, 1e-12);
    assert_int_equal(sm_share_flows(s, 1), 1);
    assert_int_equal(sm_share_flow(s, 1, 0), 2);
    sm_share_free(&s);
}

static void drawn_sizes_have_the_sum_and_the_bounds(void **state)
{
    (void)state;
    const uint32_t n = 20000;
    const uint64_t bytes = UINT64_C(1000) * MB * n;
    sm_schedule_item *slides = draw(n, bytes, 8);
    uint64_t sum = 0, least = UINT64_MAX, most = 0;
    uint32_t of_brick[8] = {0};
    for (uint32_t i = 0; i < n; i++) {
        sum += slides[i].bytes;
        least = slides[i].bytes < least ? slides[i].bytes : least;
        most = slides[i].bytes > most ? slides[i].bytes : most;
        of_brick[slides[i].brick]++;
    }
    assert_true(sum == bytes);
    assert_true(least > 249 * MB && least < 260 * MB);
    assert_true(most > 4500 * MB && most < 5001 * MB);
    for (int i = 0; i < 8; i++)
        assert_in_range(of_brick[i], n / 8 - 300, n / 8 + 300);
    free(slides);
}

static void one_rank_takes_the_time_of_its_cpu(void **state)
{
    (void)state;
    const sm_schedule_item slides[] = {{100 * MB, 0}, {300 * MB, 0}};
    sm_model_config c = PLAIN;
    c.overhead_s = 3;
    c.task_start_s = 5;
    const sm_model_result r = model_of(&c, slides, 2);
    near("start, 400 MB at 10 MB/s, two overheads", r.seconds, 5 + 40 + 6, 1e-4);
    near("cpu", r.limit_s[SM_LIMIT_CPU], 40, 1e-6);
    near("in use", r.cpu_use, 40.0 / 51, 1e-4);
}

static void a_single_brick_saturates(void **state)
{
    (void)state;
    sm_model_config c = PLAIN;
    c.ranks_per_node = 16;
    c.brick_mb_s = c.brick_write_mb_s = 60;
    sm_schedule_item *slides = draw(1000, 100000 * MB, 1);
    const sm_model_result r = model_of(&c, slides, 1000);
    /* each byte is read, written, and read back */
    near("three times the bytes", r.seconds, 3 * 100000.0 / 60, 0.01);
    near("in use", r.brick_use, 1, 0.01);
    assert_true(r.limit_s[SM_LIMIT_BRICK] > 100 * r.limit_s[SM_LIMIT_CPU]);
    free(slides);
}

static void bytes_are_conserved_through_failures(void **state)
{
    (void)state;
    const uint32_t n = 2000;
    const double total = 400000.0 * MB;
    sm_schedule_item *slides = draw(n, 400000 * MB, 4);
    sm_model_config c = busy();
    for (int with = 0; with < 2; with++) {
        c.node_mtbf_s = with * 4000;
        c.rank_mtbf_s = with * 20000;
        c.brick_mtbf_s = with * 8000;
        c.brick_outage_s = 1200; /* longer than slides are tried */
        c.node_repair_s = 300;
        const sm_model_result r = model_of(&c, slides, n);
        double finished = 0;
        for (uint32_t i = 0; i < r.n_bins; i++)
            finished += r.bins[i];
        assert_int_equal(r.done, n);
        near("finished", finished, total, 1e-9);
        /* nothing is lost but what was thrown away; a settled slide is lost without a read */
        near("read", r.read_bytes, total + r.lost_bytes, 1e-6);
        near("written", r.written_bytes, 0.6 * r.read_bytes, 1e-6);
        near("brick", r.brick_use * 4 * 120 * (double)MB * r.seconds,
             r.read_bytes + r.written_bytes * 120 / 80 + r.checked_bytes, 1e-4);
        near("ranks",
             r.rank_s[SM_MODEL_WORK] + r.rank_s[SM_MODEL_ERROR] + r.rank_s[SM_MODEL_WAIT] +
                 r.rank_s[SM_MODEL_START] + r.rank_s[SM_MODEL_EMPTY] + r.rank_s[SM_MODEL_DOWN],
             16 * r.seconds, 1e-6);
        assert_true((r.lost_bytes > 0) == with && (r.brick_failures > 0) == with);
        assert_true((r.given_up > 0) == with && (r.passes > 1) == with);
        assert_true((r.node_failures > 0) == with && (r.rank_failures > 0) == with);
    }
    free(slides);
}

static void a_death_costs_the_lost_work_and_the_restart(void **state)
{
    (void)state;
    const sm_schedule_item slides[] = {{400 * MB, 0}, {200 * MB, 0}};
    sm_model_config c = PLAIN;
    c.restart_s = 100;
    c.node_repair_s = 1000;
    c.task_start_s = 7;
    const sm_model_result without = model_of(&c, slides, 2);
    c.n_faults = 1;
    /* 13 s into the first slide */
    c.faults[0] = (sm_model_fault){SM_MODEL_RANK_DIES, 0, 20};
    const sm_model_result rank = model_of(&c, slides, 2);
    near("lost", rank.lost_bytes, 130.0 * MB, 1e-9);
    near("lost time", rank.lost_rank_s, 13, 1e-9);
    near("later by", rank.seconds - without.seconds, 13 + 100 + 7, 1e-6);
    /* in the second slide: the first stays done */
    c.faults[0] = (sm_model_fault){SM_MODEL_NODE_DIES, 0, 50};
    const sm_model_result node = model_of(&c, slides, 2);
    near("later by", node.seconds - without.seconds, node.lost_rank_s + 1000 + 7, 1e-6);
    near("lost", node.lost_bytes, node.lost_rank_s * 10 * (double)MB, 1e-3);
    assert_true(node.lost_rank_s > 2.9 && node.lost_rank_s < 3.1);
}

static void a_lost_brick_is_tried_again_after_it_is_back(void **state)
{
    (void)state;
    const sm_schedule_item slide = {400 * MB, 0};
    sm_model_config c = PLAIN;
    c.n_faults = 1;
    c.faults[0] = (sm_model_fault){SM_MODEL_BRICK_GOES, 0, 10};
    c.ping_timeout_s = 42;
    c.brick_outage_s = 60;
    const sm_model_result back = model_of(&c, &slide, 1);
    near("lost", back.lost_bytes, 100.0 * MB, 1e-9);
    assert_int_equal(back.passes, 1);
    assert_in_range((uint64_t)back.seconds, 70 + 40, 70 + 40 + 64);
    c.retry_for_s = 30; /* it gives up; the next pass waits for the brick */
    c.brick_outage_s = 5000;
    const sm_model_result later = model_of(&c, &slide, 1);
    assert_int_equal(later.given_up, 1);
    assert_int_equal(later.passes, 2);
    near("after the outage", later.seconds, 5010 + 40, 1e-3);
}

static void knowing_bricks_beats_not_knowing_with_a_slow_one(void **state)
{
    (void)state;
    sm_schedule_item *slides = draw(2000, 200000 * MB, 4);
    sm_model_config c = PLAIN;
    c.ranks_per_node = 16;
    c.bricks = 4;
    c.streams_per_brick = 4;
    c.convert_mb_s = 40;
    /* disks: many streams make them seek */
    c.n_curve = 3;
    c.curve[0] = (sm_model_point){1, 150};
    c.curve[1] = (sm_model_point){5, 400};
    c.curve[2] = (sm_model_point){16, 100};
    c.brick_mb_s = c.brick_write_mb_s = 400;
    c.out_ratio = 0.2;
    c.n_slow = 1;
    c.slow[0].brick = 2;
    c.slow[0].factor = 0.4;
    const sm_model_result knows = model_of(&c, slides, 2000);
    c.brick_blind = true;
    const sm_model_result blind = model_of(&c, slides, 2000);
    if (!(blind.seconds > 1.15 * knows.seconds))
        fail_msg("blind %.0f s, brick-aware %.0f s", blind.seconds, knows.seconds);
    free(slides);
}

static void longest_first_leaves_ranks_little_idle(void **state)
{
    (void)state;
    sm_schedule_item *slides = draw(400, 40000 * MB, 1);
    sm_model_config c = PLAIN;
    c.ranks_per_node = 16;
    const sm_model_result r = model_of(&c, slides, 400);
    const double idle = 1 - r.rank_s[SM_MODEL_WORK] / (16 * r.seconds);
    if (!(idle < 0.03))
        fail_msg("idle %.3f", idle);
    free(slides);
}

static void the_same_seed_gives_the_same_answer(void **state)
{
    (void)state;
    sm_schedule_item *slides = draw(1000, 100000 * MB, 4);
    sm_model_config c = busy();
    c.node_mtbf_s = c.rank_mtbf_s = c.brick_mtbf_s = 5000;
    c.brick_outage_s = c.node_repair_s = 100;
    const sm_model_result a = model_of(&c, slides, 1000), b = model_of(&c, slides, 1000);
    assert_memory_equal(&a.seconds, &b.seconds, sizeof a.seconds);
    assert_memory_equal(a.limit_s, b.limit_s, sizeof a.limit_s);
    assert_memory_equal(a.bins, b.bins, sizeof a.bins);
    assert_true(a.events == b.events && a.lost_rank_s == b.lost_rank_s);
    c.seed = 2;
    const sm_model_result other = model_of(&c, slides, 1000);
    assert_true(other.lost_rank_s != a.lost_rank_s);
    free(slides);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_model_result r;
    const sm_schedule_item slide = {400 * MB, 0}, lost = {400 * MB, 1};
    sm_model_config c = PLAIN;
    SM_CHECK_FAILS(sm_model_run(&c, &lost, 1, &r, &err), &err, SM_ERR_ARG, "brick 1 of 1");
    c.tasks = 2;
    SM_CHECK_FAILS(sm_model_run(&c, &slide, 1, &r, &err), &err, SM_ERR_ARG, "2 tasks of 1 ranks");
    c = PLAIN;
    c.server_mb_s = 0;
    SM_CHECK_FAILS(sm_model_run(&c, &slide, 1, &r, &err), &err, SM_ERR_ARG, "link of a server");
    c = PLAIN;
    c.rank_mtbf_s = 0.1;
    SM_CHECK_FAILS(sm_model_run(&c, &slide, 1, &r, &err), &err, SM_ERR_ARG, "does not end");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flows_share_max_min_fairly),
        cmocka_unit_test(drawn_sizes_have_the_sum_and_the_bounds),
        cmocka_unit_test(one_rank_takes_the_time_of_its_cpu),
        cmocka_unit_test(a_single_brick_saturates),
        cmocka_unit_test(bytes_are_conserved_through_failures),
        cmocka_unit_test(a_death_costs_the_lost_work_and_the_restart),
        cmocka_unit_test(a_lost_brick_is_tried_again_after_it_is_back),
        cmocka_unit_test(knowing_bricks_beats_not_knowing_with_a_slow_one),
        cmocka_unit_test(longest_first_leaves_ranks_little_idle),
        cmocka_unit_test(the_same_seed_gives_the_same_answer),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
