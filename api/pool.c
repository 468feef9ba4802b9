// SPDX-License-Identifier: Apache-2.0
/* Embryos; see pool.h. */
#include "pool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "fleet_io.h"

#define HOT_MAX    2u /* images that embryos are prepared for, of each number of vCPUs */
#define PREPARE_MS 20000
#define REST_MS    10 /* who was just served gets its answer before the next process starts */
#define RETRY_S    2  /* after a failed start, which is not the time to try at once again */

struct pool {
    struct fleet_io *io;
    uint64_t mem_max[CTL_VCPUS_MAX + 1];
    pthread_mutex_t lock;
    pthread_cond_t cond;
    pthread_t thread;
    bool kicked, stop;
    unsigned want[CTL_VCPUS_MAX + 1], have[CTL_VCPUS_MAX + 1];
    struct vmm *idle[CTL_VCPUS_MAX + 1][POOL_DEPTH_MAX];
    struct pool_image hot[CTL_VCPUS_MAX + 1][HOT_MAX]; /* the last one first; own descriptors */
    unsigned nhot[CTL_VCPUS_MAX + 1];
};

/* ---- images that are in use ---- */

static void image_close(struct pool_image *i)
{
    const int fds[] = {i->mem, i->layer, i->workset};
    for (unsigned k = 0; k < 3; k++) {
        if (fds[k] >= 0)
            close(fds[k]);
    }
}

static int dup_fd(int fd)
{
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

/* With the lock held. */
static void note_use(struct pool *p, const struct pool_image *image)
{
    struct pool_image *hot = p->hot[image->vcpus], first;
    unsigned *n = &p->nhot[image->vcpus], i = 0;
    while (i < *n && strcmp(hot[i].id, image->id) != 0)
        i++;
    if (i < *n) {
        first = hot[i];
    } else {
        first = *image;
        first.mem = dup_fd(image->mem);
        first.layer = dup_fd(image->layer);
        first.workset = dup_fd(image->workset);
        if (first.mem < 0 || first.workset < 0 || (image->layer >= 0 && first.layer < 0)) {
            image_close(&first);
            return;
        }
        if (*n == HOT_MAX)
            image_close(&hot[--i]);
        else
            ++*n;
    }
    memmove(hot + 1, hot, i * sizeof *hot);
    hot[0] = first;
}

/* With the lock held. */
static void drop_hot(struct pool *p, uint32_t n, const char *id)
{
    for (unsigned i = 0; i < p->nhot[n]; i++) {
        if (strcmp(p->hot[n][i].id, id) != 0)
            continue;
        image_close(&p->hot[n][i]);
        --p->nhot[n];
        memmove(&p->hot[n][i], &p->hot[n][i + 1], (p->nhot[n] - i) * sizeof p->hot[n][0]);
        return;
    }
}

/* How many of `want` are prepared for the image in place i of n: one stays for any other. */
static unsigned share(unsigned want, unsigned n, unsigned i)
{
    unsigned rest = want ? want - 1 : 0;
    return n == 0 ? 0 : rest / n + (i < rest % n);
}

static unsigned count_for(const struct pool *p, uint32_t n, const char *id)
{
    unsigned count = 0;
    for (unsigned i = 0; i < p->have[n]; i++)
        count += strcmp(p->idle[n][i]->prepared, id) == 0;
    return count;
}

static const struct pool_image *unserved(const struct pool *p, uint32_t n)
{
    for (unsigned i = 0; i < p->nhot[n]; i++) {
        if (count_for(p, n, p->hot[n][i].id) < share(p->want[n], p->nhot[n], i))
            return &p->hot[n][i];
    }
    return NULL;
}

static struct vmm *take_at(struct pool *p, uint32_t n, unsigned i)
{
    struct vmm *v = p->idle[n][i];
    p->idle[n][i] = p->idle[n][--p->have[n]];
    return v;
}

static struct vmm *take_for(struct pool *p, uint32_t n, const char *id)
{
    for (unsigned i = 0; i < p->have[n]; i++) {
        if (strcmp(p->idle[n][i]->prepared, id) == 0)
            return take_at(p, n, i);
    }
    return NULL;
}

static bool is_hot(const struct pool *p, uint32_t n, const char *id)
{
    for (unsigned i = 0; i < p->nhot[n]; i++) {
        if (strcmp(p->hot[n][i].id, id) == 0)
            return true;
    }
    return false;
}

/* One that was prepared for an image nobody asks for now, while another image waits. */
static struct vmm *take_stale(struct pool *p, uint32_t n)
{
    if (!unserved(p, n))
        return NULL;
    for (unsigned i = 0; i < p->have[n]; i++) {
        if (p->idle[n][i]->prepared[0] && !is_hot(p, n, p->idle[n][i]->prepared))
            return take_at(p, n, i);
    }
    return NULL;
}

static int prepare(struct vmm *v, const struct pool_image *i, struct err *e)
{
    const struct ctl_machine m = {.version = CTL_VERSION,
                                  .vcpus = i->vcpus,
                                  .mem_bytes = i->mem_bytes,
                                  .has_layer = i->layer >= 0,
                                  .has_workset = 1};
    int fds[3];
    size_t n = 0;
    fds[n++] = i->mem;
    if (i->layer >= 0)
        fds[n++] = i->layer;
    fds[n++] = i->workset;
    int r = vmm_call(v, CTL_PREPARE, &m, sizeof m, fds, n, deadline_ms(PREPARE_MS), NULL, e);
    if (r == 0)
        snprintf(v->prepared, sizeof v->prepared, "%s", i->id);
    return r;
}

/* ---- the thread ---- */

struct work {
    uint32_t vcpus;          /* 0: nothing to do */
    struct vmm *stale;       /* to be ended */
    struct vmm *v;           /* to be prepared; NULL: to be started */
    struct pool_image image; /* for what; own descriptors */
};

/* With the lock held. */
static struct work next_work(struct pool *p)
{
    struct work w = {.vcpus = 0};
    for (uint32_t n = 1; n <= CTL_VCPUS_MAX; n++) {
        const struct pool_image *image = unserved(p, n);
        if (p->have[n] < p->want[n]) {
            w.vcpus = n;
            return w;
        }
        w.stale = take_stale(p, n);
        if (!image || (!w.stale && !(w.v = take_for(p, n, ""))))
            continue;
        w.vcpus = n;
        if (w.v) {
            w.image = *image;
            w.image.mem = dup_fd(image->mem);
            w.image.layer = dup_fd(image->layer);
            w.image.workset = dup_fd(image->workset);
        }
        return w;
    }
    return w;
}

static int do_work(struct pool *p, struct work *w, struct err *e)
{
    int r = 0;
    vmm_free(w->stale);
    if (w->v) {
        r = prepare(w->v, &w->image, e);
        image_close(&w->image);
        if (r < 0) {
            err_wrap(e, "prepare for an image");
            vmm_free(w->v);
            w->v = NULL;
            pthread_mutex_lock(&p->lock);
            drop_hot(p, w->vcpus, w->image.id); /* its microVMs start without */
            pthread_mutex_unlock(&p->lock);
        }
    } else if (!w->stale) {
        r = vmm_spawn(p->io, w->vcpus, p->mem_max[w->vcpus], &w->v, e);
    }
    return r;
}

static void wait_ms(struct pool *p, unsigned ms)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_nsec += (long)(ms % 1000) * 1000000;
    ts.tv_sec += ms / 1000 + ts.tv_nsec / 1000000000;
    ts.tv_nsec %= 1000000000;
    while (!p->stop && pthread_cond_timedwait(&p->cond, &p->lock, &ts) == 0)
        ;
}

