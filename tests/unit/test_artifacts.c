// SPDX-License-Identifier: Apache-2.0
/* The artifact store's files: names, replacing, quota, uploads, what a crash leaves. */
#include "../../api/artifacts_priv.h"
#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define QUOTA 100000u

static char dir[64];

static struct artifacts *open_store(void)
{
    struct artifacts_config c = {.dir = dir, .quota_bytes = QUOTA, .object_bytes = 60000};
    struct artifacts *a = NULL;
    struct err e = ERR_INIT;
    if (artifacts_open(&a, &c, &e) < 0)
        printf("# %s\n", e.msg);
    return a;
}

static int put(struct artifacts *a, const char *bucket, const char *key, const char *text,
               size_t times)
{
    struct artifact_put *p = NULL;
    struct artifact_info info = {.etag = "e", .headers = (char *)"content-type:text/plain\n"};
    struct err e = ERR_INIT;
    int r = artifacts_put_begin(a, &p, &e);
    for (size_t i = 0; i < times && r == 0; i++)
        r = artifacts_put_write(p, text, strlen(text), &e);
    if (r < 0) {
        artifacts_put_abort(p);
        return e.num ? r : 1;
    }
    return artifacts_put_commit(p, bucket, key, &info, &e);
}

/* The object's text in ret, or "?<errno>". */
static void get(struct artifacts *a, const char *bucket, const char *key, char ret[64])
{
    AUTO_CLOSE int fd = -1;
    uint64_t size;
    struct err e = ERR_INIT;
    int r = artifacts_open_object(a, bucket, key, &fd, &size, &e);
    memset(ret, 0, 64);
    if (r < 0)
        snprintf(ret, 64, "?%d", -r);
    else if (size >= 64 || fd_pread_full(fd, ret, size, 0) < 0)
        snprintf(ret, 64, "?read");
}

#define CHECK_OBJECT(a, bucket, key, want) \
    do {                                   \
        char got_[64];                     \
        get(a, bucket, key, got_);         \
        CHECK_STR(got_, want);             \
    } while (0)

static unsigned entries(const char *sub)
{
    char path[128];
    unsigned n = 0;
    snprintf(path, sizeof path, "%s/%s", dir, sub);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return 9999;
    char command[200];
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", path);
    FILE *f = popen(command, "r");
    if (!f || fscanf(f, "%u", &n) != 1)
        n = 9999;
    if (f)
        pclose(f);
    return n;
}

