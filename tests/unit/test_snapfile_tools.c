// SPDX-License-Identifier: Apache-2.0
/*
 * The tools that look at snapshots, run as their users do, over valid, sealed,
 * damaged and forged files. The programs are compiled in, so that the
 * sanitizers see them.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <zlib.h>

#include "../../hypervisor/base/crc32c.h"
#include "../../snapshot/snapfile_layout.h"
#include "../tap.h"
#include "snap_sample.h"

#include "../../tools/snapnames.c"
#include "../../tools/snapview.c"
#define usage   dump_usage
#define options dump_options
#define main    dump_main
#include "../../tools/snapdump.c"
#undef main
#undef options
#undef usage
#define usage   diff_usage
#define options diff_options
#define main    diff_main
#include "../../tools/snapdiff.c"
#undef main
#undef options
#undef usage
#define usage   map_usage
#define options map_options
#define main    map_main
#include "../../tools/snapmap.c"
#undef main
#undef options
#undef usage
#define usage pack_usage
#define main  pack_main
#include "../../tools/snappack.c"
#undef main
#undef usage

static char out[1u << 20]; /* what a program printed */

static int run(int (*program)(int, char **), const char *const *args)
{
    char *argv[12] = {(char *)(uintptr_t) "tool"};
    int argc = 1, file = sample_memfd("out"), was[2] = {dup(1), dup(2)};
    for (; args[argc - 1]; argc++)
        argv[argc] = (char *)(uintptr_t)args[argc - 1];
    fflush(stdout);
    dup2(file, 1);
    dup2(file, 2);
    optind = 0;
    int r = program(argc, argv);
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        dup2(was[i], i + 1);
        close(was[i]);
    }
    off_t len = lseek(file, 0, SEEK_CUR);
    memset(out, 0, sizeof out);
    if (len < 0 || (size_t)len >= sizeof out || fd_pread_full(file, out, (size_t)len, 0) < 0)
        abort();
    close(file);
    return r;
}
#define RUN_TOOL(program, ...) run(program, (const char *const[]){__VA_ARGS__, NULL})

static bool says(const char *text)
{
    if (strstr(out, text))
        return true;
    printf("# not in the output: %s\n", text);
    return false;
}

struct files {
    struct sample s;
    int fd[2];
    char image[40], session[40];
};

static void files_make(struct files *f)
{
    f->fd[0] = sample_memfd("image");
    f->fd[1] = sample_memfd("session");
    if (sample_image(&f->s, f->fd[0]) < 0 || sample_session(&f->s, f->fd[1]) < 0)
        abort();
    snprintf(f->image, sizeof f->image, "/proc/self/fd/%d", f->fd[0]);
    snprintf(f->session, sizeof f->session, "/proc/self/fd/%d", f->fd[1]);
}

static void files_free(struct files *f)
{
    close(f->fd[0]);
    close(f->fd[1]);
    sample_free(&f->s);
}

TEST(dump)
{
    struct files f;
    files_make(&f);
    CHECK(RUN_TOOL(dump_main, "--registers", "--pages", "--runs", "--verify", f.image) == 0);
    CHECK(says("image, version 1\n") && says("GICv3, MIDR 413fd0c1") && says("VSOK 0") &&
          says("virtio-vsock") && says("      X30 ") && says("      PC ") &&
          says("SCTLR_EL1") && says("GICD_IGROUPR+c") && says("queue 2") &&
          says("325 stored (1300 KiB)") && says("all pages are as they were written"));
    CHECK(says("of 325 stored pages 325 are distinct"));
    CHECK(RUN_TOOL(dump_main, "--pages", "--image", f.image, f.session) == 0);
    CHECK(says("4 changed, 1 where it has nothing, 0 the same") &&
          says("zero where the image has content: 2 pages"));
    CHECK(RUN_TOOL(dump_main, "--image", f.session, f.session) == 1 && says("error: "));
    CHECK(RUN_TOOL(dump_main, "--help") == 0 && says("SYNOPSIS"));
    CHECK(RUN_TOOL(dump_main, f.image, f.session) == 2);
    CHECK(RUN_TOOL(dump_main, "/nonexistent") == 1 && says("error: open '/nonexistent'"));
    uint8_t b = 0x55;
    CHECK(fd_pwrite_full(f.fd[1], &b, 1, 8192 + 9) == 0);
    CHECK(RUN_TOOL(dump_main, "--verify", f.session) == 1 && says("damaged"));
    CHECK(fd_pwrite_full(f.fd[1], &b, 1, AT_VERSION) == 0);
    CHECK(RUN_TOOL(dump_main, f.session) == 1 && says("format version") && says("  try: "));
    files_free(&f);
}

