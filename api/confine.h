// SPDX-License-Identifier: Apache-2.0
/*
 * What the network-facing process gives up, before it has read a byte from the
 * network and before any thread exists: the file system, its user, every
 * capability, and all system calls but those listed in confine_calls.c.
 * Called by the api role once, as root.
 */
#ifndef DORMOUSE_API_CONFINE_H
#define DORMOUSE_API_CONFINE_H

#include <stdbool.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"

/* All that is left of the file system, and under which names. */
#define CONFINE_STATE  "/state"
#define CONFINE_RUN    "/run"
#define CONFINE_BASES  "/bases"  /* read-only */
#define CONFINE_CGROUP "/cgroup" /* read-only: CPU time of machines */

struct confine {
    uint32_t uid;                             /* also the gid; 0: root, without capabilities */
    const char *state, *run, *bases, *cgroup; /* directories; NULL: none */
    uint64_t threads;                         /* at most */
    bool no_filter;                           /* for tests of the walls behind it */
};

/* Keeps the descriptors that are open. */
int confine_enter(const struct confine *c, struct err *e);
/* Only the system call filter; no_new_privs is set. */
int confine_calls(struct err *e);

#endif
