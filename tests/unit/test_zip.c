// SPDX-License-Identifier: Apache-2.0
/* The zip directory reader, with archives made here byte by byte, then damaged. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "../../api/zip.h"
#include "../../hypervisor/base/buf.h"
#include "../../hypervisor/base/num.h"
#include "../tap.h"

struct maker {
    struct buf file, dir;
    uint16_t count;
};

static void le16(struct buf *b, unsigned v)
{
    uint8_t p[2];
    put_le16(p, (uint16_t)v);
    buf_add(b, p, 2);
}

static void le32(struct buf *b, uint32_t v)
{
    uint8_t p[4];
    put_le32(p, v);
    buf_add(b, p, 4);
}

static void add(struct maker *m, const char *name, const char *text, bool deflated)
{
    size_t plain = strlen(text), packed = plain;
    uint8_t data[4096];
    memcpy(data, text, plain);
    if (deflated) {
        z_stream z = {.next_in = (Bytef *)(uintptr_t)text,
                      .avail_in = (uInt)plain,
                      .next_out = data,
                      .avail_out = sizeof data};
        CHECK(deflateInit2(&z, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) == Z_OK);
        CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
        packed = z.total_out;
        deflateEnd(&z);
    }
    uint32_t crc = (uint32_t)crc32(0, (const Bytef *)text, (uInt)plain);
    uint32_t offset = (uint32_t)m->file.len;
    struct buf common = BUF_INIT; /* the part both headers share */
    le16(&common, 20);
    le16(&common, 0);
    le16(&common, deflated ? 8 : 0);
    le32(&common, 0);
    le32(&common, crc);
    le32(&common, (uint32_t)packed);
    le32(&common, (uint32_t)plain);
    le16(&common, (unsigned)strlen(name));
    le16(&common, 0);
    le32(&m->file, 0x04034b50);
    buf_add(&m->file, common.data, common.len);
    buf_str(&m->file, name);
    buf_add(&m->file, data, packed);
    le32(&m->dir, 0x02014b50);
    le16(&m->dir, 20);
    buf_add(&m->dir, common.data, common.len);
    le16(&m->dir, 0);
    le16(&m->dir, 0);
    le16(&m->dir, 0);
    le32(&m->dir, 0);
    le32(&m->dir, offset);
    buf_str(&m->dir, name);
    buf_free(&common);
    m->count++;
}

static void finish(struct maker *m, const char *comment)
{
    uint32_t off = (uint32_t)m->file.len;
    buf_add(&m->file, m->dir.data, m->dir.len);
    le32(&m->file, 0x06054b50);
    le32(&m->file, 0);
    le16(&m->file, m->count);
    le16(&m->file, m->count);
    le32(&m->file, (uint32_t)m->dir.len);
    le32(&m->file, off);
    le16(&m->file, (unsigned)strlen(comment));
    buf_str(&m->file, comment);
    buf_free(&m->dir);
}

static char *text;
static size_t text_len;
static struct zip_info info;
static struct err e;

static int try_bytes(const void *data, size_t len)
{
    int fd = memfd_create("zip", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, data, len) == (ssize_t)len);
    free(text);
    text = NULL;
    e = (struct err)ERR_INIT;
    int r = zip_open(fd, len, "Dockerfile", 65536, &info, &text, &text_len, &e);
    close(fd);
    return r;
}

static int try(struct maker *m)
{
    return try_bytes(m->file.data, m->file.len);
}

static const char body[] = "FROM dormouse/debian\nCMD [\"true\"]\n";

static struct maker typical(bool deflated)
{
    struct maker m = {0};
    add(&m, "app/", "", false);
    add(&m, "app/main.py", "print(1)\n", true);
    add(&m, "Dockerfile", body, deflated);
    finish(&m, "");
    return m;
}

