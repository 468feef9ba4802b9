// SPDX-License-Identifier: Apache-2.0
/* nextToken: round trips, every flipped bit is noticed, no other question accepts it. */
#include <errno.h>
#include <stdlib.h>

#include "../../api/page.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"

static const uint8_t key[SIPHASH_KEY] = {1, 2, 3};

TEST(siphash_vectors)
{
    /* From the authors' test vectors: key 00..0f, input of n bytes 00, 01, … */
    static const uint8_t want0[] = {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6,
                                    0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93};
    static const uint8_t want1[] = {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44,
                                    0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45};
    uint8_t k[SIPHASH_KEY], got[SIPHASH_LEN];
    for (size_t i = 0; i < sizeof k; i++)
        k[i] = (uint8_t)i;
    siphash128(k, "", 0, got);
    CHECK(memcmp(got, want0, sizeof got) == 0);
    siphash128(k, "\0", 1, got);
    CHECK(memcmp(got, want1, sizeof got) == 0);
}

TEST(round_trips)
{
    char position[PAGE_KEY_MAX + 2], token[PAGE_TOKEN_CAP], back[PAGE_KEY_MAX + 1];
    for (size_t n = 0; n <= PAGE_KEY_MAX; n++) {
        memset(position, 'x', n);
        position[n] = '\0';
        CHECK(page_make(key, "List a", position, token) == 0);
        CHECK(
            strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") ==
            strlen(token));
        CHECK(page_read(key, "List a", token, back) == 0);
        CHECK_STR(back, position);
    }
    memset(position, 'x', PAGE_KEY_MAX + 1);
    position[PAGE_KEY_MAX + 1] = '\0';
    CHECK(page_make(key, "List a", position, token) == -EINVAL);
}

TEST(bound_to_question_and_key)
{
    char token[PAGE_TOKEN_CAP], back[PAGE_KEY_MAX + 1];
    static const uint8_t other[SIPHASH_KEY] = {9};
    CHECK(page_make(key, "List a", "42", token) == 0);
    CHECK(page_read(key, "List b", token, back) == -EINVAL);
    CHECK(page_read(key, "List a4", token, back) == -EINVAL);
    CHECK(page_read(other, "List a", token, back) == -EINVAL);
    CHECK(page_read(key, "List a", token, back) == 0);
}

TEST(forgeries)
{
    char token[PAGE_TOKEN_CAP], bad[PAGE_TOKEN_CAP + 1], back[PAGE_KEY_MAX + 1];
    CHECK(page_make(key, "q", "box", token) == 0);
    size_t len = strlen(token);
    for (size_t i = 0; i < len; i++) {
        for (const char *c = "Aa0_-z=+/ "; *c; c++) {
            if (token[i] == *c)
                continue;
            memcpy(bad, token, len + 1);
            bad[i] = *c;
            CHECK(page_read(key, "q", bad, back) == -EINVAL);
        }
        memcpy(bad, token, len + 1);
        bad[i] = '\0';
        CHECK(page_read(key, "q", bad, back) == -EINVAL);
    }
    snprintf(bad, sizeof bad, "%s=", token);
    CHECK(page_read(key, "q", bad, back) == -EINVAL);
    AUTO_FREE char *longer = calloc(1, 5000);
    memset(longer, 'A', 4999);
    CHECK(page_read(key, "q", longer, back) == -EINVAL);
    CHECK(page_read(key, "q", "", back) == -EINVAL);
}

int main(void)
{
    RUN(siphash_vectors);
    RUN(round_trips);
    RUN(bound_to_question_and_key);
    RUN(forgeries);
    return TAP_DONE();
}
