// SPDX-License-Identifier: Apache-2.0
/* Snapshot files: whole and difference, written and read again; damage of every kind is
 * refused; dirty pages are found in a private mapping. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../hypervisor/base/crc32c.h"
#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/num.h"
#include "../../snapshot/devstate.h"
#include "../../snapshot/memscan.h"
#include "../../snapshot/snapfile.h"
#include "../../snapshot/snapfile_layout.h"
#include "../tap.h"

#define MEM   (4ull << 20)
#define PAGES (MEM / SNAP_PAGE)

static int temp_file(void)
{
    char path[] = "/tmp/test_snapfile.XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    return fd;
}

static struct dstate_writer some_state(void)
{
    struct dstate_writer w;
    memset(&w, 0, sizeof w);
    dw_begin(&w, 0x41414141, 1, 0);
    dw_u64(&w, 1, 77);
    dw_end(&w);
    return w;
}

static void fill_page(uint8_t *mem, uint64_t page, uint8_t seed)
{
    for (unsigned i = 0; i < SNAP_PAGE; i++)
        mem[page * SNAP_PAGE + i] = (uint8_t)(seed + i % 13);
}

static void mark(uint64_t *bitmap, uint64_t page)
{
    bitmap[page / 64] |= 1ull << (page % 64);
}

static struct snap_info some_info(uint32_t flags)
{
    struct snap_info info;
    memset(&info, 0, sizeof info);
    info.flags = flags;
    memset(info.id, flags ? 0x11 : 0x22, SNAP_ID);
    if (!flags)
        memset(info.parent, 0x11, SNAP_ID);
    info.mem_base = 0x40000000;
    info.mem_bytes = MEM;
    info.vcpus = 2;
    info.gic = 3;
    info.midr = 0x413fd0c1;
    info.cntfrq = 62500000;
    info.fingerprint = 0x1234;
    return info;
}

/* A whole snapshot of memory with pages 1, 2, 3 and 700 filled and 5 touched but zero. */
static int write_full(uint8_t *mem)
{
    struct dstate_writer w = some_state();
    struct snap_info info = some_info(SNAP_FULL);
    struct snap_result result;
    uint64_t *candidates = snap_bitmap_new(MEM);
    static const uint64_t filled[] = {1, 2, 3, 700};
    for (unsigned i = 0; i < 4; i++) {
        fill_page(mem, filled[i], (uint8_t)(i + 1));
        mark(candidates, filled[i]);
    }
    mark(candidates, 5);
    struct snap_source src = {.mem = mem, .candidates = candidates};
    int fd = temp_file();
    CHECK(snap_write(fd, &info, w.b.data, w.b.len, &src, &result, NULL) == 0);
    CHECK(info.pages_stored == 4 && info.pages_zero == 0 && result.pages_same == 1);
    free(candidates);
    buf_free(&w.b);
    return fd;
}

TEST(whole)
{
    uint8_t *mem = calloc(1, MEM), *page = malloc(SNAP_PAGE);
    int fd = write_full(mem);
    struct snap_file f;
    struct stat st;
    CHECK(snap_open(&f, fd, NULL, NULL) == 0);
    CHECK(f.info.data_off == SNAP_FULL_ALIGN && f.info.data_len == MEM);
    CHECK(f.nruns == 2);
    CHECK(f.info.vcpus == 2 && f.info.midr == 0x413fd0c1 && f.info.cntfrq == 62500000);
    /* Flat, holes for zero pages. */
    CHECK(fd_pread_full(fd, page, SNAP_PAGE, f.info.data_off + 700 * SNAP_PAGE) == 0);
    CHECK(memcmp(page, mem + 700 * SNAP_PAGE, SNAP_PAGE) == 0);
    CHECK(fd_pread_full(fd, page, SNAP_PAGE, f.info.data_off + 5 * SNAP_PAGE) == 0);
    CHECK(page_is_zero(page));
    CHECK(fstat(fd, &st) == 0 && (uint64_t)st.st_blocks * 512 < 200 * 1024);
    CHECK(snap_verify_data(&f, fd, NULL) == 0);
    uint64_t *stored = snap_bitmap_new(MEM);
    snap_mark_stored(&f, stored);
    CHECK(snap_bit(stored, 3) && snap_bit(stored, 700) && !snap_bit(stored, 5));
    free(stored);
    snap_free(&f);
    /* A page changed under the index. */
    page[0] = 1;
    CHECK(fd_pwrite_full(fd, page, 1, SNAP_FULL_ALIGN + 700 * SNAP_PAGE + 9) == 0);
    CHECK(snap_open(&f, fd, NULL, NULL) == 0);
    CHECK(snap_verify_data(&f, fd, NULL) == -EBADMSG);
    snap_free(&f);
    close(fd);
    free(mem);
    free(page);
}

