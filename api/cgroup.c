// SPDX-License-Identifier: Apache-2.0
/* Control groups; see cgroup.h. */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"

#define CGROUP_ROOT "/sys/fs/cgroup"
/* Beyond guest memory: the monitor's own, page tables, and files it reads through. */
#define HEADROOM    (96ull << 20)
#define PIDS_MAX    64
#define END_LIMIT_S 10

static int put(int dir, const char *file, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static int put(int dir, const char *file, struct err *e, const char *fmt, ...)
{
    char text[96];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    AUTO_CLOSE int fd = openat(dir, file, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, (size_t)n) != n)
        return err_sys(e, errno, "set %s of a control group to '%s'", file, text);
    return 0;
}

/* The api role, which is another user, reads what the machines use; our umask says nobody. */
static int admit_readers(int fd, struct err *e)
{
    return fchmod(fd, 0755) < 0 ? err_sys(e, errno, "open a control group to readers") : 0;
}

int cgroup_open(int *ret_fd, struct err *e)
{
    if (access(CGROUP_ROOT "/cgroup.controllers", F_OK) < 0) {
        err_sys(e, errno, "find control groups at " CGROUP_ROOT);
        return err_hint(e, "mount cgroup2 there");
    }
    if (mkdir(CGROUP_ROOT "/dormouse", 0755) < 0 && errno != EEXIST)
        return err_sys(e, errno, "make the control group 'dormouse'");
    AUTO_CLOSE int top = open(CGROUP_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
    AUTO_CLOSE int fd = open(CGROUP_ROOT "/dormouse", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0 || fd < 0)
        return err_sys(e, errno, "open the control group 'dormouse'");
    static const char on[] = "+cpu +memory +pids";
    int r = admit_readers(fd, e);
    if (r < 0)
        return r;
    r = put(top, "cgroup.subtree_control", e, "%s", on);
    if (r == 0)
        r = put(fd, "cgroup.subtree_control", e, "%s", on);
    if (r < 0)
        return err_hint(
            e, "the host's kernel and init must offer cpu, memory and pids in cgroup v2");
    *ret_fd = take_fd(&fd);
    return 0;
}

int cgroup_make(int root, uint32_t slot, uint64_t mem_bytes, uint32_t cpu_percent, int *ret_fd,
                struct err *e)
{
    char name[24];
    snprintf(name, sizeof name, "vm%u", slot);
    if (mkdirat(root, name, 0755) < 0 && errno != EEXIST)
        return err_sys(e, errno, "make the control group '%s'", name);
    AUTO_CLOSE int fd = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 ? err_sys(e, errno, "open the control group '%s'", name) : 0;
    if (r == 0)
        r = admit_readers(fd, e);
    if (r == 0)
        r = put(fd, "memory.max", e, "%llu", (unsigned long long)(mem_bytes + HEADROOM));
    if (r == 0)
        r = put(fd, "pids.max", e, "%d", PIDS_MAX);
    if (r == 0 && cpu_percent)
        r = put(fd, "cpu.max", e, "%llu 100000", (unsigned long long)cpu_percent * 1000);
    else if (r == 0)
        r = put(fd, "cpu.max", e, "max 100000");
    if (r < 0)
        return r;
    *ret_fd = take_fd(&fd);
    return 0;
}

int cgroup_remove(int root, uint32_t slot)
{
    char name[24];
    snprintf(name, sizeof name, "vm%u", slot);
    if (unlinkat(root, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return -errno;
    return 0;
}

/* How many processes are in it, and the first of them. */
static unsigned processes(int dir, pid_t *ret_first)
{
    AUTO_FREE char *text = NULL;
    unsigned n = 0;
    if (fd_read_file(dir, "cgroup.procs", 65536, &text, NULL, NULL) < 0)
        return 0;
    for (const char *at = text; *at; n++) {
        size_t len = strcspn(at, "\n");
        uint64_t pid;
        if (n == 0 && parse_u64n(at, len, 1, INT32_MAX, &pid))
            *ret_first = (pid_t)pid;
        at += len + (at[len] == '\n');
    }
    return n;
}

/* Reading it also arms its change for poll(). */
static bool populated(int events)
{
    char text[128];
    ssize_t n = pread(events, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return strstr(text, "populated 1") != NULL;
}

static int open_group(int root, uint32_t slot)
{
    char name[24];
    snprintf(name, sizeof name, "vm%u", slot);
    return openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

pid_t cgroup_process(int root, uint32_t slot)
{
    pid_t pid = 0;
    AUTO_CLOSE int dir = open_group(root, slot);
    return dir >= 0 && processes(dir, &pid) == 1 ? pid : 0;
}

int cgroup_end(int root, uint32_t slot, unsigned *killed)
{
    pid_t pid;
    AUTO_CLOSE int dir = open_group(root, slot);
    if (dir < 0)
        return -errno;
    unsigned n = processes(dir, &pid);
    *killed += n;
    if (n)
        put(dir, "cgroup.kill", NULL, "1");
    /* A process that is ending is in no list any more, but still holds the group. */
    AUTO_CLOSE int events = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
    struct pollfd pf = {.fd = events, .events = POLLPRI};
    for (unsigned i = 0; i < END_LIMIT_S && populated(events); i++)
        poll(&pf, 1, 1000);
    return cgroup_remove(root, slot);
}
