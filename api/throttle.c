// SPDX-License-Identifier: Apache-2.0
/* Limits of an account; see throttle.h. */
#include "throttle.h"

#include "../hypervisor/base/mem.h"

#define ONE      1000000ull /* operation */
#define BURST_S  2u
#define LONG_AGO (60 * ONE)

void throttle_init(struct throttle *t, uint32_t rate, uint32_t at_once)
{
    *t = (struct throttle){
        .rate = rate, .at_once = at_once, .credit = (uint64_t)rate * BURST_S * ONE};
    pthread_mutex_init(&t->lock, NULL);
}

/* So many millionths of an operation come back in a microsecond as the rate says. */
static void refill(struct throttle *t, uint64_t now_us)
{
    uint64_t past = now_us > t->since ? MIN(now_us - t->since, LONG_AGO) : 0;
    t->credit = MIN(t->credit + past * t->rate, (uint64_t)t->rate * BURST_S * ONE);
    t->since = now_us;
}

bool throttle_enter(struct throttle *t, uint64_t now_us)
{
    pthread_mutex_lock(&t->lock);
    refill(t, now_us);
    bool ok =
        (t->at_once == 0 || t->under_way < t->at_once) && (t->rate == 0 || t->credit >= ONE);
    if (ok) {
        t->under_way++;
        t->credit -= t->rate ? ONE : 0;
    }
    pthread_mutex_unlock(&t->lock);
    return ok;
}

void throttle_leave(struct throttle *t)
{
    pthread_mutex_lock(&t->lock);
    t->under_way--;
    pthread_mutex_unlock(&t->lock);
}
