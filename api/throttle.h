// SPDX-License-Identifier: Apache-2.0
/*
 * How many operations an account may ask for: so many a second, with a burst
 * of twice that, and so many at once. Called by api.c around each operation
 * from any thread.
 */
#ifndef DORMOUSE_API_THROTTLE_H
#define DORMOUSE_API_THROTTLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct throttle {
    uint32_t rate, at_once; /* 0: no limit */
    pthread_mutex_t lock;
    uint64_t credit, since; /* millionths of an operation, and when they were counted, in us */
    uint32_t under_way;
};

void throttle_init(struct throttle *t, uint32_t rate, uint32_t at_once);
/* False: too many. After true throttle_leave() has to follow. */
bool throttle_enter(struct throttle *t, uint64_t now_us);
void throttle_leave(struct throttle *t);

#endif
