// SPDX-License-Identifier: Apache-2.0
/* Zip archives; see zip_write.h. */
#include "zip_write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "../../hypervisor/base/num.h"

#define LOCAL_SIG   0x04034b50u
#define CENTRAL_SIG 0x02014b50u
#define END_SIG     0x06054b50u
#define LOCAL_SIZE  30u
#define MADE_BY     0x0314u /* Unix, 2.0 */
#define NEEDS       20u
#define UTF8_NAME   0x0800u
#define STORED      0u
#define DEFLATED    8u
#define CHUNK       65536u
#define SIZE_LIMIT  0xfffffffeull
#define ENTRIES_MAX 65534u

struct entry {
    const char *name;
    size_t name_len;
    mode_t mode;
    uint16_t flags, method, time, date;
    uint32_t crc;
    uint64_t packed, size, at;
};

void zip_writer_init(struct zip_writer *z, int fd)
{
    *z = (struct zip_writer){.fd = fd, .directory = {.limit = SIZE_LIMIT}};
}

void zip_writer_free(struct zip_writer *z)
{
    buf_free(&z->directory);
}

/* ---- records ----------------------------------------------------------------------- */

static void dos_time(time_t t, struct entry *en)
{
    struct tm tm = {.tm_mday = 1};
    gmtime_r(&t, &tm);
    if (tm.tm_year < 80 || tm.tm_year > 207) { /* what the format can say */
        en->date = 1 << 5 | 1;
        return;
    }
    en->date = (uint16_t)((tm.tm_year - 80) << 9 | (tm.tm_mon + 1) << 5 | tm.tm_mday);
    en->time = (uint16_t)(tm.tm_hour << 11 | tm.tm_min << 5 | tm.tm_sec / 2);
}

/* What local header and directory have in common: 26 bytes. */
static void common(const struct entry *en, uint8_t *p)
{
    put_le16(p, NEEDS);
    put_le16(p + 2, en->flags);
    put_le16(p + 4, en->method);
    put_le16(p + 6, en->time);
    put_le16(p + 8, en->date);
    put_le32(p + 10, en->crc);
    put_le32(p + 14, (uint32_t)en->packed);
    put_le32(p + 18, (uint32_t)en->size);
    put_le16(p + 22, (uint16_t)en->name_len);
    put_le16(p + 24, 0);
}

static int too_large(struct err *e)
{
    err_set(e, EFBIG, "the archive would be larger than 4 GiB, or have more than %u entries",
            ENTRIES_MAX);
    return err_hint(e, "leave things out with a .dockerignore file");
}

static int begin(struct zip_writer *z, struct entry *en, const char *name, mode_t mode,
                 time_t mtime, struct err *e)
{
    *en = (struct entry){.name = name, .name_len = strlen(name), .mode = mode, .at = z->off};
    if (en->name_len == 0 || en->name_len > 4096)
        return err_set(e, ENAMETOOLONG, "the name '%.100s' is too long for an archive", name);
    if (z->entries >= ENTRIES_MAX || z->off > SIZE_LIMIT)
        return too_large(e);
    for (const char *p = name; *p; p++) {
        if ((unsigned char)*p >= 128)
            en->flags = UTF8_NAME;
    }
    dos_time(mtime, en);
    return 0;
}

/* The contents are written: the headers, now that all is known. */
static int finish(struct zip_writer *z, const struct entry *en, struct err *e)
{
    uint8_t head[LOCAL_SIZE], central[46] = {0};
    uint64_t end = en->at + LOCAL_SIZE + en->name_len + en->packed;
    if (en->size > SIZE_LIMIT || end > SIZE_LIMIT)
        return too_large(e);
    put_le32(head, LOCAL_SIG);
    common(en, head + 4);
    int r = fd_pwrite_full(z->fd, head, sizeof head, en->at);
    if (r == 0)
        r = fd_pwrite_full(z->fd, en->name, en->name_len, en->at + sizeof head);
    if (r < 0)
        return err_sys(e, -r, "write the archive");
    put_le32(central, CENTRAL_SIG);
    put_le16(central + 4, MADE_BY);
    common(en, central + 6);
    put_le32(central + 38, (uint32_t)en->mode << 16 | (S_ISDIR(en->mode) ? 0x10u : 0u));
    put_le32(central + 42, (uint32_t)en->at);
    buf_add(&z->directory, central, sizeof central);
    buf_add(&z->directory, en->name, en->name_len);
    if (z->directory.bad)
        return err_sys(e, ENOMEM, "write the archive");
    z->off = end;
    z->entries++;
    z->files += S_ISREG(en->mode);
    z->bytes += en->size;
    return 0;
}

/* ---- contents ---------------------------------------------------------------------- */

struct squeeze {
    z_stream z;
    uint8_t in[CHUNK], out[CHUNK];
};

