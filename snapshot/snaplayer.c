// SPDX-License-Identifier: Apache-2.0
/* Layer files; see snaplayer.h. */
#include "snaplayer.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "../hypervisor/base/crc32c.h"
#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/num.h"
#include "snapfile_layout.h"

enum {
    LAYER_AT_MAGIC = 0,
    LAYER_AT_VERSION = 8,
    LAYER_AT_ID = 16,
    LAYER_AT_OFF = 48,
    LAYER_AT_LEN = 56,
    LAYER_AT_MIDR = 64,
    LAYER_AT_KERNEL = 72,
    LAYER_AT_DATA = 80,
    LAYER_AT_FILE_LEN = 88,
};
#define LAYER_MAGIC "DORMLAYR"

static int parse_fields(const uint8_t *p, uint64_t file_len, struct layer_info *ret,
                        struct err *e)
{
    if (memcmp(p + LAYER_AT_MAGIC, LAYER_MAGIC, 8) != 0)
        return err_set(e, EBADMSG, "this is not a memory layer");
    if (get_le32(p + LAYER_AT_VERSION) != LAYER_VERSION)
        return err_set(e, ENOTSUP, "the memory layer has format version %u, this is version %u",
                       get_le32(p + LAYER_AT_VERSION), LAYER_VERSION);
    memcpy(ret->is.id, p + LAYER_AT_ID, SNAP_LAYER_ID);
    ret->is.off = get_le64(p + LAYER_AT_OFF);
    ret->is.len = get_le64(p + LAYER_AT_LEN);
    ret->midr = get_le64(p + LAYER_AT_MIDR);
    ret->kernel = get_le64(p + LAYER_AT_KERNEL);
    if (!snap_layer_ok(&ret->is, SNAP_MEM_MAX))
        return err_set(e, EBADMSG, "the memory layer has a bad place or length");
    if (get_le64(p + LAYER_AT_DATA) != LAYER_DATA ||
        get_le64(p + LAYER_AT_FILE_LEN) != file_len || file_len != LAYER_DATA + ret->is.len)
        return err_set(e, EBADMSG, "the memory layer has %llu bytes, its header says otherwise",
                       (unsigned long long)file_len);
    return 0;
}

int layer_parse(const void *bytes, size_t len, uint64_t file_len, struct layer_info *ret,
                struct err *e)
{
    const uint8_t *p = bytes;
    memset(ret, 0, sizeof *ret);
    int r = len < SNAP_PAGE ? err_set(e, EBADMSG, "this is not a memory layer")
                            : parse_fields(p, file_len, ret, e);
    if (r == 0 && crc32c(0, p, AT_HEADER_CRC) != get_le32(p + AT_HEADER_CRC))
        r = err_set(e, EBADMSG, "the memory layer's header is damaged (checksum)");
    return r;
}

void layer_build(const struct layer_info *l, uint8_t ret[SNAP_PAGE])
{
    memset(ret, 0, SNAP_PAGE);
    memcpy(ret + LAYER_AT_MAGIC, LAYER_MAGIC, 8);
    put_le32(ret + LAYER_AT_VERSION, LAYER_VERSION);
    memcpy(ret + LAYER_AT_ID, l->is.id, SNAP_LAYER_ID);
    put_le64(ret + LAYER_AT_OFF, l->is.off);
    put_le64(ret + LAYER_AT_LEN, l->is.len);
    put_le64(ret + LAYER_AT_MIDR, l->midr);
    put_le64(ret + LAYER_AT_KERNEL, l->kernel);
    put_le64(ret + LAYER_AT_DATA, LAYER_DATA);
    put_le64(ret + LAYER_AT_FILE_LEN, LAYER_DATA + l->is.len);
    put_le32(ret + AT_HEADER_CRC, crc32c(0, ret, AT_HEADER_CRC));
}

static int read_head(int fd, uint8_t *head, size_t len, uint64_t *ret_file_len, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "look at the memory layer");
    if (st.st_size < (off_t)len)
        return err_set(e, EBADMSG, "this is not a memory layer");
    int r = fd_pread_full(fd, head, len, 0);
    *ret_file_len = (uint64_t)st.st_size;
    return r < 0 ? err_sys(e, -r, "read the memory layer") : 0;
}

int layer_read(int fd, struct layer_info *ret, struct err *e)
{
    uint8_t page[SNAP_PAGE];
    uint64_t len;
    int r = read_head(fd, page, sizeof page, &len, e);
    return r < 0 ? r : layer_parse(page, sizeof page, len, ret, e);
}

int layer_write(const struct snap_io *io, int fd, const struct layer_info *l,
                const uint8_t *mem, struct err *e)
{
    uint8_t head[SNAP_PAGE];
    layer_build(l, head);
    int r = snap_io_write_full(io, fd, mem + l->is.off, l->is.len, LAYER_DATA);
    if (r == 0)
        r = snap_io_write_full(io, fd, head, sizeof head, 0);
    return r < 0 ? err_sys(e, -r, "write the memory layer") : 0;
}

int layer_check(int fd, const struct snap_info *image, struct err *e)
{
    uint8_t head[LAYER_MANIFEST_AT + LAYER_MANIFEST];
    struct layer_info l;
    uint64_t len;
    int r = read_head(fd, head, sizeof head, &len, e);
    if (r == 0)
        r = parse_fields(head, len, &l, e);
    if (r < 0)
        return r;
    if (memcmp(l.is.id, image->layer.id, SNAP_LAYER_ID) != 0 || l.is.off != image->layer.off ||
        l.is.len != image->layer.len) {
        r = err_set(e, ESTALE, "the memory layer is not the one the image was saved over");
        err_hint(e, "restore the image's own layer file");
    }
    return r;
}
