// SPDX-License-Identifier: Apache-2.0
/* See zip.h. Layouts by PKWARE's APPNOTE 6.3: 4.3.7, 4.3.12, 4.3.16. */
#include "zip.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define END_SIZE    22u
#define ENTRY_SIZE  46u
#define LOCAL_SIZE  30u
#define END_MAGIC   0x06054b50u
#define END64_MAGIC 0x07064b50u /* the locator before the end record */
#define ENTRY_MAGIC 0x02014b50u
#define LOCAL_MAGIC 0x04034b50u
#define COMMENT_MAX 65535u
#define HOST_UNIX   3u
#define HOST_DARWIN 19u
#define FLAG_SECRET 1u
#define LINKS_MAX   4096u

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) | (uint32_t)get16(p + 2) << 16;
}

int zip_open(struct zip *z, const void *p, size_t len, struct fail *f)
{
    const uint8_t *b = p;
    if (len < END_SIZE)
        return fail_set(f, EBADMSG, "the archive is too short to be a zip");
    size_t lowest = len - END_SIZE > COMMENT_MAX ? len - END_SIZE - COMMENT_MAX : 0;
    for (size_t at = len - END_SIZE;; at--) {
        const uint8_t *e = b + at;
        if (get32(e) == END_MAGIC && get16(e + 20) <= len - at - END_SIZE) {
            uint32_t count = get16(e + 10), size = get32(e + 12), off = get32(e + 16);
            if (count == 0xffff || off == 0xffffffffu ||
                (at >= 20 && get32(e - 20) == END64_MAGIC))
                return fail_set(
                    f, EOPNOTSUPP,
                    "zip64 archives are not supported: keep the archive below 4 GiB "
                    "and 65535 files");
            if (get16(e + 4) != 0 || get16(e + 6) != 0 || get16(e + 8) != count)
                return fail_set(f, EOPNOTSUPP, "archives in several parts are not supported");
            if (size > at || off > at - size)
                return fail_set(f, EBADMSG, "the zip's directory lies outside the archive");
            *z = (struct zip){
                .p = b, .len = len, .dir = off, .dir_end = (size_t)off + size, .count = count};
            return 0;
        }
        if (at == lowest)
            return fail_set(f, EBADMSG, "this is not a zip archive, or it is cut off");
    }
}

/* Copies the name without "./", doubled and trailing slashes. False when it is not one that
 * stays below the archive's root. */
static bool clean_name(const uint8_t *raw, size_t len, char *out)
{
    size_t n = 0;
    if (len == 0 || raw[0] == '/' || memchr(raw, 0, len))
        return false;
    for (size_t at = 0; at < len;) {
        const uint8_t *slash = memchr(raw + at, '/', len - at);
        size_t end = slash ? (size_t)(slash - raw) : len, part = end - at;
        const uint8_t *word = raw + at;
        at = end + 1;
        if (part == 0 || (part == 1 && word[0] == '.'))
            continue;
        if (part == 2 && word[0] == '.' && word[1] == '.')
            return false;
        if (part > 255 || n + part + 2 > ZIP_NAME_MAX)
            return false;
        if (n > 0)
            out[n++] = '/';
        memcpy(out + n, word, part);
        n += part;
    }
    out[n] = '\0';
    return true;
}

/* DOS date and time, taken as UTC. */
static int64_t dos_time(uint16_t date, uint16_t time)
{
    static const uint16_t before[12] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    unsigned year = 1980u + (date >> 9), month = (date >> 5) & 15u, day = date & 31u;
    if (month < 1 || month > 12 || day < 1)
        return 315532800; /* 1980-01-01, the format's beginning */
    bool leap = year % 4 == 0 && year != 2100;
    unsigned leaps = (year - 1u - 1968u) / 4u - (year > 2100 ? 1u : 0u);
    int64_t days = (int64_t)(year - 1970u) * 365 + leaps + before[month - 1] + day - 1 +
                   (leap && month > 2);
    return ((days * 24 + (time >> 11)) * 60 + ((time >> 5) & 63u)) * 60 + (time & 31u) * 2;
}

