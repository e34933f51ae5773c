/* MPI, where there is any: point-to-point messages and three collectives. Messages to oneself go
 * through a queue of our own, so one rank needs no MPI at all. Open MPI's blocking calls spin on a
 * core; everything that may take long is therefore non-blocking here, with naps in between. */
#include "ingest/rank.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef SM_HAVE_MPI
#include <mpi.h>
#endif

#include "common/buf.h"

enum { MESSAGE_TAG = 7 };

typedef struct letter {
    struct letter *next;
    size_t len;
    uint8_t bytes[SM_MESSAGE_MAX];
#ifdef SM_HAVE_MPI
    MPI_Request request;
#endif
} letter;

/* First in, first out. */
typedef struct letters {
    letter *first, *last;
} letters;

struct sm_ranks {
    uint32_t me, n, on_node;
    letters to_me; /* sent to oneself, not yet taken */
    letters sent;  /* on their way */
#ifdef SM_HAVE_MPI
    bool mpi;
    MPI_Comm comm; /* a duplicate: nobody else's messages */
#endif
};

static sm_status letter_new(const void *bytes, size_t len, letter **out, sm_error *err)
{
    if (len > SM_MESSAGE_MAX)
        return sm_fail(err, SM_ERR_INTERNAL, "a message of %zu bytes; at most %d", len,
                       SM_MESSAGE_MAX);
    *out = sm_calloc(1, sizeof **out);
    if (*out == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a message");
    (*out)->len = len;
    memcpy((*out)->bytes, bytes, len);
    return SM_OK;
}

static void letters_put(letters *queue, letter *l)
{
    l->next = NULL;
    if (queue->last != NULL)
        queue->last->next = l;
    else
        queue->first = l;
    queue->last = l;
}

static letter *letters_take(letters *queue)
{
    letter *l = queue->first;
    if (l != NULL) {
        queue->first = l->next;
        if (queue->first == NULL)
            queue->last = NULL;
    }
    return l;
}

/* Takes one of the messages to oneself. */
static bool take_own(sm_ranks *ranks, void *bytes, size_t cap, size_t *len, uint32_t *from)
{
    letter *l = letters_take(&ranks->to_me);
    if (l == NULL)
        return false;
    *len = l->len < cap ? l->len : cap;
    *from = ranks->me;
    memcpy(bytes, l->bytes, *len);
    free(l);
    return true;
}

/* A count in the environment; 0 if it is none. */
static unsigned long count_in_environment(const char *name)
{
    const char *text = getenv(name);
    if (text == NULL || *text < '0' || *text > '9')
        return 0;
    return strtoul(text, NULL, 10);
}

/* srun without a PMI starts so many processes that know nothing of each other: each would take
 * itself for the whole job. */
static sm_status check_lone_task(sm_error *err)
{
    const unsigned long tasks = count_in_environment("SLURM_STEP_NUM_TASKS");
    if (tasks <= 1)
        return SM_OK;
    return sm_fail(
        err, SM_ERR_ARG,
        "srun started %lu tasks but MPI (%s) sees one; use srun --mpi=pmix or --mpi=pmi2 "
        "(whichever 'srun --mpi=list' has), or mpirun",
        tasks, sm_ranks_library());
}

#ifdef SM_HAVE_MPI

/* One task of srun needs no MPI, and Open MPI's MPI_Init ends the process where it finds a PMI of
 * Slurm that it was not built with. mpirun and PMIx are another matter. */
static bool is_lone_task(void)
{
    const char *size = getenv("PMI_SIZE");
    return count_in_environment("SLURM_STEP_NUM_TASKS") == 1 &&
           getenv("OMPI_COMM_WORLD_SIZE") == NULL && getenv("PMIX_RANK") == NULL &&
           (size == NULL || strcmp(size, "1") == 0);
}

static bool launched(void)
{
    static const char *const SIGNS[] = {
        "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE", "PMI_ID",
        "MV2_COMM_WORLD_SIZE"};
    for (size_t i = 0; i < SM_COUNT(SIGNS); i++)
        if (getenv(SIGNS[i]) != NULL)
            return !is_lone_task();
    return false;
}

static sm_status check_mpi(int code, const char *what, sm_error *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int len = 0;
    if (code == MPI_SUCCESS)
        return SM_OK;
    if (MPI_Error_string(code, text, &len) != MPI_SUCCESS)
        (void)snprintf(text, sizeof text, "error %d", code);
    return sm_fail(err, SM_ERR_IO, "MPI: %s: %s", what, text);
}

/* Naps of 20 us to 5 ms: at once what comes at once, no CPU while others are busy for long. */
static sm_status wait_quietly(MPI_Request *request, const char *what, sm_error *err)
{
    struct timespec nap = {0, 20000};
    int done = 0;
    for (;;) {
        const sm_status st = check_mpi(MPI_Test(request, &done, MPI_STATUS_IGNORE), what, err);
        if (st != SM_OK || done)
            return st;
        (void)nanosleep(&nap, NULL);
        if (nap.tv_nsec < 5000000)
            nap.tv_nsec *= 2;
    }
}

static sm_status count_on_node(sm_ranks *ranks, sm_error *err)
{
    MPI_Comm node = MPI_COMM_NULL;
    int n = 1;
    sm_status st =
        check_mpi(MPI_Comm_split_type(ranks->comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node),
                  "cannot find the ranks of this node", err);
    if (st == SM_OK)
        st = check_mpi(MPI_Comm_size(node, &n), "cannot count the ranks of this node", err);
    if (node != MPI_COMM_NULL)
        (void)MPI_Comm_free(&node);
    ranks->on_node = (uint32_t)n;
    return st;
}

static sm_status start_mpi(int *argc, char ***argv, sm_ranks *ranks, sm_error *err)
{
    const bool counted = getenv("OMPI_COMM_WORLD_SIZE") != NULL; /* mpirun; srun does not say */
    int provided = 0, me = 0, n = 1;
    sm_status st =
        check_mpi(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided), "cannot start", err);
    if (st != SM_OK)
        return st;
    ranks->mpi = true;
    (void)MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    st = check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &ranks->comm), "cannot start", err);
    if (st != SM_OK)
        return st;
    (void)MPI_Comm_set_errhandler(ranks->comm, MPI_ERRORS_RETURN);
    st = check_mpi(MPI_Comm_rank(ranks->comm, &me), "which rank is this", err);
    if (st == SM_OK)
        st = check_mpi(MPI_Comm_size(ranks->comm, &n), "how many ranks are there", err);
    ranks->me = (uint32_t)me;
    ranks->n = (uint32_t)n;
    if (st == SM_OK)
        st = count_on_node(ranks, err);
    if (st == SM_OK && n == 1 && !counted)
        st = check_lone_task(err);
    return st;
}

