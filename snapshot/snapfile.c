// SPDX-License-Identifier: Apache-2.0
/* Reading and checking snapshot files; see snapfile.h. Writing is in snapwrite.c. */
#include "snapfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "../hypervisor/base/crc32c.h"
#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "devstate.h"
#include "snapfile_layout.h"

bool snap_layer_ok(const struct snap_layer *l, uint64_t mem_bytes)
{
    return l->len > 0 && l->len <= SNAP_LAYER_MAX && l->off % SNAP_PAGE == 0 &&
           l->len % SNAP_PAGE == 0 && range_ok(l->off, l->len, mem_bytes);
}

static int check_sections(const struct snap_info *s, struct err *e)
{
    for (unsigned i = 0; i < s->nsections; i++) {
        const struct snap_section *sec = &s->sections[i];
        if (sec->off < SNAP_PAGE || !range_ok(sec->off, sec->len, s->file_len))
            return err_set(e, EBADMSG, "section %u lies outside the file", sec->type);
    }
    const struct snap_section *state = snap_section(s, SNAP_SECTION_STATE);
    const struct snap_section *index = snap_section(s, SNAP_SECTION_INDEX);
    if (!state || state->len > SNAP_STATE_MAX)
        return err_set(e, EBADMSG, "the device state is missing or too large");
    if (!index || index->len % SNAP_RUN_BYTES ||
        index->len / SNAP_RUN_BYTES > s->mem_bytes / SNAP_PAGE)
        return err_set(e, EBADMSG, "the page index is missing or too large");
    const struct snap_section *deltas = snap_section(s, SNAP_SECTION_DELTAS);
    if ((s->flags & SNAP_DELTAS) &&
        ((s->flags & SNAP_FULL) || !deltas || deltas->len == 0 || deltas->len > SNAP_DELTA_MAX))
        return err_set(e, EBADMSG, "the page deltas are missing, too large or out of place");
    const struct snap_section *own = snap_section(s, SNAP_SECTION_OWN);
    if (own &&
        (!(s->flags & SNAP_LAYERED) || own->len % SNAP_RUN_BYTES || own->len > index->len))
        return err_set(e, EBADMSG, "the list of own pages is too large or out of place");
    return 0;
}

static int check_header(const struct snap_info *s, uint64_t file_len, struct err *e)
{
    static const uint8_t none[SNAP_ID];
    bool full = s->flags & SNAP_FULL;
    if (s->flags & ~(SNAP_FULL | SNAP_SEALED | SNAP_DELTAS | SNAP_LAYERED))
        return err_set(e, ENOTSUP, "the snapshot uses features this version does not know (%x)",
                       s->flags);
    if (s->file_len != file_len) {
        err_set(e, EBADMSG, "the snapshot has %llu bytes, its header says %llu",
                (unsigned long long)file_len, (unsigned long long)s->file_len);
        return err_hint(e, "it was cut short or appended to; restore it from its origin");
    }
    if (s->mem_bytes == 0 || s->mem_bytes > SNAP_MEM_MAX || s->mem_bytes % SNAP_FULL_ALIGN)
        return err_set(e, EBADMSG, "bad memory size in the snapshot");
    if (s->nsections > SNAP_SECTIONS_MAX)
        return err_set(e, EBADMSG, "%u sections in the snapshot", s->nsections);
    if (s->data_off < SNAP_PAGE || !range_ok(s->data_off, s->data_len, file_len) ||
        s->data_off % (full ? SNAP_FULL_ALIGN : SNAP_PAGE) || s->data_len % SNAP_PAGE ||
        (full && s->data_len != s->mem_bytes))
        return err_set(e, EBADMSG, "the page data lies outside the snapshot");
    if (full != (memcmp(s->parent, none, SNAP_ID) == 0))
        return err_set(e, EBADMSG, "a difference must name its parent, and only that");
    if ((s->flags & SNAP_LAYERED) && (!full || !snap_layer_ok(&s->layer, s->mem_bytes) ||
                                      s->layer_own > s->layer.len / SNAP_PAGE))
        return err_set(e, EBADMSG, "the snapshot's layer is out of place");
    return check_sections(s, e);
}

