// SPDX-License-Identifier: Apache-2.0
/* Build contexts as the guest reads them (guest/zip.c): archives made here, byte by byte. */
#include <errno.h>
#include <stdlib.h>

#include "../../guest/zip.h"
#include "../tap.h"

/* ---- an archive under construction ---- */

static struct {
    uint8_t data[16384];
    size_t len;
    uint8_t dir[8192];
    size_t dir_len;
    unsigned count;
} a;

static void put(uint8_t *to, size_t *len, uint32_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        to[(*len)++] = (uint8_t)(v >> (8 * i));
}

static uint32_t crc_of(const uint8_t *p, size_t n)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int b = 0; b < 8; b++)
            c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
    }
    return ~c;
}

struct item {
    const char *name;
    const char *text; /* what is stored */
    size_t size;      /* announced; 0: as stored */
    uint32_t attributes;
    uint16_t host, method, flags;
    uint32_t crc; /* 0: the right one */
};

static void add(struct item it)
{
    size_t text_len = it.text ? strlen(it.text) : 0, name_len = strlen(it.name);
    uint32_t size = (uint32_t)(it.size ? it.size : text_len), local = (uint32_t)a.len;
    uint32_t crc = it.crc ? it.crc : crc_of((const uint8_t *)it.text, text_len);
    put(a.data, &a.len, 0x04034b50, 4);
    put(a.data, &a.len, 20, 2);
    put(a.data, &a.len, it.flags, 2);
    put(a.data, &a.len, it.method, 2);
    put(a.data, &a.len, 0, 4);
    put(a.data, &a.len, crc, 4);
    put(a.data, &a.len, (uint32_t)text_len, 4);
    put(a.data, &a.len, size, 4);
    put(a.data, &a.len, (uint32_t)name_len, 2);
    put(a.data, &a.len, 0, 2);
    memcpy(a.data + a.len, it.name, name_len);
    a.len += name_len;
    memcpy(a.data + a.len, it.text ? it.text : "", text_len);
    a.len += text_len;

    put(a.dir, &a.dir_len, 0x02014b50, 4);
    put(a.dir, &a.dir_len, (uint32_t)(it.host << 8 | 20), 2);
    put(a.dir, &a.dir_len, 20, 2);
    put(a.dir, &a.dir_len, it.flags, 2);
    put(a.dir, &a.dir_len, it.method, 2);
    put(a.dir, &a.dir_len, 12 << 11 | 34 << 5 | 28, 2);            /* 12:34:56 */
    put(a.dir, &a.dir_len, (2024u - 1980u) << 9 | 2 << 5 | 29, 2); /* 29 February 2024 */
    put(a.dir, &a.dir_len, crc, 4);
    put(a.dir, &a.dir_len, (uint32_t)text_len, 4);
    put(a.dir, &a.dir_len, size, 4);
    put(a.dir, &a.dir_len, (uint32_t)name_len, 2);
    put(a.dir, &a.dir_len, 0, 4); /* extra, comment */
    put(a.dir, &a.dir_len, 0, 4); /* disk, internal attributes */
    put(a.dir, &a.dir_len, it.attributes, 4);
    put(a.dir, &a.dir_len, local, 4);
    memcpy(a.dir + a.dir_len, it.name, name_len);
    a.dir_len += name_len;
    a.count++;
}

static void finish(void)
{
    uint32_t off = (uint32_t)a.len;
    memcpy(a.data + a.len, a.dir, a.dir_len);
    a.len += a.dir_len;
    put(a.data, &a.len, 0x06054b50, 4);
    put(a.data, &a.len, 0, 4);
    put(a.data, &a.len, a.count, 2);
    put(a.data, &a.len, a.count, 2);
    put(a.data, &a.len, (uint32_t)a.dir_len, 4);
    put(a.data, &a.len, off, 4);
    put(a.data, &a.len, 0, 2);
}

static void fresh(void)
{
    memset(&a, 0, sizeof(a));
}

/* ---- reading it ---- */

static struct zip z;
static struct zip_entry e;
static struct fail f;
static char got[4096];
static size_t got_len;

static int collect(void *ctx, const uint8_t *data, size_t len)
{
    (void)ctx;
    if (len > sizeof(got) - got_len)
        return -ENOSPC;
    memcpy(got + got_len, data, len);
    got_len += len;
    return 0;
}

static int open_it(void)
{
    /* a copy of the exact size, so that the sanitizers see every step outside */
    static uint8_t *copy;
    free(copy);
    copy = malloc(a.len ? a.len : 1);
    memcpy(copy, a.data, a.len);
    f = (struct fail){.num = 0};
    return zip_open(&z, copy, a.len, &f);
}

/* The first entry, its content in `got`. */
static int first(void)
{
    size_t pos = 0;
    int r = open_it();
    if (r < 0 || (r = zip_next(&z, &pos, &e, &f)) < 0)
        return r;
    got_len = 0;
    return zip_read(&z, &e, collect, NULL, &f);
}

static int only(struct item it)
{
    fresh();
    add(it);
    finish();
    return first();
}

#define UNIX_MODE(m) ((uint32_t)(m) << 16)