/* The analyzer looks for the wait in the function that began the request; ours is elsewhere. */
// NOLINTBEGIN(clang-analyzer-optin.mpi.MPI-Checker)
/* Forget the messages that have left; they leave in order, near enough. */
static sm_status sweep(sm_ranks *ranks, sm_error *err)
{
    while (ranks->sent.first != NULL) {
        int done = 0;
        const sm_status st = check_mpi(
            MPI_Test(&ranks->sent.first->request, &done, MPI_STATUS_IGNORE), "cannot send", err);
        if (st != SM_OK || !done)
            return st;
        free(letters_take(&ranks->sent));
    }
    return SM_OK;
}

static sm_status send_away(sm_ranks *ranks, uint32_t to, letter *l, sm_error *err)
{
    const sm_status st = check_mpi(
        MPI_Isend(l->bytes, (int)l->len, MPI_BYTE, (int)to, MESSAGE_TAG, ranks->comm, &l->request),
        "cannot send", err);
    if (st != SM_OK) {
        free(l);
        return st;
    }
    letters_put(&ranks->sent, l);
    return sweep(ranks, err);
}

/* Open MPI looks first and moves messages then: what has arrived since the last call is seen by the
 * second look only. Without it each message would cost its reader one more nap. */
static sm_status look(sm_ranks *ranks, MPI_Status *status, int *there, sm_error *err)
{
    sm_status st = SM_OK;
    *there = 0;
    for (int i = 0; i < 2 && st == SM_OK && !*there; i++)
        st = check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, MESSAGE_TAG, ranks->comm, there, status),
                       "cannot receive", err);
    return st;
}

