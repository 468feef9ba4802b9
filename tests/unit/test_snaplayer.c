// SPDX-License-Identifier: Apache-2.0
/*
 * Memory layers: an image over one stores what differs and nothing else, both
 * mapped over each other give the memory back, and every file that is not what
 * it says is refused: forged places and lengths, another layer, a cut one.
 */
#include <errno.h>
#include <sys/stat.h>

#include "../../hypervisor/base/crc32c.h"
#include "../../hypervisor/base/mem.h"
#include "../../snapshot/snapfile_layout.h"
#include "../../snapshot/snapmem.h"
#include "../tap.h"
#include "snap_sample.h"

#define FIRST 38u /* pages of the layer, in the sample's memory */
#define COUNT 300u

static struct layer_info some_layer(uint8_t id)
{
    struct layer_info l = {
        .is = {.off = FIRST * SNAP_PAGE, .len = COUNT * SNAP_PAGE}, .midr = 1, .kernel = 2};
    memset(l.is.id, id, sizeof l.is.id);
    return l;
}

static int make_layer(const uint8_t *mem, uint8_t id)
{
    struct layer_info l = some_layer(id);
    int fd = sample_memfd("layer");
    CHECK(layer_write(&snap_io_host, fd, &l, mem, NULL) == 0);
    return fd;
}

/* The sample's image over a layer of its own memory: pages 39, 50 and 100–180 differ from the
 * layer, 51 is zero and in the layer it is not. */
static int make_image(struct sample *s, int layer, struct snap_result *result)
{
    struct dstate_writer w = sample_state(77);
    struct snap_info info = sample_info(SNAP_FULL | SNAP_LAYERED);
    struct layer_info l;
    uint8_t *copy = malloc(COUNT * SNAP_PAGE);
    CHECK(layer_read(layer, &l, NULL) == 0);
    CHECK(fd_pread_full(layer, copy, COUNT * SNAP_PAGE, LAYER_DATA) == 0);
    info.layer = l.is;
    memset(s->mem + 51 * SNAP_PAGE, 0, SNAP_PAGE);
    sample_fill(s->mem, 39, 9);
    sample_fill(s->mem, 50, 9);
    for (unsigned p = 100; p <= 180; p++)
        sample_fill(s->mem, p, 9);
    for (uint64_t p = 0; p < SAMPLE_PAGES; p++)
        sample_mark(s->stored, p);
    struct snap_source src = {.mem = s->mem, .candidates = s->stored, .layer = copy};
    int fd = sample_memfd("image");
    CHECK(snap_write(fd, &info, w.b.data, w.b.len, &src, result, NULL) == 0);
    free(copy);
    buf_free(&w.b);
    return fd;
}

struct pair {
    struct sample s;
    int layer, image;
    struct snap_result result;
};

static void pair_make(struct pair *p)
{
    int unused = sample_memfd("unused");
    CHECK(sample_image(&p->s, unused) == 0);
    close(unused);
    p->layer = make_layer(p->s.mem, 7);
    p->image = make_image(&p->s, p->layer, &p->result);
}

static void pair_free(struct pair *p)
{
    close(p->layer);
    close(p->image);
    sample_free(&p->s);
}

TEST(saves_what_differs)
{
    struct pair p;
    struct snap_file f;
    struct stat st;
    pair_make(&p);
    CHECK(p.result.layer_other == 84 && p.result.layer_same == COUNT - 84);
    CHECK(snap_open(&f, p.image, NULL, NULL) == 0);
    CHECK(f.info.flags == (SNAP_FULL | SNAP_LAYERED) && f.info.layer.id[31] == 7);
    CHECK(f.info.layer_own == 84);
    CHECK(f.info.layer.off == FIRST * SNAP_PAGE && f.info.layer.len == COUNT * SNAP_PAGE);
    CHECK(fstat(p.image, &st) == 0 && (uint64_t)st.st_blocks * 512 < 150 * SNAP_PAGE);
    CHECK(snap_verify_data(&f, p.image, NULL) == 0);
    uint64_t *stored = snap_bitmap_new(SAMPLE_MEM);
    snap_mark_stored(&f, stored);
    CHECK(snap_bit(stored, FIRST) && snap_bit(stored, FIRST + COUNT - 1) &&
          snap_bit(stored, 1));
    CHECK(!snap_bit(stored, FIRST - 1) && snap_bit(stored, 700) && !snap_bit(stored, 701));
    free(stored);
    /* The index: page 50's run, and what lies around it. */
    CHECK(snap_run_at(f.index, snap_find_run(f.index, f.nruns, 45)).page == 50);
    CHECK(snap_run_at(f.index, snap_find_run(f.index, f.nruns, 51)).page == 50);
    CHECK(snap_run_at(f.index, snap_find_run(f.index, f.nruns, 52)).page == 100);
    CHECK(snap_find_run(f.index, f.nruns, 701) == f.nruns);
    snap_free(&f);
    pair_free(&p);
}

static _Alignas(8) uint8_t scratch[SNAP_SCRATCH];

