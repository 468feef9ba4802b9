// SPDX-License-Identifier: Apache-2.0
/*
 * snappack: snapshots for cold storage. A packed file is a short head and one
 * zstd frame: header page, sections, and the stored pages in the order of the
 * index. Unpacking gives the same bytes again, holes included, and checks every
 * checksum before it says so. Neither side trusts its input.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "snapview.h"

static const char usage[] =
    "NAME\n"
    "  snappack - snapshots for cold storage\n"
    "\n"
    "SYNOPSIS\n"
    "  snappack [--level N] FILE OUT.snapz\n"
    "  snappack --unpack FILE.snapz OUT\n"
    "\n"
    "DESCRIPTION\n"
    "  Compresses an image or a session with zstd, or gives it back byte for byte. A packed\n"
    "  file cannot be restored from: unpack it first. All checksums are compared both times.\n"
    "\n"
    "OPTIONS\n"
    "  --level N     1 (fast) to 19 (small, the default is 9)\n"
    "  --unpack      the other way\n"
    "  --help        this text\n"
    "\n"
    "EXIT STATUS\n"
    "  0 good, 1 damaged, unreadable or not written, 2 wrong arguments\n";

#define PACK_MAGIC "DORMPACK"
#define PACK_HEAD  24u /* magic, u32 version, u32 zero, u64 length of the file */
#define PACK_LEVEL 9u
#define CHUNK      (256u << 10)

/* ---- pack ---- */

struct packer {
    ZSTD_CCtx *z;
    int out;
    uint8_t *buf;
    uint64_t in_bytes;
};

static int put(struct packer *p, const void *data, size_t len, bool end, struct err *e)
{
    ZSTD_inBuffer in = {data, len, 0};
    size_t left;
    p->in_bytes += len;
    do {
        ZSTD_outBuffer o = {p->buf, CHUNK, 0};
        left = ZSTD_compressStream2(p->z, &o, &in, end ? ZSTD_e_end : ZSTD_e_continue);
        if (ZSTD_isError(left))
            return err_set(e, EIO, "compress: %s", ZSTD_getErrorName(left));
        int r = fd_write_full(p->out, p->buf, o.pos);
        if (r < 0)
            return err_sys(e, -r, "write the packed file");
    } while (end ? left != 0 : in.pos < in.size);
    return 0;
}

static int put_range(struct packer *p, int fd, uint64_t off, uint64_t len, struct err *e)
{
    AUTO_FREE uint8_t *part = malloc(CHUNK);
    if (!part)
        return err_sys(e, ENOMEM, "pack");
    while (len > 0) {
        size_t n = (size_t)MIN(len, (uint64_t)CHUNK);
        int r = fd_pread_full(fd, part, n, off);
        if (r < 0)
            return err_sys(e, -r, "read the snapshot");
        if ((r = put(p, part, n, false, e)) < 0)
            return r;
        off += n;
        len -= n;
    }
    return 0;
}

static int pack_all(struct packer *p, const struct snap_file *f, int fd, struct err *e)
{
    uint8_t head[PACK_HEAD] = {0};
    memcpy(head, PACK_MAGIC, 8);
    put_le32(head + 8, 1);
    put_le64(head + 16, f->info.file_len);
    int r = fd_write_full(p->out, head, sizeof head);
    if (r < 0)
        return err_sys(e, -r, "write the packed file");
    r = put_range(p, fd, 0, SNAP_PAGE, e);
    for (unsigned i = 0; i < f->info.nsections && r == 0; i++)
        r = put_range(p, fd, f->info.sections[i].off, f->info.sections[i].len, e);
    for (size_t i = 0; i < f->nruns && r == 0; i++) {
        struct snap_run run = snap_run_at(f->index, i);
        if (!(run.flags & SNAP_RUN_ZERO))
            r = put_range(p, fd, run.off, (uint64_t)run.count * SNAP_PAGE, e);
    }
    return r < 0 ? r : put(p, NULL, 0, true, e);
}

static int pack(int in, int out, int level, struct err *e)
{
    struct snap_file f;
    struct packer p = {.z = ZSTD_createCCtx(), .out = out, .buf = malloc(CHUNK)};
    struct stat st = {.st_size = 0};
    int r = snap_open(&f, in, NULL, e);
    if (r == 0) {
        r = p.z && p.buf ? snap_verify_data(&f, in, e) : err_sys(e, ENOMEM, "pack");
        if (r == 0) {
            ZSTD_CCtx_setParameter(p.z, ZSTD_c_compressionLevel, level);
            ZSTD_CCtx_setParameter(p.z, ZSTD_c_checksumFlag, 1);
            r = pack_all(&p, &f, in, e);
        }
        snap_free(&f);
    }
    if (r == 0 && fstat(out, &st) == 0)
        printf("%llu KiB of content in %llu KiB\n", (unsigned long long)p.in_bytes >> 10,
               (unsigned long long)st.st_size >> 10);
    ZSTD_freeCCtx(p.z);
    free(p.buf);
    return r;
}

/* ---- unpack ---- */

struct unpacker {
    ZSTD_DCtx *z;
    int in;
    uint8_t *buf;
    ZSTD_inBuffer have;
    bool end; /* of the frame */
};

