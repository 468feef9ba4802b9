// SPDX-License-Identifier: Apache-2.0
/* Seals on snapshot files; see seal.h. The files may be forged. */
#include "seal.h"

#include <errno.h>
#include <fcntl.h>
#include <mbedtls/constant_time.h>
#include <mbedtls/md.h>
#include <string.h>
#include <sys/stat.h>

#include "../hypervisor/base/crc32c.h"
#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "../snapshot/snapfile.h"
#include "../snapshot/snapfile_layout.h"
#include "digest.h"

#define KEY_LEN 32u
#define CONTEXT "dormouse snapshot seal 1"

struct seal {
    uint8_t key[KEY_LEN];
};

static void seal_free_auto(struct seal **s)
{
    seal_free(*s);
}

static int read_key(const char *path, struct seal *s, struct err *e)
{
    char text[2 * KEY_LEN + 2] = {0};
    struct stat st;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(e, errno, "open the snapshot key '%s'", path);
    if (st.st_mode & 077) {
        err_set(e, EPERM, "the snapshot key '%s' can be read by others", path);
        return err_hint(e, "chmod 600 '%s'", path);
    }
    bool ok = (st.st_size == 2 * KEY_LEN || st.st_size == 2 * KEY_LEN + 1) &&
              fd_pread_full(fd, text, (size_t)st.st_size, 0) == 0;
    if (ok && text[2 * KEY_LEN] == '\n')
        text[2 * KEY_LEN] = '\0';
    ok = ok && hex_decode(text, s->key, sizeof s->key);
    explicit_bzero(text, sizeof text);
    if (ok)
        return 0;
    err_set(e, EINVAL, "'%s' is not a snapshot key", path);
    return err_hint(e, "make one of 64 hex digits: openssl rand -hex 32");
}

int seal_open(struct seal **ret, const char *path, struct err *e)
{
    AUTO(seal_free_auto) struct seal *s = calloc(1, sizeof *s);
    if (!s)
        return err_sys(e, ENOMEM, "open the snapshot key");
    int r = read_key(path, s, e);
    if (r == 0)
        *ret = TAKE_PTR(s);
    return r;
}

void seal_free(struct seal *s)
{
    if (s)
        explicit_bzero(s, sizeof *s);
    free(s);
}

/* The header page without seal and checksum; then the sections. */
static int mac(const struct seal *s, const uint8_t head[SNAP_PAGE], const struct snap_file *f,
               uint8_t ret[SNAP_SEAL], struct err *e)
{
    mbedtls_md_context_t md;
    mbedtls_md_init(&md);
    int r = mbedtls_md_setup(&md, mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), 1);
    if (r == 0)
        r = mbedtls_md_hmac_starts(&md, s->key, sizeof s->key);
    if (r == 0)
        r = mbedtls_md_hmac_update(&md, (const uint8_t *)CONTEXT, sizeof CONTEXT);
    if (r == 0)
        r = mbedtls_md_hmac_update(&md, head, AT_SEAL);
    if (r == 0)
        r = mbedtls_md_hmac_update(&md, f->state, f->state_len);
    if (r == 0)
        r = mbedtls_md_hmac_update(&md, f->index, f->nruns * SNAP_RUN_BYTES);
    if (r == 0)
        r = mbedtls_md_hmac_finish(&md, ret);
    mbedtls_md_free(&md);
    return r == 0 ? 0 : err_set(e, ENOMEM, "compute the snapshot's seal (%d)", r);
}

/* Only what a reader takes for a snapshot is sealed. */
static int open_file(int fd, uint8_t head[SNAP_PAGE], struct snap_file *f, struct err *e)
{
    int r = snap_open(f, fd, NULL, e);
    if (r < 0)
        return r;
    r = fd_pread_full(fd, head, SNAP_PAGE, 0);
    if (r < 0) {
        snap_free(f);
        return err_sys(e, -r, "read the snapshot's header");
    }
    return 0;
}

int seal_put(const struct seal *s, const struct snap_io *io, int fd, struct err *e)
{
    struct snap_file f;
    uint8_t head[SNAP_PAGE];
    int r = open_file(fd, head, &f, e);
    if (r < 0)
        return r;
    put_le32(head + AT_FLAGS, get_le32(head + AT_FLAGS) | SNAP_SEALED);
    r = mac(s, head, &f, head + AT_SEAL, e);
    snap_free(&f);
    if (r < 0)
        return r;
    put_le32(head + AT_HEADER_CRC, crc32c(0, head, AT_HEADER_CRC));
    r = snap_io_write_full(io, fd, head, sizeof head, 0);
    return r < 0 ? err_sys(e, -r, "seal the snapshot") : 0;
}

int seal_check(const struct seal *s, int fd, struct err *e)
{
    struct snap_file f;
    uint8_t head[SNAP_PAGE], want[SNAP_SEAL];
    int r = open_file(fd, head, &f, e);
    if (r < 0)
        return r;
    if (!(get_le32(head + AT_FLAGS) & SNAP_SEALED))
        r = err_set(e, EKEYREJECTED, "the snapshot is not sealed");
    if (r == 0)
        r = mac(s, head, &f, want, e);
    if (r == 0 && mbedtls_ct_memcmp(want, head + AT_SEAL, sizeof want) != 0)
        r = err_set(e, EKEYREJECTED,
                    "the snapshot's seal is wrong: it was changed, or sealed with another key");
    snap_free(&f);
    if (r == -EKEYREJECTED)
        err_hint(e, "this daemon only restores what it sealed with its snapshot key");
    return r;
}
