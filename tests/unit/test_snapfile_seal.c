// SPDX-License-Identifier: Apache-2.0
/* Seals: what they cover, what they do not, and who is refused. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "../../api/seal.h"
#include "../../hypervisor/base/crc32c.h"
#include "../../hypervisor/base/mem.h"
#include "../../snapshot/snapfile_layout.h"
#include "../tap.h"
#include "snap_sample.h"

static int key_of(const char *text, mode_t mode, struct seal **ret, struct err *e)
{
    char path[] = "/tmp/test_seal.XXXXXX";
    AUTO_CLOSE int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0 || fd_pwrite_full(fd, text, strlen(text), 0) < 0 || fchmod(fd, mode) < 0)
        abort();
    int r = seal_open(ret, path, e);
    unlink(path);
    return r;
}

#define KEY_A "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define KEY_B "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1e\n"

TEST(keys)
{
    struct seal *s = NULL;
    struct err e = ERR_INIT;
    CHECK(key_of(KEY_B, 0600, &s, NULL) == 0);
    seal_free(s);
    CHECK(key_of(KEY_A, 0640, &s, &e) == -EPERM && e.hint[0]);
    CHECK(key_of("0001", 0600, &s, &e) == -EINVAL && e.hint[0]);
    CHECK(key_of(KEY_A KEY_A, 0600, &s, &e) == -EINVAL);
    CHECK(key_of("g" KEY_A, 0600, &s, &e) == -EINVAL);
    CHECK(seal_open(&s, "/nonexistent/key", &e) == -ENOENT);
}

/* A byte changed, checksums made right again. */
static int check_changed(const struct seal *s, int fd, uint64_t at, uint8_t flip)
{
    uint8_t head[SNAP_PAGE], byte;
    CHECK(fd_pread_full(fd, &byte, 1, at) == 0);
    byte ^= flip;
    CHECK(fd_pwrite_full(fd, &byte, 1, at) == 0);
    CHECK(fd_pread_full(fd, head, sizeof head, 0) == 0);
    uint32_t n = MIN(get_le32(head + AT_NSECTIONS), SNAP_SECTIONS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *sec = head + AT_SECTIONS + i * SECTION_BYTES;
        uint64_t len = get_le64(sec + 16);
        if (len > SNAP_STATE_MAX)
            continue;
        AUTO_FREE uint8_t *p = malloc(len + 1);
        if (fd_pread_full(fd, p, len, get_le64(sec + 8)) == 0)
            put_le32(sec + 4, crc32c(0, p, len));
    }
    put_le32(head + AT_HEADER_CRC, crc32c(0, head, AT_HEADER_CRC));
    CHECK(fd_pwrite_full(fd, head, sizeof head, 0) == 0);
    return seal_check(s, fd, NULL);
}

TEST(what_is_covered)
{
    struct sample s;
    struct seal *a, *b;
    struct err e = ERR_INIT;
    int fds[2] = {sample_memfd("image"), sample_memfd("session")};
    CHECK(sample_image(&s, fds[0]) == 0 && sample_session(&s, fds[1]) == 0);
    CHECK(key_of(KEY_A, 0600, &a, NULL) == 0 && key_of(KEY_B, 0400, &b, NULL) == 0);
    for (unsigned i = 0; i < 2; i++) {
        int fd = fds[i];
        struct snap_file f;
        uint8_t head[SNAP_PAGE];
        CHECK(seal_check(a, fd, &e) == -EKEYREJECTED && strstr(e.msg, "not sealed"));
        CHECK(seal_put(a, &snap_io_host, fd, NULL) == 0);
        CHECK(seal_check(a, fd, NULL) == 0);
        CHECK(seal_check(b, fd, &e) == -EKEYREJECTED && e.hint[0]);
        CHECK(snap_open(&f, fd, NULL, NULL) == 0 && f.info.flags & SNAP_SEALED);
        CHECK(snap_verify_data(&f, fd, NULL) == 0);
        const struct snap_section *state = snap_section(&f.info, SNAP_SECTION_STATE),
                                  *index = snap_section(&f.info, SNAP_SECTION_INDEX);
        /* Every byte of header and state, and of the index, is under the seal. */
        unsigned passed = 0;
        CHECK(fd_pread_full(fd, head, sizeof head, 0) == 0);
        uint64_t end = state->off + state->len;
        for (uint64_t at = 0; at < end + index->len; at++) {
            uint64_t where = at < end ? at : index->off + (at - end);
            uint8_t was;
            if (where == AT_SEAL + SNAP_SEAL) /* zeros and the checksum, which is made right */
                at = where = SNAP_PAGE;
            if (where >= AT_SECTIONS && where < AT_SECTIONS + 2 * SECTION_BYTES &&
                (where - AT_SECTIONS) % SECTION_BYTES / 4 == 1)
                continue; /* checksums too */
            CHECK(fd_pread_full(fd, &was, 1, where) == 0);
            passed += check_changed(a, fd, where, (uint8_t)(1u << at % 8)) == 0;
            CHECK(fd_pwrite_full(fd, &was, 1, where) == 0);
            CHECK(fd_pwrite_full(fd, head, sizeof head, 0) == 0);
        }
        CHECK(passed == 0);
        CHECK(seal_check(a, fd, NULL) == 0);
        /* Page data is not: damage is found by its checksum, which the seal covers. */
        struct snap_run run = snap_run_at(f.index, 0);
        CHECK(check_changed(a, fd, run.off + 5, 1) == 0);
        CHECK(snap_verify_data(&f, fd, NULL) == -EBADMSG);
        snap_free(&f);
        close(fd);
    }
    seal_free(a);
    seal_free(b);
    sample_free(&s);
}

/* A file that was cut or is no snapshot is never sealed. */
TEST(only_snapshots_are_sealed)
{
    struct sample s;
    struct seal *a;
    struct err e = ERR_INIT;
    int image = sample_memfd("image"), session = sample_memfd("session");
    CHECK(sample_image(&s, image) == 0 && sample_session(&s, session) == 0);
    CHECK(key_of(KEY_A, 0600, &a, NULL) == 0);
    CHECK(ftruncate(session, 9000) == 0);
    CHECK(seal_put(a, &snap_io_host, session, &e) == -EBADMSG);
    seal_free(a);
    sample_free(&s);
    close(image);
    close(session);
}

int main(void)
{
    RUN(keys);
    RUN(what_is_covered);
    RUN(only_snapshots_are_sealed);
    return TAP_DONE();
}