/* Compresses what is in `in`; writes what comes out. */
static int squeeze_step(struct zip_writer *z, struct entry *en, struct squeeze *s, uint64_t at,
                        int flush, struct err *e)
{
    do {
        s->z.next_out = s->out;
        s->z.avail_out = sizeof s->out;
        if (deflate(&s->z, flush) == Z_STREAM_ERROR)
            return err_set(e, EIO, "compression failed");
        size_t n = sizeof s->out - s->z.avail_out;
        int r = fd_pwrite_full(z->fd, s->out, n, at + en->packed);
        if (r < 0)
            return err_sys(e, -r, "write the archive");
        en->packed += n;
        if (at + en->packed > SIZE_LIMIT)
            return too_large(e);
    } while (s->z.avail_out == 0);
    return 0;
}

static ssize_t read_some(int fd, void *data, uint64_t at, struct err *e)
{
    ssize_t n;
    do {
        n = pread(fd, data, CHUNK, (off_t)at);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? err_sys(e, errno, "read") : n;
}

static int deflate_file(struct zip_writer *z, struct entry *en, int fd, struct squeeze *s,
                        uint64_t at, struct err *e)
{
    if (deflateInit2(&s->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 8,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return err_sys(e, ENOMEM, "compress");
    ssize_t n;
    int r;
    do {
        n = read_some(fd, s->in, en->size, e);
        if (n < 0) {
            r = (int)n;
            break;
        }
        en->crc = (uint32_t)crc32(en->crc, s->in, (uInt)n);
        en->size += (uint64_t)n;
        s->z.next_in = s->in;
        s->z.avail_in = (uInt)n;
        r = squeeze_step(z, en, s, at, n == 0 ? Z_FINISH : Z_NO_FLUSH, e);
    } while (r == 0 && n > 0);
    deflateEnd(&s->z);
    return r;
}

static int store_file(struct zip_writer *z, struct entry *en, int fd, struct squeeze *s,
                      uint64_t at, struct err *e)
{
    ssize_t n;
    en->method = STORED;
    en->crc = 0;
    en->size = 0;
    while ((n = read_some(fd, s->in, en->size, e)) > 0) {
        int r = fd_pwrite_full(z->fd, s->in, (size_t)n, at + en->size);
        if (r < 0)
            return err_sys(e, -r, "write the archive");
        en->crc = (uint32_t)crc32(en->crc, s->in, (uInt)n);
        en->size += (uint64_t)n;
        if (at + en->size > SIZE_LIMIT)
            return too_large(e);
    }
    en->packed = en->size;
    return (int)n;
}

int zip_add_file(struct zip_writer *z, const char *name, mode_t mode, time_t mtime, int fd,
                 struct err *e)
{
    struct entry en;
    AUTO_FREE struct squeeze *s = calloc(1, sizeof *s);
    if (!s)
        return err_sys(e, ENOMEM, "compress");
    int r = begin(z, &en, name, mode, mtime, e);
    if (r < 0)
        return r;
    uint64_t at = en.at + LOCAL_SIZE + en.name_len;
    en.method = DEFLATED;
    r = deflate_file(z, &en, fd, s, at, e);
    /* What does not shrink is kept as it is. It is read once more, so all is counted anew. */
    if (r == 0 && en.packed >= en.size)
        r = store_file(z, &en, fd, s, at, e);
    return r < 0 ? err_wrap(e, "'%.200s'", name) : finish(z, &en, e);
}

int zip_add_bytes(struct zip_writer *z, const char *name, mode_t mode, time_t mtime,
                  const void *data, size_t len, struct err *e)
{
    struct entry en;
    int r = begin(z, &en, name, mode, mtime, e);
    if (r < 0)
        return r;
    if (len > SIZE_LIMIT)
        return too_large(e);
    en.crc = (uint32_t)crc32(0, data ? data : (const uint8_t *)"", (uInt)len);
    en.packed = en.size = len;
    r = len ? fd_pwrite_full(z->fd, data, len, en.at + LOCAL_SIZE + en.name_len) : 0;
    return r < 0 ? err_sys(e, -r, "write the archive") : finish(z, &en, e);
}

int zip_finish(struct zip_writer *z, struct err *e)
{
    uint8_t end[22] = {0};
    if (z->off + z->directory.len + sizeof end > SIZE_LIMIT)
        return too_large(e);
    put_le32(end, END_SIG);
    put_le16(end + 8, (uint16_t)z->entries);
    put_le16(end + 10, (uint16_t)z->entries);
    put_le32(end + 12, (uint32_t)z->directory.len);
    put_le32(end + 16, (uint32_t)z->off);
    int r = z->directory.len
                ? fd_pwrite_full(z->fd, z->directory.data, z->directory.len, z->off)
                : 0;
    if (r == 0)
        r = fd_pwrite_full(z->fd, end, sizeof end, z->off + z->directory.len);
    if (r < 0)
        return err_sys(e, -r, "write the archive");
    z->off += z->directory.len + sizeof end;
    /* A stored entry may have overwritten a longer attempt at compressing it. */
    return ftruncate(z->fd, (off_t)z->off) < 0 ? err_sys(e, errno, "write the archive") : 0;
}
