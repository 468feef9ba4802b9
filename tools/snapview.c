// SPDX-License-Identifier: Apache-2.0
/* A snapshot's pages, and what they are; see snapview.h. */
#include "snapview.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "../snapshot/memscan.h"
#include "../snapshot/snaplayer.h"

const struct kind_info kind_infos[KINDS] = {
    [KIND_ZERO] = {"zero", "all bytes zero", 0xf4f4f0},
    [KIND_SPARSE] = {"nearly zero", "fewer than 64 bytes set", 0xd9d2c0},
    [KIND_TEXT] = {"text", "printable characters", 0x5b8c5a},
    [KIND_PAGE_TABLE] = {"page table", "arm64 translation tables", 0x8e44ad},
    [KIND_PAGE_STRUCT] = {"page records", "the kernel's struct page array", 0xb08bc9},
    [KIND_CODE] = {"code", "arm64 instructions", 0x2f6fb0},
    [KIND_KERNEL_DATA] = {"kernel data", "many kernel addresses", 0xe08e45},
    [KIND_RANDOM] = {"random", "compressed, encrypted or random", 0xc0392b},
    [KIND_OTHER] = {"other", "anything else", 0x7f8c8d},
};

/* A layer that does not fit is as good as none. */
static int open_layer(const char *path, const struct snap_info *s)
{
    char name[1024], id[2 * SNAP_LAYER_ID + 1];
    const char *slash = strrchr(path, '/');
    for (unsigned i = 0; i < SNAP_LAYER_ID; i++)
        snprintf(id + 2 * i, 3, "%02x", s->layer.id[i]);
    snprintf(name, sizeof name, "%.*s../../layers/%s.layer",
             slash ? (int)MIN(slash + 1 - path, 900) : 0, path, id);
    AUTO_CLOSE int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || layer_check(fd, s, NULL) < 0)
        return 0;
    return take_fd(&fd);
}

int view_open(struct view *v, const char *path, struct err *e)
{
    memset(v, 0, sizeof *v);
    v->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (v->fd < 0)
        return err_sys(e, errno, "open '%s'", path);
    int r = snap_open(&v->f, v->fd, NULL, e);
    if (r < 0) {
        view_close(v);
        return err_wrap(e, "'%s'", path);
    }
    v->pages = v->f.info.mem_bytes / SNAP_PAGE;
    v->where = calloc(v->pages, sizeof v->where[0]);
    if (!v->where) {
        view_close(v);
        return err_sys(e, ENOMEM, "look at '%s'", path);
    }
    for (size_t i = 0; i < v->f.nruns; i++) {
        struct snap_run run = snap_run_at(v->f.index, i);
        for (uint64_t k = 0; k < run.count; k++)
            v->where[run.page + k] =
                run.flags & SNAP_RUN_ZERO ? VIEW_ZERO : run.off + k * SNAP_PAGE;
    }
    struct snap_delta d = {.next = 0};
    for (size_t pos = 0, at = 0;
         snap_next_delta(v->f.deltas, v->f.deltas_len, &pos, v->pages, &d, NULL) > 0; at = pos)
        v->where[d.page] = VIEW_DELTA | at;
    const struct snap_layer *l = &v->f.info.layer;
    for (uint64_t off = 0; off < l->len; off += SNAP_PAGE) {
        uint64_t *at = &v->where[(l->off + off) / SNAP_PAGE];
        *at = *at ? *at : VIEW_LAYER | (LAYER_DATA + off);
    }
    if (l->len)
        v->layer_fd = open_layer(path, &v->f.info);
    for (uint64_t p = 0; view_is_image(v) && p < v->pages; p++)
        v->where[p] = v->where[p] ? v->where[p] : VIEW_ZERO;
    return 0;
}

int view_open_over(struct view *v, const char *path, struct view *image, const char *image_path,
                   struct err *e)
{
    int r = view_open(v, path, e);
    if (r == 0 && image_path)
        r = view_open(image, image_path, e);
    if (r == 0 && image_path)
        r = snap_check_pair(&image->f.info, &v->f.info, e);
    return r;
}

void view_close(struct view *v)
{
    snap_free(&v->f);
    free(v->where);
    if (v->fd >= 0)
        close(v->fd);
    if (v->layer_fd > 0)
        close(v->layer_fd);
    v->where = NULL;
    v->layer_fd = 0;
    v->fd = -1;
}

