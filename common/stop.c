/* The signal handler and its flag: the one piece of global state a handler can reach.
 * Atomics rather than sig_atomic_t, because every worker thread reads them. */
#include "common/stop.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

static atomic_int first_signal; /* 0: none yet */
static atomic_int interrupts;   /* SIGINTs so far */

static void on_signal(int signo)
{
    int none = 0;
    atomic_compare_exchange_strong(&first_signal, &none, signo);
    if (signo == SIGINT && atomic_fetch_add(&interrupts, 1) > 0) {
        signal(SIGINT, SIG_DFL);
        raise(SIGINT); /* delivered, and deadly, when this handler returns */
    }
}

/* What the parent chose to ignore (nohup, a shell's background job) stays ignored. */
static void catch_signal(int signo)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, before;
    sigemptyset(&action.sa_mask);
    if (sigaction(signo, NULL, &before) == 0 && before.sa_handler == SIG_IGN)
        return;
    sigaction(signo, &action, NULL);
}

void sm_stop_install(void)
{
    static const int CAUGHT[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
    for (size_t i = 0; i < SM_COUNT(CAUGHT); i++)
        catch_signal(CAUGHT[i]);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

bool sm_stop_requested(void)
{
    return atomic_load_explicit(&first_signal, memory_order_relaxed) != 0;
}

static const char *signal_name(int signo)
{
    switch (signo) {
    case SIGINT:
        return "SIGINT";
    case SIGTERM:
        return "SIGTERM";
    case SIGHUP:
        return "SIGHUP";
    default:
        return "SIGUSR1";
    }
}

sm_status sm_stop_check(sm_error *err)
{
    const int signo = atomic_load_explicit(&first_signal, memory_order_relaxed);
    if (signo == 0)
        return SM_OK;
    return sm_fail(err, SM_ERR_INTERRUPTED, "interrupted by %s; nothing was published",
                   signal_name(signo));
}
