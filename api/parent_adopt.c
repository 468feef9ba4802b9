// SPDX-License-Identifier: Apache-2.0
/*
 * microVMs outlive the daemon: their processes do not end with it, and each
 * holds a listening socket below <run>/vm, a directory of root's, on which it
 * takes a new control connection once the old one has ended. A parent that is
 * started after a kill finds them here. What a process is, its control group
 * says, which only root fills: a number alone may have been used again.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "cgroup.h"
#include "netlink.h"
#include "parent_priv.h"

/* The directory is root's, but the one it is in belongs to the api role's user, who might have
 * put another in its place. */
static int open_sockets(int run)
{
    struct stat st;
    if (mkdirat(run, "vm", 0700) < 0 && errno != EEXIST)
        return -errno;
    AUTO_CLOSE int dir = openat(run, "vm", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir >= 0 && fstat(dir, &st) == 0 && st.st_uid == geteuid() && !(st.st_mode & 077))
        return take_fd(&dir);
    return dir < 0 && errno != ENOTDIR && errno != ELOOP ? -errno : -EPERM;
}

int adopt_open(struct parent *p, struct err *e)
{
    char aside[32];
    AUTO_CLOSE int run = open(p->c->run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (run < 0)
        return err_sys(e, errno, "open '%s'", p->c->run_dir);
    p->sockets = open_sockets(run);
    if (p->sockets == -EPERM) {
        snprintf(aside, sizeof aside, "vm.not-root.%d", getpid());
        log_warn("'%s/vm' is not root's alone: it is now '%s'", p->c->run_dir, aside);
        if (renameat(run, "vm", run, aside) == 0)
            p->sockets = open_sockets(run);
    }
    if (p->sockets < 0)
        return err_sys(e, -p->sockets, "open '%s/vm'", p->c->run_dir);
    p->ends = epoll_create1(EPOLL_CLOEXEC);
    if (p->ends < 0)
        return err_sys(e, errno, "start the parent role");
    if (flock(p->cgroup, LOCK_EX | LOCK_NB) < 0) {
        err_set(e, EBUSY, "another dormoused runs on this host");
        return err_hint(e, "end it first; one at a time may have the microVMs");
    }
    return 0;
}

/* ---- sockets ---- */

/* Through /proc, as a socket's address has room for 108 bytes only. */
static void address(const struct parent *p, uint32_t slot, struct sockaddr_un *a)
{
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(a->sun_path, sizeof a->sun_path, "/proc/self/fd/%d/%u", p->sockets, slot);
}

int adopt_listen(struct parent *p, uint32_t slot, int *ret, struct err *e)
{
    struct sockaddr_un a;
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    address(p, slot, &a);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 1) < 0)
        return err_sys(e, errno, "make the socket of slot %u", slot);
    *ret = take_fd(&fd);
    return 0;
}

int adopt_connect(struct parent *p, uint32_t slot, int *ret, struct err *e)
{
    struct sockaddr_un a;
    /* Without waiting for a process that does not take connections. */
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    address(p, slot, &a);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
        return err_sys(e, errno, "connect to the microVM process of slot %u", slot);
    fd_set_nonblock(fd, 0);
    *ret = take_fd(&fd);
    return 0;
}

void adopt_forget(struct parent *p, uint32_t slot)
{
    char name[16];
    snprintf(name, sizeof name, "%u", slot);
    unlinkat(p->sockets, name, 0);
}

/* ---- processes ---- */

static int watch_end(struct parent *p, uint32_t n)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = n};
    return epoll_ctl(p->ends, EPOLL_CTL_ADD, p->slots[n].pidfd, &ev) < 0 ? -errno : 0;
}

void adopt_on_ends(struct parent *p, int sock)
{
    struct epoll_event ev[16];
    int n = epoll_wait(p->ends, ev, ARRAY_LEN(ev), 0);
    for (int i = 0; i < n; i++) {
        struct slot *s = &p->slots[ev[i].data.u32];
        epoll_ctl(p->ends, EPOLL_CTL_DEL, s->pidfd, NULL);
        parent_slot_ended(p, sock, ev[i].data.u32, 0);
    }
}

static bool ended(int pidfd)
{
    struct pollfd pf = {.fd = pidfd, .events = POLLIN};
    return poll(&pf, 1, 0) != 0;
}

/* The one process of a slot's control group. The descriptor is opened between two looks at the
 * group: then it is the process that both have seen. */
static bool find_process(struct parent *p, uint32_t slot, pid_t *ret_pid, int *ret_pidfd)
{
    pid_t before = cgroup_process(p->cgroup, slot);
    if (before <= 0)
        return false;
    AUTO_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, before, 0);
    if (pidfd < 0 || cgroup_process(p->cgroup, slot) != before || ended(pidfd))
        return false;
    *ret_pid = before;
    *ret_pidfd = take_fd(&pidfd);
    return true;
}

static bool adopt_slot(struct parent *p, uint32_t n)
{
    char name[IFNAMSIZ];
    struct slot s = {.state = SLOT_LIVE, .adopted = true, .pidfd = -1};
    if (!find_process(p, n, &s.pid, &s.pidfd))
        return false;
    snprintf(name, sizeof name, "dm%u", n);
    s.tap_index = (int)if_nametoindex(name);
    p->slots[n] = s;
    if (watch_end(p, n) < 0) {
        spawn_kill(s.pidfd);
        close(s.pidfd);
        p->slots[n] = (struct slot){.state = SLOT_FREE, .pidfd = -1};
        return false;
    }
    return true;
}

/* A tap goes with the last process that holds it, so there should be none. */
static unsigned remove_taps(struct parent *p)
{
    unsigned n = 0;
    DIR *dir = opendir("/sys/class/net");
    for (struct dirent *d; dir && (d = readdir(dir));) {
        uint64_t slot;
        if (strncmp(d->d_name, "dm", 2) == 0 &&
            parse_u64(d->d_name + 2, 0, PRIV_SLOTS - 1, &slot) &&
            p->slots[slot].state == SLOT_FREE)
            n += tap_remove(p->netlink, (uint32_t)slot) == 0;
    }
    if (dir)
        closedir(dir);
    return n;
}

int adopt_leftovers(struct parent *p, struct err *e)
{
    unsigned kept = 0, sockets = 0, groups = 0, killed = 0;
    int copy = openat(p->sockets, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    if (!dir) {
        int num = errno;
        if (copy >= 0)
            close(copy);
        return err_sys(e, num, "look for microVMs that run");
    }
    for (struct dirent *d; (d = readdir(dir));) {
        uint64_t slot;
        if (d->d_name[0] == '.')
            continue;
        if (parse_u64(d->d_name, 0, PRIV_SLOTS - 1, &slot) && adopt_slot(p, (uint32_t)slot))
            kept++;
        else if (unlinkat(p->sockets, d->d_name, 0) == 0)
            sockets++;
    }
    closedir(dir);
    for (uint32_t n = 0; n < PRIV_SLOTS; n++) {
        int r = p->slots[n].state == SLOT_LIVE ? -ENOENT : cgroup_end(p->cgroup, n, &killed);
        groups += r == 0;
        if (r < 0 && r != -ENOENT)
            log_warn("the control group of slot %u stays for now: %s", n, strerror(-r));
    }
    unsigned taps = remove_taps(p);
    if (kept || sockets || groups || killed || taps)
        log_info("found %u microVM processes of an earlier daemon; ended %u others, removed %u "
                 "control groups, %u sockets, %u network devices",
                 kept, killed, groups, sockets, taps);
    return 0;
}
