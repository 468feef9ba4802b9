// SPDX-License-Identifier: Apache-2.0
/* User, groups and capabilities of a process that is about to exec. */
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "proc.h"
#include "users.h"

#define CAP(c) (1ull << (c))

/* What Docker leaves to a container without options. */
static const uint64_t caps_default = CAP(CAP_CHOWN) | CAP(CAP_DAC_OVERRIDE) | CAP(CAP_FSETID) |
                                     CAP(CAP_FOWNER) | CAP(CAP_MKNOD) | CAP(CAP_NET_RAW) |
                                     CAP(CAP_SETGID) | CAP(CAP_SETUID) | CAP(CAP_SETFCAP) |
                                     CAP(CAP_SETPCAP) | CAP(CAP_NET_BIND_SERVICE) |
                                     CAP(CAP_SYS_CHROOT) | CAP(CAP_KILL) | CAP(CAP_AUDIT_WRITE);

static int caps_limit(struct fail *f)
{
    for (int c = 0; c < 64; c++) {
        if (caps_default & CAP(c) || prctl(PR_CAPBSET_DROP, c) == 0)
            continue;
        if (errno == EINVAL) /* the kernel knows no more */
            break;
        return fail_sys(f, errno, "drop a capability");
    }
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    data[0].effective = data[0].permitted = (uint32_t)caps_default;
    data[1].effective = data[1].permitted = (uint32_t)(caps_default >> 32);
    if (syscall(SYS_capset, &head, data) < 0)
        return fail_sys(f, errno, "set capabilities");
    return 0;
}

int creds_apply(const struct plan *plan, char *home, size_t size, struct fail *f)
{
    struct user u;
    int r = user_find(plan->user ? plan->user : "", &u, f);
    if (r < 0)
        return r;
    text_put(home, size, "%s", u.home);
    if (!plan->caps_all && (r = caps_limit(f)) < 0)
        return r;
    if (plan->no_new_privs && !plan->caps_all && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return fail_sys(f, errno, "set no_new_privs");
    gid_t groups[USER_GROUPS_MAX];
    for (size_t i = 0; i < u.ngroups; i++)
        groups[i] = u.groups[i];
    /* a terminal or pipe of root's must be usable by the user too */
    for (int fd = 0; u.uid != 0 && fd < 3; fd++) {
        struct stat st;
        if (fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(fd)) &&
            fchown(fd, u.uid, (gid_t)-1) < 0)
            return fail_sys(f, errno, "give the output to user \"%s\"", plan->user);
    }
    /* the libc's own functions go to great lengths for threads, which there are none of */
    if (syscall(SYS_setgroups, u.ngroups, groups) < 0 ||
        syscall(SYS_setresgid, u.gid, u.gid, u.gid) < 0 ||
        syscall(SYS_setresuid, u.uid, u.uid, u.uid) < 0)
        return fail_sys(f, errno, "become user \"%s\"", plan->user);
    return 0;
}