static sm_status receive(sm_ranks *ranks, void *bytes, size_t cap, size_t *len, uint32_t *from,
                         bool *got, sm_error *err)
{
    MPI_Status status;
    int there = 0, n = 0;
    sm_status st = sweep(ranks, err);
    if (st == SM_OK)
        st = look(ranks, &status, &there, err);
    if (st != SM_OK || !there)
        return st;
    st = check_mpi(MPI_Get_count(&status, MPI_BYTE, &n), "cannot receive", err);
    if (st == SM_OK && (n < 0 || (size_t)n > cap))
        return sm_fail(err, SM_ERR_INTERNAL, "MPI: a message of %d bytes where %zu fit", n, cap);
    if (st == SM_OK)
        st = check_mpi(MPI_Recv(bytes, n, MPI_BYTE, status.MPI_SOURCE, MESSAGE_TAG, ranks->comm,
                                MPI_STATUS_IGNORE),
                       "cannot receive", err);
    *len = (size_t)n;
    *from = (uint32_t)status.MPI_SOURCE;
    *got = st == SM_OK;
    return st;
}

static sm_status share(sm_ranks *ranks, void *bytes, size_t len, uint32_t root, sm_error *err)
{
    MPI_Request request;
    const sm_status st =
        check_mpi(MPI_Ibcast(bytes, (int)len, MPI_BYTE, (int)root, ranks->comm, &request),
                  "cannot tell all ranks", err);
    return st == SM_OK ? wait_quietly(&request, "cannot tell all ranks", err) : st;
}

/* Rank of the first that is not well; n if all are. */
static sm_status first_failure(sm_ranks *ranks, sm_status mine, uint32_t *first, sm_error *err)
{
    int well = mine == SM_OK, who = 0;
    MPI_Request request;
    who = well ? (int)ranks->n : (int)ranks->me;
    int least = who;
    sm_status st =
        check_mpi(MPI_Iallreduce(&who, &least, 1, MPI_INT, MPI_MIN, ranks->comm, &request),
                  "cannot ask all ranks", err);
    if (st == SM_OK)
        st = wait_quietly(&request, "cannot ask all ranks", err);
    *first = (uint32_t)least;
    return st;
}

// NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker)

static sm_status agree(sm_ranks *ranks, sm_status mine, sm_error *err)
{
    sm_error theirs = *err;
    uint32_t first = 0;
    sm_status st = first_failure(ranks, mine, &first, &theirs);
    if (st == SM_OK && first < ranks->n)
        st = share(ranks, &theirs, sizeof theirs, first, &theirs);
    if (st != SM_OK || first < ranks->n)
        *err = theirs;
    return st != SM_OK ? st : first < ranks->n ? theirs.status : SM_OK;
}

#endif