int snap_parse_header(const void *bytes, size_t len, uint64_t file_len, struct snap_info *ret,
                      struct err *e)
{
    const uint8_t *p = bytes;
    if (len < SNAP_PAGE || memcmp(p + AT_MAGIC, SNAP_MAGIC, 8) != 0)
        return err_set(e, EBADMSG, "this is not a snapshot");
    memset(ret, 0, sizeof *ret);
    ret->version = get_le32(p + AT_VERSION);
    if (ret->version != SNAP_VERSION) {
        err_set(e, ENOTSUP, "the snapshot has format version %u, this is version %u",
                ret->version, SNAP_VERSION);
        return err_hint(e, "use the version of Dormouse that wrote it");
    }
    if (crc32c(0, p, AT_HEADER_CRC) != get_le32(p + AT_HEADER_CRC))
        return err_set(e, EBADMSG, "the snapshot's header is damaged (checksum)");
    ret->flags = get_le32(p + AT_FLAGS);
    memcpy(ret->id, p + AT_ID, SNAP_ID);
    memcpy(ret->parent, p + AT_PARENT, SNAP_ID);
    ret->mem_base = get_le64(p + AT_MEM_BASE);
    ret->mem_bytes = get_le64(p + AT_MEM_BYTES);
    ret->vcpus = get_le32(p + AT_VCPUS);
    ret->gic = get_le32(p + AT_GIC);
    ret->midr = get_le64(p + AT_MIDR);
    ret->cntfrq = get_le64(p + AT_CNTFRQ);
    ret->fingerprint = get_le64(p + AT_FINGERPRINT);
    ret->data_off = get_le64(p + AT_DATA_OFF);
    ret->data_len = get_le64(p + AT_DATA_LEN);
    ret->pages_stored = get_le64(p + AT_PAGES_STORED);
    ret->pages_zero = get_le64(p + AT_PAGES_ZERO);
    ret->file_len = get_le64(p + AT_FILE_LEN);
    if (ret->flags & SNAP_LAYERED) {
        memcpy(ret->layer.id, p + AT_LAYER_ID, SNAP_LAYER_ID);
        ret->layer.off = get_le64(p + AT_LAYER_OFF);
        ret->layer.len = get_le64(p + AT_LAYER_LEN);
        ret->layer_own = get_le64(p + AT_LAYER_OWN);
    }
    ret->nsections = get_le32(p + AT_NSECTIONS);
    for (unsigned i = 0; i < MIN(ret->nsections, SNAP_SECTIONS_MAX); i++) {
        const uint8_t *s = p + AT_SECTIONS + i * SECTION_BYTES;
        ret->sections[i] = (struct snap_section){.type = get_le32(s),
                                                 .crc = get_le32(s + 4),
                                                 .off = get_le64(s + 8),
                                                 .len = get_le64(s + 16)};
    }
    return check_header(ret, file_len, e);
}

const struct snap_section *snap_section(const struct snap_info *info, uint32_t type)
{
    for (unsigned i = 0; i < info->nsections; i++) {
        if (info->sections[i].type == type)
            return &info->sections[i];
    }
    return NULL;
}

static int read_section(int fd, const struct snap_section *s, uint8_t **ret, struct err *e)
{
    uint8_t *p = malloc(s->len ? s->len : 1);
    if (!p)
        return err_sys(e, ENOMEM, "read section %u of the snapshot", s->type);
    int r = fd_pread_full(fd, p, s->len, s->off);
    if (r < 0) {
        free(p);
        return err_sys(e, -r, "read section %u of the snapshot", s->type);
    }
    *ret = p;
    return 0;
}

static int check_crc(const struct snap_section *s, const void *p, struct err *e)
{
    if (crc32c(0, p, s->len) == s->crc)
        return 0;
    return err_set(e, EBADMSG, "the snapshot's %s is damaged (checksum)",
                   s->type == SNAP_SECTION_STATE   ? "device state"
                   : s->type == SNAP_SECTION_INDEX ? "page index"
                   : s->type == SNAP_SECTION_OWN   ? "list of own pages"
                                                   : "list of page deltas");
}