int view_page(const struct view *v, const struct view *image, uint64_t page,
              uint8_t ret[SNAP_PAGE], enum view_source *ret_source, struct err *e)
{
    uint64_t at = page < v->pages ? v->where[page] : VIEW_ZERO;
    int fd = v->fd;
    if (at & VIEW_DELTA) {
        struct snap_delta d = {.next = 0};
        size_t pos = at & ~VIEW_DELTA;
        int r = 0;
        memset(ret, 0, SNAP_PAGE);
        if (image)
            r = view_page(image, NULL, page, ret, ret_source, e);
        if (r == 0 &&
            (r = snap_next_delta(v->f.deltas, v->f.deltas_len, &pos, v->pages, &d, e)) > 0)
            snap_delta_apply(&d, ret);
        *ret_source = VIEW_FROM_FILE;
        return r < 0 ? r : 0;
    }
    *ret_source = at == 0 ? VIEW_FROM_IMAGE : at == VIEW_ZERO ? VIEW_IS_ZERO : VIEW_FROM_FILE;
    if (at == 0 && image) {
        at = page < image->pages ? image->where[page] : VIEW_ZERO;
        fd = image->fd;
    }
    if (at & VIEW_LAYER) {
        if (*ret_source == VIEW_FROM_FILE)
            *ret_source = VIEW_FROM_LAYER;
        fd = (fd == v->fd ? v : image)->layer_fd;
        at = fd <= 0 ? VIEW_ZERO : at & ~VIEW_LAYER;
    }
    memset(ret, 0, SNAP_PAGE);
    if (at == 0 || at == VIEW_ZERO)
        return 0;
    int r = fd_pread_full(fd, ret, SNAP_PAGE, at);
    return r < 0 ? err_sys(e, -r, "read page %llu", (unsigned long long)page) : 0;
}

/* ---- kinds ---- */

/* Block, page and table descriptors: bits 0 and 1, and an address in memory. */
static bool is_page_table(const uint8_t *p, const struct snap_info *info)
{
    unsigned valid = 0;
    for (unsigned i = 0; i < SNAP_PAGE; i += 8) {
        uint64_t d = get_le64(p + i), address = d & 0x0000fffffffff000ull;
        if (d == 0)
            continue;
        if (!(d & 1) || address < 0x1000 || address >= info->mem_base + info->mem_bytes)
            return false;
        valid += address >= info->mem_base;
    }
    return valid >= 2;
}

/* Sixty-four records of 64 bytes: most words are as in the record before. */
static bool is_page_struct(const uint8_t *p)
{
    unsigned same = 0;
    for (unsigned i = 64; i < SNAP_PAGE; i += 8)
        same += get_le64(p + i) == get_le64(p + i - 64) ||
                (get_le64(p + i) - get_le64(p + i - 64)) == 64;
    return same > 63 * 8 * 8 / 10;
}

/* Instructions that every compiled function has, and few data words look like. */
static bool is_code(const uint8_t *p)
{
    unsigned hits = 0;
    for (unsigned i = 0; i < SNAP_PAGE; i += 4) {
        uint32_t w = get_le32(p + i), top = w >> 24;
        hits += (w & 0x7c000000u) == 0x14000000u || /* b, bl */
                (w & 0x3a000000u) == 0x28000000u || /* ldp, stp */
                (w & 0x3b000000u) == 0x39000000u || /* ldr, str with an offset */
                (w & 0x7f000000u) == 0x54000000u || (w & 0x7e000000u) == 0x34000000u ||
                (w & 0x1f000000u) == 0x11000000u || /* add, sub with a number */
                w == 0xd65f03c0u || w == 0xd503201fu || top == 0xaa || top == 0x2a;
    }
    return hits > SNAP_PAGE / 4 / 2;
}

enum page_kind page_kind(const uint8_t *p, const struct snap_info *info)
{
    unsigned count[256] = {0}, printable = 0, distinct = 0, addresses = 0, most = 0;
    if (page_is_zero(p))
        return KIND_ZERO;
    for (unsigned i = 0; i < SNAP_PAGE; i++)
        count[p[i]]++;
    if (count[0] > SNAP_PAGE - 64)
        return KIND_SPARSE;
    for (unsigned c = 0; c < 256; c++) {
        printable += (c >= ' ' && c <= '~') || c == '\n' || c == '\t' ? count[c] : 0;
        distinct += count[c] > 0;
        most = MAX(most, count[c]);
    }
    if (printable > SNAP_PAGE / 10 * 9)
        return KIND_TEXT;
    if (is_page_table(p, info))
        return KIND_PAGE_TABLE;
    if (is_page_struct(p))
        return KIND_PAGE_STRUCT;
    if (is_code(p))
        return KIND_CODE;
    for (unsigned i = 0; i < SNAP_PAGE; i += 8)
        addresses += get_le64(p + i) >> 48 == 0xffff && get_le64(p + i) != UINT64_MAX;
    if (addresses >= SNAP_PAGE / 8 / 16)
        return KIND_KERNEL_DATA;
    return distinct > 250 && most < SNAP_PAGE / 64 ? KIND_RANDOM : KIND_OTHER;
}

int view_fail(const struct err *e)
{
    fprintf(stderr, "error: %s\n", e->msg);
    if (e->hint[0])
        fprintf(stderr, "  try: %s\n", e->hint);
    return 1;
}
