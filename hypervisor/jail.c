// SPDX-License-Identifier: Apache-2.0
/*
 * The jail; see jail.h. Entered by main() before any thread exists and before
 * anything of the guest is known. The order matters: what needs privilege
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
    char line[64];
    int r = write_proc("/proc/self/setgroups", "deny");
    snprintf(line, sizeof line, "%u %u 1", uid, uid);
    if (r == 0)
        r = write_proc("/proc/self/uid_map", line);
    snprintf(line, sizeof line, "%u %u 1", gid, gid);
    if (r == 0)
        r = write_proc("/proc/self/gid_map", line);
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

static int become(uint32_t uid, struct err *e)
{
    /* Refused without privilege, and then no_new_privs alone has to do. */
    for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    if (geteuid() != 0 || uid == 0)
        return 0;
    if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
        return err_sys(e, errno, "become user %u", uid);
    return 0;
}

/* Root by hand, and whoever has just made a user namespace, still hold capabilities. */
static int drop_capabilities(struct err *e)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2];
    memset(none, 0, sizeof none);
    if (syscall(SYS_capset, &head, none) < 0)
        return err_sys(e, errno, "drop capabilities");
    return 0;
}

/* Landlock, a fence of another make behind the empty root: no path can be opened, no port bound
 * or connected to, no signal sent to another process, whatever the namespaces let through. The
 * descriptors that arrive keep their rights. Older kernels fence less, or not at all. */
static int fence(struct err *e)
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
    AUTO_CLOSE int fd = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
    if (fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) < 0)
        return err_sys(e, errno, "restrict with landlock");
    return 0;
}

int jail_enter(const struct jail *jail, struct err *e)
{
    int r = 0;
    /* The table grows here once, not at the first descriptor beyond 64 during a restore,
     * where the kernel would make us wait for a grace period. */
    int high = fcntl(0, F_DUPFD_CLOEXEC, FILES_MAX - 1);
    if (high >= 0)
        close(high);
    if (!jail->keep_fs) {
        r = own_namespaces(e);
        if (r == 0)
            r = empty_root(e);
    }
    if (r == 0)
        r = limits(e);
    if (r == 0)
        r = become(jail->uid, e);
    if (r == 0)
        r = drop_capabilities(e);
    if (r < 0)
        return err_wrap(e, "jail");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_sys(e, errno, "jail: give up privileges");
    r = jail->keep_fs ? 0 : fence(e);
    return r < 0 ? err_wrap(e, "jail") : 0;
}

void jail_close_others(const int *keep, unsigned n)
{
    unsigned from = 3;
    for (unsigned i = 0; i < n; i++) {
        unsigned fd = (unsigned)keep[i];
        if (keep[i] < 3 || fd < from)
            continue;
        if (fd > from)
            syscall(SYS_close_range, from, fd - 1, 0);
        from = fd + 1;
    }
    syscall(SYS_close_range, from, ~0u, 0);
}
