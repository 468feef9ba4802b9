// SPDX-License-Identifier: Apache-2.0
/* Working sets; see workset.h. */
#include "workset.h"

#include <errno.h>
#include <linux/mman.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "../hypervisor/base/crc32c.h"
#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "memscan.h"

#define MAGIC     "DORMWSET"
#define COUNT_MAX 0xffffu

enum {
    AT_VERSION = 8,
    AT_RUNS = 12,
    AT_IMAGE = 16,
    AT_PAGES = 32,
    AT_WRITTEN = 36,
    AT_CRC = 60
};

static uint32_t checksum(const uint8_t *p, size_t len)
{
    return crc32c(crc32c(0, p, AT_CRC), p + WORKSET_HEAD, len - WORKSET_HEAD);
}

struct workset_run workset_run_at(const struct workset *w, uint32_t i)
{
    const uint8_t *p = w->runs + (size_t)i * WORKSET_ENTRY;
    return (struct workset_run){get_le32(p), get_le16(p + 4), get_le16(p + 6)};
}

int workset_parse(const void *bytes, size_t len, const struct snap_info *image,
                  struct workset *ret, struct err *e)
{
    const uint8_t *p = bytes;
    if (len < WORKSET_HEAD || memcmp(p, MAGIC, 8) != 0)
        return err_set(e, EBADMSG, "this is not a working set");
    if (get_le32(p + AT_VERSION) != WORKSET_VERSION)
        return err_set(e, ENOTSUP, "the working set has format version %u, this is version %u",
                       get_le32(p + AT_VERSION), WORKSET_VERSION);
    *ret = (struct workset){.nruns = get_le32(p + AT_RUNS),
                            .pages = get_le32(p + AT_PAGES),
                            .written = get_le32(p + AT_WRITTEN),
                            .runs = p + WORKSET_HEAD};
    if (ret->nruns > WORKSET_MAX || len != WORKSET_HEAD + (size_t)ret->nruns * WORKSET_ENTRY)
        return err_set(e, EBADMSG, "the working set has another length than it says");
    if (checksum(p, len) != get_le32(p + AT_CRC))
        return err_set(e, EBADMSG, "the working set is damaged (checksum)");
    if (memcmp(p + AT_IMAGE, image->id, SNAP_ID) != 0)
        return err_set(e, ESTALE, "the working set belongs to another image");
    uint64_t next = 0, pages = image->mem_bytes / SNAP_PAGE;
    for (uint32_t i = 0; i < ret->nruns; i++) {
        struct workset_run r = workset_run_at(ret, i);
        unsigned insn = r.flags & WORKSET_RETURN;
        if (r.page < next || r.count == 0 || !range_ok(r.page, r.count, pages) ||
            (r.flags & ~(WORKSET_WRITTEN | WORKSET_RETURN)) || insn > SNAP_PAGE / 4 ||
            (insn && (r.count != 1 || r.flags & WORKSET_WRITTEN)))
            return err_set(e, EBADMSG, "run %u of the working set is out of order or range", i);
        next = (uint64_t)r.page + r.count;
    }
    return 0;
}

static unsigned find_return(const uint8_t *page)
{
    for (unsigned i = 0; i < SNAP_PAGE / 4; i++) {
        if (get_le32(page + 4 * i) == WORKSET_INSN_RET)
            return i + 1;
    }
    return 0;
}

struct builder {
    uint8_t *out;
    uint32_t n, pages, written;
    struct workset_run run;
};

static void end_run(struct builder *b)
{
    if (b->run.count == 0 || b->n == WORKSET_MAX)
        return;
    uint8_t *p = b->out + WORKSET_HEAD + (size_t)b->n++ * WORKSET_ENTRY;
    put_le32(p, b->run.page);
    put_le16(p + 4, b->run.count);
    put_le16(p + 6, b->run.flags);
    b->pages += b->run.count;
    b->written += b->run.flags & WORKSET_WRITTEN ? b->run.count : 0;
    b->run.count = 0;
}

static void add(struct builder *b, uint64_t page, uint16_t flags)
{
    struct workset_run *r = &b->run;
    bool single = (flags | r->flags) & WORKSET_RETURN;
    if (r->count && !single && r->flags == flags && r->page + (uint64_t)r->count == page &&
        r->count < COUNT_MAX) {
        r->count++;
        return;
    }
    end_run(b);
    *r = (struct workset_run){(uint32_t)page, 1, flags};
}

