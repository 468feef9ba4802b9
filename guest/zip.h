// SPDX-License-Identifier: Apache-2.0
/*
 * Reads a zip archive in memory through its central directory. Pure but for the
 * callback. The archive is a stranger's: every offset and length is checked,
 * names that leave the archive's root are refused, contents are checked by size
 * and CRC-32. Stored and deflated files; no zip64, no encryption.
 */
#ifndef DORMOUSE_GUEST_ZIP_H
#define DORMOUSE_GUEST_ZIP_H

#include "inflate.h"
#include "util.h"

#define ZIP_NAME_MAX 1024u
#define ZIP_LINK_MAX 4095u

struct zip {
    const uint8_t *p;
    size_t len;
    size_t dir, dir_end; /* the central directory */
    uint32_t count;
};

enum zip_kind { ZIP_FILE, ZIP_DIR, ZIP_LINK };

struct zip_entry {
    char name[ZIP_NAME_MAX]; /* clean: no leading or trailing slash, no "." or ".." */
    enum zip_kind kind;
    uint32_t mode; /* permission bits */
    int64_t mtime; /* seconds since 1970 */
    uint32_t crc;
    uint16_t method;
    uint32_t packed, size;
    size_t local;
};

/* Finds the directory. 0 or -errno with f set. */
int zip_open(struct zip *z, const void *p, size_t len, struct fail *f);
/* The entry at *pos (start with 0), and moves on: 1, 0 at the end, -errno. */
int zip_next(const struct zip *z, size_t *pos, struct zip_entry *ret, struct fail *f);
/* Hands the content out piece by piece. 0, -errno with f set, or what `out` returned. */
int zip_read(const struct zip *z, const struct zip_entry *e, inflate_out out, void *ctx,
             struct fail *f);
/* Looks at every entry's headers and for names that pass through a link of the archive. */
int zip_check(const struct zip *z, struct fail *f);

#endif
