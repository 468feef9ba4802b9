// SPDX-License-Identifier: Apache-2.0
/* Endpoint tokens: what goes in comes out, for this key and until they expire; nothing else. */
#include "../../api/digest.h"
#include "../../api/token.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static struct token_key *open_key(const char *name)
{
    char path[128];
    struct token_key *k = NULL;
    struct err e = ERR_INIT;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (token_key_open(&k, path, &e) < 0)
        printf("# %s\n", e.msg);
    return k;
}

static struct token_claims sample(void)
{
    struct token_claims c = {.vm_id = "microvm-1c9e0c1e-0000-4000-8000-000000000000",
                             .expires = 2000,
                             .nranges = 2,
                             .ranges = {{8080, 8080}, {9000, 9010}}};
    return c;
}

TEST(round_trip)
{
    struct token_key *k = open_key("a");
    struct token_claims c = sample(), got;
    char text[TOKEN_TEXT_MAX + 1], again[TOKEN_TEXT_MAX + 1];
    CHECK(k && token_mint(k, &c, text, sizeof text, NULL) == 0);
    CHECK(token_verify(k, text, 1999.9, &got, NULL) == 0);
    CHECK_STR(got.vm_id, c.vm_id);
    CHECK(got.expires >= 2000 && got.expires <= 2000 && !got.shell && got.nranges == 2);
    CHECK(token_allows(&got, 8080) && token_allows(&got, 9000) && token_allows(&got, 9010));
    CHECK(!token_allows(&got, 8079) && !token_allows(&got, 8081) && !token_allows(&got, 9011) &&
          !token_allows(&got, 0));
    /* The form that clients may look at: five parts, the second empty, a JOSE header. */
    CHECK(strncmp(text, "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIiwia2lkIjoi", 48) == 0);
    CHECK(strstr(text, "..") != NULL);
    CHECK(token_mint(k, &c, again, sizeof again, NULL) == 0 && strcmp(text, again) != 0);
    c.shell = true;
    c.nranges = 0;
    CHECK(token_mint(k, &c, text, sizeof text, NULL) == 0);
    CHECK(token_verify(k, text, 0, &got, NULL) == 0 && got.shell && got.nranges == 0);
    token_key_free(k);
}

TEST(limits)
{
    struct token_key *k = open_key("a");
    struct token_claims c = sample(), got;
    char text[TOKEN_TEXT_MAX + 1];
    c.nranges = TOKEN_RANGES_MAX;
    for (size_t i = 0; i < TOKEN_RANGES_MAX; i++) {
        c.ranges[i].start = 1;
        c.ranges[i].end = 65535;
    }
    CHECK(token_mint(k, &c, text, sizeof text, NULL) == 0);
    CHECK(token_verify(k, text, 0, &got, NULL) == 0 && got.nranges == TOKEN_RANGES_MAX);
    CHECK(token_mint(k, &c, text, 100, NULL) == -EOVERFLOW);
    c.nranges++;
    CHECK(token_mint(k, &c, text, sizeof text, NULL) == -EINVAL);
    c = sample();
    snprintf(c.vm_id, sizeof c.vm_id, "a\",\"exp\":9");
    CHECK(token_mint(k, &c, text, sizeof text, NULL) == -EINVAL);
    c.vm_id[0] = '\0';
    CHECK(token_mint(k, &c, text, sizeof text, NULL) == -EINVAL);
    token_key_free(k);
}

TEST(refusals)
{
    struct token_key *k = open_key("a"), *other = open_key("b");
    struct token_claims c = sample(), got;
    char text[TOKEN_TEXT_MAX + 1];
    CHECK(token_mint(k, &c, text, sizeof text, NULL) == 0);
    CHECK(token_verify(k, text, 2000, &got, NULL) == -EACCES);
    CHECK(token_verify(other, text, 0, &got, NULL) == -EACCES);
    /* Any other character anywhere, cut short anywhere, or longer. */
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        char keep = text[i];
        text[i] = keep == 'A' ? 'B' : 'A';
        CHECK(token_verify(k, text, 0, &got, NULL) == -EACCES);
        text[i] = '\0';
        CHECK(token_verify(k, text, 0, &got, NULL) == -EACCES);
        text[i] = keep;
    }
    text[len] = 'A';
    text[len + 1] = '\0';
    CHECK(token_verify(k, text, 0, &got, NULL) == -EACCES);
    text[len] = '=';
    CHECK(token_verify(k, text, 0, &got, NULL) == -EACCES);
    CHECK(token_verify(k, "", 0, &got, NULL) == -EACCES);
    CHECK(token_verify(k, "....", 0, &got, NULL) == -EACCES);
    char *huge = malloc(100000);
    memset(huge, 'A', 99999);
    huge[99999] = '\0';
    CHECK(token_verify(k, huge, 0, &got, NULL) == -EACCES);
    free(huge);
    token_key_free(k);
    token_key_free(other);
}

TEST(key_file)
{
    struct token_key *k = open_key("c"), *again;
    struct token_claims c = sample(), got;
    char text[TOKEN_TEXT_MAX + 1], path[128];
    struct stat st;
    struct err e = ERR_INIT;
    snprintf(path, sizeof path, "%s/c", dir);
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK(token_mint(k, &c, text, sizeof text, NULL) == 0);
    token_key_free(k);
    again = open_key("c");
    CHECK(token_verify(again, text, 0, &got, NULL) == 0);
    token_key_free(again);
    /* A damaged file is not silently replaced: tokens in use would end. */
    CHECK(truncate(path, st.st_size - 1) == 0);
    CHECK(token_key_open(&again, path, &e) == -EINVAL && e.hint[0]);
}

TEST(base64url)
{
    uint8_t out[16];
    size_t n;
    char text[32];
    base64url_encode((const uint8_t *)"\xfb\xff\xfe", 3, text);
    CHECK_STR(text, "-__-");
    CHECK(base64url_decode("-__-", 4, out, sizeof out, &n) && n == 3 && out[0] == 0xfb);
    CHECK(base64url_decode("", 0, out, sizeof out, &n) && n == 0);
    CHECK(base64url_decode("QQ", 2, out, sizeof out, &n) && n == 1 && out[0] == 'A');
    CHECK(!base64url_decode("QR", 2, out, sizeof out, &n)); /* bits left over */
    CHECK(!base64url_decode("Q", 1, out, sizeof out, &n));
    CHECK(!base64url_decode("QQ==", 4, out, sizeof out, &n));
    CHECK(!base64url_decode("+/", 2, out, sizeof out, &n));
    CHECK(!base64url_decode("QUJD", 4, out, 2, &n));
    base64_encode((const uint8_t *)"a", 1, text);
    CHECK_STR(text, "YQ==");
    base64_encode((const uint8_t *)"ab", 2, text);
    CHECK_STR(text, "YWI=");
    base64_encode((const uint8_t *)"abc", 3, text);
    CHECK_STR(text, "YWJj");
}

int main(void)
{
    snprintf(dir, sizeof dir, "/tmp/dormouse-test-token.XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    RUN(round_trip);
    RUN(limits);
    RUN(refusals);
    RUN(key_file);
    RUN(base64url);
    static const char *const names[] = {"a", "b", "c"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
    return TAP_DONE();
}
