// SPDX-License-Identifier: Apache-2.0
/*
 * Embryos: VMM processes that are started, jailed and ready, waiting for a
 * machine to become. A thread refills the pool when it is told to, which is
 * after the caller's own work, not beside it.
 */
#ifndef DORMOUSE_API_POOL_H
#define DORMOUSE_API_POOL_H

#include "vmm.h"

#define POOL_DEPTH_MAX 8u

struct pool;

/* mem_max[n]: the memory limit a process with n vCPUs is started with (0: no such machine). */
int pool_open(struct pool **ret, struct fleet_io *io, const uint64_t mem_max[CTL_VCPUS_MAX + 1],
              struct err *e);
void pool_close(struct pool *p);
/* How many to keep ready with that many vCPUs. */
void pool_want(struct pool *p, uint32_t vcpus, unsigned depth);
/* One with that many vCPUs: from the pool, or started now. *ret_pooled tells which. */
int pool_take(struct pool *p, uint32_t vcpus, struct vmm **ret, bool *ret_pooled,
              struct err *e);
unsigned pool_count(struct pool *p); /* that wait now */
bool pool_empty(struct pool *p, uint32_t vcpus);
/* To be called when the caller has nothing urgent left. */
void pool_refill(struct pool *p);

#endif