/* Header, and as much behind it as one read gives. */
static int read_head(int fd, uint8_t *buf, size_t size, size_t *ret_len, struct snap_info *info,
                     struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "look at the snapshot");
    size_t len = MIN((uint64_t)size, (uint64_t)st.st_size);
    int r = fd_pread_full(fd, buf, len, 0);
    if (r < 0)
        return err_sys(e, -r, "read the snapshot");
    *ret_len = len;
    return snap_parse_header(buf, len, (uint64_t)st.st_size, info, e);
}

int snap_read_info(int fd, struct snap_info *ret, struct err *e)
{
    uint8_t page[SNAP_PAGE];
    size_t len;
    return read_head(fd, page, sizeof page, &len, ret, e);
}

/* Sorted, and of pages that no run has. */
static int check_deltas(const struct snap_file *f, struct err *e)
{
    struct snap_delta d = {.next = 0};
    struct snap_run run = {.count = 0};
    size_t pos = 0, i = 0;
    int r;
    while ((r = snap_next_delta(f->deltas, f->deltas_len, &pos, f->info.mem_bytes / SNAP_PAGE,
                                &d, e)) > 0) {
        while (i < f->nruns && (uint64_t)run.page + run.count <= d.page)
            run = snap_run_at(f->index, i++);
        if (d.page >= run.page && d.page - run.page < run.count)
            return err_set(e, EBADMSG, "page %u is stored twice", d.page);
    }
    return r;
}

static int open_deltas(struct snap_file *f, int fd, bool map, struct err *e)
{
    const struct snap_section *s = snap_section(&f->info, SNAP_SECTION_DELTAS);
    int r;
    if (!(f->info.flags & SNAP_DELTAS))
        return 0;
    if (map) {
        uint64_t from = align_down(s->off, SNAP_PAGE);
        size_t len = (size_t)(s->len + (s->off - from));
        void *p = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, (off_t)from);
        if (p == MAP_FAILED)
            return err_sys(e, errno, "map the page deltas");
        f->deltas_map = p;
        f->map_len = len;
        f->deltas = (const uint8_t *)p + (s->off - from);
    } else {
        uint8_t *p;
        if ((r = read_section(fd, s, &p, e)) < 0)
            return r;
        f->deltas = f->deltas_map = p;
    }
    f->deltas_len = s->len;
    r = check_crc(s, f->deltas, e);
    return r < 0 ? r : check_deltas(f, e);
}

/* In a hurry: the pages in the layer's place, of which there may be none, without the index.
 * All others lie where their numbers say. 1: the index is needed. */
static int open_own(struct snap_file *f, const uint8_t *head, size_t len, struct err *e)
{
    const struct snap_section *s = snap_section(&f->info, SNAP_SECTION_OWN);
    if (f->info.layer_own == 0)
        return 0;
    if (!s || !range_ok(s->off, s->len, len))
        return 1;
    f->own = head + s->off;
    f->nown = s->len / SNAP_RUN_BYTES;
    int r = check_crc(s, f->own, e);
    return r < 0 ? r : snap_check_own(&f->info, f->own, s->len, e);
}

/* Not in a hurry: the list says what the index does. */
static int compare_own(const struct snap_file *f, int fd, struct err *e)
{
    const struct snap_section *s = snap_section(&f->info, SNAP_SECTION_OWN);
    AUTO_FREE uint8_t *list = NULL;
    if (!s)
        return 0;
    int r = read_section(fd, s, &list, e);
    if (r == 0)
        r = check_crc(s, list, e);
    if (r == 0)
        r = snap_check_own(&f->info, list, s->len, e);
    size_t n = s->len / SNAP_RUN_BYTES;
    size_t at = snap_find_run(f->index, f->nruns, f->info.layer.off / SNAP_PAGE);
    if (r == 0 &&
        (n > f->nruns - at || memcmp(f->index + at * SNAP_RUN_BYTES, list, s->len) != 0))
        r = err_set(e, EBADMSG, "the list of own pages is not what the page index says");
    return r;
}

