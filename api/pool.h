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

/* An image that embryos may be prepared for: they get its memory, with the pages of its working
 * set mapped, before anybody asks. The descriptors stay the caller's. */
struct pool_image {
    char id[40];
    uint32_t vcpus;
    uint64_t mem_bytes;
    int mem, layer, workset; /* layer -1: it has none */
};

/* mem_max[n]: the memory limit a process with n vCPUs is started with (0: no such machine). */
int pool_open(struct pool **ret, struct fleet_io *io, const uint64_t mem_max[CTL_VCPUS_MAX + 1],
              struct err *e);
void pool_close(struct pool *p);
/* How many to keep ready with that many vCPUs. */
void pool_want(struct pool *p, uint32_t vcpus, unsigned depth);
/* One with that many vCPUs: from the pool, or started now. *ret_pooled tells which. For `image`
 * (may be NULL) one that is prepared for it is preferred, and more will be. */
int pool_take(struct pool *p, uint32_t vcpus, const struct pool_image *image, struct vmm **ret,
              bool *ret_pooled, struct err *e);
/* The image is to be removed: nothing is held for it any more. */
void pool_forget(struct pool *p, const char *image_id);
unsigned pool_count(struct pool *p); /* that wait now */
bool pool_empty(struct pool *p, uint32_t vcpus);
/* To be called when the caller has nothing urgent left. */
void pool_refill(struct pool *p);

#endif
