// SPDX-License-Identifier: Apache-2.0
/* Starting and ending dormouse-vmm processes. Used by the privileged parent, and by tests and
 * benchmarks that start them in the same way. */
#ifndef DORMOUSE_API_PARENT_SPAWN_H
#define DORMOUSE_API_PARENT_SPAWN_H

#include <stdint.h>
#include <sys/types.h>

#include "../hypervisor/base/err.h"

struct spawn_host {
    const char *vmm_path;
    const char *option; /* one more argument, or NULL */
    int kvm, null;      /* /dev/kvm, /dev/null */
    int nursery;        /* socket of the process they are split off from, -1: none yet */
    int nursery_pidfd;
    unsigned born;
};

/* A child of this process, in a new pid namespace and in `cgroup` (-1: ours), as user `uid`;
 * it has `ctl`, `listener` (-1: none), /dev/kvm and stderr, nothing else. */
int spawn_vmm(struct spawn_host *h, uint32_t uid, uint32_t vcpus, int ctl, int listener,
              int cgroup, pid_t *ret_pid, int *ret_pidfd, struct err *e);
/* When there is time: starts the nursery, or another one after some children. */
void spawn_renew(struct spawn_host *h);
void spawn_kill(int pidfd);
/* Ends the nursery, not what came out of it. */
void spawn_close(struct spawn_host *h);

#endif
