// SPDX-License-Identifier: Apache-2.0
/* Sessions whose pages are stored as what differs from the image: written and restored again,
 * forged, sealed and changed with every sort of length. */
#include <errno.h>
#include <sys/stat.h>

#include "../../hypervisor/base/crc32c.h"
#include "../../hypervisor/base/mem.h"
#include "../../snapshot/snapfile_layout.h"
#include "../tap.h"
#include "snap_sample.h"
#include "snap_walk.h"

static uint8_t scratch[SNAP_SCRATCH];

/* As a restore does it. */
static bool restores_to(int fd, const uint8_t *base, const uint8_t *want, void *space)
{
    uint8_t *mem = malloc(SAMPLE_MEM);
    struct snap_delta d = {.next = 0};
    struct snap_file f;
    struct err e = ERR_INIT;
    size_t pos = 0;
    if (snap_open(&f, fd, space, &e) < 0) {
        printf("# %s\n", e.msg);
        free(mem);
        return false;
    }
    memcpy(mem, base, SAMPLE_MEM);
    for (size_t i = 0; i < f.nruns; i++) {
        struct snap_run run = snap_run_at(f.index, i);
        uint8_t *to = mem + (uint64_t)run.page * SNAP_PAGE;
        if (run.flags & SNAP_RUN_ZERO)
            memset(to, 0, (size_t)run.count * SNAP_PAGE);
        else if (fd_pread_full(fd, to, (size_t)run.count * SNAP_PAGE, run.off) < 0)
            abort();
    }
    while (snap_next_delta(f.deltas, f.deltas_len, &pos, SAMPLE_PAGES, &d, NULL) > 0)
        snap_delta_apply(&d, mem + (uint64_t)d.page * SNAP_PAGE);
    bool same = pos == f.deltas_len && memcmp(mem, want, SAMPLE_MEM) == 0;
    same &= walk_file(&f, f.info.file_len) == NULL && snap_verify_data(&f, fd, NULL) == 0;
    snap_free(&f);
    free(mem);
    return same;
}

/* Random sessions: pages changed in a byte or wholly, emptied, new, and in runs of all lengths.
 */
TEST(there_and_back)
{
    struct sample s;
    struct sample_rng r = {11};
    int image = sample_memfd("image");
    CHECK(sample_image(&s, image) == 0);
    uint64_t smaller = 0, mapped = 0;
    for (unsigned round = 0; round < 40; round++) {
        memcpy(s.mem, s.base, SAMPLE_MEM);
        memset(s.candidates, 0, SAMPLE_PAGES / 8);
        for (unsigned k = 0; k < 12; k++) {
            uint64_t at = sample_random(&r) % SAMPLE_PAGES, len = 1 + sample_random(&r) % 4;
            if (k == 0)
                len = 1 + sample_random(&r) % 200;
            for (uint64_t p = at; p < MIN(at + len, SAMPLE_PAGES); p++) {
                sample_mark(s.candidates, p);
                if (k == 0 || sample_random(&r) % 4 == 0)
                    sample_fill(s.mem, p, round + 2);
                else if (sample_random(&r) % 4 == 0)
                    memset(s.mem + p * SNAP_PAGE, 0, SNAP_PAGE);
                else
                    s.mem[p * SNAP_PAGE + sample_random(&r) % SNAP_PAGE]++;
            }
        }
        struct dstate_writer w = sample_state(round);
        struct snap_info info = sample_info(0);
        struct snap_result result;
        struct snap_source src = {.mem = s.mem,
                                  .candidates = s.candidates,
                                  .base = s.base,
                                  .base_stored = s.stored,
                                  .deltas = true};
        int fd = sample_memfd("session");
        CHECK(snap_write(fd, &info, w.b.data, w.b.len, &src, &result, NULL) == 0);
        CHECK(restores_to(fd, s.base, s.mem, NULL) && restores_to(fd, s.base, s.mem, scratch));
        smaller += result.pages_delta;
        mapped += info.pages_stored;
        buf_free(&w.b);
        close(fd);
    }
    CHECK(smaller > 500 && mapped > 500);
    close(image);
    sample_free(&s);
}

TEST(few_bytes_cost_few_bytes)
{
    struct sample s;
    int image = sample_memfd("image"), fd = sample_memfd("session");
    struct stat st;
    CHECK(sample_image(&s, image) == 0);
    struct dstate_writer w = sample_state(1);
    struct snap_info info = sample_info(0);
    struct snap_result result;
    for (uint64_t p = 40; p < 360; p += 2) {
        s.mem[p * SNAP_PAGE + 7]++;
        sample_mark(s.candidates, p);
    }
    struct snap_source src = {.mem = s.mem,
                              .candidates = s.candidates,
                              .base = s.base,
                              .base_stored = s.stored,
                              .deltas = true};
    CHECK(snap_write(fd, &info, w.b.data, w.b.len, &src, &result, NULL) == 0);
    CHECK(result.pages_delta == 160 && info.pages_stored == 0 && info.flags == SNAP_DELTAS);
    CHECK(fstat(fd, &st) == 0 &&
          st.st_size == 8192 + 160 * (off_t)(SNAP_DELTA_HEAD + SNAP_UNIT));
    buf_free(&w.b);
    close(fd);
    close(image);
    sample_free(&s);
}

