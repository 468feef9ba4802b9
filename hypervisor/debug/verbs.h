// SPDX-License-Identifier: Apache-2.0
/*
 * dormouse-vmm-debug only (DORMOUSE_DEBUG): fault verbs. The order CTL_DEBUG makes the VMM try
 * what a VMM that was taken over would try, in the I/O thread, inside the jail and behind the
 * filter that the lean binary has. Either the process ends there, or the answer is the errno.
 */
#ifndef DORMOUSE_DEBUG_VERBS_H
#define DORMOUSE_DEBUG_VERBS_H

#include <stdint.h>

#include "../base/err.h"

#define CTL_DEBUG 900u /* a request beside those of ctl.h; struct ctl_debug */

enum debug_verb {
    DEBUG_OPEN_FILE,
    DEBUG_OPEN_PROC,
    DEBUG_OPEN_PROC_MEM,
    DEBUG_OPEN_ROOT,
    DEBUG_CREATE,
    DEBUG_UNLINK,
    DEBUG_CONNECT_TCP,
    DEBUG_CONNECT_UNIX,
    DEBUG_PTRACE,
    DEBUG_READ_PROCESS,
    DEBUG_PIDFD,
    DEBUG_KILL,
    DEBUG_TKILL,
    DEBUG_MOUNT,
    DEBUG_UNSHARE,
    DEBUG_USER_NAMESPACE,
    DEBUG_CHROOT,
    DEBUG_EXECVE,
    DEBUG_FORK,
    DEBUG_SETUID,
    DEBUG_BPF,
    DEBUG_PERF,
    DEBUG_USERFAULT,
    DEBUG_MODULE,
    DEBUG_REBOOT,
    DEBUG_MMAP_EXEC,
    DEBUG_MPROTECT_EXEC,
    DEBUG_URING_SETUP,
    DEBUG_IOCTL_TTY,
    DEBUG_IOCTL_KVM,
    DEBUG_RING_OPEN,
    DEBUG_RING_SOCKET,
    DEBUG_RING_CONNECT,
    DEBUG_RING_UNLINK,
    DEBUG_VERBS
};

struct ctl_debug {
    uint32_t verb;
    int32_t pid; /* another process */
};
struct ctl_debug_done {
    int32_t num; /* errno, 0: it succeeded */
    uint32_t nr; /* of the system call */
};

struct vm;
/* `done` is called with the result, at once or later in the loop. */
int debug_try(struct vm *vm, const struct ctl_debug *d,
              void (*done)(void *ctx, const struct ctl_debug_done *result), void *ctx,
              struct err *e);

#endif