TEST(difference)
{
    uint8_t *mem = calloc(1, MEM), *base = malloc(MEM);
    int image = write_full(mem);
    memcpy(base, mem, MEM);
    struct dstate_writer w = some_state();
    struct snap_info info = some_info(0);
    struct snap_result result;
    struct snap_file f;
    uint64_t *stored = snap_bitmap_new(MEM), *candidates = snap_bitmap_new(MEM);
    CHECK(snap_open(&f, image, NULL, NULL) == 0);
    snap_mark_stored(&f, stored);
    snap_free(&f);
    /* 1 the same, 2 changed, 3 now zero, 5 still zero, 6 and 7 new, 8 touched and zero. */
    fill_page(mem, 2, 99);
    memset(mem + 3 * SNAP_PAGE, 0, SNAP_PAGE);
    fill_page(mem, 6, 50);
    fill_page(mem, 7, 51);
    for (uint64_t p = 1; p <= 8; p++)
        mark(candidates, p);
    struct snap_source src = {
        .mem = mem, .candidates = candidates, .base = base, .base_stored = stored};
    int fd = temp_file();
    CHECK(snap_write(fd, &info, w.b.data, w.b.len, &src, &result, NULL) == 0);
    CHECK(info.pages_stored == 3 && info.pages_zero == 1 && result.pages_same == 4);
    CHECK(snap_open(&f, fd, NULL, NULL) == 0);
    CHECK(f.nruns == 3);
    struct snap_run run = snap_run_at(f.index, 1);
    CHECK(run.page == 3 && run.count == 1 && run.flags == SNAP_RUN_ZERO);
    run = snap_run_at(f.index, 2);
    CHECK(run.page == 6 && run.count == 2);
    uint8_t page[SNAP_PAGE];
    CHECK(fd_pread_full(fd, page, SNAP_PAGE, run.off + SNAP_PAGE) == 0);
    CHECK(memcmp(page, mem + 7 * SNAP_PAGE, SNAP_PAGE) == 0);
    CHECK(snap_verify_data(&f, fd, NULL) == 0);
    snap_free(&f);
    close(fd);
    close(image);
    buf_free(&w.b);
    free(stored);
    free(candidates);
    free(mem);
    free(base);
}

TEST(empty_difference)
{
    uint8_t *mem = calloc(1, MEM);
    struct dstate_writer w = some_state();
    struct snap_info info = some_info(0);
    struct snap_result result;
    struct snap_file f;
    uint64_t *none = snap_bitmap_new(MEM);
    struct snap_source src = {.mem = mem, .candidates = none, .base = mem, .base_stored = none};
    int fd = temp_file();
    CHECK(snap_write(fd, &info, w.b.data, w.b.len, &src, &result, NULL) == 0);
    CHECK(snap_open(&f, fd, NULL, NULL) == 0 && f.nruns == 0);
    snap_free(&f);
    close(fd);
    buf_free(&w.b);
    free(none);
    free(mem);
}

