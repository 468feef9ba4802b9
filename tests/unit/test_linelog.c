// SPDX-License-Identifier: Apache-2.0
/* The bounded log of lines behind a guest's console. */
#include "../../hypervisor/base/linelog.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../tap.h"

static struct linelog l;
static unsigned seen;

static void on_seen(void *ctx)
{
    (*(unsigned *)ctx)++;
}

static void begin(uint64_t limit)
{
    if (l.fd > 0)
        close(l.fd);
    l = (struct linelog){.fd = memfd_create("log", MFD_CLOEXEC), .limit = limit};
    seen = 0;
}

static void print(const char *text)
{
    for (; *text; text++)
        linelog_put(&l, *text);
}

static const char *file(void)
{
    static char text[4096];
    ssize_t n = pread(l.fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static const char *tail(size_t size)
{
    static char text[LINELOG_TAIL + 100];
    linelog_tail(&l, text, size);
    return text;
}

TEST(lines)
{
    begin(0);
    print("one\ntw");
    CHECK_STR(file(), "one\n");
    print("o\n...");
    CHECK_STR(file(), "one\ntwo\n");
    linelog_flush(&l);
    CHECK_STR(file(), "one\ntwo\n...");
    begin(0);
    for (unsigned i = 0; i < LINELOG_LINE; i++)
        print("x"); /* a line without an end */
    CHECK(strlen(file()) == LINELOG_LINE);
    begin(0);
    l.direct = true;
    print("?");
    CHECK_STR(file(), "?");
}

TEST(limit)
{
    begin(8);
    print("12345\n");
    print("678\n");
    CHECK_STR(file(), "12345\n\n[console log is full]\n");
    print("9\n");
    CHECK_STR(file(), "12345\n\n[console log is full]\n");
    CHECK_STR(tail(5), "8\n9\n");
}

TEST(the_end)
{
    begin(0);
    print("abc");
    CHECK_STR(tail(3), "bc");
    CHECK_STR(tail(100), "abc");
    linelog_put(&l, '\0');
    CHECK_STR(tail(100), "abc ");
    for (unsigned i = 0; i < LINELOG_TAIL; i++)
        print("y");
    CHECK(strlen(tail(LINELOG_TAIL + 100)) == LINELOG_TAIL &&
          tail(LINELOG_TAIL + 100)[0] == 'y');
}

TEST(watch)
{
    begin(0);
    l.watch = "ready";
    l.seen = on_seen;
    l.seen_ctx = &seen;
    print("re rready");
    CHECK(seen == 1);
    CHECK_STR(file(), "re rready"); /* whoever is told finds it in the file */
    print("ready");
    CHECK(seen == 1);
}

TEST(nowhere)
{
    begin(0);
    close(l.fd);
    l.fd = -1;
    print("line\n");
    CHECK_STR(tail(100), "line\n");
}

int main(void)
{
    RUN(lines);
    RUN(limit);
    RUN(the_end);
    RUN(watch);
    RUN(nowhere);
    return TAP_DONE();
}