static int open_parts(struct snap_file *f, int fd, void *scratch, struct err *e)
{
    size_t len = 0;
    f->head = scratch ? scratch : malloc(SNAP_SCRATCH);
    f->head_owned = !scratch;
    if (!f->head)
        return err_sys(e, ENOMEM, "read the snapshot");
    /* One read brings the header and, for one or two vCPUs, the device state. */
    int r = read_head(fd, f->head, SNAP_SCRATCH, &len, &f->info, e);
    if (r < 0)
        return r;
    const struct snap_section *state = snap_section(&f->info, SNAP_SECTION_STATE);
    const struct snap_section *index = snap_section(&f->info, SNAP_SECTION_INDEX);
    if (range_ok(state->off, state->len, len)) {
        f->state = f->head + state->off;
    } else {
        uint8_t *p;
        r = read_section(fd, state, &p, e);
        if (r < 0)
            return r;
        if (f->head_owned)
            free(f->head);
        f->head_owned = true;
        f->state = f->head = p;
    }
    f->state_len = state->len;
    r = check_crc(state, f->state, e);
    if (r == 0)
        r = dr_check(f->state, f->state_len, e);
    if (r == 0 && scratch && (f->info.flags & SNAP_FULL)) {
        r = open_own(f, scratch, len, e);
        if (r <= 0)
            return r; /* the index is for saving over it */
    }
    if (r >= 0)
        r = read_section(fd, index, &f->index, e);
    if (r < 0)
        return r;
    f->nruns = index->len / SNAP_RUN_BYTES;
    r = check_crc(index, f->index, e);
    if (r == 0)
        r = snap_check_index(&f->info, f->index, index->len, e);
    f->own = f->index;
    f->nown = f->nruns;
    if (r == 0 && !scratch)
        r = compare_own(f, fd, e);
    if (r == 0)
        r = open_deltas(f, fd, scratch != NULL, e);
    return r;
}

int snap_open(struct snap_file *f, int fd, void *scratch, struct err *e)
{
    memset(f, 0, sizeof *f);
    int r = open_parts(f, fd, scratch, e);
    if (r < 0)
        snap_free(f);
    return r;
}

void snap_free(struct snap_file *f)
{
    if (f->head_owned)
        free(f->head);
    free(f->index);
    if (f->map_len)
        munmap(f->deltas_map, f->map_len);
    else
        free(f->deltas_map);
    memset(f, 0, sizeof *f);
}

int snap_verify_data(const struct snap_file *f, int fd, struct err *e)
{
    AUTO_FREE uint8_t *buf = malloc(SNAP_RUN_MAX * SNAP_PAGE);
    if (!buf)
        return err_sys(e, ENOMEM, "check the snapshot's pages");
    for (size_t i = 0; i < f->nruns; i++) {
        struct snap_run run = snap_run_at(f->index, i);
        if (run.flags & SNAP_RUN_ZERO)
            continue;
        int r = fd_pread_full(fd, buf, (size_t)run.count * SNAP_PAGE, run.off);
        if (r < 0)
            return err_sys(e, -r, "read pages %u..%u", run.page, run.page + run.count - 1);
        if (crc32c(0, buf, (size_t)run.count * SNAP_PAGE) != run.crc)
            return err_set(e, EBADMSG, "pages %u..%u are damaged (checksum)", run.page,
                           run.page + run.count - 1);
    }
    return 0;
}

void snap_mark_stored(const struct snap_file *f, uint64_t *bitmap)
{
    const struct snap_layer *l = &f->info.layer;
    for (uint64_t p = l->off / SNAP_PAGE; p < (l->off + l->len) / SNAP_PAGE; p++)
        bitmap[p / 64] |= 1ull << (p % 64);
    for (size_t i = 0; i < f->nruns; i++) {
        struct snap_run run = snap_run_at(f->index, i);
        if (run.flags & SNAP_RUN_ZERO)
            continue;
        for (uint64_t p = run.page; p < (uint64_t)run.page + run.count; p++)
            bitmap[p / 64] |= 1ull << (p % 64);
    }
}
