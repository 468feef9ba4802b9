// SPDX-License-Identifier: Apache-2.0
/* guest/text.c against the C library's snprintf. */
#include <limits.h>

#include "../../guest/text.h"
#include "../tap.h"

#define SAME(size, ...)                                                                  \
    do {                                                                                 \
        char got[128], want[128];                                                        \
        memset(got, 'x', sizeof(got));                                                   \
        int a = text_put(got, size, __VA_ARGS__), b = snprintf(want, size, __VA_ARGS__); \
        CHECK(a == b);                                                                   \
        CHECK_STR(got, want);                                                            \
        CHECK(got[size] == 'x');                                                         \
    } while (0)

TEST(numbers)
{
    SAME(64, "%d %d %d", 0, INT_MIN, INT_MAX);
    SAME(64, "%u %x %o", UINT_MAX, UINT_MAX, UINT_MAX);
    SAME(100, "%llu %llx %lld %lld", ULLONG_MAX, 0x123456789abcdefull, LLONG_MIN, LLONG_MAX);
    SAME(64, "%zu|%lu|%ld", (size_t)-1, ULONG_MAX, LONG_MIN);
}

TEST(strings)
{
    SAME(64, "plain 100%% of %s%c", "text", '!');
    SAME(64, "%.*s|%.3s|%.8s", 2, "abcdef", "abcdef", "abc");
    SAME(64, "%.*s", -1, "all of it");
    SAME(64, "%s", "");
}

TEST(cut)
{
    SAME(1, "%s", "abc");
    SAME(4, "%s", "abc");
    SAME(3, "%s", "abc");
    SAME(5, "%d", -123456);
    CHECK(text_put(NULL, 0, "%s", "abc") == 3);
}

int main(void)
{
    RUN(numbers);
    RUN(strings);
    RUN(cut);
    return TAP_DONE();
}
