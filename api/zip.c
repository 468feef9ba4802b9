// SPDX-License-Identifier: Apache-2.0
/* Central directory of a zip and one inflated entry; see zip.h. */
#include "zip.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"

#define END_SIG       0x06054b50u
#define END_SIZE      22u
#define ZIP64_LOC_SIG 0x07064b50u
#define CENTRAL_SIG   0x02014b50u
#define CENTRAL_SIZE  46u
#define LOCAL_SIG     0x04034b50u
#define LOCAL_SIZE    30u
#define COMMENT_MAX   65535u
/* Deflate cannot do better than 1032:1; a directory that claims more lies. */
#define RATIO_MAX 1032u

struct entry {
    const uint8_t *name;
    uint16_t name_len, flags, method;
    uint32_t crc, packed, plain, offset;
};

struct end {
    uint32_t entries, dir_size, dir_off;
};

static int bad(struct err *e, const char *what)
{
    return err_set(e, EBADMSG, "the archive is no zip file that can be used: %s", what);
}

/* The end record is the last thing in the file but for its own comment. */
static int find_end(int fd, uint64_t size, struct end *ret, struct err *e)
{
    if (size < END_SIZE)
        return bad(e, "it is too short");
    size_t len = (size_t)MIN(size, (uint64_t)END_SIZE + COMMENT_MAX);
    AUTO_FREE uint8_t *tail = malloc(len);
    if (!tail)
        return err_sys(e, ENOMEM, "read the archive");
    int r = fd_pread_full(fd, tail, len, size - len);
    if (r < 0)
        return err_sys(e, -r, "read the archive");
    for (size_t at = len - END_SIZE + 1; at-- > 0;) {
        const uint8_t *p = tail + at;
        if (get_le32(p) != END_SIG || get_le16(p + 20) != len - at - END_SIZE)
            continue;
        uint64_t pos = size - len + at;
        if (get_le16(p + 4) || get_le16(p + 6) || get_le16(p + 8) != get_le16(p + 10))
            return bad(e, "it is split over several files");
        *ret = (struct end){get_le16(p + 10), get_le32(p + 12), get_le32(p + 16)};
        if (ret->entries == 0xffff || ret->dir_size == UINT32_MAX || ret->dir_off == UINT32_MAX)
            return bad(e, "the zip64 format is not supported");
        if ((uint64_t)ret->dir_off + ret->dir_size != pos)
            return bad(e, "its directory is not where it should be");
        if (ret->dir_size > ZIP_DIRECTORY_MAX)
            return bad(e, "its directory is larger than 16 MiB");
        return 0;
    }
    return bad(e, "it has no directory");
}

/* Relative, without "..", NUL or backslash. */
static bool name_ok(const uint8_t *name, size_t len)
{
    if (len == 0 || len > ZIP_NAME_MAX || name[0] == '/' || memchr(name, '\0', len) ||
        memchr(name, '\\', len))
        return false;
    for (size_t i = 0; i < len;) {
        const uint8_t *slash = memchr(name + i, '/', len - i);
        size_t n = slash ? (size_t)(slash - name) - i : len - i;
        if (n == 2 && name[i] == '.' && name[i + 1] == '.')
            return false;
        i += n + 1;
    }
    return true;
}

/* The entry at *at of the directory; moves on. */
static int next_entry(const uint8_t *dir, size_t size, size_t *at, uint32_t dir_off,
                      struct entry *ret, struct err *e)
{
    if (!range_ok(*at, CENTRAL_SIZE, size))
        return bad(e, "its directory ends early");
    const uint8_t *p = dir + *at;
    if (get_le32(p) != CENTRAL_SIG)
        return bad(e, "its directory is damaged");
    *ret = (struct entry){.name = p + CENTRAL_SIZE,
                          .flags = get_le16(p + 8),
                          .method = get_le16(p + 10),
                          .crc = get_le32(p + 16),
                          .packed = get_le32(p + 20),
                          .plain = get_le32(p + 24),
                          .name_len = get_le16(p + 28),
                          .offset = get_le32(p + 42)};
    size_t len = CENTRAL_SIZE + (size_t)ret->name_len + get_le16(p + 30) + get_le16(p + 32);
    if (!range_ok(*at, len, size))
        return bad(e, "its directory ends early");
    if (!name_ok(ret->name, ret->name_len))
        return bad(e, "a file name is not relative, or has '..' or '\\' in it");
    if (ret->packed == UINT32_MAX || ret->plain == UINT32_MAX || ret->offset == UINT32_MAX)
        return bad(e, "the zip64 format is not supported");
    if (ret->flags & (1u | 1u << 6 | 1u << 13))
        return bad(e, "it is encrypted");
    if (ret->method != 0 && ret->method != 8)
        return bad(e, "it uses a compression method other than deflate");
    if (ret->method == 0 && ret->packed != ret->plain)
        return bad(e, "a stored file has two sizes");
    if ((uint64_t)ret->plain > (uint64_t)ret->packed * RATIO_MAX)
        return bad(e, "a file claims to unpack to more than deflate can hold");
    if (!range_ok(ret->offset, (uint64_t)LOCAL_SIZE + ret->name_len + ret->packed, dir_off))
        return bad(e, "a file lies outside of it");
    *at += len;
    return 0;
}

