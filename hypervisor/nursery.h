// SPDX-License-Identifier: Apache-2.0
/* Where the daemon's VMMs come from; see nursery.c. The daemon's side is api/parent_spawn.c. */
#ifndef DORMOUSE_NURSERY_H
#define DORMOUSE_NURSERY_H

#include <stdint.h>

#include "base/err.h"
#include "base/ring.h"

#define NURSERY_SPAWN                                                                       \
    1u                  /* struct nursery_spawn + fds: control socket, [listener], [cgroup] \
                         */
#define NURSERY_BORN 2u /* the answer: struct nursery_born */

struct nursery_spawn {
    uint32_t vcpus, uid;
    uint32_t listens, has_cgroup; /* 0 or 1 */
};

struct nursery_born {
    int32_t pid; /* a child of whoever started the nursery; negative errno: none */
};

/* Before the jail. A page of the program becomes the process's own, as a breakpoint would make
 * it: then a clone copies the page table of all of the program, which saves each child half a
 * dozen page faults. */
void nursery_share_text(void);
/* Serves `sock`. 1 in a new child, with its order, sockets and ring (which may be NULL); 0 when
 * the other end is closed. */
int nursery_serve(int sock, struct nursery_spawn *ret, int *ret_ctl, int *ret_listener,
                  struct ring **ret_ring, struct err *e);

#endif
