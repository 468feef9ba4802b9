// SPDX-License-Identifier: Apache-2.0
/* Embryos; see pool.h. */
#include "pool.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "../hypervisor/base/log.h"
#include "fleet_io.h"

#define RETRY_S 2 /* after a failed start, which is not the time to try at once again */

struct pool {
    struct fleet_io *io;
    uint64_t mem_max[CTL_VCPUS_MAX + 1];
    pthread_mutex_t lock;
    pthread_cond_t cond;
    pthread_t thread;
    bool kicked, stop;
    unsigned want[CTL_VCPUS_MAX + 1], have[CTL_VCPUS_MAX + 1];
    struct vmm *idle[CTL_VCPUS_MAX + 1][POOL_DEPTH_MAX];
};

/* With the lock held: what is missing, or 0. */
static uint32_t missing(const struct pool *p)
{
    for (uint32_t n = 1; n <= CTL_VCPUS_MAX; n++) {
        if (p->have[n] < p->want[n])
            return n;
    }
    return 0;
}

static void *refill_main(void *arg)
{
    struct pool *p = arg;
    const struct sched_param param = {.sched_priority = 0};
    pthread_setschedparam(pthread_self(), SCHED_BATCH, &param); /* behind those who serve */
    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        uint32_t n = p->kicked ? missing(p) : 0;
        if (!n) {
            p->kicked = false;
            pthread_cond_wait(&p->cond, &p->lock);
            continue;
        }
        pthread_mutex_unlock(&p->lock);
        struct vmm *v = NULL;
        struct err e = ERR_INIT;
        int r = vmm_spawn(p->io, n, p->mem_max[n], &v, &e);
        if (r < 0)
            log_err(LOG_WARN, &e, "cannot keep a microVM process ready");
        pthread_mutex_lock(&p->lock);
        if (r == 0 && !p->stop && p->have[n] < POOL_DEPTH_MAX) {
            p->idle[n][p->have[n]++] = v;
        } else if (r == 0) {
            pthread_mutex_unlock(&p->lock);
            vmm_free(v);
            pthread_mutex_lock(&p->lock);
        } else if (!p->stop) {
            struct timespec ts;
            clock_gettime(CLOCK_REALTIME, &ts);
            ts.tv_sec += RETRY_S;
            pthread_cond_timedwait(&p->cond, &p->lock, &ts);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

int pool_open(struct pool **ret, struct fleet_io *io, const uint64_t mem_max[CTL_VCPUS_MAX + 1],
              struct err *e)
{
    struct pool *p = calloc(1, sizeof *p);
    if (!p)
        return err_sys(e, ENOMEM, "start the pool");
    p->io = io;
    for (unsigned i = 0; i <= CTL_VCPUS_MAX; i++)
        p->mem_max[i] = mem_max[i];
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->cond, NULL);
    int r = pthread_create(&p->thread, NULL, refill_main, p);
    if (r) {
        free(p);
        return err_sys(e, r, "start the pool's thread");
    }
    *ret = p;
    return 0;
}

void pool_close(struct pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->cond);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    for (unsigned n = 0; n <= CTL_VCPUS_MAX; n++) {
        for (unsigned i = 0; i < p->have[n]; i++)
            vmm_free(p->idle[n][i]);
    }
    pthread_cond_destroy(&p->cond);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void pool_want(struct pool *p, uint32_t vcpus, unsigned depth)
{
    pthread_mutex_lock(&p->lock);
    if (vcpus <= CTL_VCPUS_MAX && depth <= POOL_DEPTH_MAX && p->want[vcpus] < depth)
        p->want[vcpus] = depth;
    pthread_mutex_unlock(&p->lock);
    pool_refill(p);
}

/* An embryo has nothing to say; if it is readable, it ended. */
static bool alive(const struct vmm *v)
{
    struct pollfd pf = {.fd = v->ctl, .events = POLLIN};
    return poll(&pf, 1, 0) == 0;
}

int pool_take(struct pool *p, uint32_t vcpus, struct vmm **ret, bool *ret_pooled, struct err *e)
{
    for (;;) {
        struct vmm *v = NULL;
        pthread_mutex_lock(&p->lock);
        if (vcpus <= CTL_VCPUS_MAX && p->have[vcpus])
            v = p->idle[vcpus][--p->have[vcpus]];
        pthread_mutex_unlock(&p->lock);
        *ret_pooled = v != NULL;
        if (!v)
            return vmm_spawn(p->io, vcpus, p->mem_max[vcpus], ret, e);
        if (alive(v)) {
            *ret = v;
            return 0;
        }
        vmm_free(v);
    }
}

unsigned pool_count(struct pool *p)
{
    unsigned n = 0;
    pthread_mutex_lock(&p->lock);
    for (uint32_t i = 1; i <= CTL_VCPUS_MAX; i++)
        n += p->have[i];
    pthread_mutex_unlock(&p->lock);
    return n;
}

bool pool_empty(struct pool *p, uint32_t vcpus)
{
    pthread_mutex_lock(&p->lock);
    bool empty = vcpus <= CTL_VCPUS_MAX && p->have[vcpus] == 0;
    pthread_mutex_unlock(&p->lock);
    return empty;
}

void pool_refill(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    if (missing(p)) {
        p->kicked = true;
        pthread_cond_signal(&p->cond);
    }
    pthread_mutex_unlock(&p->lock);
}
