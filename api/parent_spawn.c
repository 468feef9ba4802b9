// SPDX-License-Identifier: Apache-2.0
/*
 * dormouse-vmm processes; see parent_spawn.h. They are split off from a nursery
 * (hypervisor/nursery.c), which is started here and replaced from time to time, as all that
 * come out of one have the same addresses in memory.
 */
#include "parent_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/msg.h"
#include "../hypervisor/nursery.h"

#define CTL_FD       3
#define KVM_FD       4
#define VMM_FILES    1024
#define CHILDREN_MAX 32 /* of one nursery */
#define ANSWER_S     20

/* In the child. */
static void become_nursery(const struct spawn_host *h, int sock)
{
    /* Out of the way first: the numbers wanted may be taken by one of the two. */
    int c = fcntl(sock, F_DUPFD, 16), k = fcntl(h->kvm, F_DUPFD, 16);
    if (c < 0 || k < 0 || dup2(h->null, 0) < 0 || dup2(2, 1) < 0 || dup2(c, CTL_FD) < 0 ||
        dup2(k, KVM_FD) < 0 || close_range(KVM_FD + 1, ~0u, 0) < 0)
        _exit(126);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    const struct rlimit core = {0, 0}, files = {VMM_FILES, VMM_FILES};
    setrlimit(RLIMIT_CORE, &core);
    setrlimit(RLIMIT_NOFILE, &files);
    char *const argv[] = {(char *)(uintptr_t) "dormouse-vmm", (char *)(uintptr_t) "--nursery",
                          (char *)(uintptr_t)h->option, NULL};
    char *const envp[] = {NULL};
    execve(h->vmm_path, argv, envp);
    _exit(127);
}

static int start_nursery(struct spawn_host *h, struct err *e)
{
    int pair[2];
    int r = msg_pair(pair, e);
    if (r < 0)
        return r;
    pid_t pid = fork();
    if (pid == 0)
        become_nursery(h, pair[1]);
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return err_sys(e, errno, "start the nursery of the microVM processes");
    }
    const struct timeval limit = {.tv_sec = ANSWER_S};
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    h->nursery = pair[0];
    h->nursery_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    h->born = 0;
    return 0;
}

void spawn_close(struct spawn_host *h)
{
    if (h->nursery < 0)
        return;
    close(h->nursery);
    h->nursery = -1;
    /* Who waits for any child may have been faster. */
    siginfo_t si;
    spawn_kill(h->nursery_pidfd);
    waitid(P_PIDFD, (id_t)h->nursery_pidfd, &si, WEXITED);
    close(h->nursery_pidfd);
}

static int order(struct spawn_host *h, const struct nursery_spawn *s, const int fds[3],
                 struct err *e)
{
    static struct msg m;
    int r = msg_send(h->nursery, NURSERY_SPAWN, 1, s, sizeof *s, fds,
                     1 + s->listens + s->has_cgroup, e);
    if (r == 0)
        r = msg_recv(h->nursery, &m, e);
    if (r < 0)
        return r;
    const struct nursery_born *born = msg_body(&m, sizeof *born);
    msg_close_fds(&m);
    if (m.type != NURSERY_BORN || !born)
        return err_set(e, EPROTO, "the nursery of the microVM processes sent nonsense");
    if (born->pid < 0) {
        err_sys(e, -born->pid, "start a microVM process");
        return born->pid == -EINVAL ? err_hint(e, "the kernel must be 5.7 or newer")
                                    : born->pid;
    }
    return born->pid;
}

int spawn_vmm(struct spawn_host *h, uint32_t uid, uint32_t vcpus, int ctl, int listener,
              int cgroup, pid_t *ret_pid, int *ret_pidfd, struct err *e)
{
    const struct nursery_spawn s = {
        .vcpus = vcpus, .uid = uid, .listens = listener >= 0, .has_cgroup = cgroup >= 0};
    const int fds[3] = {ctl, listener >= 0 ? listener : cgroup, cgroup};
    int r = h->nursery < 0 ? start_nursery(h, e) : 0;
    int pid = r < 0 ? r : order(h, &s, fds, e);
    if (pid == -ECONNRESET || pid == -EPIPE || pid == -EAGAIN) {
        /* It ended; a second one that does so has written why. */
        spawn_close(h);
        r = start_nursery(h, e);
        pid = r < 0 ? r : order(h, &s, fds, e);
    }
    if (pid < 0)
        return pid;
    /* It is our child: the number is its own until we wait for it. */
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        err_sys(e, errno, "follow a microVM process");
        kill(pid, SIGKILL);
        return -e->num;
    }
    h->born++;
    *ret_pid = pid;
    *ret_pidfd = pidfd;
    return 0;
}

void spawn_renew(struct spawn_host *h)
{
    if (h->nursery >= 0 && h->born < CHILDREN_MAX)
        return;
    spawn_close(h);
    start_nursery(h, NULL); /* else the next order tries again, and says why it fails */
}

void spawn_kill(int pidfd)
{
    if (pidfd >= 0)
        syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}