static int inflate_all(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in,
                  .avail_in = (uInt)in_len,
                  .next_out = out,
                  .avail_out = (uInt)out_len};
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
        return -ENOMEM;
    int r = inflate(&z, Z_FINISH);
    bool whole = r == Z_STREAM_END && z.avail_out == 0 && z.avail_in == 0;
    inflateEnd(&z);
    return whole ? 0 : -EBADMSG;
}

static int read_entry(int fd, uint32_t dir_off, const struct entry *en, size_t limit,
                      char **ret_text, size_t *ret_len, struct err *e)
{
    uint8_t local[LOCAL_SIZE];
    if (en->plain > limit || en->packed > limit + 65536)
        return err_set(e, EFBIG, "'%.*s' in the archive is larger than %zu bytes",
                       (int)MIN(en->name_len, 60), (const char *)en->name, limit);
    int r = fd_pread_full(fd, local, sizeof local, en->offset);
    if (r < 0)
        return err_sys(e, -r, "read the archive");
    if (get_le32(local) != LOCAL_SIG || get_le16(local + 8) != en->method ||
        get_le16(local + 26) != en->name_len)
        return bad(e, "a file's header does not fit its directory");
    uint64_t data = (uint64_t)en->offset + LOCAL_SIZE + en->name_len + get_le16(local + 28);
    if (!range_ok(data, en->packed, dir_off))
        return bad(e, "a file lies outside of it");
    AUTO_FREE uint8_t *packed = malloc((size_t)en->packed + 1);
    AUTO_FREE uint8_t *plain = malloc((size_t)en->plain + 1);
    if (!packed || !plain)
        return err_sys(e, ENOMEM, "read the archive");
    if ((r = fd_pread_full(fd, packed, en->packed, data)) < 0)
        return err_sys(e, -r, "read the archive");
    if (en->method == 0)
        memcpy(plain, packed, en->plain);
    else if ((r = inflate_all(packed, en->packed, plain, en->plain)) < 0)
        return r == -ENOMEM ? err_sys(e, ENOMEM, "inflate") : bad(e, "a file is damaged");
    if (crc32(crc32(0, NULL, 0), plain, (uInt)en->plain) != en->crc)
        return bad(e, "a file's checksum is wrong");
    plain[en->plain] = '\0';
    *ret_text = (char *)TAKE_PTR(plain);
    *ret_len = en->plain;
    return 0;
}

int zip_open(int fd, uint64_t size, const char *name, size_t limit, struct zip_info *ret,
             char **ret_text, size_t *ret_len, struct err *e)
{
    struct end end = {0};
    int r = find_end(fd, size, &end, e);
    if (r < 0)
        return r;
    AUTO_FREE uint8_t *dir = malloc((size_t)end.dir_size + 1);
    if (!dir)
        return err_sys(e, ENOMEM, "read the archive");
    if ((r = fd_pread_full(fd, dir, end.dir_size, end.dir_off)) < 0)
        return err_sys(e, -r, "read the archive");

    struct zip_info info = {.entries = end.entries};
    struct entry found = {.name = NULL};
    uint64_t packed = 0;
    size_t at = 0, want = strlen(name);
    for (uint32_t i = 0; i < end.entries; i++) {
        struct entry en;
        if ((r = next_entry(dir, end.dir_size, &at, end.dir_off, &en, e)) < 0)
            return r;
        info.bytes += en.plain;
        packed += en.packed;
        /* Entries that share their data are how a small file unpacks to a huge one. */
        if (info.bytes > ZIP_TOTAL_MAX || packed > size)
            return bad(e, "it would unpack to too much");
        if (en.name_len == want && memcmp(en.name, name, want) == 0) {
            if (found.name)
                return bad(e, "it holds the same file twice");
            found = en;
        }
    }
    if (at != end.dir_size)
        return bad(e, "its directory has bytes left over");
    if (!found.name)
        return err_set(e, ENOENT, "the archive has no '%s' at its top level", name);
    r = read_entry(fd, end.dir_off, &found, limit, ret_text, ret_len, e);
    if (r == 0)
        *ret = info;
    return r;
}