sm_status sm_ranks_init(int *argc, char ***argv, sm_ranks **ranks, sm_error *err)
{
    sm_status st = SM_OK;
    *ranks = NULL;
    sm_ranks *r = sm_calloc(1, sizeof *r);
    if (r == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for the ranks");
    r->n = r->on_node = 1;
#ifdef SM_HAVE_MPI
    r->comm = MPI_COMM_NULL;
    st = launched() ? start_mpi(argc, argv, r, err) : check_lone_task(err);
#else
    (void)argc;
    (void)argv;
    st = check_lone_task(err);
#endif
    if (st == SM_OK) {
        *ranks = r;
        r = NULL;
    }
    sm_ranks_finish(&r);
    return st;
}

uint32_t sm_ranks_me(const sm_ranks *ranks)
{
    return ranks->me;
}

uint32_t sm_ranks_n(const sm_ranks *ranks)
{
    return ranks->n;
}

uint32_t sm_ranks_on_node(const sm_ranks *ranks)
{
    return ranks->on_node;
}

sm_status sm_ranks_bcast(sm_ranks *ranks, void *bytes, size_t len, sm_error *err)
{
#ifdef SM_HAVE_MPI
    if (ranks->n > 1)
        return share(ranks, bytes, len, 0, err);
#endif
    (void)ranks, (void)bytes, (void)len, (void)err;
    return SM_OK;
}

sm_status sm_ranks_agree(sm_ranks *ranks, sm_status mine, sm_error *err)
{
#ifdef SM_HAVE_MPI
    if (ranks->n > 1)
        return agree(ranks, mine, err);
#endif
    (void)ranks, (void)err;
    return mine;
}

sm_status sm_ranks_send(sm_ranks *ranks, uint32_t to, const void *bytes, size_t len, sm_error *err)
{
    letter *l = NULL;
    if (to >= ranks->n)
        return sm_fail(err, SM_ERR_INTERNAL, "a message to rank %u of %u", to, ranks->n);
    const sm_status st = letter_new(bytes, len, &l, err);
    if (st != SM_OK)
        return st;
#ifdef SM_HAVE_MPI
    if (to != ranks->me) // NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker): see send_away
        return send_away(ranks, to, l, err);
#endif
    letters_put(&ranks->to_me, l);
    return SM_OK;
}

sm_status sm_ranks_poll(sm_ranks *ranks, void *bytes, size_t cap, size_t *len, uint32_t *from,
                        bool *got, sm_error *err)
{
    *got = take_own(ranks, bytes, cap, len, from);
    (void)err;
#ifdef SM_HAVE_MPI
    if (!*got && ranks->n > 1)
        return receive(ranks, bytes, cap, len, from, got, err);
#endif
    return SM_OK;
}

static void letters_free(letters *queue)
{
    letter *l;
    while ((l = letters_take(queue)) != NULL)
        free(l);
}

void sm_ranks_finish(sm_ranks **ranks)
{
    sm_ranks *r = *ranks;
    *ranks = NULL;
    if (r == NULL)
        return;
#ifdef SM_HAVE_MPI
    sm_error err = SM_ERROR_INIT;
    for (letter *l = r->sent.first; l != NULL; l = l->next)
        (void)wait_quietly(&l->request, "cannot send", &err);
    if (r->comm != MPI_COMM_NULL)
        (void)MPI_Comm_free(&r->comm);
    if (r->mpi)
        (void)MPI_Finalize();
#endif
    letters_free(&r->sent);
    letters_free(&r->to_me);
    free(r);
}

_Noreturn void sm_ranks_abort(sm_ranks *ranks, int code)
{
#ifdef SM_HAVE_MPI
    if (ranks != NULL && ranks->mpi)
        (void)MPI_Abort(MPI_COMM_WORLD, code);
#endif
    (void)ranks;
    _Exit(code);
}

const char *sm_ranks_library(void)
{
#ifdef SM_HAVE_MPI
    static char name[64];
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int len = 0;
    if (name[0] == '\0' && MPI_Get_library_version(text, &len) == MPI_SUCCESS) {
        (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(text, ",\n"), text);
        char *v = strstr(name, " v"); /* "Open MPI v4.1.4" */
        if (v != NULL && v[2] >= '0' && v[2] <= '9')
            memmove(v + 1, v + 2, strlen(v + 2) + 1);
    }
    return name[0] != '\0' ? name : "unknown MPI";
#else
    return "none";
#endif
}
