// SPDX-License-Identifier: Apache-2.0
/* The command line tool's archives: what it packs, the host's own checks accept. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "../../api/zip.h"
#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "../../hypervisor/base/num.h"
#include "../../tools/cli/ignore.h"
#include "../../tools/cli/pack.h"
#include "../../tools/cli/zip_write.h"
#include "../tap.h"

static char dir[] = "/tmp/dormouse-test-pack-XXXXXX";

/* A shell command inside the test's directory. */
static void run_command(const char *what)
{
    char cmd[300];
    snprintf(cmd, sizeof cmd, "cd %s && %s", dir, what);
    if (system(cmd) != 0) {
        printf("Bail out! %s\n", cmd);
        exit(1);
    }
}

static void write_file(const char *name, const void *data, size_t len)
{
    char path[300];
    snprintf(path, sizeof path, "%s/app/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || fd_write_full(fd, data, len) < 0) {
        printf("Bail out! cannot write %s\n", path);
        exit(1);
    }
    close(fd);
}

static void fresh(void)
{
    run_command("rm -rf app");
    run_command("mkdir -p app");
}

static int pack_app(struct packed *p, struct err *e)
{
    char path[300];
    *e = (struct err)ERR_INIT;
    snprintf(path, sizeof path, "%s/app", dir);
    return pack(path, p, e);
}

/* The entry's mode and method from the directory; false when it is not there. */
static bool entry(const struct packed *p, const char *name, unsigned *mode, unsigned *method,
                  uint64_t *size)
{
    uint8_t end[22], *list;
    bool found = false;
    if (fd_pread_full(p->fd, end, sizeof end, p->size - sizeof end) < 0 ||
        get_le32(end) != 0x06054b50)
        return false;
    size_t len = get_le32(end + 12), n = get_le16(end + 10), at = 0;
    list = malloc(len + 1);
    if (!list || fd_pread_full(p->fd, list, len, get_le32(end + 16)) < 0)
        n = 0;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *d = list + at;
        size_t name_len = get_le16(d + 28);
        if (name_len == strlen(name) && memcmp(d + 46, name, name_len) == 0) {
            *mode = get_le32(d + 38) >> 16;
            *method = get_le16(d + 10);
            *size = get_le32(d + 24);
            found = true;
        }
        at += 46 + name_len;
    }
    free(list);
    return found;
}

static bool has(const struct packed *p, const char *name)
{
    unsigned mode, method;
    uint64_t size;
    return entry(p, name, &mode, &method, &size);
}

/* The contents by way of the daemon's reader. */
static bool contents(const struct packed *p, const char *name, const void *want,
                     size_t want_len)
{
    struct zip_info info;
    struct err e = ERR_INIT;
    AUTO_FREE char *text = NULL;
    size_t len;
    if (zip_open(p->fd, p->size, name, 1 << 24, &info, &text, &len, &e) < 0) {
        printf("# %s: %s\n", name, e.msg);
        return false;
    }
    return len == want_len && memcmp(text, want, len) == 0;
}

TEST(folder)
{
    struct packed p;
    struct err e;
    unsigned mode, method;
    uint64_t size;
    static uint8_t zeros[300000], noise[200000];
    fresh();
    srand(1);
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)(rand() >> 7);
    write_file("Dockerfile", "from dormouse/python AS x\nCMD x\n", 32);
    write_file("zeros", zeros, sizeof zeros);
    write_file("noise", noise, sizeof noise);
    write_file("empty", "", 0);
    run_command("mkdir -p app/a/b app/leer");
    write_file("a/b/s.sh", "#!/bin/sh\n", 10);
    run_command("chmod 755 app/a/b/s.sh");
    run_command("ln -s ../a/b/s.sh app/a/link");
    run_command("mkfifo app/pipe");
    write_file("\xc3\xa4 b", "x", 1);
    CHECK(pack_app(&p, &e) == 0);
    CHECK(p.files == 6 && p.skipped == 1);
    CHECK_STR(p.from, "dormouse/python");
    CHECK(contents(&p, "Dockerfile", "from dormouse/python AS x\nCMD x\n", 32));
    CHECK(contents(&p, "zeros", zeros, sizeof zeros));
    CHECK(contents(&p, "noise", noise, sizeof noise));
    CHECK(contents(&p, "empty", "", 0));
    CHECK(contents(&p, "a/b/s.sh", "#!/bin/sh\n", 10));
    CHECK(contents(&p, "\xc3\xa4 b", "x", 1));
    CHECK(entry(&p, "zeros", &mode, &method, &size) && method == 8 && size == sizeof zeros);
    CHECK(entry(&p, "noise", &mode, &method, &size) && method == 0 && size == sizeof noise);
    CHECK(entry(&p, "a/b/s.sh", &mode, &method, &size) && mode == 0100755);
    CHECK(entry(&p, "a/link", &mode, &method, &size) && mode == 0120777 && size == 11);
    CHECK(entry(&p, "leer/", &mode, &method, &size) && S_ISDIR(mode) && size == 0);
    CHECK(!has(&p, "pipe"));
    CHECK(p.size < 220000);
    /* The same again gives the same bytes. */
    struct packed again;
    CHECK(pack_app(&again, &e) == 0);
    CHECK_STR(again.sha256, p.sha256);
    packed_close(&again);
    packed_close(&p);
}