static int set_kind(struct zip_entry *e, unsigned host, uint32_t attributes, bool slash,
                    struct fail *f)
{
    uint32_t mode = host == HOST_UNIX || host == HOST_DARWIN ? attributes >> 16 : 0;
    e->kind = slash ? ZIP_DIR : ZIP_FILE;
    switch (mode & S_IFMT) {
    case 0:
    case S_IFREG:
        break;
    case S_IFDIR:
        e->kind = ZIP_DIR;
        break;
    case S_IFLNK:
        e->kind = ZIP_LINK;
        if (e->size == 0 || e->size > ZIP_LINK_MAX || slash)
            return fail_set(f, EBADMSG, "\"%s\" is not a proper symbolic link", e->name);
        break;
    default:
        return fail_set(f, EOPNOTSUPP, "\"%s\" is neither file, directory nor symbolic link",
                        e->name);
    }
    if (slash && (mode & S_IFMT) == S_IFREG)
        return fail_set(f, EBADMSG, "\"%s\" is a file with a directory's name", e->name);
    e->mode = mode & 07777u ? mode & 07777u : e->kind == ZIP_DIR ? 0755u : 0644u;
    return 0;
}

int zip_next(const struct zip *z, size_t *pos, struct zip_entry *ret, struct fail *f)
{
    size_t at = z->dir + *pos, left = z->dir_end - at;
    if (left == 0)
        return 0;
    const uint8_t *e = z->p + at;
    if (left < ENTRY_SIZE || get32(e) != ENTRY_MAGIC)
        return fail_set(f, EBADMSG, "the zip's directory is damaged");
    size_t name = get16(e + 28), whole = ENTRY_SIZE + name + get16(e + 30) + get16(e + 32);
    if (whole > left)
        return fail_set(f, EBADMSG, "the zip's directory is cut off");
    const uint8_t *raw = e + ENTRY_SIZE;
    if (!clean_name(raw, name, ret->name))
        return fail_set(f, EINVAL,
                        "the archive has a name that leads outside or is too long: %.*s",
                        name > 80 ? 80 : (int)name, (const char *)raw);
    ret->method = get16(e + 10);
    ret->mtime = dos_time(get16(e + 14), get16(e + 12));
    ret->crc = get32(e + 16);
    ret->packed = get32(e + 20);
    ret->size = get32(e + 24);
    ret->local = get32(e + 42);
    if (ret->packed == 0xffffffffu || ret->size == 0xffffffffu || ret->local == 0xffffffffu)
        return fail_set(f, EOPNOTSUPP, "\"%s\" is stored as zip64, which is not supported",
                        ret->name);
    if (get16(e + 8) & FLAG_SECRET)
        return fail_set(f, EOPNOTSUPP, "\"%s\" is encrypted", ret->name);
    int r = set_kind(ret, e[5], get32(e + 38), raw[name - 1] == '/', f);
    if (r < 0)
        return r;
    if (ret->kind != ZIP_DIR && ret->name[0] == '\0')
        return fail_set(f, EINVAL, "the archive has a file without a name");
    *pos += whole;
    return 1;
}

/* Where the entry's bytes begin, its local header checked against the directory. */
static int find_data(const struct zip *z, const struct zip_entry *e, const uint8_t **ret,
                     struct fail *f)
{
    size_t at = e->local;
    if (at > z->dir || z->dir - at < LOCAL_SIZE || get32(z->p + at) != LOCAL_MAGIC)
        return fail_set(f, EBADMSG, "\"%s\" is not where the zip's directory says", e->name);
    size_t skip = LOCAL_SIZE + (size_t)get16(z->p + at + 26) + get16(z->p + at + 28);
    if (get16(z->p + at + 8) != e->method)
        return fail_set(f, EBADMSG, "\"%s\" has two different headers", e->name);
    if (skip > z->dir - at || e->packed > z->dir - at - skip)
        return fail_set(f, EBADMSG, "\"%s\" is cut off", e->name);
    *ret = z->p + at + skip;
    return 0;
}

struct checked {
    inflate_out out;
    void *ctx;
    uint32_t crc;
    uint64_t size;
    const uint32_t *table;
};

