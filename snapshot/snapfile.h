// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshot files: a header page with a table of sections, the device state, the
 * page data, and the index of page runs. docs/snapshot-format.md describes each
 * byte. Parsing and checking are pure functions of (bytes, length), and nothing
 * here knows of KVM. Files may be forged: what these functions return is in
 * bounds, nothing more is promised.
 */
#ifndef DORMOUSE_SNAPSHOT_SNAPFILE_H
#define DORMOUSE_SNAPSHOT_SNAPFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"
#include "io.h"

#define SNAP_VERSION      1u
#define SNAP_PAGE         4096u
#define SNAP_ID           16u
#define SNAP_FULL         1u /* flag: whole memory, flat; else a difference to `parent` */
#define SNAP_SEALED       2u /* flag: the header carries a keyed checksum (api/seal.h) */
#define SNAP_SEAL         32u
#define SNAP_DELTAS       4u /* flag: a section of page deltas belongs to it */
#define SNAP_LAYERED      8u /* flag: an image over a layer file (snaplayer.h) */
#define SNAP_LAYER_ID     32u
#define SNAP_LAYER_MAX    (64ull << 20)
#define SNAP_FULL_ALIGN   (2ull << 20)
#define SNAP_SECTIONS_MAX 8u
#define SNAP_RUN_MAX      256u /* pages in one run */
#define SNAP_STATE_MAX    (4ull << 20)
#define SNAP_MEM_MAX      (64ull << 30)

enum snap_section_type {
    SNAP_SECTION_STATE = 1,  /* device state, devstate.h */
    SNAP_SECTION_INDEX = 2,  /* struct snap_run, sorted */
    SNAP_SECTION_DELTAS = 3, /* struct snap_delta, sorted */
    SNAP_SECTION_OWN = 4,    /* those runs of the index that lie in a layer's place */
};

struct snap_section {
    uint32_t type, crc;
    uint64_t off, len;
};

/* A layer below an image: its id, and which bytes of memory it holds. */
struct snap_layer {
    uint8_t id[SNAP_LAYER_ID];
    uint64_t off, len; /* from the first byte of memory; whole pages */
};
bool snap_layer_ok(const struct snap_layer *l, uint64_t mem_bytes);

struct snap_info {
    uint32_t version, flags;
    uint8_t id[SNAP_ID], parent[SNAP_ID]; /* parent: zeros when SNAP_FULL */
    uint64_t mem_base, mem_bytes;
    uint32_t vcpus, gic;
    uint64_t midr, cntfrq, fingerprint;
    uint64_t data_off, data_len;
    uint64_t pages_stored, pages_zero;
    uint64_t file_len;
    struct snap_layer layer; /* with SNAP_LAYERED, else zeros */
    uint64_t layer_own;      /* pages of its place that the image stores itself */
    uint32_t nsections;
    struct snap_section sections[SNAP_SECTIONS_MAX];
};

/* What of a host must be the same where a snapshot is restored. */
struct snap_host {
    uint32_t gic;
    uint64_t midr, cntfrq;
};
int snap_check_host(const struct snap_info *s, const struct snap_host *h, struct err *e);
/* A session over an image: that it belongs to it. */
int snap_check_pair(const struct snap_info *image, const struct snap_info *session,
                    struct err *e);

#define SNAP_RUN_ZERO  1u /* the pages are zero; no data */
#define SNAP_RUN_BYTES 24u
struct snap_run {
    uint32_t page, count; /* guest page number from mem_base */
    uint64_t off;         /* in the file */
    uint32_t crc, flags;
};

/* Checks the header page of a file of file_len bytes. */
int snap_parse_header(const void *bytes, size_t len, uint64_t file_len, struct snap_info *ret,
                      struct err *e);
void snap_build_header(const struct snap_info *info, uint8_t ret[SNAP_PAGE]);
const struct snap_section *snap_section(const struct snap_info *info, uint32_t type);
/* Checks every run of the index against the header; of a section of type OWN likewise. */
int snap_check_index(const struct snap_info *info, const void *bytes, size_t len,
                     struct err *e);
int snap_check_own(const struct snap_info *info, const void *bytes, size_t len, struct err *e);
struct snap_run snap_run_at(const void *index, size_t i);
struct snap_file;
/* Runs from *i on that follow each other without a gap, in memory and in the file, as one. */
struct snap_run snap_run_joined(const struct snap_file *f, size_t *i);
/* The first run that ends behind `page`, or nruns. */
size_t snap_find_run(const void *index, size_t nruns, uint64_t page);