/* Exactly len bytes of the stream. */
static int get(struct unpacker *u, void *ret, size_t len, struct err *e)
{
    ZSTD_outBuffer o = {ret, len, 0};
    while (o.pos < len) {
        if (u->end)
            return err_set(e, EBADMSG, "the packed file ends too early");
        if (u->have.pos == u->have.size) {
            ssize_t n = read(u->in, u->buf, CHUNK);
            if (n < 0)
                return err_sys(e, errno, "read the packed file");
            if (n == 0)
                return err_set(e, EBADMSG, "the packed file was cut short");
            u->have = (ZSTD_inBuffer){u->buf, (size_t)n, 0};
        }
        size_t left = ZSTD_decompressStream(u->z, &o, &u->have);
        if (ZSTD_isError(left))
            return err_set(e, EBADMSG, "the packed file is damaged: %s",
                           ZSTD_getErrorName(left));
        u->end = left == 0;
    }
    return 0;
}

static int copy_range(struct unpacker *u, int out, uint64_t off, uint64_t len, struct err *e)
{
    AUTO_FREE uint8_t *part = malloc(CHUNK);
    int r = part ? 0 : err_sys(e, ENOMEM, "unpack");
    while (len > 0 && r == 0) {
        size_t n = (size_t)MIN(len, (uint64_t)CHUNK);
        r = get(u, part, n, e);
        if (r == 0 && (r = fd_pwrite_full(out, part, n, off)) < 0)
            err_sys(e, -r, "write the snapshot");
        off += n;
        len -= n;
    }
    return r;
}

static int unpack_all(struct unpacker *u, int out, struct err *e)
{
    uint8_t head[PACK_HEAD], page[SNAP_PAGE];
    struct snap_info info;
    struct snap_file f;
    int r = fd_read_full(u->in, head, sizeof head);
    if (r < 0 || memcmp(head, PACK_MAGIC, 8) != 0 || get_le32(head + 12) != 0)
        return err_set(e, EBADMSG, "this is not a packed snapshot");
    if (get_le32(head + 8) != 1)
        return err_set(e, ENOTSUP, "the packed file has version %u, this is version 1",
                       get_le32(head + 8));
    uint64_t len = get_le64(head + 16);
    if ((r = get(u, page, sizeof page, e)) < 0)
        return r;
    /* From here on all offsets are inside the file. */
    if ((r = snap_parse_header(page, sizeof page, len, &info, e)) < 0)
        return r;
    if (ftruncate(out, (off_t)len) < 0)
        return err_sys(e, errno, "make the snapshot");
    if ((r = fd_pwrite_full(out, page, sizeof page, 0)) < 0)
        return err_sys(e, -r, "write the snapshot");
    for (unsigned i = 0; i < info.nsections && r == 0; i++)
        r = copy_range(u, out, info.sections[i].off, info.sections[i].len, e);
    if (r == 0)
        r = snap_open(&f, out, NULL, e);
    if (r < 0)
        return r;
    for (size_t i = 0; i < f.nruns && r == 0; i++) {
        struct snap_run run = snap_run_at(f.index, i);
        if (!(run.flags & SNAP_RUN_ZERO))
            r = copy_range(u, out, run.off, (uint64_t)run.count * SNAP_PAGE, e);
    }
    if (r == 0)
        r = snap_verify_data(&f, out, e);
    snap_free(&f);
    return r;
}

static int unpack(int in, int out, struct err *e)
{
    struct unpacker u = {.z = ZSTD_createDCtx(), .in = in, .buf = malloc(CHUNK)};
    int r = u.z && u.buf ? unpack_all(&u, out, e) : err_sys(e, ENOMEM, "unpack");
    ZSTD_freeDCtx(u.z);
    free(u.buf);
    return r;
}

/* ---- both ---- */

/* A name appears when its content is whole. */
static int convert(const char *from, const char *to, bool back, int level, struct err *e)
{
    char tmp[4096];
    AUTO_CLOSE int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return err_sys(e, errno, "open '%s'", from);
    if (snprintf(tmp, sizeof tmp, "%s.tmp", to) >= (int)sizeof tmp)
        return err_set(e, ENAMETOOLONG, "'%.60s…' is too long a name", to);
    AUTO_CLOSE int out = open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0)
        return err_sys(e, errno, "make '%s'", tmp);
    int r = back ? unpack(in, out, e) : pack(in, out, level, e);
    if (r < 0)
        err_wrap(e, "'%s'", from);
    else if (fsync(out) < 0 || rename(tmp, to) < 0)
        r = err_sys(e, errno, "write '%s'", to);
    if (r < 0)
        unlink(tmp);
    return r;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {{"level", required_argument, NULL, 'l'},
                                          {"unpack", no_argument, NULL, 'u'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct err e = ERR_INIT;
    uint64_t level = PACK_LEVEL;
    bool back = false, good = true;
    int c;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 'h':
            fputs(usage, stdout);
            return 0;
        case 'l':
            good &= parse_u64(optarg, 1, 19, &level);
            break;
        case 'u':
            back = true;
            break;
        default:
            return 2;
        }
    }
    if (!good || optind != argc - 2) {
        fprintf(stderr, "snappack: %s; see snappack --help\n",
                good ? "name two files" : "levels are 1 to 19");
        return 2;
    }
    return convert(argv[optind], argv[optind + 1], back, (int)level, &e) < 0 ? view_fail(&e)
                                                                             : 0;
}