TEST(names)
{
    static const char *const good[] = {"abc", "a-b.c", "0123", "my.bucket-1"};
    static const char *const bad[] = {"",    "ab",   "Abc",  "a_b", "-ab", "ab-",
                                      ".ab", "a..b", "../x", "a/b", "a\nb"};
    char long_name[80], name[FILE_NAME_CAP];
    memset(long_name, 'a', 64);
    long_name[64] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        CHECK(bucket_valid(good[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(!bucket_valid(bad[i]));
    CHECK(!bucket_valid(long_name) && bucket_valid(long_name + 1));
    key_encode("a/b c%.zip", name);
    CHECK_STR(name, "a%2Fb%20c%25.zip");
    key_encode("../../etc/passwd", name);
    CHECK_STR(name, "%2E.%2F..%2Fetc%2Fpasswd");
    key_encode(".", name);
    CHECK_STR(name, "%2E");
    key_encode("~x", name);
    CHECK_STR(name, "%7Ex");
    char key[1026];
    memset(key, '/', 1025);
    key[1025] = '\0';
    CHECK(!key_valid(key) && key_valid(key + 1) && !key_valid("") && !key_valid("a\nb"));
    key_encode(key + 1, name);
    CHECK(name[0] == '~' && strlen(name) == 65);
}

TEST(objects)
{
    struct artifacts *a = open_store();
    struct err e = ERR_INIT;
    CHECK(put(a, "one", "k", "x", 1) == -ENOTDIR);
    CHECK(artifacts_bucket_create(a, "one", &e) == 0);
    CHECK(artifacts_bucket_create(a, "one", &e) == -EEXIST);
    CHECK(artifacts_bucket_create(a, "../two", &e) == -EINVAL);
    CHECK(put(a, "one", "dir/k", "first", 1) == 0);
    CHECK_OBJECT(a, "one", "dir/k", "first");
    CHECK_OBJECT(a, "one", "dir", "?2");
    CHECK_OBJECT(a, "two", "k", "?20");
    CHECK_OBJECT(a, "..", "k", "?22");
    /* A reader keeps what it opened. */
    int fd;
    uint64_t size;
    char text[8] = "";
    CHECK(artifacts_open_object(a, "one", "dir/k", &fd, &size, &e) == 0 && size == 5);
    CHECK(put(a, "one", "dir/k", "second", 1) == 0);
    CHECK_OBJECT(a, "one", "dir/k", "second");
    CHECK(fd_pread_full(fd, text, 5, 0) == 0 && strcmp(text, "first") == 0);
    close(fd);
    CHECK(entries("data") == 1 && entries("tmp") == 0);
    struct artifact_info info;
    CHECK(artifacts_get(a, "one", "dir/k", NULL, &info, &e) == 0);
    CHECK_STR(info.headers, "content-type:text/plain\n");
    CHECK(info.size == 6 && info.modified > 1e9);
    artifact_info_free(&info);
    CHECK(artifacts_bucket_delete(a, "one", &e) == -ENOTEMPTY);
    CHECK(artifacts_delete(a, "one", "dir/k", &e) == 0);
    CHECK(artifacts_delete(a, "one", "dir/k", &e) == -ENOENT);
    CHECK(artifacts_bucket_delete(a, "one", &e) == 0 && entries("data") == 0);
    CHECK(a->used == 0);
    artifacts_close(a);
}

static bool join(void *ctx, const char *key, const struct artifact_info *i)
{
    size_t n = strlen(ctx);
    snprintf((char *)ctx + n, 500 - n, "%.12s:%u ", key, (unsigned)i->size);
    return true;
}

TEST(listing)
{
    struct artifacts *a = open_store();
    struct err e = ERR_INIT;
    char long_key[600], all[500] = "", some[500] = "", none[500] = "";
    snprintf(long_key, sizeof long_key, "long/%0500d", 7);
    CHECK(artifacts_bucket_create(a, "lst", &e) == 0);
    CHECK(put(a, "lst", "b", "x", 1) == 0 && put(a, "lst", "a/1", "xx", 1) == 0);
    CHECK(put(a, "lst", "a.1", "xxx", 1) == 0 && put(a, "lst", long_key, "y", 4) == 0);
    CHECK(artifacts_list(a, "lst", "", "", join, all, &e) == 0);
    CHECK_STR(all, "a.1:3 a/1:2 b:1 long/0000000:4 ");
    CHECK(artifacts_list(a, "lst", "a", "a.1", join, some, &e) == 0);
    CHECK_STR(some, "a/1:2 ");
    CHECK(artifacts_list(a, "lst", "zz", "", join, none, &e) == 0 && !none[0]);
    CHECK(artifacts_list(a, "nix", "", "", join, none, &e) == -ENOTDIR);
    CHECK_OBJECT(a, "lst", long_key, "yyyy");
    artifacts_close(a);
}

TEST(quota)
{
    struct artifacts *a = open_store();
    struct err e = ERR_INIT;
    uint64_t before = a->used;
    CHECK(artifacts_bucket_create(a, "qqq", &e) == 0);
    CHECK(put(a, "qqq", "b", "0123456789", 6001) == -EFBIG && a->used == before);
    CHECK(put(a, "qqq", "a", "0123456789", 5000) == 0 && a->used == before + 50000);
    CHECK(put(a, "qqq", "b", "0123456789", 5000) == -EDQUOT && a->used == before + 50000);
    CHECK(put(a, "qqq", "a", "0123456789", 1000) == 0 && a->used == before + 10000);
    CHECK(put(a, "qqq", "b", "0123456789", 5000) == 0);
    CHECK(entries("tmp") == 0);
    uint64_t used = a->used;
    artifacts_close(a);
    a = open_store();
    CHECK(a->used == used);
    CHECK(artifacts_delete(a, "qqq", "a", &e) == 0 && artifacts_delete(a, "qqq", "b", &e) == 0);
    CHECK(a->used == before);
    artifacts_close(a);
}

static int put_part(struct artifacts *a, const char *id, uint32_t number, const char *text,
                    char fill)
{
    struct artifact_put *p = NULL;
    char md5[33];
    memset(md5, fill, 32);
    md5[32] = '\0';
    if (artifacts_put_begin(a, &p, NULL) < 0 ||
        artifacts_put_write(p, text, strlen(text), NULL) < 0)
        return 1;
    return artifacts_put_commit_part(p, id, number, md5, NULL);
}

TEST(uploads)
{
    struct artifacts *a = open_store();
    struct err e = ERR_INIT;
    uint64_t before = a->used, size;
    char id[UPLOAD_ID_CAP], md5[33];
    char *headers = NULL;
    int fd;
    CHECK(artifacts_bucket_create(a, "upl", &e) == 0);
    CHECK(artifacts_upload_begin(a, "nix", "k", "", id, &e) == -ENOTDIR);
    CHECK(artifacts_upload_begin(a, "upl", "k", "content-type:a\n", id, &e) == 0);
    CHECK(artifacts_upload_check(a, "upl", "k", id, &headers, &e) == 0);
    CHECK_STR(headers, "content-type:a\n");
    free(headers);
    CHECK(artifacts_upload_check(a, "upl", "k2", id, NULL, &e) == -ESRCH);
    CHECK(artifacts_upload_check(a, "upl", "", id, NULL, &e) == -ESRCH);
    CHECK(artifacts_upload_check(a, "upl", "k", "../data", NULL, &e) == -ESRCH);
    CHECK(put_part(a, id, 0, "x", 'a') == -EINVAL &&
          put_part(a, id, 10001, "x", 'a') == -EINVAL);
    CHECK(put_part(a, id, 1, "one", 'a') == 0 && put_part(a, id, 11, "eleven", 'b') == 0);
    CHECK(put_part(a, id, 1, "again", 'c') == 0 && put_part(a, id, 1, "again", 'c') == 0);
    CHECK(a->used == before + 11);
    CHECK(artifacts_part_open(a, id, 1, &fd, &size, md5, &e) == 0 && size == 5 &&
          md5[0] == 'c');
    close(fd);
    CHECK(artifacts_part_open(a, id, 2, &fd, &size, md5, &e) == -ENOENT);
    /* It survives a restart, its bytes stay counted. */
    artifacts_close(a);
    a = open_store();
    CHECK(artifacts_upload_check(a, "upl", "k", id, NULL, &e) == 0 && a->used >= before + 11);
    CHECK(artifacts_upload_drop(a, id, &e) == 0 && entries("uploads") == 0);
    CHECK(artifacts_upload_drop(a, id, &e) == -ESRCH);
    artifacts_close(a);
}

static void leave(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || fd_write_full(fd, text, strlen(text)) < 0)
        abort();
}

TEST(leftovers)
{
    struct artifacts *a = open_store();
    struct err e = ERR_INIT;
    char path[200];
    CHECK(artifacts_bucket_create(a, "cra", &e) == 0 && put(a, "cra", "k", "kept", 1) == 0);
    uint64_t used = a->used;
    unsigned data = entries("data");
    artifacts_close(a);
    /* What power loss leaves at each step of publishing, and of an upload. */
    leave("tmp/11111111-2222-4333-8444-555555555555", "half");
    leave("data/11111111-2222-4333-8444-555555555555", "not yet named");
    leave("data/stray", "not ours");
    leave("buckets/cra/.new-11111111-2222-4333-8444-555555555555", "dormouse-ob");
    snprintf(path, sizeof path, "%s/uploads/11111111-2222-4333-8444-555555555555", dir);
    CHECK(mkdir(path, 0700) == 0);
    leave("uploads/11111111-2222-4333-8444-555555555555/1.x", "part without info");
    a = open_store();
    CHECK(entries("tmp") == 0 && entries("data") == data && entries("uploads") == 0);
    CHECK(entries("buckets/cra") == 1 && a->used == used);
    CHECK_OBJECT(a, "cra", "k", "kept");
    /* A damaged record is an error, never another object's bytes, and can be removed. */
    leave("buckets/cra/bad", "dormouse-object 1\ndata ../../etc/passwd\nsize 1\n");
    CHECK_OBJECT(a, "cra", "bad", "?5");
    leave("buckets/cra/swap",
          "dormouse-object 1\ndata 11111111-2222-4333-8444-555555555555\nsize 1\nmodified 1\n"
          "etag e\nkey other\nheaders\n");
    CHECK_OBJECT(a, "cra", "swap", "?2");
    CHECK(artifacts_delete(a, "cra", "bad", &e) == 0);
    artifacts_close(a);
}

static int drop(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

int main(void)
{
    snprintf(dir, sizeof dir, "/tmp/dormouse-test-artifacts.XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    RUN(names);
    RUN(objects);
    RUN(listing);
    RUN(quota);
    RUN(uploads);
    RUN(leftovers);
    nftw(dir, drop, 16, FTW_DEPTH | FTW_PHYS);
    return TAP_DONE();
}