TEST(good)
{
    fresh();
    add((struct item){
        .name = "a.txt", .text = "hello", .host = 3, .attributes = UNIX_MODE(0100755)});
    add((struct item){.name = "dir/", .host = 3, .attributes = UNIX_MODE(0040700)});
    add((struct item){.name = "./dir//b", .text = "B"});
    add((struct item){
        .name = "l", .text = "a.txt", .host = 3, .attributes = UNIX_MODE(0120777)});
    finish();
    CHECK(first() == 0);
    CHECK_STR(e.name, "a.txt");
    CHECK(e.kind == ZIP_FILE && e.mode == 0755 && e.size == 5);
    CHECK(got_len == 5 && memcmp(got, "hello", 5) == 0);
    CHECK(e.mtime == 1709210096);
    CHECK(zip_check(&z, &f) == 0);
    size_t pos = 0;
    CHECK(zip_next(&z, &pos, &e, &f) == 1);
    CHECK(zip_next(&z, &pos, &e, &f) == 1 && e.kind == ZIP_DIR && e.mode == 0700);
    CHECK_STR(e.name, "dir");
    CHECK(zip_next(&z, &pos, &e, &f) == 1 && e.kind == ZIP_FILE && e.mode == 0644);
    CHECK_STR(e.name, "dir/b");
    CHECK(zip_next(&z, &pos, &e, &f) == 1 && e.kind == ZIP_LINK);
    CHECK(zip_next(&z, &pos, &e, &f) == 0);
}

TEST(deflated)
{
    /* ten times "a", raw deflate; no NUL inside */
    static const char packed[] = "\x4b\x84\x03";
    fresh();
    add((struct item){.name = "a", .text = packed, .size = 10, .method = 8, .crc = 0x4c11cdf0});
    finish();
    CHECK(first() < 0); /* cut off: the stream's last byte, a 0, is missing */
    CHECK_STR(f.text, "the compressed data of \"a\" is damaged");
}

TEST(names)
{
    static const char *const bad[] = {"/etc/passwd", "../x", "a/../../x", "..", "a/..", ""};
    static const char *const odd[] = {"...", "..a", "a..", ".hidden", "a/.b"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK(only((struct item){.name = bad[i], .text = "x"}) == -EINVAL);
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        CHECK(only((struct item){.name = odd[i], .text = "x"}) == 0);
        CHECK_STR(e.name, odd[i]);
    }
    static char name[300];
    memset(name, 'n', 256);
    CHECK(only((struct item){.name = name, .text = "x"}) == -EINVAL);
    CHECK(only((struct item){.name = "./", .text = "x"}) == 0); /* a directory: the root */
    CHECK(e.kind == ZIP_DIR && e.name[0] == '\0');
}

TEST(kinds)
{
    CHECK(only((struct item){.name = "p", .host = 3, .attributes = UNIX_MODE(0010644)}) < 0);
    CHECK(only((struct item){.name = "dev", .host = 3, .attributes = UNIX_MODE(0020644)}) < 0);
    CHECK(only((struct item){.name = "e", .host = 3, .attributes = UNIX_MODE(0120777)}) < 0);
    CHECK(only((struct item){.name = "d/", .host = 3, .attributes = UNIX_MODE(0100644)}) < 0);
    /* attributes of another system say nothing about the mode */
    CHECK(only((struct item){.name = "w", .text = "x", .attributes = UNIX_MODE(0010644)}) == 0);
    CHECK(e.mode == 0644 && e.kind == ZIP_FILE);
}

TEST(refused)
{
    CHECK(only((struct item){.name = "s", .text = "x", .flags = 1}) == -EOPNOTSUPP);
    CHECK(only((struct item){.name = "m", .text = "x", .method = 12}) == -EOPNOTSUPP);
    CHECK(only((struct item){.name = "b", .text = "x", .size = 0xffffffffu}) == -EOPNOTSUPP);
    CHECK(only((struct item){.name = "c", .text = "x", .crc = 1}) == -EBADMSG);
    CHECK(only((struct item){.name = "d", .text = "x", .size = 2}) == -EBADMSG);
}

TEST(behind_a_link)
{
    fresh();
    add((struct item){
        .name = "l", .text = "/etc", .host = 3, .attributes = UNIX_MODE(0120777)});
    add((struct item){.name = "l/passwd", .text = "x"});
    finish();
    CHECK(open_it() == 0);
    CHECK(zip_check(&z, &f) == -EINVAL);
    CHECK_STR(f.text, "\"l/passwd\" lies behind the symbolic link \"l\"");
}

TEST(damaged)
{
    fresh();
    add((struct item){.name = "a.txt", .text = "hello"});
    add((struct item){.name = "b.txt", .text = "world"});
    finish();
    size_t whole = a.len;
    for (a.len = 0; a.len < whole; a.len++)
        CHECK(open_it() < 0 && f.num > 0 && f.text[0]);
    a.len = whole;
    CHECK(open_it() == 0 && zip_check(&z, &f) == 0);
    unsigned seen = 0;
    for (size_t bit = 0; bit < whole * 8; bit++) {
        a.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int r = first();
        CHECK(r <= 0);
        if (r == 0)
            r = zip_check(&z, &f);
        seen += r < 0;
        a.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    CHECK(seen > whole * 2);
}

TEST(count_lies)
{
    fresh();
    add((struct item){.name = "a", .text = "x"});
    a.count = 2;
    finish();
    CHECK(open_it() == 0);
    CHECK(zip_check(&z, &f) == -EBADMSG);
}

TEST(zip64)
{
    fresh();
    add((struct item){.name = "a", .text = "x"});
    a.count = 0xffff;
    finish();
    CHECK(open_it() == -EOPNOTSUPP);
    CHECK(strstr(f.text, "zip64") != NULL);
}

int main(void)
{
    RUN(good);
    RUN(deflated);
    RUN(names);
    RUN(kinds);
    RUN(refused);
    RUN(behind_a_link);
    RUN(damaged);
    RUN(count_lies);
    RUN(zip64);
    return TAP_DONE();
}
