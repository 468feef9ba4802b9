// SPDX-License-Identifier: Apache-2.0
/*
 * Writing snapshot files; see snapfile.h. The guest is stopped. Order in the
 * file: header, device state, page data, index; the header is written last, so
 * that an unfinished file is never taken for a snapshot.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "../hypervisor/base/buf.h"
#include "../hypervisor/base/crc32c.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "memscan.h"
#include "snapfile.h"
#include "snapfile_layout.h"

void snap_build_header(const struct snap_info *info, uint8_t ret[SNAP_PAGE])
{
    uint8_t *p = ret;
    memset(p, 0, SNAP_PAGE);
    memcpy(p + AT_MAGIC, SNAP_MAGIC, 8);
    put_le32(p + AT_VERSION, info->version);
    put_le32(p + AT_FLAGS, info->flags);
    memcpy(p + AT_ID, info->id, SNAP_ID);
    memcpy(p + AT_PARENT, info->parent, SNAP_ID);
    put_le64(p + AT_MEM_BASE, info->mem_base);
    put_le64(p + AT_MEM_BYTES, info->mem_bytes);
    put_le32(p + AT_VCPUS, info->vcpus);
    put_le32(p + AT_GIC, info->gic);
    put_le64(p + AT_MIDR, info->midr);
    put_le64(p + AT_CNTFRQ, info->cntfrq);
    put_le64(p + AT_FINGERPRINT, info->fingerprint);
    put_le64(p + AT_DATA_OFF, info->data_off);
    put_le64(p + AT_DATA_LEN, info->data_len);
    put_le64(p + AT_PAGES_STORED, info->pages_stored);
    put_le64(p + AT_PAGES_ZERO, info->pages_zero);
    put_le64(p + AT_FILE_LEN, info->file_len);
    if (info->flags & SNAP_LAYERED) {
        memcpy(p + AT_LAYER_ID, info->layer.id, SNAP_LAYER_ID);
        put_le64(p + AT_LAYER_OFF, info->layer.off);
        put_le64(p + AT_LAYER_LEN, info->layer.len);
        put_le64(p + AT_LAYER_OWN, info->layer_own);
    }
    put_le32(p + AT_NSECTIONS, info->nsections);
    for (unsigned i = 0; i < info->nsections && i < SNAP_SECTIONS_MAX; i++) {
        const struct snap_section *s = &info->sections[i];
        uint8_t *q = p + AT_SECTIONS + i * SECTION_BYTES;
        put_le32(q, s->type);
        put_le32(q + 4, s->crc);
        put_le64(q + 8, s->off);
        put_le64(q + 16, s->len);
    }
    put_le32(p + AT_HEADER_CRC, crc32c(0, p, AT_HEADER_CRC));
}

enum page_kind { PAGE_SAME, PAGE_ZERO, PAGE_DATA };

struct writer {
    const struct snap_io *io;
    int fd;
    struct snap_info *info;
    const struct snap_source *src;
    struct buf index, deltas;
    uint64_t same, ndeltas;
    uint64_t layer_first, layer_end; /* pages */
    uint64_t layer_same, layer_other;
    enum page_kind kind; /* of the run being collected */
    uint32_t first, count;
};

static enum page_kind classify(struct writer *w, uint64_t page)
{
    const uint8_t *p = w->src->mem + page * SNAP_PAGE;
    if (page >= w->layer_first && page < w->layer_end) {
        bool same = page_equal(p, w->src->layer + (page - w->layer_first) * SNAP_PAGE);
        ++*(same ? &w->layer_same : &w->layer_other);
        return same ? PAGE_SAME : PAGE_DATA; /* zero only where it says so */
    }
    if (w->src->base && snap_bit(w->src->base_stored, page)) {
        if (page_equal(p, w->src->base + page * SNAP_PAGE))
            return PAGE_SAME;
        return page_is_zero(p) ? PAGE_ZERO : PAGE_DATA;
    }
    /* Not stored below: zero there. */
    return page_is_zero(p) ? PAGE_SAME : PAGE_DATA;
}