static void put_header(int fd, uint8_t *head, const uint8_t *deltas, size_t len)
{
    uint32_t n = get_le32(head + AT_NSECTIONS);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *s = head + AT_SECTIONS + i * SECTION_BYTES;
        if (get_le32(s) == SNAP_SECTION_DELTAS)
            put_le32(s + 4, crc32c(0, deltas, len));
    }
    put_le32(head + AT_HEADER_CRC, crc32c(0, head, AT_HEADER_CRC));
    if (fd_pwrite_full(fd, head, SNAP_PAGE, 0) < 0)
        abort();
}

TEST(forged)
{
    struct sample s;
    struct sample_rng r = {23};
    struct snap_file f;
    uint8_t head[SNAP_PAGE], good_head[SNAP_PAGE];
    int image = sample_memfd("image"), fd = sample_memfd("session");
    CHECK(sample_image(&s, image) == 0 && sample_session_as(&s, fd, true) == 0);
    CHECK(restores_to(fd, s.base, s.mem, scratch));
    CHECK(fd_pread_full(fd, good_head, sizeof good_head, 0) == 0);
    if (!CHECK(snap_open(&f, fd, NULL, NULL) == 0 && f.deltas_len > 0))
        return;
    const struct snap_section *sec = snap_section(&f.info, SNAP_SECTION_DELTAS);
    uint64_t off = sec->off;
    size_t len = sec->len;
    uint8_t *good = malloc(len), *bad = malloc(len);
    memcpy(good, f.deltas, len);
    snap_free(&f);
    unsigned refused = 0, unsound = 0, silent = 0, missed = 0;
    for (unsigned i = 0; i < 4000; i++) {
        bool right = i & 1;
        struct err e = ERR_INIT;
        memcpy(bad, good, len);
        memcpy(head, good_head, sizeof head);
        uint64_t at = sample_random(&r) % 3 ? sample_random(&r) % 36 : sample_random(&r) % len;
        bad[at] ^= (uint8_t)(1u << sample_random(&r) % 8);
        if (sample_random(&r) % 8 == 0) /* half a record more, or all of one over another */
            memmove(bad + sample_random(&r) % (len / 2), bad + sample_random(&r) % (len / 2),
                    len / 3);
        CHECK(fd_pwrite_full(fd, bad, len, off) == 0);
        if (right)
            put_header(fd, head, bad, len);
        if (snap_open(&f, fd, i & 2 ? scratch : NULL, &e) == 0) {
            unsound += walk_file(&f, f.info.file_len) != NULL;
            missed += !right && memcmp(bad, good, len) != 0;
            snap_free(&f);
        } else {
            refused++;
            silent += !e.msg[0];
        }
        CHECK(fd_pwrite_full(fd, good_head, sizeof good_head, 0) == 0);
    }
    CHECK(refused > 2000 && unsound == 0 && silent == 0 && missed == 0);
    CHECK(fd_pwrite_full(fd, good, len, off) == 0);
    /* Not in an image, not without the section, and not beyond the limit. */
    static const struct {
        unsigned at;
        uint32_t value;
    } cases[] = {{AT_FLAGS, SNAP_DELTAS | SNAP_FULL}, {AT_SECTIONS + SECTION_BYTES, 9}};
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        memcpy(head, good_head, sizeof head);
        put_le32(head + cases[i].at, cases[i].value);
        put_header(fd, head, good, len);
        CHECK(snap_open(&f, fd, NULL, NULL) < 0);
    }
    put_header(fd, good_head, good, len);
    CHECK(restores_to(fd, s.base, s.mem, NULL));
    free(good);
    free(bad);
    close(fd);
    close(image);
    sample_free(&s);
}

/* A run and a delta of the same page. */
TEST(stored_twice)
{
    struct sample s;
    struct snap_file f;
    struct err e = ERR_INIT;
    int image = sample_memfd("image"), fd = sample_memfd("session");
    uint8_t head[SNAP_PAGE], raw[4];
    CHECK(sample_image(&s, image) == 0 && sample_session_as(&s, fd, true) == 0);
    CHECK(snap_open(&f, fd, NULL, NULL) == 0);
    uint8_t *deltas = malloc(f.deltas_len);
    memcpy(deltas, f.deltas, f.deltas_len);
    size_t len = f.deltas_len;
    uint64_t off = snap_section(&f.info, SNAP_SECTION_DELTAS)->off;
    snap_free(&f);
    put_le32(deltas, 3); /* the first is page 2; page 3 is a zero run */
    put_le32(raw, 3);
    CHECK(fd_pwrite_full(fd, raw, 4, off) == 0 && fd_pread_full(fd, head, sizeof head, 0) == 0);
    put_header(fd, head, deltas, len);
    CHECK(snap_open(&f, fd, NULL, &e) == -EBADMSG && strstr(e.msg, "stored twice"));
    free(deltas);
    close(fd);
    close(image);
    sample_free(&s);
}

int main(void)
{
    RUN(there_and_back);
    RUN(few_bytes_cost_few_bytes);
    RUN(forged);
    RUN(stored_twice);
    return TAP_DONE();
}
