// SPDX-License-Identifier: Apache-2.0
/* The command line tool's pure parts: options, tables, sizes, addresses, the terminal filter.
 */
#include <errno.h>
#include <stdlib.h>

#include "../../hypervisor/base/mem.h"
#include "../../tools/cli/opts.h"
#include "../../tools/cli/settings.h"
#include "../../tools/cli/text.h"
#include "../tap.h"

static const struct opt own[] = {
    {"follow", 'f', NULL, ""},
    {"tail", 'n', "LINES", ""},
    {"env", 'e', "K=V", ""},
    {NULL, 0, NULL, NULL},
};
static const struct opt common[] = {{"json", 0, NULL, ""}, {NULL, 0, NULL, NULL}};

/* Parses words separated by blanks. */
static int parse(struct args *a, const char *line, struct err *e)
{
    static char text[500];
    static char *argv[40];
    size_t n = 0;
    snprintf(text, sizeof text, "%s", line);
    for (char *p = strtok(text, " "); p && n < ARRAY_LEN(argv); p = strtok(NULL, " "))
        argv[n++] = p;
    *a = (struct args){.opts = {own, common}};
    *e = (struct err)ERR_INIT;
    return args_parse(a, argv, n, e);
}

TEST(options)
{
    struct args a;
    struct err e;
    uint64_t n = 7;
    CHECK(parse(&a, "x -f --tail 5 y", &e) == 0);
    CHECK(a.npos == 2 && strcmp(a.pos[0], "x") == 0 && strcmp(a.pos[1], "y") == 0);
    CHECK(args_has(&a, "follow") && !args_has(&a, "json"));
    CHECK(args_number(&a, "tail", 1, 9, &n, &e) == 0 && n == 5);
    CHECK(args_number(&a, "tail", 6, 9, &n, &e) == -EINVAL && n == 5);
    CHECK(parse(&a, "--tail=1 --tail=2 --json", &e) == 0);
    CHECK_STR(args_get(&a, "tail"), "2");
    CHECK_STR(args_nth(&a, "tail", 0), "1");
    CHECK(args_nth(&a, "tail", 2) == NULL);
    CHECK(parse(&a, "-fn3 -eA=B -e C=D", &e) == 0);
    CHECK_STR(args_get(&a, "tail"), "3");
    CHECK_STR(args_nth(&a, "env", 0), "A=B");
    CHECK_STR(args_nth(&a, "env", 1), "C=D");
    CHECK(parse(&a, "-- -f --tail", &e) == 0 && a.npos == 2 && !args_has(&a, "follow"));
    CHECK(parse(&a, "-", &e) == 0 && a.npos == 1);
    CHECK(args_number(&a, "tail", 1, 9, &n, &e) == 0 && n == 5); /* not given: stays */
}

TEST(bad_options)
{
    struct args a;
    struct err e;
    CHECK(parse(&a, "--folow", &e) == -EINVAL);
    CHECK_STR(e.msg, "there is no option --folow");
    CHECK_STR(e.hint, "did you mean --follow?");
    CHECK(parse(&a, "--zzzzzz", &e) == -EINVAL && e.hint[0] == '\0');
    CHECK(parse(&a, "--tail", &e) == -EINVAL);
    CHECK(parse(&a, "-n", &e) == -EINVAL);
    CHECK(parse(&a, "-x", &e) == -EINVAL);
    CHECK(parse(&a, "--follow=1", &e) == -EINVAL);
    CHECK(parse(&a, "--tail x", &e) == 0);
    uint64_t n;
    CHECK(args_number(&a, "tail", 0, 9, &n, &e) == -EINVAL);
    char many[400] = "";
    for (unsigned i = 0; i <= REPEAT_MAX; i++)
        strcat(many, "-f ");
    CHECK(parse(&a, many, &e) == -EINVAL || a.ngiven <= REPEAT_MAX);
}

TEST(distances)
{
    CHECK(word_distance("", "") == 0);
    CHECK(word_distance("ps", "ps") == 0);
    CHECK(word_distance("", "abc") == 3);
    CHECK(word_distance("kitten", "sitting") == 3);
    CHECK(word_near("imags", "images") && word_near("term", "terminate"));
    CHECK(!word_near("", "images") && !word_near("xyz", "images"));
}

static bool table_is(const char *const *heads, const char *const (*rows)[3], size_t n,
                     const char *want)
{
    struct table t;
    struct buf b = BUF_INIT;
    table_init(&t, heads);
    for (size_t i = 0; i < n; i++)
        table_row(&t, rows[i]);
    table_format(&t, &b);
    const char *got = buf_cstr(&b);
    bool same = got && strcmp(got, want) == 0;
    if (!same)
        printf("# got:\n%s", got ? got : "(null)");
    table_free(&t);
    buf_free(&b);
    return same;
}

TEST(tables)
{
    static const char *const heads[] = {"ID", "STATE", "URL", NULL};
    static const char *const rows[][3] = {{"a", "RUNNING", "https://x/"}, {"long-id", "", ""}};
    CHECK(table_is(heads, rows, 2,
                   "ID       STATE    URL\n"
                   "a        RUNNING  https://x/\n"
                   "long-id\n"));
    CHECK(table_is(heads, rows, 0, ""));
    /* Width counts letters, not bytes; what could steer the terminal is taken out. */
    static const char *const odd[][3] = {{"äöü", "b\nc", "\033[2Jx"}, {"abc", "d", "\x7fz"}};
    CHECK(table_is(heads, odd, 2,
                   "ID   STATE  URL\n"
                   "äöü  b c    ?[2Jx\n"
                   "abc  d      ?z\n"));
}

