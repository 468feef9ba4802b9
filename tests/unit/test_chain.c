// SPDX-License-Identifier: Apache-2.0
/*
 * Which disk layers are joined: compared with all other ways to make the same
 * chain as short; and what a long life of checkpoints costs then.
 */
#include <stdio.h>
#include <string.h>

#include "../../api/chain.h"
#include "../tap.h"

static struct store_disk chain_of(const char *names)
{
    struct store_disk d = {.serial = 7};
    for (; *names; names++)
        d.layers[d.n++][0] = *names;
    return d;
}

/* Names of a chain, a letter each. */
static const char *names_of(const struct store_disk *d)
{
    static char text[DISK_FROZEN_MAX + 1];
    for (uint32_t i = 0; i < d->n; i++)
        text[i] = d->layers[i][0];
    text[d->n] = '\0';
    return text;
}

static bool choose(const char *names, const uint64_t *bytes, uint32_t limit, char *ret,
                   uint64_t *ret_bytes)
{
    struct store_disk d = chain_of(names);
    struct chain_part p;
    if (!chain_choose(&d, bytes, limit, &p, ret_bytes))
        return false;
    for (uint32_t i = 0; i < p.n; i++)
        ret[i] = p.layers[i][0];
    ret[p.n] = '\0';
    return true;
}

TEST(those_that_hold_the_least)
{
    char got[8] = "";
    uint64_t sum = 0;
    CHECK(choose("abcd", (const uint64_t[]){100, 1, 2, 50}, 3, got, &sum));
    CHECK_STR(got, "bc");
    CHECK(sum == 3);
    CHECK(choose("abcd", (const uint64_t[]){100, 1, 2, 50}, 2, got, &sum));
    CHECK_STR(got, "bcd");
    CHECK(sum == 53);
    CHECK(choose("abcd", (const uint64_t[]){5, 5, 5, 5}, 1, got, &sum));
    CHECK_STR(got, "abcd");
    CHECK(choose("ab", (const uint64_t[]){0, 0}, 1, got, &sum));
    CHECK_STR(got, "ab");
    CHECK(sum == 0);
}

TEST(short_enough)
{
    char got[8];
    uint64_t sum;
    CHECK(!choose("abc", (const uint64_t[]){1, 1, 1}, 3, got, &sum));
    CHECK(!choose("abc", (const uint64_t[]){1, 1, 1}, 4, got, &sum));
    CHECK(!choose("", (const uint64_t[]){0}, 1, got, &sum));
    CHECK(!choose("abc", (const uint64_t[]){1, 1, 1}, 0, got, &sum)); /* no such limit */
}

static bool join(struct store_disk *d, const char *from, const char *to)
{
    struct store_disk part = chain_of(from);
    struct chain_part p = {.n = part.n};
    memcpy(p.layers, part.layers, sizeof p.layers);
    return chain_join(d, &p, to);
}

TEST(joining)
{
    struct store_disk d = chain_of("abcd");
    CHECK(!join(&d, "ac", "m")); /* not one on the other */
    CHECK(!join(&d, "ba", "m"));
    CHECK(!join(&d, "de", "m"));
    CHECK_STR(names_of(&d), "abcd");
    CHECK(join(&d, "bc", "m"));
    CHECK_STR(names_of(&d), "amd");
    CHECK(d.serial == 7);
    CHECK(join(&d, "am", "n"));
    CHECK_STR(names_of(&d), "nd");
    CHECK(join(&d, "nd", "o"));
    CHECK_STR(names_of(&d), "o");
    CHECK(!join(&d, "op", "q"));
    d = chain_of("abcd");
    CHECK(join(&d, "abcd", "m"));
    CHECK_STR(names_of(&d), "m");
    d = chain_of("abcd");
    CHECK(join(&d, "cd", "mm"));
    CHECK(d.n == 3);
    CHECK_STR(d.layers[2], "mm");
}

/* A disk that is written to between checkpoints, a MiB each, over a large first layer: the
 * chain never has more than the limit, and the large layer is copied only after as much has
 * come. */
TEST(a_long_life)
{
    for (uint32_t limit = 1; limit < DISK_FROZEN_MAX; limit++) {
        struct store_disk d = chain_of("L");
        uint64_t bytes[DISK_FROZEN_MAX] = {1000}, copied_large = 0;
        for (unsigned i = 0; i < 500; i++) {
            struct chain_part p;
            uint64_t sum;
            bytes[d.n] = 1;
            snprintf(d.layers[d.n++], LAYER_CAP, "%u", i);
            if (!chain_choose(&d, bytes, limit, &p, &sum))
                continue;
            uint32_t at = 0;
            while (strcmp(d.layers[at], p.layers[0]) != 0)
                at++;
            bool large = p.layers[0][0] == 'L';
            char to[LAYER_CAP];
            snprintf(to, sizeof to, "%s%u", large ? "L" : "m", i);
            copied_large += large;
            CHECK(chain_join(&d, &p, to));
            bytes[at] = sum;
            memmove(bytes + at + 1, bytes + at + p.n, (d.n - at - 1) * sizeof bytes[0]);
            CHECK(d.n == limit);
        }
        uint64_t all = 0;
        for (uint32_t i = 0; i < d.n; i++)
            all += bytes[i];
        CHECK(all == 1500);
        CHECK(limit == 1 ? copied_large == 500 : copied_large == 0);
    }
}

int main(void)
{
    RUN(those_that_hold_the_least);
    RUN(short_enough);
    RUN(joining);
    RUN(a_long_life);
    return TAP_DONE();
}
