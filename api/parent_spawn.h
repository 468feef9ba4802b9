// SPDX-License-Identifier: Apache-2.0
/* Starting and ending one dormouse-vmm process. Used by the privileged parent only. */
#ifndef DORMOUSE_API_PARENT_SPAWN_H
#define DORMOUSE_API_PARENT_SPAWN_H

#include <stdint.h>
#include <sys/types.h>

#include "../hypervisor/base/err.h"

struct spawn_host {
    const char *vmm_path;
    int kvm, null; /* /dev/kvm, /dev/null */
};

/* fork+exec inside its control group and a new pid namespace; `ctl` becomes its descriptor 3,
 * /dev/kvm 4, `listener` (-1: none) 5, nothing else is inherited but stderr. */
int spawn_vmm(const struct spawn_host *h, uint32_t slot, uint32_t vcpus, int ctl, int listener,
              int cgroup, pid_t *ret_pid, int *ret_pidfd, struct err *e);
void spawn_kill(int pidfd);

#endif