/* Header fields changed with a right checksum: a forger's file. */
TEST(forged_headers)
{
    static const struct {
        unsigned at, bytes;
        uint64_t value;
    } cases[] = {
        {AT_VERSION, 4, 2},
        {AT_FLAGS, 4, 5},
        {AT_FLAGS, 4, 0},
        {AT_PARENT, 4, 1},
        {AT_MEM_BYTES, 8, 0},
        {AT_MEM_BYTES, 8, MEM + SNAP_PAGE},
        {AT_MEM_BYTES, 8, MEM * 2},
        {AT_MEM_BYTES, 8, UINT64_MAX & ~(SNAP_FULL_ALIGN - 1)},
        {AT_DATA_OFF, 8, 0},
        {AT_DATA_OFF, 8, SNAP_FULL_ALIGN + SNAP_PAGE},
        {AT_DATA_OFF, 8, SNAP_FULL_ALIGN * 2},
        {AT_DATA_OFF, 8, (uint64_t)-SNAP_FULL_ALIGN},
        {AT_DATA_LEN, 8, MEM - SNAP_PAGE},
        {AT_DATA_LEN, 8, UINT64_MAX},
        {AT_FILE_LEN, 8, 1},
        {AT_PAGES_STORED, 8, 5},
        {AT_PAGES_ZERO, 8, 1},
        {AT_NSECTIONS, 4, 1},
        {AT_NSECTIONS, 4, 0},
        {AT_NSECTIONS, 4, 9},
        {AT_SECTIONS, 4, 7},
        {AT_SECTIONS + 8, 8, 0},
        {AT_SECTIONS + 8, 8, UINT64_MAX},
        {AT_SECTIONS + 16, 8, UINT64_MAX},
        {AT_SECTIONS + 16, 8, 1},
        {AT_SECTIONS + SECTION_BYTES + 8, 8, MEM * 100},
        {AT_SECTIONS + SECTION_BYTES + 16, 8, SNAP_RUN_BYTES},
        {AT_SECTIONS + SECTION_BYTES + 16, 8, SNAP_RUN_BYTES + 1},
    };
    uint8_t *mem = calloc(1, MEM), good[SNAP_PAGE], bad[SNAP_PAGE];
    int fd = write_full(mem);
    CHECK(fd_pread_full(fd, good, SNAP_PAGE, 0) == 0);
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = ERR_INIT;
        struct snap_file f;
        memcpy(bad, good, SNAP_PAGE);
        if (cases[i].bytes == 4)
            put_le32(bad + cases[i].at, (uint32_t)cases[i].value);
        else
            put_le64(bad + cases[i].at, cases[i].value);
        put_le32(bad + AT_HEADER_CRC, crc32c(0, bad, AT_HEADER_CRC));
        CHECK(fd_pwrite_full(fd, bad, SNAP_PAGE, 0) == 0);
        int r = snap_open(&f, fd, NULL, &e);
        if (!CHECK(r == -EBADMSG || r == -ENOTSUP))
            printf("# case %u: %d\n", i, r);
    }
    CHECK(fd_pwrite_full(fd, good, SNAP_PAGE, 0) == 0);
    struct snap_file f;
    CHECK(snap_open(&f, fd, NULL, NULL) == 0);
    snap_free(&f);
    close(fd);
    free(mem);
}

TEST(forged_runs)
{
    static const struct snap_run cases[] = {
        {.page = 1, .count = 0, .off = SNAP_FULL_ALIGN + SNAP_PAGE},
        {.page = 1, .count = SNAP_RUN_MAX + 1, .off = SNAP_FULL_ALIGN + SNAP_PAGE},
        {.page = PAGES, .count = 1, .off = SNAP_FULL_ALIGN + MEM},
        {.page = PAGES - 1, .count = 2, .off = SNAP_FULL_ALIGN + MEM - SNAP_PAGE},
        {.page = UINT32_MAX, .count = 2, .off = SNAP_FULL_ALIGN},
        {.page = 1, .count = 4, .off = SNAP_FULL_ALIGN},
        {.page = 1, .count = 4, .off = UINT64_MAX},
        {.page = 1, .count = 4, .off = SNAP_FULL_ALIGN + SNAP_PAGE, .flags = 1},
        {.page = 1, .count = 4, .off = SNAP_FULL_ALIGN + SNAP_PAGE, .flags = 2},
        {.page = 1, .count = 3, .off = SNAP_FULL_ALIGN + SNAP_PAGE}, /* does not add up */
    };
    struct snap_info info = some_info(SNAP_FULL);
    uint8_t raw[SNAP_RUN_BYTES];
    info.data_off = SNAP_FULL_ALIGN;
    info.data_len = MEM;
    info.pages_stored = 4;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_le32(raw, cases[i].page);
        put_le32(raw + 4, cases[i].count);
        put_le64(raw + 8, cases[i].off);
        put_le32(raw + 16, 0);
        put_le32(raw + 20, cases[i].flags);
        CHECK(snap_check_index(&info, raw, sizeof raw, NULL) == -EBADMSG);
    }
    put_le32(raw, 1);
    put_le32(raw + 4, 4);
    put_le64(raw + 8, SNAP_FULL_ALIGN + SNAP_PAGE);
    put_le32(raw + 20, 0);
    CHECK(snap_check_index(&info, raw, sizeof raw, NULL) == 0);
    uint8_t two[2 * SNAP_RUN_BYTES]; /* twice the same pages */
    memcpy(two, raw, sizeof raw);
    memcpy(two + SNAP_RUN_BYTES, raw, sizeof raw);
    info.pages_stored = 8;
    CHECK(snap_check_index(&info, two, sizeof two, NULL) == -EBADMSG);
}