TEST(left_out)
{
    struct packed p;
    struct err e;
    fresh();
    static const char rules[] =
        "# comment\n*.log\n!keep.log\nnode_modules\n**/cache/\nDockerfile\n";
    write_file("Dockerfile", "FROM x\n", 7);
    write_file(".dockerignore", rules, sizeof rules - 1);
    run_command("mkdir -p app/node_modules/m app/src/cache");
    write_file("a.log", "1", 1);
    write_file("keep.log", "1", 1);
    write_file("node_modules/m/x", "1", 1);
    write_file("src/cache/y", "1", 1);
    write_file("src/main", "1", 1);
    write_file("src/b.log", "1", 1);
    CHECK(pack_app(&p, &e) == 0);
    CHECK(has(&p, "Dockerfile") && has(&p, "keep.log") && has(&p, "src/main"));
    CHECK(has(&p, "src/b.log")); /* '*' stops at a folder */
    CHECK(!has(&p, "a.log") && !has(&p, "node_modules/") && !has(&p, "node_modules/m/x"));
    CHECK(!has(&p, "src/cache/y"));
    packed_close(&p);
}

static bool ignored(const char *rules, const char *path)
{
    struct ignore ig;
    if (ignore_parse(&ig, rules) < 0)
        return false;
    bool r = ignore_match(&ig, path);
    ignore_free(&ig);
    return r;
}

TEST(patterns)
{
    CHECK(ignored("a", "a") && ignored("a", "a/b") && !ignored("a", "ab") &&
          !ignored("a", "b/a"));
    CHECK(ignored("/a/", "a/b") && ignored("./a", "a") && ignored("  a \r\n", "a"));
    CHECK(ignored("*", "a") && ignored("*", "a/b") && ignored("*.c", "x.c"));
    CHECK(!ignored("*.c", "d/x.c") && ignored("**/*.c", "d/e/x.c") && ignored("**/*.c", "x.c"));
    CHECK(ignored("a/**/z", "a/z") && ignored("a/**/z", "a/b/c/z") && !ignored("a/**/z", "az"));
    CHECK(ignored("a?c", "abc") && !ignored("a?c", "a/c") && !ignored("a?c", "ac"));
    CHECK(ignored("[a-c]x", "bx") && !ignored("[a-c]x", "dx") && ignored("[^a-c]x", "dx"));
    CHECK(ignored("\\*", "*") && !ignored("\\*", "a") && !ignored("[a", "a"));
    CHECK(ignored("a\n!a/b\n", "a/c") && !ignored("a\n!a/b\n", "a/b"));
    CHECK(ignored("*\n!b\nb\n", "b") && !ignored("", "a") && !ignored("#a\n", "#a"));
    /* Many stars end in a bounded time. */
    CHECK(!ignored("*a*a*a*a*a*a*a*a*a*a*a*b",
                   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
}

TEST(refused)
{
    struct packed p;
    struct err e;
    char path[300];
    fresh();
    CHECK(pack_app(&p, &e) == -ENOENT);
    CHECK(strstr(e.msg, "Dockerfile") != NULL && p.fd == -1);
    write_file("junk", "this is no archive", 18);
    snprintf(path, sizeof path, "%s/app/junk", dir);
    CHECK(pack(path, &p, &e) == -EINVAL && p.fd == -1);
    snprintf(path, sizeof path, "%s/none", dir);
    CHECK(pack(path, &p, &e) == -ENOENT);
    write_file("z.zip", "PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22);
    snprintf(path, sizeof path, "%s/app/z.zip", dir);
    CHECK(pack(path, &p, &e) == 0 && p.size == 22);
    packed_close(&p);
}

TEST(limits)
{
    struct zip_writer z;
    struct err e = ERR_INIT;
    char path[300];
    snprintf(path, sizeof path, "%s/many.zip", dir);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    zip_writer_init(&z, fd);
    int r = 0;
    char name[20];
    for (unsigned i = 0; i < 65534 && r == 0; i++) {
        snprintf(name, sizeof name, "%u", i);
        r = zip_add_bytes(&z, name, S_IFREG | 0644, 0, NULL, 0, &e);
    }
    CHECK(r == 0);
    CHECK(zip_add_bytes(&z, "x", S_IFREG | 0644, 0, NULL, 0, &e) == -EFBIG);
    CHECK(zip_finish(&z, &e) == 0);
    struct zip_info info;
    char *text = NULL;
    size_t len;
    CHECK(zip_open(fd, z.off, "65533", 10, &info, &text, &len, &e) == 0);
    CHECK(info.entries == 65534);
    free(text);
    zip_writer_free(&z);
}

int main(void)
{
    if (!mkdtemp(dir)) {
        printf("Bail out! cannot make %s\n", dir);
        return 1;
    }
    RUN(folder);
    RUN(left_out);
    RUN(patterns);
    RUN(refused);
    RUN(limits);
    run_command("rm -rf ../${PWD##*/}");
    return TAP_DONE();
}
