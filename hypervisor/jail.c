// SPDX-License-Identifier: Apache-2.0
/*
 * The jail; see jail.h. Entered before any thread exists and before anything of the
 * guest is known, in two steps: the first is made once for all the children of a
 * nursery (nursery.c), the second by each. The order matters: what needs privilege
 * first, then the privilege goes, then the way back.
 */
#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/landlock.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

#define FILES_MAX 512

static int write_proc(const char *path, const char *text)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd_write_full(fd, text, strlen(text));
}

/* Without privilege the namespaces need a user namespace around them, in which we are
 * nobody in particular. */
static int own_namespaces(struct err *e)
{
    int flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET;
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (uid != 0)
        flags |= CLONE_NEWUSER;
    if (unshare(flags) < 0) {
        err_sys(e, errno, "enter own namespaces");
        return err_hint(e, "start it as root, allow unprivileged user namespaces, or pass "
                           "--no-jail to run by hand without this protection");
    }
    if (uid == 0)
        return 0;
    char users[64], groups[64];
    snprintf(users, sizeof users, "%u %u 1", uid, uid);
    snprintf(groups, sizeof groups, "%u %u 1", gid, gid);
    int r = write_proc("/proc/self/setgroups", "deny");
    if (r == 0)
        r = write_proc("/proc/self/uid_map", users);
    if (r == 0)
        r = write_proc("/proc/self/gid_map", groups);
    return r < 0 ? err_sys(e, -r, "map the user of the own namespace") : 0;
}

/* An empty, read-only root: a fresh tmpfs on any directory that exists, then pivoted to. */
static int empty_root(struct err *e)
{
    static const char *const places[] = {"/proc", "/tmp", "/dev", "/sys"};
    int r = -1;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_sys(e, errno, "make mounts private");
    for (unsigned i = 0; i < ARRAY_LEN(places) && r < 0; i++) {
        r = mount("none", places[i], "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
                  "size=4k,nr_inodes=1,mode=0555");
        if (r == 0 && chdir(places[i]) < 0)
            return err_sys(e, errno, "enter the empty root");
    }
    if (r < 0)
        return err_sys(e, errno, "mount an empty root");
    if (syscall(SYS_pivot_root, ".", ".") < 0) {
        err_sys(e, errno, "make the empty directory the root");
        return err_hint(e, "the host's root file system cannot be an initramfs; move it to a "
                           "bind mount of itself first");
    }
    if (umount2(".", MNT_DETACH) < 0)
        return err_sys(e, errno, "leave the old root");
    if (mount(NULL, "/", NULL,
              MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return err_sys(e, errno, "make the empty root read-only");
    return 0;
}

static int limits(struct err *e)
{
    static const struct {
        int what;
        rlim_t value;
    } table[] = {
        {RLIMIT_CORE, 0},           /* a core file would hold guest memory */
        {RLIMIT_NOFILE, FILES_MAX}, /* all we ever have open */
        {RLIMIT_MSGQUEUE, 0},       /* no use for these */
    };
    for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
        struct rlimit l = {table[i].value, table[i].value};
        if (setrlimit(table[i].what, &l) < 0)
            return err_sys(e, errno, "limit resource %d", table[i].what);
    }
    return 0;
}

static int set_capabilities(uint32_t caps, struct err *e)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    memset(data, 0, sizeof data);
    data[0].effective = data[0].permitted = caps;
    if (syscall(SYS_capset, &head, data) < 0)
        return err_sys(e, errno, "drop capabilities");
    return 0;
}

/* Landlock, a fence of another make behind the empty root: no path can be opened, no port bound
 * or connected to, no signal sent to another process, whatever the namespaces let through. The
 * descriptors that arrive keep their rights. Older kernels fence less, or not at all. */
static int make_fence(int *ret_fd, struct err *e)
{
    struct landlock_ruleset_attr all = {
        .handled_access_fs = LANDLOCK_ACCESS_FS_IOCTL_DEV * 2 - 1,
        .handled_access_net = LANDLOCK_ACCESS_NET_BIND_TCP | LANDLOCK_ACCESS_NET_CONNECT_TCP,
        .scoped = LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | LANDLOCK_SCOPE_SIGNAL};
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1)
        return 0;
    if (abi < 6)
        all.scoped = 0;
    if (abi < 5)
        all.handled_access_fs &= ~(uint64_t)LANDLOCK_ACCESS_FS_IOCTL_DEV;
    if (abi < 4)
        all.handled_access_net = 0;
    if (abi < 3)
        all.handled_access_fs &= ~(uint64_t)LANDLOCK_ACCESS_FS_TRUNCATE;
    if (abi < 2)
        all.handled_access_fs &= ~(uint64_t)LANDLOCK_ACCESS_FS_REFER;
    *ret_fd = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
    return *ret_fd < 0 ? err_sys(e, errno, "restrict with landlock") : 0;
}

int jail_common(struct jail *jail, struct err *e)
{
    int r = 0;
    jail->root = geteuid() == 0;
    jail->fence_fd = -1;
    jail->proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (jail->none)
        return 0;
    r = own_namespaces(e);
    if (r == 0)
        r = empty_root(e);
    if (r == 0)
        r = limits(e);
    /* Refused without privilege, and then no_new_privs alone has to do. */
    for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    if (r == 0 && jail->root && setgroups(0, NULL) < 0)
        r = err_sys(e, errno, "leave all groups");
    if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        r = err_sys(e, errno, "give up privileges");
    if (r == 0)
        r = make_fence(&jail->fence_fd, e);
    /* For a nursery: children in PID namespaces, with other users. */
    if (r == 0)
        r = set_capabilities(1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_SYS_ADMIN, e);
    return r < 0 ? err_wrap(e, "jail") : 0;
}

int jail_own(struct jail *jail, uint32_t uid, int *ret_pagemap, struct err *e)
{
    bool other = jail->root && uid != 0 && !jail->none;
    int r = 0;
    /* The table grows here once, not at the first descriptor beyond 64 during a restore,
     * where the kernel would make us wait for a grace period. */
    int high = fcntl(0, F_DUPFD_CLOEXEC, FILES_MAX - 1);
    if (high >= 0)
        close(high);
    /* Whoever opens the pagemap with all capabilities sees physical addresses in it. */
    if (!jail->none)
        r = set_capabilities(other ? 1u << CAP_SETUID | 1u << CAP_SETGID : 0, e);
    *ret_pagemap = openat(jail->proc_fd, "self/pagemap", O_RDONLY | O_CLOEXEC);
    if (jail->proc_fd >= 0)
        close(jail->proc_fd);
    if (jail->none || r < 0)
        return r;
    /* By number: the library would ask all threads, and there are none yet. Becoming somebody
     * else clears the capabilities. */
    if (other && (syscall(SYS_setresgid, uid, uid, uid) < 0 ||
                  syscall(SYS_setresuid, uid, uid, uid) < 0))
        r = err_sys(e, errno, "become user %u", uid);
    if (r == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        r = err_sys(e, errno, "forbid dumps");
    if (r == 0 && jail->fence_fd >= 0) {
        if (syscall(SYS_landlock_restrict_self, jail->fence_fd, 0) < 0)
            r = err_sys(e, errno, "restrict with landlock");
        close(jail->fence_fd);
    }
    return r < 0 ? err_wrap(e, "jail") : 0;
}

void jail_close_from(unsigned first)
{
    syscall(SYS_close_range, first, ~0u, 0);
}
