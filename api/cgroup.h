// SPDX-License-Identifier: Apache-2.0
/*
 * A control group (v2) per microVM slot below <mount>/dormouse. Used by the
 * privileged parent only.
 */
#ifndef DORMOUSE_API_CGROUP_H
#define DORMOUSE_API_CGROUP_H

#include <stdint.h>
#include <sys/types.h>

#include "../hypervisor/base/err.h"

/* Makes the group "dormouse" with its controllers; returns a descriptor of it. */
int cgroup_open(int *ret_fd, struct err *e);
/* Makes "vm<slot>" with limits, or takes the one a machine before it had: groups stay until the
 * daemon ends, as making and removing them is dear, and has had the kernel stumble over what
 * was still charged to one that went. The descriptor is for CLONE_INTO_CGROUP. */
int cgroup_make(int root, uint32_t slot, uint64_t mem_bytes, uint32_t cpu_percent, int *ret_fd,
                struct err *e);
/* -EBUSY while a process is in it; a group that is not there is no error. */
int cgroup_remove(int root, uint32_t slot);
/* The one process in a slot's group; 0: none, or several. */
pid_t cgroup_process(int root, uint32_t slot);
/* Kills what is in a slot's group, waits for its end, removes it. -ENOENT when there is none;
 * *killed grows by the processes. */
int cgroup_end(int root, uint32_t slot, unsigned *killed);

#endif
