// SPDX-License-Identifier: Apache-2.0
/*
 * `dormouse-vmm --nursery`: a process that has done what is the same for every machine of this
 * host (learnt what a fresh vCPU holds, entered the common part of the jail, installed the
 * first system call filter) and splits off a VMM for each order, which saves that VMM four
 * fifths of its start. It runs as root with what a clone with a namespace and another user
 * needs, its orders come from dormoused's parent only, and no guest ever runs in it. Its
 * children have their own PID namespace, user, control group and fence, and lose its socket
 * first.
 */
#include "nursery.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <linux/sched.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/msg.h"
#include "ctl.h"
#include "vm.h"

#define PAUSE_MS 5 /* without an order: then there is time */

/* The child belongs to the nursery's parent, as if that had made it. */
static long give_birth(int cgroup)
{
    struct clone_args args;
    memset(&args, 0, sizeof args);
    args.flags = CLONE_PARENT | CLONE_NEWPID;
    if (cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)(unsigned)cgroup;
    }
    long pid = syscall(SYS_clone3, &args, sizeof args);
    return pid < 0 ? -errno : pid;
}

void nursery_share_text(void)
{
    extern char __executable_start[], etext[];
    uintptr_t from = align_down((uintptr_t)__executable_start, 4096);
    AUTO_CLOSE int fd = open("/proc/self/mem", O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && pwrite(fd, __executable_start, 1, (off_t)from) == 1)
        madvise((void *)from, align_up((uintptr_t)etext, 4096) - from, MADV_POPULATE_READ);
}

/* A ring for the next child, when there is time. The one before is its child's. */
static void renew(int sock, struct ring **ring, struct ring **last)
{
    struct pollfd p = {.fd = sock, .events = POLLIN};
    if (*ring || (*last && poll(&p, 1, PAUSE_MS) != 0))
        return;
    ring_free(*last);
    *last = NULL;
    (void)ring_make(ring, VM_RING_ENTRIES, NULL); /* if it fails, the child says why */
}

int nursery_serve(int sock, struct nursery_spawn *ret, int *ret_ctl, int *ret_listener,
                  struct ring **ret_ring, struct err *e)
{
    struct ring *ring = NULL, *last = NULL;
    static struct msg m;
    int r;
    for (;;) {
        renew(sock, &ring, &last);
        if ((r = msg_recv(sock, &m, e)) < 0)
            break;
        const struct nursery_spawn *s = msg_body(&m, sizeof *s);
        if (m.type != NURSERY_SPAWN || !s || s->vcpus == 0 || s->vcpus > CTL_VCPUS_MAX ||
            s->listens > 1 || s->has_cgroup > 1 || m.nfds != 1 + s->listens + s->has_cgroup)
            return err_set(e, EPROTO, "an impossible order to the nursery");
        long pid = give_birth(s->has_cgroup ? m.fds[1 + s->listens] : -1);
        if (pid == 0) {
            close(sock);
            ring_free(last);
            *ret_ring = ring;
            *ret = *s;
            *ret_ctl = msg_take_fd(&m, 0);
            *ret_listener = s->listens ? msg_take_fd(&m, 1) : -1;
            msg_close_fds(&m);
            return 1;
        }
        const struct nursery_born born = {.pid = (int32_t)pid};
        r = msg_send(sock, NURSERY_BORN, m.id, &born, sizeof born, NULL, 0, e);
        msg_close_fds(&m);
        if (r < 0)
            break;
        if (ring) {
            last = ring;
            ring = NULL;
        }
    }
    return r == -ECONNRESET || r == -EPIPE ? 0 : r;
}