TEST(every_flipped_bit_is_found)
{
    uint8_t *mem = calloc(1, MEM);
    int fd = write_full(mem);
    struct snap_file f;
    struct stat st;
    CHECK(fstat(fd, &st) == 0 && snap_open(&f, fd, NULL, NULL) == 0);
    size_t state_len = f.state_len;
    snap_free(&f);
    unsigned missed = 0;
    struct err e = ERR_INIT;
    for (off_t at = 0; at < st.st_size; at++) {
        uint8_t b;
        if (at == SNAP_PAGE + (off_t)state_len) /* page data: not read here */
            at = (off_t)(SNAP_FULL_ALIGN + MEM);
        CHECK(fd_pread_full(fd, &b, 1, (uint64_t)at) == 0);
        b ^= (uint8_t)(1u << at % 8);
        CHECK(fd_pwrite_full(fd, &b, 1, (uint64_t)at) == 0);
        if (snap_open(&f, fd, NULL, NULL) == 0) {
            missed++;
            snap_free(&f);
        }
        b ^= (uint8_t)(1u << at % 8);
        CHECK(fd_pwrite_full(fd, &b, 1, (uint64_t)at) == 0);
    }
    CHECK(missed == 0);
    CHECK(snap_open(&f, fd, NULL, NULL) == 0);
    snap_free(&f);
    CHECK(ftruncate(fd, st.st_size - 1) == 0 && snap_open(&f, fd, NULL, &e) == -EBADMSG);
    CHECK(ftruncate(fd, 10) == 0 && snap_open(&f, fd, NULL, NULL) == -EBADMSG);
    CHECK(ftruncate(fd, 0) == 0 && snap_open(&f, fd, NULL, NULL) == -EBADMSG);
    close(fd);
    free(mem);
}

static void dirty_pages(int (*scan)(int, const void *, uint64_t, uint64_t *, struct err *))
{
    int fd = temp_file(), pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    CHECK(ftruncate(fd, (off_t)MEM) == 0 && pagemap >= 0);
    uint8_t *mem = mmap(NULL, MEM, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    uint64_t *bitmap = snap_bitmap_new(MEM), count = 0;
    volatile uint8_t sum = 0;
    for (uint64_t p = 0; p < PAGES; p += 3) /* reading does not count */
        sum = (uint8_t)(sum + mem[p * SNAP_PAGE]);
    mem[7 * SNAP_PAGE] = 1;
    mem[(PAGES - 1) * SNAP_PAGE + 5] = 1;
    for (uint64_t p = 100; p < 600; p += 2)
        mem[p * SNAP_PAGE] = 1;
    struct err e = {.num = 0};
    if (!CHECK(scan(pagemap, mem, MEM, bitmap, &e) == 0))
        printf("# %s\n", e.msg);
    for (uint64_t p = 0; p < PAGES; p++)
        count += snap_bit(bitmap, p);
    CHECK(count == 252);
    CHECK(snap_bit(bitmap, 7) && snap_bit(bitmap, PAGES - 1) && snap_bit(bitmap, 100) &&
          !snap_bit(bitmap, 101) && !snap_bit(bitmap, 0));
    munmap(mem, MEM);
    free(bitmap);
    close(fd);
    close(pagemap);
}

TEST(dirty_pages_by_scan)
{
    dirty_pages(memscan_anonymous);
}

TEST(dirty_pages_by_reading)
{
    dirty_pages(memscan_anonymous_read);
}

int main(void)
{
    RUN(whole);
    RUN(difference);
    RUN(empty_difference);
    RUN(forged_headers);
    RUN(forged_runs);
    RUN(every_flipped_bit_is_found);
    RUN(dirty_pages_by_scan);
    RUN(dirty_pages_by_reading);
    return TAP_DONE();
}