/* A page of a session as what differs from the image's page, in units of 16 bytes. Most pages
 * that a request changes, it changes in a few places. */
#define SNAP_UNIT       16u
#define SNAP_DELTA_MAP  (SNAP_PAGE / SNAP_UNIT / 8)
#define SNAP_DELTA_HEAD (4u + SNAP_DELTA_MAP)
#define SNAP_DELTA_RUN  64u           /* longer runs are stored whole: they can be mapped */
#define SNAP_DELTA_MAX  (16ull << 20) /* bytes of the section */
struct snap_delta {
    uint64_t next; /* smallest page that may follow; 0 at the start */
    uint32_t page;
    uint8_t map[SNAP_DELTA_MAP]; /* which units */
    const uint8_t *units;
};
/* The delta at *pos, which moves on: 1, 0 at the end, -EBADMSG. `pages`: of the memory. */
int snap_next_delta(const void *data, size_t len, size_t *pos, uint64_t pages,
                    struct snap_delta *d, struct err *e);
void snap_delta_apply(const struct snap_delta *d, uint8_t *page);
/* All of a file to the memory that it was checked for. */
int snap_deltas_apply(const struct snap_file *f, uint8_t *mem, uint64_t mem_bytes,
                      struct err *e);

/* A file whose header, device state, index and deltas have been checked. */
struct snap_file {
    struct snap_info info;
    uint8_t *head; /* what one read brought in; `state` may point into it */
    bool head_owned;
    const uint8_t *state;
    size_t state_len;
    uint8_t *index;
    size_t nruns;
    const uint8_t
        *own; /* runs, among them all that lie in the layer's place; in index or head */
    size_t nown;
    const uint8_t *deltas;
    size_t deltas_len;
    void *deltas_map; /* what they lie in: a mapping of map_len, or allocated */
    size_t map_len;
};
#define SNAP_FILE_INIT \
    {                  \
        .head = NULL   \
    }
/* `scratch` (may be NULL), of SNAP_SCRATCH bytes, is for who restores in a hurry: it saves an
 * allocation, a full snapshot's index is left out (nruns 0) when `own` is there without it, and
 * deltas are mapped instead of read, so the process may die of a file that is cut meanwhile. It
 * must outlive f. */
#define SNAP_SCRATCH (12u << 10)
int snap_open(struct snap_file *f, int fd, void *scratch, struct err *e);
void snap_free(struct snap_file *f);
/* Only the header. */
int snap_read_info(int fd, struct snap_info *ret, struct err *e);
/* Reads all page data and compares its checksums. */
int snap_verify_data(const struct snap_file *f, int fd, struct err *e);
/* Sets the bit of each page that has content in the file or in its layer. */
void snap_mark_stored(const struct snap_file *f, uint64_t *bitmap);

static inline bool snap_bit(const uint64_t *bitmap, uint64_t page)
{
    return bitmap[page / 64] >> (page % 64) & 1;
}
static inline uint64_t *snap_bitmap_new(uint64_t mem_bytes)
{
    extern void *calloc(size_t n, size_t size);
    return calloc(mem_bytes / SNAP_PAGE / 64 + 1, sizeof(uint64_t));
}

/* Where the pages of a new snapshot come from. */
struct snap_source {
    const uint8_t *mem;          /* guest memory, info->mem_bytes */
    const uint64_t *candidates;  /* bitmap of pages that may differ */
    const uint8_t *base;         /* the image's content, for a difference */
    const uint64_t *base_stored; /* pages of it that are stored; others are zero */
    const struct snap_io *io;    /* NULL: the system's */
    bool deltas;                 /* short runs as deltas to the base */
    const uint8_t *layer;        /* the content of info->layer, for an image over one */
};
struct snap_result {
    uint64_t pages_same, pages_delta;
    uint64_t layer_same, layer_other; /* pages in the layer's place */
};
/* Writes a whole snapshot to an empty file. Takes flags, ids, layer and host facts from `info`,
 * and fills in the rest. All pages of a layer's place must be candidates. */
int snap_write(int fd, struct snap_info *info, const void *state, size_t state_len,
               const struct snap_source *src, struct snap_result *ret, struct err *e);

#endif
