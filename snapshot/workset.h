// SPDX-License-Identifier: Apache-2.0
/*
 * Working sets: which pages a machine restored from an image touches until it
 * has answered its first request. Recorded by the VMM, kept beside the image,
 * used to touch them before they are needed. Files may be forged: what is
 * returned is in bounds. docs/snapshot-format.md describes each byte.
 */
#ifndef DORMOUSE_SNAPSHOT_WORKSET_H
#define DORMOUSE_SNAPSHOT_WORKSET_H

#include "snapfile.h"

#define WORKSET_VERSION  1u
#define WORKSET_HEAD     64u
#define WORKSET_ENTRY    8u
#define WORKSET_MAX      16384u /* entries */
#define WORKSET_BYTES    (WORKSET_HEAD + WORKSET_MAX * WORKSET_ENTRY)
#define WORKSET_WRITTEN  0x8000u /* flag: the machine changed the pages */
#define WORKSET_INSN_RET 0xd65f03c0u
#define WORKSET_RETURN   0x7ffu /* the number of a word that is a `ret`, plus one; or 0 */

struct workset_run {
    uint32_t page;
    uint16_t count, flags;
};

struct workset {
    uint32_t nruns, pages, written;
    const uint8_t *runs; /* in the bytes it was parsed from */
};

int workset_parse(const void *bytes, size_t len, const struct snap_info *image,
                  struct workset *ret, struct err *e);
struct workset_run workset_run_at(const struct workset *w, uint32_t i);

/* One page of a list, its flags as those of a run of one page. */
struct workset_page {
    uint32_t page;
    uint16_t flags;
};
/* How many pages there are, and all of them, in order. */
uint64_t workset_count(const struct workset *w);
void workset_expand(const struct workset *w, struct workset_page *ret);
/* The other way; each page once, in order. At most WORKSET_BYTES to `ret`; returns how many. */
size_t workset_pack(const uint8_t image[SNAP_ID], const struct workset_page *pages, size_t n,
                    uint8_t *ret);

/* From bitmaps of pages that are there and that were changed; `mem` is searched for a `ret` in
 * each page that was not. At most WORKSET_BYTES to `ret`; returns how many. */
size_t workset_build(const struct snap_info *image, const uint64_t *present,
                     const uint64_t *written, const uint8_t *mem, uint8_t *ret);

/* The file's content into *space, which the caller frees, whatever comes of it. */
int workset_read(int fd, const struct snap_info *image, uint8_t **space, struct workset *ret,
                 struct err *e);
/* Makes pages of the memory at `mem` present: those that will be written as copies, with `read`
 * the others, too. */
void workset_populate(const struct workset *w, uint8_t *mem, bool read);
/* Both at once. */
int workset_prefetch(int fd, const struct snap_info *image, uint8_t *mem, struct err *e);
/* Which pages a machine restored from the image has touched, to an empty file. */
int workset_write(int fd, int image_fd, int pagemap_fd, const uint8_t *mem, uint64_t size,
                  struct err *e);

#endif
