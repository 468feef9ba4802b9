// SPDX-License-Identifier: Apache-2.0
/*
 * What the snapshot tools share: a file opened for looking at, its pages one by
 * one, what kind of content a page has, and names for numbers. The files are
 * not trusted.
 */
#ifndef DORMOUSE_TOOLS_SNAPVIEW_H
#define DORMOUSE_TOOLS_SNAPVIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"
#include "../snapshot/snapfile.h"
#include "../snapshot/snapstate.h"

struct view {
    struct snap_file f;
    int fd, layer_fd; /* layer_fd: of an image over a memory layer that was found, or 0 */
    uint64_t pages;
    uint64_t *where; /* of each page: 0 not in this file, VIEW_ZERO, its offset, or that of its
                        delta in the section with VIEW_DELTA set */
};
#define VIEW_ZERO  1u
#define VIEW_DELTA (1ull << 63)
#define VIEW_LAYER (1ull << 62) /* an offset in the memory layer */

int view_open(struct view *v, const char *path, struct err *e);
/* The same of a session with its image; image_path may be NULL. */
int view_open_over(struct view *v, const char *path, struct view *image, const char *image_path,
                   struct err *e);
void view_close(struct view *v);
static inline bool view_is_image(const struct view *v)
{
    return v->f.info.flags & SNAP_FULL;
}

/* Where a page's content comes from. */
enum view_source { VIEW_FROM_FILE, VIEW_IS_ZERO, VIEW_FROM_IMAGE, VIEW_FROM_LAYER };
/* Content of a page into ret. A layer is looked for where the daemon keeps it, in ../../layers
 * from the image's directory; without it its pages read as zeros. `image` (may be NULL) stands
 * below a session; without it the result may be VIEW_FROM_IMAGE, and ret is zero, or has only
 * what differs from the image. */
int view_page(const struct view *v, const struct view *image, uint64_t page,
              uint8_t ret[SNAP_PAGE], enum view_source *ret_source, struct err *e);

/* By content alone; order of the checks is that of the list. */
enum page_kind {
    KIND_ZERO,
    KIND_SPARSE,      /* fewer than 64 bytes set */
    KIND_TEXT,        /* nearly all printable */
    KIND_PAGE_TABLE,  /* arm64 descriptors */
    KIND_PAGE_STRUCT, /* the kernel's records of pages: 64 bytes each, all alike */
    KIND_CODE,        /* arm64 instructions */
    KIND_KERNEL_DATA, /* many kernel addresses */
    KIND_RANDOM,      /* compressed or encrypted */
    KIND_OTHER,
    KINDS
};
struct kind_info {
    const char *name, *what;
    uint32_t colour; /* 0xrrggbb */
};
extern const struct kind_info kind_infos[KINDS];
enum page_kind page_kind(const uint8_t *p, const struct snap_info *info);

void view_reg_name(uint64_t id, char *ret, size_t size);
void view_gic_name(const struct snap_gic_word *w, char *ret, size_t size);
void view_tag(uint32_t tag, char ret[5]);
const char *view_device(uint32_t tag);
bool view_is_virtio(uint32_t tag);
void view_field_name(uint32_t tag, uint16_t field, char *ret, size_t size);

int view_fail(const struct err *e); /* prints; returns 1 */

#endif
