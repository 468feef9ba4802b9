// SPDX-License-Identifier: Apache-2.0
/*
 * The test harness: TAP on stdout, exit status 1 when anything failed.
 *     TEST(name) { CHECK(1 + 1 == 2); }   …   int main(void) { RUN(name); return TAP_DONE(); }
 * or plain CHECKs in main. SKIP says why; a skip never counts as passed.
 */
#ifndef DORMOUSE_TESTS_TAP_H
#define DORMOUSE_TESTS_TAP_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct tap_state {
    unsigned count, failed;
    bool in_test, test_failed;
};

static struct tap_state tap_;

#define TEST(name) static void test_##name(void)

#define RUN(name)                              \
    do {                                       \
        tap_.in_test = true;                   \
        tap_.test_failed = false;              \
        test_##name();                         \
        tap_.in_test = false;                  \
        tap_report_(!tap_.test_failed, #name); \
    } while (0)

/* Inside a TEST a failing CHECK fails that test; outside each CHECK is a test of its own. */
#define CHECK(cond) tap_check_((cond), #cond, __FILE__, __LINE__)

/* Compares strings and shows both. */
#define CHECK_STR(got, want) tap_check_str_((got), (want), __FILE__, __LINE__)

#define SKIP(why)                                                    \
    do {                                                             \
        tap_.count++;                                                \
        printf("ok %u - %s # SKIP %s\n", tap_.count, __func__, why); \
        fflush(stdout);                                              \
    } while (0)

#define TAP_DONE() tap_done_()

static inline void tap_report_(bool ok, const char *name)
{
    tap_.count++;
    if (!ok)
        tap_.failed++;
    printf("%s %u - %s\n", ok ? "ok" : "not ok", tap_.count, name);
    fflush(stdout);
}

static inline bool tap_check_(bool ok, const char *what, const char *file, int line)
{
    if (!ok)
        printf("# failed: %s (%s:%d)\n", what, file, line);
    if (!tap_.in_test)
        tap_report_(ok, what);
    else if (!ok)
        tap_.test_failed = true;
    return ok;
}

static inline bool tap_check_str_(const char *got, const char *want, const char *file, int line)
{
    bool ok = got && want && strcmp(got, want) == 0;
    if (!ok)
        printf("# got  \"%s\"\n# want \"%s\"\n", got ? got : "(null)", want ? want : "(null)");
    return tap_check_(ok, "strings are equal", file, line);
}

static inline int tap_done_(void)
{
    printf("1..%u\n", tap_.count);
    if (tap_.failed)
        printf("# %u of %u failed\n", tap_.failed, tap_.count);
    return tap_.failed ? 1 : 0;
}

#endif