static size_t finish(struct builder *b, const uint8_t image[SNAP_ID])
{
    uint8_t *p = b->out;
    end_run(b);
    size_t len = WORKSET_HEAD + (size_t)b->n * WORKSET_ENTRY;
    memset(p, 0, WORKSET_HEAD);
    memcpy(p, MAGIC, 8);
    put_le32(p + AT_VERSION, WORKSET_VERSION);
    put_le32(p + AT_RUNS, b->n);
    memcpy(p + AT_IMAGE, image, SNAP_ID);
    put_le32(p + AT_PAGES, b->pages);
    put_le32(p + AT_WRITTEN, b->written);
    put_le32(p + AT_CRC, checksum(p, len));
    return len;
}

size_t workset_pack(const uint8_t image[SNAP_ID], const struct workset_page *pages, size_t n,
                    uint8_t *ret)
{
    struct builder b = {.out = ret};
    for (size_t i = 0; i < n; i++)
        add(&b, pages[i].page, pages[i].flags);
    return finish(&b, image);
}

uint64_t workset_count(const struct workset *w)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < w->nruns; i++)
        n += workset_run_at(w, i).count;
    return n;
}

void workset_expand(const struct workset *w, struct workset_page *ret)
{
    for (uint32_t i = 0; i < w->nruns; i++) {
        struct workset_run r = workset_run_at(w, i);
        for (uint32_t k = 0; k < r.count; k++)
            *ret++ = (struct workset_page){r.page + k, r.flags};
    }
}

size_t workset_build(const struct snap_info *image, const uint64_t *present,
                     const uint64_t *written, const uint8_t *mem, uint8_t *ret)
{
    struct builder b = {.out = ret};
    for (uint64_t w = 0; w < image->mem_bytes / SNAP_PAGE / 64; w++) {
        for (uint64_t bits = present[w] | written[w]; bits; bits &= bits - 1) {
            uint64_t page = w * 64 + (unsigned)__builtin_ctzll(bits);
            uint16_t flags = snap_bit(written, page)
                                 ? WORKSET_WRITTEN
                                 : (uint16_t)find_return(mem + page * SNAP_PAGE);
            add(&b, page, flags);
        }
    }
    return finish(&b, image->id);
}

int workset_read(int fd, const struct snap_info *image, uint8_t **space, struct workset *ret,
                 struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "look at the working set");
    if (st.st_size < (off_t)WORKSET_HEAD || st.st_size > (off_t)WORKSET_BYTES)
        return err_set(e, EBADMSG, "this is not a working set");
    *space = malloc((size_t)st.st_size);
    if (!*space)
        return err_sys(e, ENOMEM, "read the working set");
    int r = fd_pread_full(fd, *space, (size_t)st.st_size, 0);
    if (r < 0)
        return err_sys(e, -r, "read the working set");
    return workset_parse(*space, (size_t)st.st_size, image, ret, e);
}

/* Errors do not matter: what is not made present now is when it is touched. */
void workset_populate(const struct workset *w, uint8_t *mem, bool read)
{
    for (uint32_t i = 0; i < w->nruns;) {
        struct workset_run r = workset_run_at(w, i);
        uint64_t end = (uint64_t)r.page + r.count;
        bool written = r.flags & WORKSET_WRITTEN;
        for (i++; i < w->nruns; i++) {
            struct workset_run next = workset_run_at(w, i);
            if (next.page != end || (next.flags ^ r.flags) & WORKSET_WRITTEN)
                break;
            end += next.count;
        }
        if (written || read)
            madvise(mem + (uint64_t)r.page * SNAP_PAGE, (end - r.page) * SNAP_PAGE,
                    written ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
    }
}

int workset_prefetch(int fd, const struct snap_info *image, uint8_t *mem, struct err *e)
{
    AUTO_FREE uint8_t *space = NULL;
    struct workset w;
    int r = workset_read(fd, image, &space, &w, e);
    if (r == 0)
        workset_populate(&w, mem, true);
    return r;
}

int workset_write(int fd, int image_fd, int pagemap_fd, const uint8_t *mem, uint64_t size,
                  struct err *e)
{
    struct snap_info info;
    AUTO_FREE uint64_t *present = snap_bitmap_new(size);
    AUTO_FREE uint64_t *written = snap_bitmap_new(size);
    AUTO_FREE uint8_t *out = malloc(WORKSET_BYTES);
    if (!present || !written || !out)
        return err_sys(e, ENOMEM, "list the pages that were touched");
    int r = snap_read_info(image_fd, &info, e);
    if (r == 0)
        r = memscan_present(pagemap_fd, mem, size, present, e);
    if (r == 0)
        r = memscan_anonymous(pagemap_fd, mem, size, written, e);
    if (r < 0)
        return r;
    r = fd_pwrite_full(fd, out, workset_build(&info, present, written, mem, out), 0);
    return r < 0 ? err_sys(e, -r, "write the working set") : 0;
}
