/* The queue of one run: a heap of waiting slides for each brick, and one of those that wait out a
 * storage error. Each slide is in exactly one place, so the heaps of the bricks share one array. */
#include "ingest/schedule.h"

#include <stdlib.h>
#include <string.h>

#include "common/buf.h"

enum { HOLDING_ERRORS = 2 };
#define CRITICAL_PART 0.5

typedef enum item_state {
    ITEM_WAITING, /* in its brick's heap */
    ITEM_BACKOFF, /* in the heap of the late */
    ITEM_READING, /* given, on its brick */
    ITEM_WORKED,  /* given, no longer on its brick */
    ITEM_OVER,
} item_state;

typedef struct brick {
    uint32_t *heap; /* of item numbers, longest on top; room for all items of the brick */
    uint32_t n, streams;
    uint64_t waiting_bytes; /* in the heap */
    uint64_t busy_ns;       /* it had a reader, as far as it is over ... */
    uint64_t busy_since_ns; /* ... and since when it has one now */
    uint64_t place_ns;      /* its slides held a place, as far as they are read */
    uint64_t read_bytes;    /* of those slides */
    uint32_t errors;        /* storage errors since it last gave a slide's bytes */
    uint64_t failed_ns;     /* the first of them */
    uint64_t held_ns;       /* until then nothing is asked of it */
    bool given_up;          /* that was retry_for ago: its slides are not waited for any more */
} brick;

struct sm_schedule {
    sm_schedule_config config;
    sm_schedule_item *items;
    uint8_t *states;
    uint64_t *first_ns; /* of its first storage error; 0: none */
    uint64_t *due_ns;   /* when it may be tried again */
    uint64_t *given_ns; /* when it was given last */
    uint64_t *wait_ns;  /* its last back-off */
    uint32_t *slots;    /* the heaps of the bricks, one after the other */
    uint32_t *late;     /* heap of items that wait out an error, earliest on top */
    brick *bricks;
    uint32_t n, n_late, n_out, n_waiting; /* n_waiting: in the heaps of the bricks */
    uint64_t waiting_bytes;
    uint64_t now_ns; /* the latest that it was told */
    bool stopped;
};

/* ---- heaps of item numbers ---- */

typedef bool (*before_fn)(const sm_schedule *s, uint32_t a, uint32_t b);

/* Longest first; of equal ones the first in the list, so that every run takes the same order. */
static bool longer(const sm_schedule *s, uint32_t a, uint32_t b)
{
    if (s->items[a].bytes != s->items[b].bytes)
        return s->items[a].bytes > s->items[b].bytes;
    return a < b;
}

static bool earlier(const sm_schedule *s, uint32_t a, uint32_t b)
{
    if (s->due_ns[a] != s->due_ns[b])
        return s->due_ns[a] < s->due_ns[b];
    return a < b;
}

static void sift_down(const sm_schedule *s, before_fn before, uint32_t *heap, uint32_t n,
                      uint32_t at)
{
    const uint32_t item = heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= n)
            break;
        if (child + 1 < n && before(s, heap[child + 1], heap[child]))
            child++;
        if (!before(s, heap[child], item))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = item;
}