TEST(diff)
{
    struct files f;
    files_make(&f);
    CHECK(RUN_TOOL(diff_main, f.session, f.session) == 0);
    CHECK(says("memory  0 of 1024 pages differ"));
    CHECK(RUN_TOOL(diff_main, "--pages", "--bytes", f.image, f.session) == 1);
    CHECK(says("image -> session") && says("counter") && says("0x40032000 3 pages") &&
          says("memory  7 of 1024 pages differ"));
    /* Another session, with a register and a GIC word changed and a page less. */
    struct dstate_writer w = sample_state(99);
    struct snap_info info = sample_info(0);
    struct snap_result result;
    int other = sample_memfd("other");
    char path[40];
    for (size_t i = 0; i + 16 < w.b.len; i++) {
        if (get_le64(w.b.data + i) == 0x6030000000100000ull + 2 * 32) /* PC, of both vCPUs */
            put_le64(w.b.data + i + 8, 0x1234);
    }
    f.s.candidates[900 / 64] &= ~(1ull << 900 % 64);
    struct snap_source src = {.mem = f.s.mem,
                              .candidates = f.s.candidates,
                              .base = f.s.base,
                              .base_stored = f.s.stored};
    CHECK(snap_write(other, &info, w.b.data, w.b.len, &src, &result, NULL) == 0);
    buf_free(&w.b);
    snprintf(path, sizeof path, "/proc/self/fd/%d", other);
    CHECK(RUN_TOOL(diff_main, "--image", f.image, f.session, path) == 1);
    CHECK(says("VCPU 0  PC") && says("-> 0000000000001234") && says("VCPU 1  PC") &&
          says("memory  1 of 1024 pages differ"));
    CHECK(RUN_TOOL(diff_main, f.session, path) == 1 && says("memory  1 of 1024"));
    CHECK(RUN_TOOL(diff_main, "--image", path, f.session, path) == 2 && says("error: "));
    CHECK(RUN_TOOL(diff_main, "--help") == 0 && says("SYNOPSIS"));
    CHECK(RUN_TOOL(diff_main, f.session) == 2);
    close(other);
    files_free(&f);
}

/* The picture, unpacked by zlib: each dot is the colour of its page. */
static void check_png(const uint8_t *p, size_t len, const struct files *f)
{
    static uint8_t rows[1u << 20];
    uLongf have = sizeof rows;
    uint32_t width = 0, height = 0;
    bool end = false;
    if (!CHECK(len > 8 && memcmp(p, "\x89PNG\r\n\x1a\n", 8) == 0))
        return;
    for (size_t at = 8; at + 12 <= len;) {
        uint32_t n = __builtin_bswap32(get_le32(p + at));
        if (!CHECK(range_ok(at, n + 12ull, len)))
            return;
        const uint8_t *type = p + at + 4, *data = type + 4;
        CHECK(crc32(0, type, n + 4) == __builtin_bswap32(get_le32(data + n)));
        if (memcmp(type, "IHDR", 4) == 0) {
            width = __builtin_bswap32(get_le32(data));
            height = __builtin_bswap32(get_le32(data + 4));
        } else if (memcmp(type, "IDAT", 4) == 0) {
            CHECK(uncompress(rows, &have, data, n) == Z_OK);
        }
        end = memcmp(type, "IEND", 4) == 0;
        at += n + 12;
    }
    CHECK(end && width == 64 * 2 && height == 16 * 2 && have == (width + 1ul) * height);
    unsigned wrong = 0;
    for (unsigned page = 0; page < SAMPLE_PAGES; page++) {
        bool zero = page_is_zero(f->s.mem + (uint64_t)page * SNAP_PAGE);
        uint8_t dot = rows[(page / 64 * 2ul) * (width + 1) + 1 + page % 64 * 2];
        wrong += (dot % 16 == KIND_ZERO) != zero;
    }
    CHECK(wrong == 0);
}