static int pass_on(void *ctx, const uint8_t *data, size_t len)
{
    struct checked *c = ctx;
    uint32_t crc = c->crc;
    for (size_t i = 0; i < len; i++)
        crc = c->table[(crc ^ data[i]) & 255u] ^ crc >> 8;
    c->crc = crc;
    c->size += len;
    return c->out(c->ctx, data, len);
}

static void make_table(uint32_t table[256])
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (int bit = 0; bit < 8; bit++)
            v = v & 1u ? 0xedb88320u ^ v >> 1 : v >> 1;
        table[i] = v;
    }
}

int zip_read(const struct zip *z, const struct zip_entry *e, inflate_out out, void *ctx,
             struct fail *f)
{
    const uint8_t *data;
    uint32_t table[256];
    int r = find_data(z, e, &data, f);
    if (r < 0)
        return r;
    make_table(table);
    struct checked c = {.out = out, .ctx = ctx, .crc = 0xffffffffu, .table = table};
    if (e->method == 0) {
        if (e->packed != e->size)
            return fail_set(f, EBADMSG, "\"%s\" has two different sizes", e->name);
        for (size_t at = 0; at < e->size && r == 0;) {
            size_t some = e->size - at < 65536 ? e->size - at : 65536;
            r = pass_on(&c, data + at, some);
            at += some;
        }
    } else if (e->method == 8) {
        r = inflate_all(data, e->packed, e->size, pass_on, &c, NULL);
        if (r == -EBADMSG || r == -EFBIG)
            return fail_set(f, EBADMSG, "the compressed data of \"%s\" is damaged", e->name);
        if (r == -ENOMEM)
            return fail_set(f, ENOMEM, "out of memory");
    } else {
        return fail_set(
            f, EOPNOTSUPP,
            "\"%s\" is packed with method %u; only deflate and stored are supported", e->name,
            e->method);
    }
    if (r != 0)
        return r;
    if (c.size != e->size || ~c.crc != e->crc)
        return fail_set(f, EBADMSG, "the data of \"%s\" is damaged (size or checksum)",
                        e->name);
    return 0;
}

/* Names of links, in one growing text, each ended by NUL. */
struct links {
    char *text;
    size_t len, cap, count;
};

static int add_link(struct links *l, const char *name, struct fail *f)
{
    size_t n = strlen(name) + 1;
    if (l->count == LINKS_MAX)
        return fail_set(f, E2BIG, "the archive has more than %u symbolic links", LINKS_MAX);
    if (l->cap - l->len < n) {
        char *more = realloc(l->text, (l->cap + n) * 2);
        if (!more)
            return fail_set(f, ENOMEM, "out of memory");
        l->text = more;
        l->cap = (l->cap + n) * 2;
    }
    memcpy(l->text + l->len, name, n);
    l->len += n;
    l->count++;
    return 0;
}

static const char *link_on_way(const struct links *l, const char *name)
{
    for (size_t at = 0; at < l->len; at += strlen(l->text + at) + 1) {
        size_t n = strlen(l->text + at);
        if (strncmp(name, l->text + at, n) == 0 && name[n] == '/')
            return l->text + at;
    }
    return NULL;
}

int zip_check(const struct zip *z, struct fail *f)
{
    struct links l = {.text = NULL};
    struct zip_entry e;
    const uint8_t *data;
    uint32_t count = 0;
    int r;
    for (size_t pos = 0; (r = zip_next(z, &pos, &e, f)) > 0; count++) {
        if (e.kind == ZIP_DIR)
            continue;
        if ((r = find_data(z, &e, &data, f)) < 0 ||
            (e.kind == ZIP_LINK && (r = add_link(&l, e.name, f)) < 0))
            break;
    }
    if (r == 0 && count != z->count)
        r = fail_set(f, EBADMSG, "the zip's directory has %u entries where it claims %u", count,
                     z->count);
    for (size_t pos = 0; r == 0 && l.count > 0;) {
        int more = zip_next(z, &pos, &e, f);
        if (more <= 0)
            break;
        const char *way = link_on_way(&l, e.name);
        if (way)
            r = fail_set(f, EINVAL, "\"%s\" lies behind the symbolic link \"%s\"", e.name, way);
    }
    free(l.text);
    return r;
}
