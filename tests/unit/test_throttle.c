// SPDX-License-Identifier: Apache-2.0
/* Limits of an account, on a clock of the test's. */
#include "../../api/throttle.h"
#include "../tap.h"

#define SECOND 1000000ull

/* How many are let in at that moment. */
static unsigned burst(struct throttle *t, uint64_t now, unsigned tries)
{
    unsigned n = 0;
    for (unsigned i = 0; i < tries; i++) {
        if (throttle_enter(t, now)) {
            throttle_leave(t);
            n++;
        }
    }
    return n;
}

TEST(no_limit)
{
    struct throttle t;
    throttle_init(&t, 0, 0);
    CHECK(burst(&t, 5 * SECOND, 100000) == 100000);
}

TEST(rate)
{
    struct throttle t;
    throttle_init(&t, 10, 0);
    uint64_t now = 1000 * SECOND;
    CHECK(burst(&t, now, 100) == 20);
    CHECK(burst(&t, now, 100) == 0);
    CHECK(burst(&t, now + SECOND / 20, 100) == 0); /* half an operation */
    CHECK(burst(&t, now + SECOND / 10, 100) == 1);
    CHECK(burst(&t, now + SECOND, 100) == 9);
    CHECK(burst(&t, now + 3600 * SECOND, 100) == 20);
    CHECK(burst(&t, now, 100) == 0); /* a clock that goes back gives nothing */
    unsigned n = 0;
    for (unsigned i = 1; i <= 1000; i++)
        n += burst(&t, now + 3600 * SECOND + i * SECOND / 100, 1);
    CHECK(n >= 99 && n <= 121);
}

TEST(at_once)
{
    struct throttle t;
    throttle_init(&t, 0, 3);
    CHECK(throttle_enter(&t, 0) && throttle_enter(&t, 0) && throttle_enter(&t, 0));
    CHECK(!throttle_enter(&t, 10 * SECOND));
    throttle_leave(&t);
    CHECK(throttle_enter(&t, 10 * SECOND));
    CHECK(!throttle_enter(&t, 10 * SECOND));
}

int main(void)
{
    RUN(no_limit);
    RUN(rate);
    RUN(at_once);
    return TAP_DONE();
}