TEST(maps_back)
{
    struct pair p;
    struct snap_file f;
    uint8_t *mem = NULL;
    pair_make(&p);
    CHECK(snap_open(&f, p.image, NULL, NULL) == 0);
    CHECK(memory_map(&f, p.image, p.layer, NULL, &mem, NULL) == 0);
    CHECK(mem && (uintptr_t)mem % (2u << 20) == 0);
    CHECK(mem && memcmp(mem, p.s.mem, SAMPLE_MEM) == 0);
    if (mem)
        munmap(mem, SAMPLE_MEM);
    snap_free(&f);
    /* As a restore opens it: with the list of the image's own pages, without the index. */
    CHECK(snap_open(&f, p.image, scratch, NULL) == 0 && f.nruns == 0 && f.nown == 3);
    CHECK(memory_map(&f, p.image, p.layer, NULL, &mem, NULL) == 0);
    CHECK(memcmp(mem, p.s.mem, SAMPLE_MEM) == 0);
    munmap(mem, SAMPLE_MEM);
    CHECK(memory_map(&f, p.image, -1, NULL, &mem, NULL) == -EINVAL);
    int other = make_layer(p.s.mem, 8);
    CHECK(memory_map(&f, p.image, other, NULL, &mem, NULL) == -ESTALE);
    CHECK(ftruncate(other, (off_t)(LAYER_DATA + SNAP_PAGE)) == 0);
    CHECK(memory_map(&f, p.image, other, NULL, &mem, NULL) == -EBADMSG);
    close(other);
    /* An image is no layer, and a layer no image. */
    CHECK(memory_map(&f, p.image, p.image, NULL, &mem, NULL) == -EBADMSG);
    snap_free(&f);
    CHECK(snap_open(&f, p.layer, NULL, NULL) == -EBADMSG);
    pair_free(&p);
}

static void forge(int fd, unsigned at, uint64_t value)
{
    uint8_t h[SNAP_PAGE];
    CHECK(fd_pread_full(fd, h, sizeof h, 0) == 0);
    put_le64(h + at, value);
    put_le32(h + AT_HEADER_CRC, crc32c(0, h, AT_HEADER_CRC));
    CHECK(fd_pwrite_full(fd, h, sizeof h, 0) == 0);
}

TEST(forged_image)
{
    static const struct {
        unsigned at;
        uint64_t value;
    } bad[] = {{AT_LAYER_OFF, SAMPLE_MEM},
               {AT_LAYER_OFF, 0x1001},
               {AT_LAYER_OFF, UINT64_MAX & ~0xfffull},
               {AT_LAYER_LEN, 0},
               {AT_LAYER_LEN, 0x123},
               {AT_LAYER_LEN, SAMPLE_MEM},
               {AT_LAYER_LEN, SNAP_LAYER_MAX + SNAP_PAGE},
               {AT_LAYER_LEN, UINT64_MAX}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct pair p;
        struct snap_file f;
        pair_make(&p);
        forge(p.image, bad[i].at, bad[i].value);
        CHECK(snap_open(&f, p.image, NULL, NULL) == -EBADMSG);
        pair_free(&p);
    }
    /* In bounds, but not the layer's. */
    struct pair p;
    struct snap_file f;
    uint8_t *mem;
    pair_make(&p);
    forge(p.image, AT_LAYER_OFF, (FIRST - 1) * SNAP_PAGE);
    CHECK(snap_open(&f, p.image, NULL, NULL) == 0);
    CHECK(memory_map(&f, p.image, p.layer, NULL, &mem, NULL) == -ESTALE);
    snap_free(&f);
    forge(p.image, AT_LAYER_OFF, FIRST * SNAP_PAGE);
    forge(p.image, AT_LAYER_OWN, 83);
    CHECK(snap_open(&f, p.image, NULL, NULL) == -EBADMSG);
    forge(p.image, AT_LAYER_OWN, COUNT + 1);
    CHECK(snap_open(&f, p.image, NULL, NULL) == -EBADMSG);
    /* A session over a layer there is not. */
    struct snap_info info = sample_info(0), got;
    uint8_t h[SNAP_PAGE];
    info.version = SNAP_VERSION;
    info.flags = SNAP_LAYERED;
    info.layer = some_layer(7).is;
    info.data_off = SNAP_PAGE;
    info.file_len = SNAP_PAGE;
    snap_build_header(&info, h);
    CHECK(snap_parse_header(h, sizeof h, SNAP_PAGE, &got, NULL) == -EBADMSG);
    pair_free(&p);
}

