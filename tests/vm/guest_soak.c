// SPDX-License-Identifier: Apache-2.0
/*
 * Many of what guest_drive.c does once: clones of one image, whose first act is to
 * read random numbers, and suspends and resumes of one session under load. Runs
 * on an arm64 host with KVM.
 *     guest_soak VMM KERNEL INITRD ROOT [DIR]
 * CLONES and CYCLES in the environment say how many; 100 and 1000 by default.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "guest_host.h"

#define CLONES_MAX 1000

static unsigned count(const char *name, unsigned def)
{
    const char *text = getenv(name);
    int n = text ? atoi(text) : (int)def;
    return n > 0 ? (unsigned)n : def;
}

/* ---- clones ---- */

static char seen[CLONES_MAX][128];

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Two lines have a word in common at the same place. */
static unsigned repeats(unsigned n, unsigned word)
{
    static char words[CLONES_MAX][64];
    unsigned same = 0;
    for (unsigned i = 0; i < n; i++) {
        const char *p = seen[i];
        for (unsigned w = 0; w < word; w++)
            p += strcspn(p, " ") + 1;
        snprintf(words[i], sizeof words[i], "%.*s", (int)strcspn(p, " \n"), p);
    }
    qsort(words, n, sizeof words[0], by_text);
    for (unsigned i = 1; i < n; i++)
        same += strcmp(words[i - 1], words[i]) == 0;
    return same;
}

TEST(clones_never_share_random_numbers)
{
    struct ctl_saved saved;
    struct disk d = root_disk(arg.disk);
    unsigned n = count("CLONES", 100), got = 0;
    n = n > CLONES_MAX ? CLONES_MAX : n;
    if (!machine_up(&g) || !start(&g, ARGS("sh", "-c", "restored && uuid && sleep")) ||
        !CHECK(guest_line(&g, 0, "watching")))
        return;
    freeze(&g, 1);
    CHECK(guest_save(&g, arg.image, CTL_SAVE_FULL, &saved));
    CHECK(guest_kill(&g));
    for (unsigned i = 0; i < n; i++) {
        /* the host's own entropy is the same for all: what differs must come from VMGenID or
         * from the bytes sent, and those differ */
        if (!CHECK(guest_restore(&g, &arg.s, &d, 1, arg.image, NULL)) ||
            !restored(&g, true, i + 1, "clone") || !CHECK(guest_line(&g, 0, "uuid ")))
            return;
        const char *line = strstr(g.text, "uuid ");
        snprintf(seen[i], sizeof seen[i], "%.*s", (int)strcspn(line, "\n"), line);
        got++;
        CHECK(guest_kill(&g));
    }
    CHECK(got == n);
    CHECK(repeats(n, 1) == 0); /* the uuid */
    CHECK(repeats(n, 3) == 0); /* getrandom() */
    printf("# %u clones, the last: %s\n", n, seen[n - 1]);
}

/* ---- cycles ---- */

/* Checks the ticks of the new lines: each number follows, none after a jump back. */
static bool ticks_follow(const char *text, long *next)
{
    for (const char *p = text; (p = strstr(p, "1 tick ")); p++) {
        long number = atol(p + 7);
        if ((*next >= 0 && number != *next) || strstr(p, "BACKWARDS")) {
            printf("# tick %ld where %ld was due: %.80s\n", number, *next, p);
            return false;
        }
        *next = number + 1;
    }
    return true;
}

TEST(cycles_lose_nothing)
{
    struct ctl_saved saved;
    struct disk d = root_disk(arg.disk);
    unsigned n = count("CYCLES", 1000), done = 0;
    char path[2][300];
    long next = -1;
    uint64_t first_free = 0, last_free = 0, pages = 0;
    if (!machine_up(&g) || !start(&g, ARGS("sh", "-c", "http 8080 & forks 10 ; tick 5 0")) ||
        !CHECK(guest_line(&g, 0, "tick 5 ")))
        return;
    freeze(&g, 1);
    CHECK(guest_save(&g, arg.image, CTL_SAVE_FULL, &saved));
    const char *session = NULL;
    for (unsigned i = 0; i < n; i++) {
        uint64_t seq = g.last_seq;
        if (!CHECK(ticks_follow(g.text, &next)) || !CHECK(g.gaps == 0))
            return;
        if (!CHECK(guest_kill(&g)) ||
            !CHECK(guest_restore(&g, &arg.s, &d, 1, arg.image, session)))
            return;
        g.last_seq = seq;
        if (!restored(&g, false, i + 1, "session"))
            return;
        size_t from = g.text_len;
        if (!CHECK(guest_line(&g, from, "tick ")) || !CHECK(guest_ok(&g, GP_STATS, NULL)) ||
            !CHECK(g.answer.procs == 12))
            return;
        last_free = g.answer.mem_available;
        first_free = i == 4 || first_free == 0 ? last_free : first_free;
        snprintf(path[i % 2], sizeof path[0], "%s.%u", arg.session, i % 2);
        if (!freeze(&g, 0) || !CHECK(guest_save(&g, path[i % 2], 0, &saved)))
            return;
        session = path[i % 2];
        pages = saved.pages_stored;
        done++;
    }
    CHECK(done == n);
    CHECK(guest_kill(&g));
    printf("# %u cycles: %ld ticks, free memory %llu -> %llu KiB, last session %llu pages\n", n,
           next, (unsigned long long)first_free >> 10, (unsigned long long)last_free >> 10,
           (unsigned long long)pages);
    CHECK(last_free + (2u << 20) > first_free);
}

int main(int argc, char **argv)
{
    if (!host_args(argc, argv)) {
        fprintf(stderr, "Usage: guest_soak VMM KERNEL INITRD ROOT [DIR]\n");
        return 2;
    }
    RUN(clones_never_share_random_numbers);
    RUN(cycles_lose_nothing);
    return TAP_DONE();
}
