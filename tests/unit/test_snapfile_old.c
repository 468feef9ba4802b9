// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshot files of earlier versions, checked in, must load for ever. Never
 * replace tests/fixtures/snapshot-v1-*: add a new pair when the format changes.
 */
#include <fcntl.h>
#include <zlib.h>

#include "../tap.h"
#include "snap_sample.h"
#include "snap_walk.h"

/* Unpacks a file into memory; the tests run in the root of the tree. */
static int unpack(const char *path)
{
    static uint8_t part[65536];
    uint64_t at = 0;
    int fd = sample_memfd("old"), n;
    gzFile z = gzopen(path, "rb");
    if (!CHECK(z != NULL))
        return fd;
    while ((n = gzread(z, part, sizeof part)) > 0) {
        if (fd_pwrite_full(fd, part, (size_t)n, at) < 0)
            abort();
        at += (uint64_t)n;
    }
    CHECK(n == 0);
    gzclose(z);
    return fd;
}

static void check_page(const struct snap_file *f, int fd, size_t run, uint32_t page, char want)
{
    uint8_t p[SNAP_PAGE];
    struct snap_run r = snap_run_at(f->index, run);
    bool same = r.page == page && r.count == 1 && !(r.flags & SNAP_RUN_ZERO) &&
                fd_pread_full(fd, p, sizeof p, r.off) == 0;
    for (unsigned i = 0; i < SNAP_PAGE && same; i++)
        same = p[i] == (uint8_t)want;
    CHECK(same);
}

TEST(version_1)
{
    struct snap_file image, session;
    struct dstate_reader machine;
    struct snap_host host = SAMPLE_HOST;
    uint64_t counter = 0;
    int a = unpack("tests/fixtures/snapshot-v1-image.gz"),
        b = unpack("tests/fixtures/snapshot-v1-session.gz");
    if (!CHECK(snap_open(&image, a, NULL, NULL) == 0 &&
               snap_open(&session, b, NULL, NULL) == 0))
        return;
    CHECK(snap_check_pair(&image.info, &session.info, NULL) == 0);
    CHECK(snap_check_host(&session.info, &host, NULL) == 0);
    CHECK(walk_file(&image, image.info.file_len) == NULL);
    CHECK(walk_file(&session, session.info.file_len) == NULL);
    CHECK(snap_verify_data(&image, a, NULL) == 0 && snap_verify_data(&session, b, NULL) == 0);
    CHECK(image.info.mem_bytes == 2u << 20 && image.info.vcpus == 2);
    CHECK(image.nruns == 2 && session.nruns == 2);
    check_page(&image, a, 0, 3, 'a');
    check_page(&image, a, 1, 500, 'b');
    check_page(&session, b, 0, 3, 'c');
    struct snap_run zero = snap_run_at(session.index, 1);
    CHECK(zero.page == 500 && zero.count == 1 && zero.flags == SNAP_RUN_ZERO);
    CHECK(dr_find(session.state, session.state_len, SNAP_TAG_MACHINE, 0, &machine, NULL) == 0 &&
          dr_u64(&machine, SNAP_MACHINE_COUNTER, &counter, NULL) == 0 && counter == 99);
    CHECK(dr_find(session.state, session.state_len, SNAP_TAG_VCPU, 1, &machine, NULL) == 0);
    CHECK(dr_find(session.state, session.state_len, SNAP_TAG_GIC, 0, &machine, NULL) == 0);
    snap_free(&image);
    snap_free(&session);
    close(a);
    close(b);
}

int main(void)
{
    RUN(version_1);
    return TAP_DONE();
}
