// SPDX-License-Identifier: Apache-2.0
/*
 * A control group (v2) per microVM slot below <mount>/dormouse. Used by the
 * privileged parent only.
 */
#ifndef DORMOUSE_API_CGROUP_H
#define DORMOUSE_API_CGROUP_H

#include <stdint.h>

#include "../hypervisor/base/err.h"

/* Makes the group "dormouse" with its controllers; returns a descriptor of it. */
int cgroup_open(int *ret_fd, struct err *e);
/* Makes "vm<slot>" with limits; the descriptor is for CLONE_INTO_CGROUP. */
int cgroup_make(int root, uint32_t slot, uint64_t mem_bytes, uint32_t cpu_percent, int *ret_fd,
                struct err *e);
/* -EBUSY while a process is in it; a group that is not there is no error. */
int cgroup_remove(int root, uint32_t slot);
/* Removes groups a crashed daemon left, killing what is in them. */
void cgroup_sweep(int root);

#endif