static void add_delta(struct writer *w, uint64_t page)
{
    static const uint64_t zeros[SNAP_PAGE / 8];
    uint64_t units[SNAP_PAGE / 8]; /* as in the file: moved, not interpreted */
    uint8_t head[SNAP_DELTA_HEAD] = {0};
    const uint64_t *p = (const void *)(w->src->mem + page * SNAP_PAGE), *q = zeros;
    size_t n = 0;
    if (snap_bit(w->src->base_stored, page))
        q = (const void *)(w->src->base + page * SNAP_PAGE);
    put_le32(head, (uint32_t)page);
    for (unsigned i = 0; i < SNAP_PAGE / SNAP_UNIT; i++) {
        uint64_t a = p[2 * i], b = p[2 * i + 1];
        if (((a ^ q[2 * i]) | (b ^ q[2 * i + 1])) == 0)
            continue;
        head[4 + i / 8] |= (uint8_t)(1u << i % 8);
        units[n++] = a;
        units[n++] = b;
    }
    buf_add(&w->deltas, head, sizeof head);
    buf_add(&w->deltas, units, n * sizeof units[0]);
    w->ndeltas++;
}

static bool fits_deltas(const struct writer *w)
{
    return w->src->deltas && w->src->base && w->kind == PAGE_DATA &&
           w->count < SNAP_DELTA_RUN &&
           w->deltas.len + w->count * (SNAP_DELTA_HEAD + SNAP_PAGE) <= SNAP_DELTA_MAX;
}

static int end_run(struct writer *w, struct err *e)
{
    if (w->count == 0)
        return 0;
    if (fits_deltas(w)) {
        for (uint32_t i = 0; i < w->count; i++)
            add_delta(w, w->first + i);
        w->count = 0;
        return 0;
    }
    struct snap_info *info = w->info;
    uint8_t raw[SNAP_RUN_BYTES];
    memset(raw, 0, sizeof raw);
    put_le32(raw, w->first);
    put_le32(raw + 4, w->count);
    if (w->kind == PAGE_DATA) {
        const uint8_t *p = w->src->mem + (uint64_t)w->first * SNAP_PAGE;
        size_t len = (size_t)w->count * SNAP_PAGE;
        uint64_t at = info->flags & SNAP_FULL ? w->first : info->pages_stored;
        uint64_t off = info->data_off + at * SNAP_PAGE;
        int r = snap_io_write_full(w->io, w->fd, p, len, off);
        if (r < 0)
            return err_sys(e, -r, "write %zu bytes of page data", len);
        put_le64(raw + 8, off);
        put_le32(raw + 16, crc32c(0, p, len));
        info->pages_stored += w->count;
    } else {
        put_le32(raw + 20, SNAP_RUN_ZERO);
        info->pages_zero += w->count;
    }
    buf_add(&w->index, raw, sizeof raw);
    w->count = 0;
    return 0;
}

static int add_page(struct writer *w, uint64_t page, struct err *e)
{
    enum page_kind kind = classify(w, page);
    if (kind == PAGE_SAME) {
        w->same++;
        return 0;
    }
    bool fits =
        w->count && kind == w->kind && w->first + w->count == page && w->count < SNAP_RUN_MAX;
    if (!fits) {
        int r = end_run(w, e);
        if (r < 0)
            return r;
        w->first = (uint32_t)page;
        w->kind = kind;
    }
    w->count++;
    return 0;
}

static int write_pages(struct writer *w, struct err *e)
{
    uint64_t words = w->info->mem_bytes / SNAP_PAGE / 64;
    for (uint64_t i = 0; i < words; i++) {
        for (uint64_t bits = w->src->candidates[i]; bits; bits &= bits - 1) {
            int r = add_page(w, i * 64 + (unsigned)__builtin_ctzll(bits), e);
            if (r < 0)
                return r;
        }
    }
    return end_run(w, e);
}