/* Another run in the list of own pages, and the list's type. */
static void forge_own(int fd, unsigned i, uint32_t page, uint32_t count, uint32_t type)
{
    struct snap_info info;
    uint8_t h[SNAP_PAGE], list[3 * SNAP_RUN_BYTES];
    CHECK(snap_read_info(fd, &info, NULL) == 0 && info.nsections == 3);
    CHECK(info.sections[1].type == SNAP_SECTION_OWN && info.sections[1].len == sizeof list);
    CHECK(fd_pread_full(fd, list, sizeof list, info.sections[1].off) == 0);
    put_le32(list + i * SNAP_RUN_BYTES, page);
    put_le32(list + i * SNAP_RUN_BYTES + 4, count);
    put_le64(list + i * SNAP_RUN_BYTES + 8, info.data_off + (uint64_t)page * SNAP_PAGE);
    CHECK(fd_pwrite_full(fd, list, sizeof list, info.sections[1].off) == 0);
    CHECK(fd_pread_full(fd, h, sizeof h, 0) == 0);
    put_le32(h + AT_SECTIONS + SECTION_BYTES, type);
    put_le32(h + AT_SECTIONS + SECTION_BYTES + 4, crc32c(0, list, sizeof list));
    put_le32(h + AT_HEADER_CRC, crc32c(0, h, AT_HEADER_CRC));
    CHECK(fd_pwrite_full(fd, h, sizeof h, 0) == 0);
}

TEST(forged_own)
{
    static const struct {
        unsigned run;
        uint32_t page, count;
        int in_hurry, else_;
    } bad[] = {{0, 39, 1, 0, 0},
               {0, 40, 1, 0, -EBADMSG}, /* in bounds, but not what the index says */
               {0, 39, 2, -EBADMSG, -EBADMSG},
               {0, 51, 1, -EBADMSG, -EBADMSG},
               {0, UINT32_MAX, 1, -EBADMSG, -EBADMSG},
               {2, 100, 0, -EBADMSG, -EBADMSG},
               {2, 100, UINT32_MAX, -EBADMSG, -EBADMSG},
               {2, FIRST + COUNT - 80, 81, -EBADMSG, -EBADMSG}};
    struct snap_file f;
    struct pair p;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        pair_make(&p);
        forge_own(p.image, bad[i].run, bad[i].page, bad[i].count, SNAP_SECTION_OWN);
        CHECK(snap_open(&f, p.image, scratch, NULL) == bad[i].in_hurry);
        snap_free(&f);
        CHECK(snap_open(&f, p.image, NULL, NULL) == bad[i].else_);
        snap_free(&f);
        pair_free(&p);
    }
    /* Its checksum, and its place. */
    pair_make(&p);
    forge(p.image, AT_SECTIONS + SECTION_BYTES, SNAP_SECTION_OWN);
    CHECK(snap_open(&f, p.image, scratch, NULL) == -EBADMSG);
    CHECK(snap_open(&f, p.image, NULL, NULL) == -EBADMSG);
    pair_free(&p);
    pair_make(&p);
    forge(p.image, AT_SECTIONS + SECTION_BYTES + 16,
          UINT64_MAX / SNAP_RUN_BYTES * SNAP_RUN_BYTES);
    CHECK(snap_open(&f, p.image, scratch, NULL) == -EBADMSG);
    pair_free(&p);
    /* Files without it: the index has them. */
    uint8_t *mem = NULL;
    pair_make(&p);
    forge_own(p.image, 0, 39, 1, 99);
    CHECK(snap_open(&f, p.image, scratch, NULL) == 0 && f.nruns > 0);
    CHECK(memory_map(&f, p.image, p.layer, NULL, &mem, NULL) == 0);
    CHECK(mem && memcmp(mem, p.s.mem, SAMPLE_MEM) == 0);
    munmap(mem, SAMPLE_MEM);
    snap_free(&f);
    pair_free(&p);
}

TEST(forged_layer)
{
    struct pair p;
    struct layer_info l;
    pair_make(&p);
    /* Every byte of the header is under its checksum. */
    for (unsigned i = 0; i < SNAP_PAGE; i++) {
        uint8_t b, c;
        CHECK(fd_pread_full(p.layer, &b, 1, i) == 0);
        c = (uint8_t)(b ^ 0x10);
        CHECK(fd_pwrite_full(p.layer, &c, 1, i) == 0);
        if (!CHECK(layer_read(p.layer, &l, NULL) < 0))
            break;
        CHECK(fd_pwrite_full(p.layer, &b, 1, i) == 0);
    }
    CHECK(layer_read(p.layer, &l, NULL) == 0);
    static const struct {
        unsigned at;
        uint64_t value;
    } bad[] = {{48, 0x800},  {48, SNAP_MEM_MAX}, {56, 0},         {56, SNAP_PAGE},
               {56, 0x1001}, {80, SNAP_PAGE},    {88, SNAP_PAGE}, {8, 2}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int fd = make_layer(p.s.mem, 7);
        forge(fd, bad[i].at, bad[i].value);
        CHECK(layer_read(fd, &l, NULL) < 0);
        close(fd);
    }
    CHECK(ftruncate(p.layer, 100) == 0 && layer_read(p.layer, &l, NULL) == -EBADMSG);
    pair_free(&p);
}

int main(void)
{
    RUN(saves_what_differs);
    RUN(maps_back);
    RUN(forged_image);
    RUN(forged_own);
    RUN(forged_layer);
    return TAP_DONE();
}