TEST(reads_the_file)
{
    for (int deflated = 0; deflated < 2; deflated++) {
        struct maker m = typical(deflated);
        CHECK(try(&m) == 0);
        CHECK_STR(text, body);
        CHECK(info.entries == 3 && text_len == sizeof body - 1);
        CHECK(info.bytes == sizeof body - 1 + 9);
        buf_free(&m.file);
    }
    struct maker m = {0};
    add(&m, "Dockerfile", "", true);
    finish(&m, "a comment with PK\5\6 in it");
    CHECK(try(&m) == 0);
    CHECK_STR(text, "");
    buf_free(&m.file);
}

TEST(missing_or_wrong)
{
    struct maker m = {0};
    add(&m, "sub/Dockerfile", body, true);
    finish(&m, "");
    CHECK(try(&m) == -ENOENT);
    buf_free(&m.file);
    m = (struct maker){0};
    finish(&m, "");
    CHECK(try(&m) == -ENOENT);
    buf_free(&m.file);
    CHECK(try_bytes("", 0) == -EBADMSG);
    CHECK(try_bytes("hello, this is no zip archive at all", 36) == -EBADMSG);
    static const char *const names[] = {"/etc/passwd", "../x", "a/../../x", "a/..", "a\\b", ""};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        m = (struct maker){0};
        add(&m, names[i], "x", false);
        add(&m, "Dockerfile", body, false);
        finish(&m, "");
        if (!CHECK(try(&m) == -EBADMSG))
            printf("# name '%s'\n", names[i]);
        buf_free(&m.file);
    }
    m = (struct maker){0};
    add(&m, "Dockerfile", body, false);
    add(&m, "Dockerfile", body, true);
    finish(&m, "");
    CHECK(try(&m) == -EBADMSG);
    buf_free(&m.file);
}

TEST(too_large)
{
    struct maker m = {0};
    static char big[70000];
    memset(big, 'a', sizeof big - 1);
    add(&m, "Dockerfile", "x", true);
    finish(&m, "");
    /* Claims 70000 bytes; the ratio alone gives it away. */
    size_t dir = m.file.len - 22 - 46 - 10;
    put_le32(m.file.data + dir + 24, 70000);
    CHECK(try(&m) == -EBADMSG);
    put_le32(m.file.data + dir + 24, UINT32_MAX);
    CHECK(try(&m) == -EBADMSG && strstr(e.msg, "zip64"));
    buf_free(&m.file);
}

TEST(overlapping_entries)
{
    /* Many directory entries for the same data. */
    struct maker m = {0};
    char noise[3000];
    for (size_t i = 0; i + 1 < sizeof noise; i++)
        noise[i] = (char)('a' + i * i % 23);
    noise[sizeof noise - 1] = '\0';
    add(&m, "Dockerfile", noise, false);
    struct buf one = BUF_INIT;
    buf_add(&one, m.dir.data, m.dir.len);
    memcpy(one.data + 46, "Dockerfil_", 10);
    for (int i = 0; i < 5000; i++) {
        buf_add(&m.dir, one.data, one.len);
        m.count++;
    }
    finish(&m, "");
    CHECK(try(&m) == -EBADMSG && strstr(e.msg, "too much"));
    buf_free(&one);
    buf_free(&m.file);
}

TEST(every_damaged_byte)
{
    struct maker m = typical(true);
    unsigned refused = 0;
    for (size_t i = 0; i < m.file.len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            m.file.data[i] ^= (uint8_t)(1u << bit);
            int r = try(&m);
            CHECK(r == 0 || r == -EBADMSG || r == -ENOENT || r == -EFBIG);
            CHECK(r != 0 || strcmp(text, body) == 0); /* never other content */
            refused += r != 0;
            m.file.data[i] ^= (uint8_t)(1u << bit);
        }
    }
    CHECK(refused > 500);
    for (size_t len = 0; len < m.file.len; len++)
        CHECK(try_bytes(m.file.data, len) == -EBADMSG);
    buf_free(&m.file);
}

int main(void)
{
    RUN(reads_the_file);
    RUN(missing_or_wrong);
    RUN(too_large);
    RUN(overlapping_entries);
    RUN(every_damaged_byte);
    free(text);
    return TAP_DONE();
}
