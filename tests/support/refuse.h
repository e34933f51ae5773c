/* Runs a function in a child of its own in which a system call fails as told: a few times, or
 * always. Needs seccomp with user notification (Linux 5.5). Header only; needs cmocka.h before it.
 */
#ifndef SM_TESTS_SUPPORT_REFUSE_H
#define SM_TESTS_SUPPORT_REFUSE_H

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SM_REFUSE_ALWAYS UINT32_MAX
#define SM_REFUSE_ANY (-1)

/* Which call, and what becomes of it. */
typedef struct sm_refusal {
    long call;      /* SYS_... */
    int arg;        /* only when this argument ... or SM_REFUSE_ANY */
    uint32_t value; /* ... has this value (its low 32 bits) */
    int errnum;
    uint32_t skip, times; /* the first `skip` calls go through, `times` more fail */
} sm_refusal;

typedef struct sm_refuser {
    const sm_refusal *refusal;
    atomic_int listener;
} sm_refuser;

static inline void *sm_refuse_thread(void *arg)
{
    sm_refuser *refuser = arg;
    int fd = -1;
    while ((fd = atomic_load(&refuser->listener)) < 0)
        usleep(100);
    uint32_t seen = 0;
    for (;;) {
        struct seccomp_notif call;
        memset(&call, 0, sizeof(call));
        if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0) {
            if (errno == EINTR || errno == ENOENT)
                continue;
            return NULL;
        }
        const sm_refusal *r = refuser->refusal;
        const int refused = seen >= r->skip && seen - r->skip < r->times;
        seen++;
        struct seccomp_notif_resp answer = {.id = call.id};
        if (refused)
            answer.error = -r->errnum;
        else
            answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        (void)ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
}

/* False where this is not possible. */
static inline int sm_refuse_install(sm_refuser *refuser)
{
    const sm_refusal *r = refuser->refusal;
    const uint32_t arg_at =
        (uint32_t)(offsetof(struct seccomp_data, args) + 8 * (size_t)(r->arg < 0 ? 0 : r->arg));
    const uint8_t unequal = r->arg < 0 ? 0 : 1; /* instructions to pass over: 0 for "any" */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)r->call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, arg_at),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, r->value, 0, unequal),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
    pthread_t thread;
    if (pthread_create(&thread, NULL, sm_refuse_thread, refuser) != 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return 0;
    const int fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                                SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    atomic_store(&refuser->listener, fd);
    return fd >= 0;
}

/* What body returned (0..76); 77: the kernel cannot do it; the test fails if the child was killed.
 */
static inline int sm_refuse(const sm_refusal *refusal, int (*body)(void *), void *arg)
{
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        static sm_refuser refuser;
        refuser.refusal = refusal;
        atomic_store(&refuser.listener, -1);
        _exit(sm_refuse_install(&refuser) ? body(arg) : 77);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status))
        fail_msg("the child was killed by signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) == 77)
        print_message("skipped: no seccomp user notification here\n");
    return WEXITSTATUS(status);
}

#endif