static int put_section(struct writer *w, uint32_t type, const void *data, size_t len,
                       uint64_t off, struct err *e)
{
    int r = snap_io_write_full(w->io, w->fd, data, len, off);
    if (r < 0)
        return err_sys(e, -r, "write section %u of the snapshot", type);
    w->info->sections[w->info->nsections++] = (struct snap_section){
        .type = type, .crc = crc32c(0, data, len), .off = off, .len = len};
    return 0;
}

/* The runs in the layer's place once more, where the read of the header brings them along: then
 * a restore needs no index, which grows with the memory. */
static int put_own(struct writer *w, uint64_t off, struct err *e)
{
    size_t n = w->index.len / SNAP_RUN_BYTES;
    size_t from = snap_find_run(w->index.data, n, w->layer_first);
    size_t to = snap_find_run(w->index.data, n, w->layer_end);
    while (to < n && snap_run_at(w->index.data, to).page < w->layer_end)
        to++;
    size_t len = (to - from) * SNAP_RUN_BYTES;
    if (!w->layer_other || !range_ok(off, len, SNAP_SCRATCH))
        return 0;
    return put_section(w, SNAP_SECTION_OWN, (uint8_t *)w->index.data + from * SNAP_RUN_BYTES,
                       len, off, e);
}

static int write_all(struct writer *w, const void *state, size_t state_len, struct err *e)
{
    struct snap_info *info = w->info;
    bool full = info->flags & SNAP_FULL;
    uint8_t head[SNAP_PAGE];
    int r = put_section(w, SNAP_SECTION_STATE, state, state_len, SNAP_PAGE, e);
    info->data_off = align_up(SNAP_PAGE + state_len, full ? SNAP_FULL_ALIGN : SNAP_PAGE);
    if (r == 0)
        r = write_pages(w, e);
    if (r < 0)
        return r;
    if (w->index.bad || w->deltas.bad)
        return err_sys(e, ENOMEM, "index the pages of the snapshot");
    info->layer_own = w->layer_other;
    r = put_own(w, align_up(SNAP_PAGE + state_len, 8), e);
    if (r < 0)
        return r;
    info->data_len = full ? info->mem_bytes : info->pages_stored * SNAP_PAGE;
    uint64_t index_off = info->data_off + info->data_len;
    if (w->deltas.len) {
        info->flags |= SNAP_DELTAS;
        r = put_section(w, SNAP_SECTION_DELTAS, w->deltas.data, w->deltas.len, index_off, e);
        if (r < 0)
            return r;
        index_off += w->deltas.len;
    }
    info->file_len = index_off + w->index.len;
    r = put_section(w, SNAP_SECTION_INDEX, w->index.data, w->index.len, index_off, e);
    /* Also when the index is empty, the file has its full length. */
    if (r < 0)
        return r;
    r = w->io->truncate(w->io->ctx, w->fd, info->file_len);
    if (r < 0)
        return err_sys(e, -r, "set the length of the snapshot");
    snap_build_header(info, head);
    r = snap_io_write_full(w->io, w->fd, head, sizeof head, 0);
    return r < 0 ? err_sys(e, -r, "write the header of the snapshot") : 0;
}

int snap_write(int fd, struct snap_info *info, const void *state, size_t state_len,
               const struct snap_source *src, struct snap_result *ret, struct err *e)
{
    struct writer w = {
        .io = src->io ? src->io : &snap_io_host, .fd = fd, .info = info, .src = src};
    w.index.limit = (size_t)(info->mem_bytes / SNAP_PAGE * SNAP_RUN_BYTES) + SNAP_PAGE;
    w.deltas.limit = SNAP_DELTA_MAX;
    if (info->flags & SNAP_LAYERED) {
        w.layer_first = info->layer.off / SNAP_PAGE;
        w.layer_end = w.layer_first + info->layer.len / SNAP_PAGE;
    }
    info->version = SNAP_VERSION;
    info->nsections = 0;
    info->pages_stored = info->pages_zero = 0;
    int r = write_all(&w, state, state_len, e);
    ret->pages_same = w.same;
    ret->pages_delta = w.ndeltas;
    ret->layer_same = w.layer_same;
    ret->layer_other = w.layer_other;
    buf_free(&w.index);
    buf_free(&w.deltas);
    return r;
}
