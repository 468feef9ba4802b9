// SPDX-License-Identifier: Apache-2.0
/* Copy-on-write layers: format, marks, flush order, damaged files. */
#include "../../snapshot/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "../../hypervisor/base/num.h"
#include "../tap.h"

#define DISK (256ull << 20) /* two parts of the bitmap */

static int new_file(uint64_t size)
{
    int fd = memfd_create("overlay", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(overlay_create(fd, size, NULL) == 0);
    return fd;
}

static struct overlay *open_ok(int fd, bool writable)
{
    struct overlay *o = NULL;
    struct err e = ERR_INIT;
    if (!CHECK(overlay_open(&o, fd, writable, &e) == 0)) {
        printf("# %s\n", e.msg);
        exit(1);
    }
    return o;
}

TEST(fresh)
{
    AUTO_CLOSE int fd = new_file(DISK);
    struct stat st;
    CHECK(fstat(fd, &st) == 0 && (uint64_t)st.st_size == 4096 + 8192 + DISK);
    CHECK(st.st_blocks * 512 <= 65536); /* sparse */
    struct overlay *o = open_ok(fd, true);
    CHECK(overlay_size(o) == DISK && overlay_fd(o) == fd && overlay_count(o) == 0);
    CHECK(!overlay_has(o, 0) && !overlay_has(o, DISK / 4096) && !overlay_has(o, UINT64_MAX));
    CHECK(overlay_offset(o, 0) == 12288 && overlay_offset(o, 3) == 12288 + 3 * 4096);
    CHECK(overlay_run(o, 0, UINT64_MAX) == DISK / 4096);
    CHECK(overlay_run(o, 5, 7) == 7 && overlay_run(o, DISK / 4096, 1) == 0);
    CHECK(!overlay_dirty(o));
    overlay_free(o);
}

TEST(sizes)
{
    AUTO_CLOSE int fd = memfd_create("overlay", MFD_CLOEXEC);
    CHECK(overlay_create(fd, 0, NULL) == -EINVAL);
    CHECK(overlay_create(fd, 4095, NULL) == -EINVAL);
    CHECK(overlay_create(fd, OVERLAY_DISK_MAX + 4096, NULL) == -EINVAL);
    CHECK(overlay_create(fd, OVERLAY_DISK_MAX, NULL) == 0);
    struct overlay *o = open_ok(fd, true);
    uint64_t last = OVERLAY_DISK_MAX / 4096 - 1;
    overlay_set(o, last, 1);
    CHECK(overlay_has(o, last) && overlay_run(o, last, 100) == 1);
    overlay_free(o);
    CHECK(overlay_create(fd, 4096, NULL) == 0);
    o = open_ok(fd, false);
    CHECK(overlay_run(o, 0, 100) == 1);
    overlay_free(o);
}

TEST(marks)
{
    AUTO_CLOSE int fd = new_file(DISK);
    struct overlay *o = open_ok(fd, true);
    overlay_set(o, 10, 30);
    CHECK(overlay_count(o) == 30 && overlay_dirty(o));
    CHECK(!overlay_has(o, 9) && overlay_has(o, 10) && overlay_has(o, 39) &&
          !overlay_has(o, 40));
    CHECK(overlay_run(o, 0, 100) == 10 && overlay_run(o, 10, 100) == 30 &&
          overlay_run(o, 12, 5) == 5 && overlay_run(o, 40, 8) == 8);
    /* Ranges off the disk mark nothing. */
    overlay_set(o, DISK / 4096 - 1, 2);
    overlay_set(o, UINT64_MAX, 2);
    overlay_set(o, 5, UINT64_MAX);
    CHECK(overlay_count(o) == 30);
    overlay_free(o);
    /* Never flushed: nothing in the file. */
    o = open_ok(fd, false);
    CHECK(overlay_count(o) == 0);
    overlay_set(o, 1, 1); /* not writable */
    CHECK(overlay_count(o) == 0);
    overlay_free(o);
}

/* Which runs a bitmap has, compared block by block with a model. */
TEST(random_runs)
{
    AUTO_CLOSE int fd = new_file(1 << 20);
    const unsigned n = (1 << 20) / 4096;
    bool model[256] = {false};
    struct overlay *o = open_ok(fd, true);
    srandom(7);
    for (unsigned round = 0; round < 40; round++) {
        unsigned from = (unsigned)random() % n, len = (unsigned)random() % (n - from) % 20;
        overlay_set(o, from, len);
        for (unsigned i = 0; i < len; i++)
            model[from + i] = true;
        for (unsigned i = 0; i < n; i++) {
            unsigned run = 1, max = 1 + (unsigned)random() % n;
            while (i + run < n && run < max && model[i + run] == model[i])
                run++;
            if (overlay_has(o, i) != model[i] || overlay_run(o, i, max) != run) {
                CHECK(!"run differs from the model");
                overlay_free(o);
                return;
            }
        }
    }
    overlay_free(o);
}

TEST(flush)
{
    AUTO_CLOSE int fd = new_file(DISK);
    struct overlay *o = open_ok(fd, true);
    overlay_set(o, 3, 1);
    overlay_set(o, 40000, 2);
    overlay_stage(o);
    overlay_set(o, 4, 1); /* too late for this flush */
    overlay_set(o, 65000, 1);
    CHECK(overlay_flush(o, NULL) == 0);
    struct overlay *r = open_ok(fd, false);
    CHECK(overlay_count(r) == 3 && overlay_has(r, 3) && !overlay_has(r, 4) &&
          overlay_has(r, 40001) && !overlay_has(r, 65000));
    overlay_free(r);
    CHECK(overlay_has(o, 4) && overlay_dirty(o));
    overlay_stage(o);
    CHECK(overlay_flush(o, NULL) == 0 && !overlay_dirty(o));
    r = open_ok(fd, false);
    CHECK(overlay_count(r) == 5 && overlay_has(r, 65000));
    overlay_free(r);
    overlay_free(o);
}

TEST(flush_error)
{
    AUTO_CLOSE int fd = new_file(1 << 20);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    AUTO_CLOSE int ro = open(path, O_RDONLY | O_CLOEXEC);
    struct overlay *o = open_ok(ro, true);
    overlay_set(o, 1, 1);
    overlay_stage(o);
    CHECK(overlay_flush(o, NULL) == -EBADF && overlay_dirty(o));
    overlay_free(o);
}

static void damaged(const void *data, size_t len, uint64_t off, const char *what)
{
    AUTO_CLOSE int fd = new_file(1 << 20);
    struct overlay *o = NULL;
    struct err e = ERR_INIT;
    if (data)
        CHECK(fd_pwrite_full(fd, data, len, off) == 0);
    else
        CHECK(ftruncate(fd, (off_t)off) == 0);
    int r = overlay_open(&o, fd, false, &e);
    if (!CHECK(r == -EBADMSG || r == -ENODATA))
        printf("# %s: %d %s\n", what, r, e.msg);
    if (r == 0)
        overlay_free(o);
}

TEST(forged)
{
    uint8_t v[8];
    damaged("X", 1, 0, "magic");
    damaged("\0\2\0\0", 4, 8, "block size");
    damaged("\1", 1, 12, "reserved");
    put_le64(v, 2 << 20);
    damaged(v, 8, 16, "size without complement");
    put_le64(v, 0);
    damaged(v, 8, 32, "bitmap offset");
    put_le64(v, 1ull << 60);
    damaged(v, 8, 40, "data offset");
    damaged(NULL, 0, 0, "empty file");
    damaged(NULL, 0, 4096, "no bitmap");
    damaged(NULL, 0, (1 << 20) + 8191, "cut short");
    damaged(NULL, 0, (1 << 20) + 8193, "too long");
    uint8_t huge[16];
    put_le64(huge, 1ull << 62);
    put_le64(huge + 8, ~(1ull << 62));
    damaged(huge, 16, 16, "huge size");
}

/* Bits behind the disk's end and marks over holes do no harm. */
TEST(stray_bits)
{
    AUTO_CLOSE int fd = new_file(3 * 4096);
    uint8_t ff = 0xff;
    CHECK(fd_pwrite_full(fd, &ff, 1, 4096) == 0);
    struct overlay *o = open_ok(fd, false);
    CHECK(overlay_count(o) == 3 && !overlay_has(o, 3) && overlay_run(o, 0, 100) == 3);
    overlay_free(o);
}

int main(void)
{
    RUN(fresh);
    RUN(sizes);
    RUN(marks);
    RUN(random_runs);
    RUN(flush);
    RUN(flush_error);
    RUN(forged);
    RUN(stray_bits);
    return TAP_DONE();
}