static bool cleaned(const char *text, size_t len, const char *want)
{
    struct buf b = BUF_INIT;
    text_clean(&b, text, len);
    const char *got = buf_cstr(&b);
    bool same = got && strcmp(got, want) == 0;
    buf_free(&b);
    return same;
}

TEST(terminal)
{
    CHECK(cleaned("plain\ttext\n", 11, "plain\ttext\n"));
    CHECK(cleaned("a\033]0;t\007b\rc", 10, "a?]0;t?b?c"));
    CHECK(cleaned("\xc2\x9b"
                  "31m",
                  5, "?31m"));        /* a control sequence in one character */
    CHECK(cleaned("x\xc2", 2, "x?")); /* its first half */
    CHECK(cleaned("\xc2\xa7 \xc3\xa9", 5, "\xc2\xa7 \xc3\xa9"));
    CHECK(cleaned("a\0b", 3, "a?b"));
}

static bool size_is(uint64_t n, const char *want)
{
    char got[24];
    human_size(n, got);
    if (strcmp(got, want) != 0)
        printf("# %llu is \"%s\"\n", (unsigned long long)n, got);
    return strcmp(got, want) == 0;
}

static bool age_is(double s, const char *want)
{
    char got[24];
    human_age(s, got);
    if (strcmp(got, want) != 0)
        printf("# %f is \"%s\"\n", s, got);
    return strcmp(got, want) == 0;
}

TEST(quantities)
{
    char text[40];
    CHECK(size_is(0, "0 B") && size_is(999, "999 B") && size_is(1000, "1.0 kB"));
    CHECK(size_is(9949, "9.9 kB") && size_is(9951, "10 kB") && size_is(999499, "999 kB"));
    CHECK(size_is(999600, "1.0 MB") && size_is(63753420, "64 MB"));
    CHECK(size_is(UINT64_MAX, "18447 PB"));
    CHECK(age_is(-5, "0s") && age_is(0.9, "0s") && age_is(119.9, "119s") && age_is(120, "2m"));
    CHECK(age_is(7199, "119m") && age_is(7200, "2h") && age_is(172800, "2d"));
    CHECK(age_is(1e300, "11574d"));
    human_time(1795154400.125, text);
    CHECK_STR(text, "2026-11-20T06:00:00.125Z");
    human_time(0, text);
    CHECK_STR(text, "1970-01-01T00:00:00.000Z");
}

TEST(addresses)
{
    struct settings s = {.url = NULL};
    struct err e = ERR_INIT;
    CHECK(settings_url(&s, "https://localhost:8443", &e) == 0);
    CHECK_STR(s.host, "localhost");
    CHECK_STR(s.authority, "localhost:8443");
    CHECK(s.port == 8443);
    CHECK(settings_url(&s, "https://example.org/", &e) == 0 && s.port == 443);
    CHECK(settings_url(&s, "https://[::1]:9", &e) == 0 && s.port == 9);
    CHECK_STR(s.host, "::1");
    static const char *const bad[] = {
        "http://x",        "localhost:8443", "https://",     "https://x:0",
        "https://x:70000", "https://x:",     "https://x/y",  "https://a@b",
        "https://a b",     "https://[::1",   "https://x:1x", "https://:443"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(settings_url(&s, bad[i], &e) == -EINVAL);
}

TEST(environment)
{
    struct settings s;
    struct err e = ERR_INIT;
    static const char *const names[] = {"DORMOUSE_URL",      "AWS_ENDPOINT_URL_LAMBDA_MICROVMS",
                                        "AWS_CA_BUNDLE",     "NODE_EXTRA_CA_CERTS",
                                        "AWS_REGION",        "AWS_DEFAULT_REGION",
                                        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        unsetenv(names[i]);
    CHECK(settings_read(&s, NULL, NULL, &e) == -ENOENT);
    CHECK(strstr(e.hint, "make up && . build/run/env") != NULL);
    setenv("AWS_ENDPOINT_URL_LAMBDA_MICROVMS", "https://sdk:1", 1);
    CHECK(settings_read(&s, NULL, NULL, &e) == 0);
    CHECK_STR(s.host, "sdk");
    setenv("DORMOUSE_URL", "https://own:2", 1);
    setenv("NODE_EXTRA_CA_CERTS", "/n", 1);
    setenv("AWS_REGION", "", 1);
    setenv("AWS_DEFAULT_REGION", "eu-west-1", 1);
    CHECK(settings_read(&s, NULL, NULL, &e) == 0);
    CHECK_STR(s.host, "own");
    CHECK_STR(s.ca, "/n");
    CHECK_STR(s.region, "eu-west-1");
    CHECK(s.key_id == NULL && s.secret == NULL);
    CHECK(settings_read(&s, "https://flag:3", "/flag", &e) == 0);
    CHECK_STR(s.host, "flag");
    CHECK_STR(s.ca, "/flag");
}

int main(void)
{
    RUN(options);
    RUN(bad_options);
    RUN(distances);
    RUN(tables);
    RUN(terminal);
    RUN(quantities);
    RUN(addresses);
    RUN(environment);
    return TAP_DONE();
}
