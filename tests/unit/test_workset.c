// SPDX-License-Identifier: Apache-2.0
/* Working sets: what is recorded reads back, and what is forged is refused. */
#include <errno.h>

#include "../../hypervisor/base/crc32c.h"
#include "../../hypervisor/base/mem.h"
#include "../../snapshot/workset.h"
#include "../tap.h"
#include "snap_sample.h"

struct made {
    uint64_t *present, *written;
    uint8_t *mem, *bytes;
    struct snap_info info;
    size_t len;
};

/* Pages 3–5 and 900 were touched, 5 and 6 changed, 7 has a `ret` in its tenth word. */
static struct made make(void)
{
    struct made m = {.present = snap_bitmap_new(SAMPLE_MEM),
                     .written = snap_bitmap_new(SAMPLE_MEM),
                     .mem = calloc(1, SAMPLE_MEM),
                     .bytes = malloc(WORKSET_BYTES),
                     .info = sample_info(SNAP_FULL)};
    static const uint16_t present[] = {3, 4, 5, 7, 900}, written[] = {5, 6};
    for (size_t i = 0; i < ARRAY_LEN(present); i++)
        sample_mark(m.present, present[i]);
    for (size_t i = 0; i < ARRAY_LEN(written); i++)
        sample_mark(m.written, written[i]);
    put_le32(m.mem + 7 * SNAP_PAGE + 9 * 4, 0xd65f03c0u);
    put_le32(m.mem + 6 * SNAP_PAGE, 0xd65f03c0u); /* of no interest: it is changed */
    m.len = workset_build(&m.info, m.present, m.written, m.mem, m.bytes);
    return m;
}

static void made_free(struct made *m)
{
    free(m->present);
    free(m->written);
    free(m->mem);
    free(m->bytes);
}

static bool is(const struct workset *w, uint32_t i, uint32_t page, uint16_t count,
               uint16_t flags)
{
    struct workset_run r = workset_run_at(w, i);
    return r.page == page && r.count == count && r.flags == flags;
}

TEST(reads_back)
{
    struct made m = make();
    struct workset w;
    CHECK(m.len == WORKSET_HEAD + 4 * WORKSET_ENTRY);
    CHECK(workset_parse(m.bytes, m.len, &m.info, &w, NULL) == 0);
    CHECK(w.nruns == 4 && w.pages == 6 && w.written == 2);
    CHECK(is(&w, 0, 3, 2, 0) && is(&w, 1, 5, 2, WORKSET_WRITTEN));
    CHECK(is(&w, 2, 7, 1, 10) && is(&w, 3, 900, 1, 0));
    /* More than there is room for: the first ones. */
    for (uint64_t p = 0; p < SAMPLE_PAGES; p++)
        put_le32(m.mem + p * SNAP_PAGE, 0xd65f03c0u);
    memset(m.present, 0xff, SAMPLE_PAGES / 8);
    m.len = workset_build(&m.info, m.present, m.written, m.mem, m.bytes);
    CHECK(workset_parse(m.bytes, m.len, &m.info, &w, NULL) == 0);
    CHECK(w.pages == SAMPLE_PAGES && w.nruns == SAMPLE_PAGES - 1);
    made_free(&m);
}

static void resum(struct made *m)
{
    uint32_t crc = crc32c(0, m->bytes, 60);
    put_le32(m->bytes + 60, crc32c(crc, m->bytes + WORKSET_HEAD, m->len - WORKSET_HEAD));
}

TEST(forged)
{
    static const struct {
        unsigned at;
        uint8_t value;
    } bad[] = {{0, 'x'},    {8, 2},      {12, 5},     {12, 3},        {13, 0xff},  {16, 0xee},
               {64, 200},   {64 + 4, 0}, {64 + 4, 3}, {72 + 7, 0xff}, {80 + 4, 2}, {80 + 7, 8},
               {88 + 1, 9}, {88 + 3, 1}, {88 + 5, 1}, {88 + 7, 0x40}};
    struct workset w;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct made m = make();
        m.bytes[bad[i].at] = bad[i].value;
        if (bad[i].at >= 8)
            CHECK(workset_parse(m.bytes, m.len, &m.info, &w, NULL) < 0); /* checksum */
        resum(&m);
        if (!CHECK(workset_parse(m.bytes, m.len, &m.info, &w, NULL) < 0))
            printf("# byte %u\n", bad[i].at);
        made_free(&m);
    }
    struct made m = make();
    for (size_t len = 0; len < m.len; len++)
        CHECK(workset_parse(m.bytes, len, &m.info, &w, NULL) < 0);
    m.info.mem_bytes = 2u << 20; /* of a smaller machine */
    CHECK(workset_parse(m.bytes, m.len, &m.info, &w, NULL) == -EBADMSG);
    made_free(&m);
}

int main(void)
{
    RUN(reads_back);
    RUN(forged);
    return TAP_DONE();
}