static bool is_empty(const struct pool *p)
{
    for (uint32_t n = 1; n <= CTL_VCPUS_MAX; n++) {
        if (p->want[n] && !p->have[n])
            return true;
    }
    return false;
}

static void *refill_main(void *arg)
{
    struct pool *p = arg;
    const struct sched_param param = {.sched_priority = 0};
    pthread_setschedparam(pthread_self(), SCHED_BATCH, &param); /* behind those who serve */
    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        if (!p->kicked) {
            pthread_cond_wait(&p->cond, &p->lock);
            if (p->kicked && !is_empty(p))
                wait_ms(p, REST_MS);
            continue;
        }
        struct work w = next_work(p);
        if (!w.vcpus) {
            p->kicked = false;
            continue;
        }
        pthread_mutex_unlock(&p->lock);
        struct err e = ERR_INIT;
        int r = do_work(p, &w, &e);
        if (r < 0)
            log_err(LOG_WARN, &e, "cannot keep a microVM process ready");
        pthread_mutex_lock(&p->lock);
        if (w.v && !p->stop && p->have[w.vcpus] < POOL_DEPTH_MAX) {
            p->idle[w.vcpus][p->have[w.vcpus]++] = w.v;
        } else if (w.v) {
            pthread_mutex_unlock(&p->lock);
            vmm_free(w.v);
            pthread_mutex_lock(&p->lock);
        }
        if (r < 0)
            wait_ms(p, RETRY_S * 1000);
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
        for (unsigned i = 0; i < p->nhot[n]; i++)
            image_close(&p->hot[n][i]);
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

/* With the lock held: one for the image, else one for any. What is prepared for another image
 * cannot become this one. */
static struct vmm *choose(struct pool *p, uint32_t vcpus, const struct pool_image *image)
{
    struct vmm *v = image ? take_for(p, vcpus, image->id) : NULL;
    return v ? v : take_for(p, vcpus, "");
}

int pool_take(struct pool *p, uint32_t vcpus, const struct pool_image *image, struct vmm **ret,
              bool *ret_pooled, struct err *e)
{
    for (;;) {
        struct vmm *v = NULL;
        pthread_mutex_lock(&p->lock);
        if (vcpus <= CTL_VCPUS_MAX) {
            v = choose(p, vcpus, image);
            if (image)
                note_use(p, image);
        }
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

void pool_forget(struct pool *p, const char *image_id)
{
    for (uint32_t n = 1; n <= CTL_VCPUS_MAX; n++) {
        struct vmm *v;
        do {
            pthread_mutex_lock(&p->lock);
            v = take_for(p, n, image_id);
            drop_hot(p, n, image_id);
            pthread_mutex_unlock(&p->lock);
            vmm_free(v);
        } while (v);
    }
    pool_refill(p);
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
    if (!p->kicked) {
        p->kicked = true;
        pthread_cond_signal(&p->cond);
    }
    pthread_mutex_unlock(&p->lock);
}
