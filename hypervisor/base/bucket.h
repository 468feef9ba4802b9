// SPDX-License-Identifier: Apache-2.0
/*
 * Token buckets for rate limits. A request may overdraw the bucket once; who
 * comes next waits until the debt is paid. So requests of any size pass, and
 * the rate holds on average. A burst is one second's worth.
 */
#ifndef DORMOUSE_BASE_BUCKET_H
#define DORMOUSE_BASE_BUCKET_H

#include <stdint.h>
#include <time.h>

struct bucket {
    uint64_t rate; /* tokens a second, 0: no limit */
    int64_t level;
    uint64_t last_ns;
};

#define BUCKET_RATE_MAX (1ull << 40)
#define BUCKET_NS       1000000000ull

static inline uint64_t bucket_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * BUCKET_NS + (uint64_t)ts.tv_nsec;
}

static inline void bucket_init(struct bucket *b, uint64_t rate)
{
    b->rate = rate > BUCKET_RATE_MAX ? BUCKET_RATE_MAX : rate;
    b->level = (int64_t)b->rate;
    b->last_ns = b->rate ? bucket_now() : 0;
}

/* 0 when there is something to draw from, else how long to wait at least. */
static inline uint64_t bucket_wait(struct bucket *b)
{
    if (b->rate == 0)
        return 0;
    uint64_t now = bucket_now(), gone = now - b->last_ns;
    /* Whole seconds and the rest apart, so that the product cannot overflow. */
    uint64_t secs = gone / BUCKET_NS, rest = gone % BUCKET_NS;
    uint64_t add = secs > 60 ? b->rate * 60 : b->rate * secs;
    add += (uint64_t)((unsigned __int128)b->rate * rest / BUCKET_NS);
    if (add > 0) {
        b->level += (int64_t)add;
        if (b->level > (int64_t)b->rate)
            b->level = (int64_t)b->rate;
        b->last_ns = now;
    }
    if (b->level > 0)
        return 0;
    unsigned __int128 ns = (unsigned __int128)(uint64_t)(1 - b->level) * BUCKET_NS / b->rate;
    return ns > BUCKET_NS ? BUCKET_NS : (uint64_t)ns + 1;
}

static inline void bucket_take(struct bucket *b, uint64_t n)
{
    if (b->rate)
        b->level -= (int64_t)(n > BUCKET_RATE_MAX ? BUCKET_RATE_MAX : n);
}

/* Both limits of one stream of requests. */
struct limit {
    struct bucket bytes, ops;
};

static inline void limit_init(struct limit *l, uint64_t bytes, uint64_t ops)
{
    bucket_init(&l->bytes, bytes);
    bucket_init(&l->ops, ops);
}

static inline uint64_t limit_wait(struct limit *l)
{
    uint64_t a = bucket_wait(&l->bytes), b = bucket_wait(&l->ops);
    return a > b ? a : b;
}

/* One request. */
static inline void limit_take(struct limit *l, uint64_t bytes)
{
    bucket_take(&l->bytes, bytes);
    bucket_take(&l->ops, 1);
}

#endif
