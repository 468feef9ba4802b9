// SPDX-License-Identifier: Apache-2.0
/*
 * A snapshot file of a stranger, through the reader that restores use. The
 * input is the header page and then the sections, one behind the other; they
 * are put where the header says. Magic, version and length are made right, and
 * with bit 0 of the first byte the checksums too, so that the checks behind
 * them are reached. What is accepted must be sound.
 */
#include <stdio.h>
#include <sys/mman.h>

#include "../../hypervisor/base/crc32c.h"
#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "../../snapshot/snapfile_layout.h"
#include "../unit/snap_walk.h"

#define FILE_MAX (256ull << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Sections that follow from the input; what is missing is zero. */
static void place(int fd, uint8_t *h, const uint8_t *tail, size_t left, uint64_t file_len)
{
    uint32_t n = MIN(get_le32(h + AT_NSECTIONS), SNAP_SECTIONS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *s = h + AT_SECTIONS + i * SECTION_BYTES;
        uint64_t off = get_le64(s + 8), len = get_le64(s + 16);
        if (off < SNAP_PAGE || len > SNAP_STATE_MAX || !range_ok(off, len, file_len))
            continue;
        size_t have = (size_t)MIN(len, (uint64_t)left);
        if (fd_pwrite_full(fd, tail, have, off) < 0)
            abort();
        tail += have;
        left -= have;
    }
    for (uint32_t i = 0; i < n && (h[AT_MAGIC] & 1); i++) { /* they may overlap */
        uint8_t *s = h + AT_SECTIONS + i * SECTION_BYTES;
        uint64_t off = get_le64(s + 8), len = get_le64(s + 16);
        if (off < SNAP_PAGE || len > SNAP_STATE_MAX || !range_ok(off, len, file_len))
            continue;
        uint8_t *p = malloc(len + 1);
        if (!p || fd_pread_full(fd, p, len, off) < 0)
            abort();
        put_le32(s + 4, crc32c(0, p, len));
        free(p);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t h[SNAP_PAGE] = {0};
    struct snap_file f;
    memcpy(h, data, MIN(size, sizeof h));
    uint64_t file_len = get_le64(h + AT_FILE_LEN) % FILE_MAX;
    put_le64(h + AT_FILE_LEN, file_len);
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)file_len) < 0)
        abort();
    place(fd, h, data + MIN(size, sizeof h), size - MIN(size, sizeof h), file_len);
    bool right = h[AT_MAGIC] & 1;
    memcpy(h + AT_MAGIC, SNAP_MAGIC, 8);
    put_le32(h + AT_VERSION, SNAP_VERSION);
    if (right)
        put_le32(h + AT_HEADER_CRC, crc32c(0, h, AT_HEADER_CRC));
    if (file_len >= SNAP_PAGE && fd_pwrite_full(fd, h, sizeof h, 0) < 0)
        abort();
    if (snap_open(&f, fd, NULL, NULL) == 0) {
        const char *wrong = walk_file(&f, file_len);
        if (wrong) {
            fprintf(stderr, "accepted, but %s\n", wrong);
            abort();
        }
        snap_verify_data(&f, fd, NULL);
        snap_free(&f);
    }
    close(fd);
    return 0;
}