TEST(map)
{
    struct files f;
    static uint8_t picture[1u << 20];
    char png[] = "/tmp/test_snapmap.XXXXXX.png", svg[] = "/tmp/test_snapmap.XXXXXX.svg";
    int fd = mkostemps(png, 4, O_CLOEXEC), fd2 = mkostemps(svg, 4, O_CLOEXEC);
    struct stat st;
    files_make(&f);
    CHECK(RUN_TOOL(map_main, "--legend", "--scale", "2", "--width", "64", "--image", f.image,
                   f.session, png) == 0);
    CHECK(says("random, in the image") && says("pages  zero"));
    CHECK(fstat(fd, &st) == 0 && (size_t)st.st_size < sizeof picture);
    CHECK(fd_pread_full(fd, picture, (size_t)st.st_size, 0) == 0);
    check_png(picture, (size_t)st.st_size, &f);
    CHECK(RUN_TOOL(map_main, f.session, svg) == 0);
    CHECK(fstat(fd2, &st) == 0 && (size_t)st.st_size < sizeof picture);
    memset(picture, 0, sizeof picture);
    CHECK(fd_pread_full(fd2, picture, (size_t)st.st_size, 0) == 0);
    CHECK(strstr((char *)picture, "left to the image: 1017 pages") &&
          strstr((char *)picture, "</svg>"));
    CHECK(RUN_TOOL(map_main, "--help") == 0 && says("SYNOPSIS"));
    CHECK(RUN_TOOL(map_main, f.image, "x.gif") == 2);
    CHECK(RUN_TOOL(map_main, "--width", "3", f.image, png) == 2);
    CHECK(RUN_TOOL(map_main, f.image, "/nonexistent/x.png") == 1 && says("error: "));
    files_free(&f);
    close(fd);
    close(fd2);
    unlink(png);
    unlink(svg);
}