static void heap_push(const sm_schedule *s, before_fn before, uint32_t *heap, uint32_t *n,
                      uint32_t item)
{
    uint32_t at = (*n)++;
    while (at > 0 && before(s, item, heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = item;
}

static uint32_t heap_pop(const sm_schedule *s, before_fn before, uint32_t *heap, uint32_t *n)
{
    const uint32_t top = heap[0];
    heap[0] = heap[--*n];
    if (*n > 0)
        sift_down(s, before, heap, *n, 0);
    return top;
}

/* ---- making one ---- */

static sm_status check_items(const sm_schedule_config *config, const sm_schedule_item *items,
                             uint32_t n, sm_error *err)
{
    if (n >= UINT32_MAX / 2)
        return sm_fail(err, SM_ERR_LIMIT, "%u slides are more than one run can hold", n);
    for (uint32_t i = 0; i < n; i++)
        if (items[i].brick >= config->n_bricks)
            return sm_fail(err, SM_ERR_INTERNAL, "slide %u is on brick %u of %u", i, items[i].brick,
                           config->n_bricks);
    return SM_OK;
}

static sm_status allocate(sm_schedule *s, sm_error *err)
{
    const size_t n = s->n > 0 ? s->n : 1, n_bricks = s->config.n_bricks;
    s->items = sm_malloc_array(n, sizeof *s->items);
    s->states = sm_calloc(n, sizeof *s->states);
    s->first_ns = sm_calloc(n, sizeof *s->first_ns);
    s->due_ns = sm_calloc(n, sizeof *s->due_ns);
    s->wait_ns = sm_calloc(n, sizeof *s->wait_ns);
    s->given_ns = sm_calloc(n, sizeof *s->given_ns);
    s->slots = sm_malloc_array(n, sizeof *s->slots);
    s->late = sm_malloc_array(n, sizeof *s->late);
    s->bricks = sm_calloc(n_bricks > 0 ? n_bricks : 1, sizeof *s->bricks);
    if (s->items == NULL || s->states == NULL || s->first_ns == NULL || s->due_ns == NULL ||
        s->wait_ns == NULL || s->given_ns == NULL || s->slots == NULL || s->late == NULL ||
        s->bricks == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory to schedule %u slides", s->n);
    return SM_OK;
}

static void fill_heaps(sm_schedule *s)
{
    for (uint32_t i = 0; i < s->n; i++)
        s->bricks[s->items[i].brick].n++;
    uint32_t *next = s->slots;
    for (uint32_t b = 0; b < s->config.n_bricks; b++) {
        s->bricks[b].heap = next;
        next += s->bricks[b].n;
        s->bricks[b].n = 0;
    }
    for (uint32_t i = 0; i < s->n; i++) {
        brick *b = &s->bricks[s->items[i].brick];
        b->heap[b->n++] = i;
        b->waiting_bytes += s->items[i].bytes;
        s->waiting_bytes += s->items[i].bytes;
    }
    for (uint32_t b = 0; b < s->config.n_bricks; b++)
        for (uint32_t at = s->bricks[b].n / 2; at-- > 0;)
            sift_down(s, longer, s->bricks[b].heap, s->bricks[b].n, at);
    s->n_waiting = s->n;
}

sm_status sm_schedule_new(const sm_schedule_config *config, const sm_schedule_item *items,
                          uint32_t n, sm_schedule **schedule, sm_error *err)
{
    *schedule = NULL;
    sm_status st = check_items(config, items, n, err);
    if (st != SM_OK)
        return st;
    sm_schedule *s = sm_calloc(1, sizeof *s);
    if (s == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory to schedule %u slides", n);
    s->config = *config;
    s->n = n;
    st = allocate(s, err);
    if (st == SM_OK) {
        if (n > 0)
            memcpy(s->items, items, n * sizeof *items);
        fill_heaps(s);
        *schedule = s;
        s = NULL;
    }
    sm_schedule_free(&s);
    return st;
}

void sm_schedule_free(sm_schedule **schedule)
{
    sm_schedule *s = *schedule;
    *schedule = NULL;
    if (s == NULL)
        return;
    free(s->items);
    free(s->states);
    free(s->first_ns);
    free(s->due_ns);
    free(s->wait_ns);
    free(s->given_ns);
    free(s->slots);
    free(s->late);
    free(s->bricks);
    free(s);
}

/* ---- giving ---- */

static void put_waiting(sm_schedule *s, uint32_t item)
{
    brick *b = &s->bricks[s->items[item].brick];
    s->states[item] = ITEM_WAITING;
    heap_push(s, longer, b->heap, &b->n, item);
    s->n_waiting++;
    s->waiting_bytes += s->items[item].bytes;
    b->waiting_bytes += s->items[item].bytes;
}

static void wake_late(sm_schedule *s, uint64_t now_ns)
{
    while (s->n_late > 0 && s->due_ns[s->late[0]] <= now_ns)
        put_waiting(s, heap_pop(s, earlier, s->late, &s->n_late));
}

/* The last one may stand for slides whose brick is not known. */
static bool is_no_brick(const sm_schedule *s, const brick *b)
{
    return s->config.last_unlimited && b == &s->bricks[s->config.n_bricks - 1];
}

/* A brick that is gone answers at once, so it would always be the least busy one and be asked for
 * slide after slide. From the second error in a row it is asked for one at a time, after a pause.
 */
static bool is_held(const sm_schedule *s, const brick *b)
{
    return b->errors >= HOLDING_ERRORS && !b->given_up && !s->config.brick_blind &&
           !is_no_brick(s, b);
}

static bool brick_is_free(const sm_schedule *s, const brick *b, uint64_t now_ns)
{
    const sm_schedule_config *c = &s->config;
    const bool unlimited = c->brick_blind || c->streams_per_brick == 0 || is_no_brick(s, b);
    if (b->n == 0)
        return false;
    if (is_held(s, b))
        return b->streams == 0 && now_ns >= b->held_ns;
    return unlimited || b->streams < c->streams_per_brick;
}

/* When a brick that is held, has slides and gives none now, may be asked again. */
static uint64_t first_release(const sm_schedule *s)
{
    uint64_t first = UINT64_MAX;
    for (uint32_t i = 0; i < s->config.n_bricks; i++) {
        const brick *b = &s->bricks[i];
        if (b->n > 0 && b->streams == 0 && is_held(s, b) && b->held_ns < first)
            first = b->held_ns;
    }
    return first;
}

/* ---- slow bricks ---- */

/* What has been seen of one brick, or of all together where it has given nothing yet. */
typedef struct pace {
    double busy, place; /* ns a byte: of the brick while it has readers; of a place */
} pace;

static pace pace_of(uint64_t busy_ns, uint64_t place_ns, uint64_t bytes)
{
    const double n = (double)bytes;
    return bytes > 0 ? (pace){(double)busy_ns / n, (double)place_ns / n} : (pace){0, 0};
}

static pace pace_of_all(const sm_schedule *s)
{
    uint64_t busy_ns = 0, place_ns = 0, bytes = 0;
    for (uint32_t i = 0; i < s->config.n_bricks; i++) {
        busy_ns += s->bricks[i].busy_ns;
        place_ns += s->bricks[i].place_ns;
        bytes += s->bricks[i].read_bytes;
    }
    return pace_of(busy_ns, place_ns, bytes);
}

/* A brick whose slides alone take longer than all places need for everything that waits decides
 * when the run ends: an hour in which nobody reads it is an hour more. One that takes half as long
 * may become it, as places wait for each other at bricks and are slower then than they could be.
 * NULL if there is none, it has a reader, or there is one place only, whose order changes nothing.
 * (Each place: those that are out, and the one that asks.) */
static brick *critical_brick(const sm_schedule *s, uint64_t now_ns)
{
    const pace all = pace_of_all(s);
    brick *critical = NULL;
    double longest = 0, everything = 0;
    for (uint32_t i = 0; i < s->config.n_bricks; i++) {
        brick *b = &s->bricks[i];
        const pace own = b->read_bytes > 0 ? pace_of(b->busy_ns, b->place_ns, b->read_bytes) : all;
        const double alone = own.busy * (double)b->waiting_bytes;
        everything += own.place * (double)b->waiting_bytes;
        if (alone > longest && b->streams == 0 && !is_no_brick(s, b) &&
            brick_is_free(s, b, now_ns)) {
            critical = b;
            longest = alone;
        }
    }
    const double together = everything / ((double)s->n_out + 1);
    return s->n_out > 0 && longest > CRITICAL_PART * together ? critical : NULL;
}

/* ---- the choice ---- */

/* The least busy brick, of equally busy ones that with the longest slide. But a slide that alone is
 * more than a fair share of what is left would be what everybody waits for at the end: it goes
 * first wherever it is. And a brick that everybody would wait for is never left alone. */
static brick *choose_brick(const sm_schedule *s, uint64_t now_ns)
{
    brick *longest = NULL, *idlest = NULL;
    for (uint32_t i = 0; i < s->config.n_bricks; i++) {
        brick *b = &s->bricks[i];
        if (!brick_is_free(s, b, now_ns))
            continue;
        const bool is_longer = longest == NULL || longer(s, b->heap[0], longest->heap[0]);
        if (is_longer)
            longest = b;
        if (idlest == NULL || b->streams < idlest->streams ||
            (b->streams == idlest->streams && longer(s, b->heap[0], idlest->heap[0])))
            idlest = b;
    }
    if (longest == NULL || s->config.brick_blind)
        return longest;
    const uint64_t share = s->waiting_bytes / ((uint64_t)s->n_out + 1);
    if (s->items[longest->heap[0]].bytes > share)
        return longest;
    brick *critical = critical_brick(s, now_ns);
    return critical != NULL ? critical : idlest;
}

/* Its clock never goes back. */
static uint64_t tick(sm_schedule *s, uint64_t now_ns)
{
    if (now_ns > s->now_ns)
        s->now_ns = now_ns;
    return s->now_ns;
}

sm_schedule_answer sm_schedule_next(sm_schedule *s, uint64_t now_ns, uint32_t *item,
                                    uint64_t *until_ns)
{
    *until_ns = UINT64_MAX;
    if (s->stopped)
        return s->n_out > 0 ? SM_SCHEDULE_WAIT : SM_SCHEDULE_END;
    wake_late(s, now_ns);
    brick *b = choose_brick(s, now_ns);
    if (b == NULL) {
        *until_ns = first_release(s);
        if (s->n_late > 0 && s->due_ns[s->late[0]] < *until_ns)
            *until_ns = s->due_ns[s->late[0]];
        const bool left = s->n_out > 0 || s->n_late > 0 || s->n_waiting > 0;
        return left ? SM_SCHEDULE_WAIT : SM_SCHEDULE_END;
    }
    *item = heap_pop(s, longer, b->heap, &b->n);
    s->given_ns[*item] = tick(s, now_ns);
    if (b->streams++ == 0)
        b->busy_since_ns = s->now_ns;
    b->waiting_bytes -= s->items[*item].bytes;
    s->states[*item] = ITEM_READING;
    s->n_waiting--;
    s->waiting_bytes -= s->items[*item].bytes;
    s->n_out++;
    return SM_SCHEDULE_GIVE;
}

/* ---- taking back ---- */

static void leave_brick(sm_schedule *s, uint32_t item)
{
    if (item >= s->n || s->states[item] != ITEM_READING)
        return;
    brick *b = &s->bricks[s->items[item].brick];
    if (--b->streams == 0)
        b->busy_ns += s->now_ns - b->busy_since_ns;
    s->states[item] = ITEM_WORKED;
}

static void brick_works(brick *b)
{
    b->errors = 0;
    b->given_up = false;
}

void sm_schedule_read_done(sm_schedule *s, uint32_t item, uint64_t now_ns)
{
    (void)tick(s, now_ns);
    if (item < s->n && s->states[item] == ITEM_READING) {
        brick *b = &s->bricks[s->items[item].brick];
        brick_works(b);
        b->read_bytes += s->items[item].bytes;
        b->place_ns += s->now_ns - s->given_ns[item];
    }
    leave_brick(s, item);
}

/* False if the item is not out: it was told twice. */
static bool take_back(sm_schedule *s, uint32_t item)
{
    leave_brick(s, item);
    if (item >= s->n || s->states[item] != ITEM_WORKED)
        return false;
    s->n_out--;
    return true;
}

void sm_schedule_done(sm_schedule *s, uint32_t item)
{
    if (take_back(s, item)) {
        s->states[item] = ITEM_OVER;
        brick_works(&s->bricks[s->items[item].brick]);
    }
}

/* Pauses stay short, so that the end of an outage is soon noticed. */
static void hold_brick(sm_schedule *s, brick *b, uint64_t now_ns)
{
    const uint64_t most = s->config.retry_most_ns / 8;
    uint64_t pause = s->config.retry_first_ns;
    if (b->errors++ == 0)
        b->failed_ns = now_ns;
    for (uint32_t i = HOLDING_ERRORS; i < b->errors && pause < most; i++)
        pause *= 2;
    b->held_ns = now_ns + (pause < most ? pause : most);
    b->given_up = b->errors >= HOLDING_ERRORS && now_ns - b->failed_ns >= s->config.retry_for_ns;
}

static uint64_t next_wait(const sm_schedule *s, uint32_t item)
{
    const uint64_t most = s->config.retry_most_ns, before = s->wait_ns[item];
    const uint64_t wait = before == 0 ? s->config.retry_first_ns : 2 * before;
    return wait > most ? most : wait;
}

bool sm_schedule_retry(sm_schedule *s, uint32_t item, uint64_t now_ns)
{
    (void)tick(s, now_ns);
    if (!take_back(s, item))
        return false;
    hold_brick(s, &s->bricks[s->items[item].brick], now_ns);
    if (s->first_ns[item] == 0)
        s->first_ns[item] = now_ns > 0 ? now_ns : 1;
    const uint64_t since = now_ns > s->first_ns[item] ? now_ns - s->first_ns[item] : 0;
    const brick *b = &s->bricks[s->items[item].brick];
    if (since >= s->config.retry_for_ns ||
        (b->given_up && !s->config.brick_blind && !is_no_brick(s, b))) {
        s->states[item] = ITEM_OVER;
        return false;
    }
    s->wait_ns[item] = next_wait(s, item);
    s->due_ns[item] = now_ns + s->wait_ns[item];
    s->states[item] = ITEM_BACKOFF;
    heap_push(s, earlier, s->late, &s->n_late, item);
    return true;
}

void sm_schedule_return(sm_schedule *s, uint32_t item)
{
    if (take_back(s, item))
        put_waiting(s, item);
}

void sm_schedule_stop(sm_schedule *s)
{
    s->stopped = true;
}

uint32_t sm_schedule_waiting(const sm_schedule *s)
{
    return s->n_waiting + s->n_late;
}

uint32_t sm_schedule_out(const sm_schedule *s)
{
    return s->n_out;
}

uint32_t sm_schedule_streams(const sm_schedule *s, uint32_t brick_index)
{
    return brick_index < s->config.n_bricks ? s->bricks[brick_index].streams : 0;
}