static bool same_files(const char *a, const char *b)
{
    AUTO_CLOSE int x = open(a, O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int y = open(b, O_RDONLY | O_CLOEXEC);
    static uint8_t p[65536], q[65536];
    struct stat s, t;
    if (x < 0 || y < 0 || fstat(x, &s) < 0 || fstat(y, &t) < 0 || s.st_size != t.st_size)
        return false;
    for (uint64_t at = 0; at < (uint64_t)s.st_size; at += sizeof p) {
        size_t n = MIN(sizeof p, (uint64_t)s.st_size - at);
        if (fd_pread_full(x, p, n, at) < 0 || fd_pread_full(y, q, n, at) < 0 ||
            memcmp(p, q, n) != 0)
            return false;
    }
    return true;
}

TEST(pack)
{
    struct files f;
    struct stat st;
    char dir[] = "/tmp/test_snappack.XXXXXX", packed[60], back[60];
    files_make(&f);
    if (!CHECK(mkdtemp(dir) != NULL))
        return;
    snprintf(packed, sizeof packed, "%s/packed", dir);
    snprintf(back, sizeof back, "%s/back", dir);
    const char *const names[] = {f.image, f.session};
    for (unsigned i = 0; i < 2; i++) {
        CHECK(RUN_TOOL(pack_main, "--level", "3", names[i], packed) == 0 && says("KiB of"));
        CHECK(RUN_TOOL(pack_main, "--unpack", packed, back) == 0);
        CHECK(same_files(names[i], back));
    }
    /* Every cut and many flipped bits are refused, and leave no file behind. */
    AUTO_CLOSE int fd = open(packed, O_RDWR | O_CLOEXEC);
    struct sample_rng r = {3};
    unlink(back);
    CHECK(fd >= 0 && fstat(fd, &st) == 0);
    unsigned accepted = 0;
    for (unsigned i = 0; i < 300; i++) {
        uint64_t at = i < 24 ? i : sample_random(&r) % (uint64_t)st.st_size;
        uint8_t b;
        CHECK(fd_pread_full(fd, &b, 1, at) == 0);
        b ^= (uint8_t)(1u << i % 8);
        CHECK(fd_pwrite_full(fd, &b, 1, at) == 0);
        accepted +=
            RUN_TOOL(pack_main, "--unpack", packed, back) == 0 && !same_files(f.session, back);
        b ^= (uint8_t)(1u << i % 8);
        CHECK(fd_pwrite_full(fd, &b, 1, at) == 0);
    }
    CHECK(accepted == 0);
    unlink(back);
    for (unsigned i = 0; i < 50; i++) {
        CHECK(ftruncate(fd, (off_t)(sample_random(&r) % (uint64_t)(st.st_size - 8))) == 0);
        CHECK(RUN_TOOL(pack_main, "--unpack", packed, back) == 1 && says("error: "));
        CHECK(access(back, F_OK) < 0);
        CHECK(RUN_TOOL(pack_main, f.session, packed) == 0);
        close(fd);
        fd = open(packed, O_RDWR | O_CLOEXEC);
    }
    CHECK(RUN_TOOL(pack_main, packed, back) == 1 && says("not a snapshot"));
    CHECK(RUN_TOOL(pack_main, "--unpack", f.image, back) == 1 && says("not a packed"));
    CHECK(RUN_TOOL(pack_main, "--level", "99", f.image, back) == 2);
    CHECK(RUN_TOOL(pack_main, "--help") == 0 && says("SYNOPSIS"));
    unlink(packed);
    CHECK(rmdir(dir) == 0);
    files_free(&f);
}

/* Files with right checksums and strange content: printed or refused, never more. */
TEST(forged)
{
    struct files f;
    struct sample_rng r = {5};
    uint8_t head[SNAP_PAGE], state[8192], was[8192];
    files_make(&f);
    CHECK(fd_pread_full(f.fd[1], head, sizeof head, 0) == 0);
    size_t len = get_le64(head + AT_SECTIONS + 16);
    CHECK(len < sizeof was && fd_pread_full(f.fd[1], was, len, SNAP_PAGE) == 0);
    for (unsigned i = 0; i < 200; i++) {
        memcpy(state, was, len);
        for (unsigned k = 0; k < 4; k++)
            state[sample_random(&r) % len] ^= (uint8_t)(1u << k * 2);
        put_le32(head + AT_SECTIONS + 4, crc32c(0, state, len));
        put_le32(head + AT_HEADER_CRC, crc32c(0, head, AT_HEADER_CRC));
        CHECK(fd_pwrite_full(f.fd[1], state, len, SNAP_PAGE) == 0);
        CHECK(fd_pwrite_full(f.fd[1], head, sizeof head, 0) == 0);
        int d = RUN_TOOL(dump_main, "--registers", f.session);
        CHECK(d == 0 || (d == 1 && says("error: ")));
        d = RUN_TOOL(diff_main, f.image, f.session);
        CHECK(d == 1 || (d == 2 && says("error: ")));
    }
    files_free(&f);
}

int main(void)
{
    RUN(dump);
    RUN(diff);
    RUN(map);
    RUN(pack);
    RUN(forged);
    return TAP_DONE();
}
