// SPDX-License-Identifier: Apache-2.0
/* The SQLite store: records, transactions, compare-and-set, upgrades, damage, speed. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "../../api/store_priv.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"
#include "store_file.h"

static char dir[] = "/tmp/dormouse-test-store-XXXXXX";
static char path[64];

static struct store *fresh(void)
{
    struct store *s = NULL;
    struct err e = ERR_INIT;
    store_file_remove(path);
    if (!CHECK(store_open(&s, path, &e) == 0)) {
        printf("Bail out! %s\n", e.msg);
        exit(1);
    }
    return s;
}

static int add_image(struct store *s, const char *name, struct err *e)
{
    struct store_image i = {.state = "CREATING", .last_major = 1, .created_at = 5.25};
    struct store_version v = {.major = 1, .state = "PENDING", .status = "INACTIVE"};
    char config[] = "{\"a\":1}";
    snprintf(i.name, sizeof i.name, "%s", name);
    snprintf(v.image, sizeof v.image, "%s", name);
    v.config = config;
    return store_image_add(s, &i, &v, "{\"k\":\"v\"}", e);
}

static int add_vm(struct store *s, const char *image, unsigned n, const char *state)
{
    struct store_vm vm = {.major = 1, .has_idle = true, .idle_seconds = 60, .started_at = 7.5};
    char payload[] = "secret";
    snprintf(vm.id, sizeof vm.id, "microvm-%08u", n);
    snprintf(vm.label, sizeof vm.label, "label-%08u", n);
    snprintf(vm.image, sizeof vm.image, "%s", image);
    snprintf(vm.state, sizeof vm.state, "%s", state);
    vm.payload = payload;
    int r = store_vm_add(s, &vm, NULL);
    return r < 0 ? r : (int)vm.row;
}

TEST(images_and_versions)
{
    struct store *s = fresh();
    struct err e = ERR_INIT;
    CHECK(add_image(s, "box", &e) == 0);
    CHECK(add_image(s, "box", &e) == -EEXIST);

    struct store_image i;
    CHECK(store_image_get(s, "box", &i, &e) == 0);
    CHECK_STR(i.state, "CREATING");
    CHECK(i.created_at == 5.25 && i.last_major == 1);
    CHECK(store_image_get(s, "none", &i, &e) == -ENOENT);

    struct store_version v = {.state = "PENDING"}, got;
    snprintf(v.image, sizeof v.image, "box");
    CHECK(store_version_add(s, &v, &e) == 0 && v.major == 2);
    CHECK(store_version_delete(s, "box", 2, &e) == 0);
    CHECK(store_version_add(s, &v, &e) == 0 && v.major == 3); /* numbers are never reused */
    CHECK(store_image_get(s, "box", &i, &e) == 0 && i.last_major == 3);
    CHECK_STR(i.state, "UPDATING");
    snprintf(v.image, sizeof v.image, "none");
    CHECK(store_version_add(s, &v, &e) == -ENOENT);

    CHECK(store_version_get(s, "box", 1, &got, &e) == 0);
    CHECK_STR(got.config, "{\"a\":1}");
    snprintf(got.state, sizeof got.state, "SUCCESSFUL");
    got.memory_bytes = 1ull << 40;
    snprintf(i.latest_active, sizeof i.latest_active, "1.0");
    CHECK(store_version_set(s, &got, &i, &e) == 0);
    store_version_free(&got);
    CHECK(store_version_get(s, "box", 1, &got, &e) == 0);
    CHECK(got.memory_bytes == 1ull << 40);
    CHECK_STR(got.config, "{\"a\":1}"); /* set leaves it alone */
    store_version_free(&got);
    CHECK(store_version_get(s, "box", 9, &got, &e) == -ENOENT);

    AUTO_FREE char *tags = NULL;
    CHECK(store_tags_set(s, "box", "{}", &e) == 0 && store_tags_get(s, "box", &tags, &e) == 0);
    CHECK_STR(tags, "{}");
    CHECK(store_tags_set(s, "none", "{}", &e) == -ENOENT);

    CHECK(store_image_gone(s, "box", &e) == -ENOENT);
    CHECK(store_image_delete(s, "box", &e) == 0);
    CHECK(store_image_delete(s, "box", &e) == -ENOENT);
    CHECK(store_image_gone(s, "box", &e) == 0);
    CHECK(store_version_get(s, "box", 1, &got, &e) == -ENOENT);
    CHECK(add_image(s, "box", &e) == 0 && store_image_gone(s, "box", &e) == -ENOENT);
    store_close(s);
}

struct seen {
    unsigned n, stop_after;
    uint64_t last;
    bool ordered;
    struct store *s;
};

static bool see_version(void *ctx, const struct store_version *v)
{
    struct seen *x = ctx;
    x->ordered &= x->n == 0 || v->major < x->last;
    x->last = v->major;
    return ++x->n != x->stop_after;
}

static bool see_vm(void *ctx, const struct store_vm_brief *vm)
{
    struct seen *x = ctx;
    x->ordered &= x->n == 0 || vm->row < x->last;
    x->last = vm->row;
    if (x->s) /* a callback may write and read */
        x->ordered &= store_vm_delete(x->s, vm->id, NULL) == 0;
    return ++x->n != x->stop_after;
}

static bool see_image(void *ctx, const struct store_image *i)
{
    struct seen *x = ctx;
    x->ordered &= i->name[0] == 'i';
    return ++x->n != x->stop_after;
}

TEST(iteration)
{
    struct store *s = fresh();
    struct err e = ERR_INIT;
    for (int i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "i%02d", i);
        CHECK(add_image(s, name, &e) == 0);
    }
    struct seen x = {.ordered = true};
    CHECK(store_image_each(s, NULL, see_image, &x, &e) == 0 && x.n == 40 && x.ordered);
    x = (struct seen){.ordered = true, .stop_after = 5};
    CHECK(store_image_each(s, "i30", see_image, &x, &e) == 0 && x.n == 5);
    x = (struct seen){.ordered = true};
    CHECK(store_image_each(s, "i37", see_image, &x, &e) == 0 && x.n == 2);

    struct store_version v = {.image = "i00", .state = "PENDING"};
    for (int i = 0; i < 35; i++)
        CHECK(store_version_add(s, &v, &e) == 0);
    x = (struct seen){.ordered = true};
    CHECK(store_version_each(s, "i00", UINT32_MAX, see_version, &x, &e) == 0);
    CHECK(x.n == 36 && x.ordered && x.last == 1);
    x = (struct seen){.ordered = true, .stop_after = 3};
    CHECK(store_version_each(s, "i00", 10, see_version, &x, &e) == 0);
    CHECK(x.n == 3 && x.last == 7);

    for (unsigned i = 1; i <= 100; i++)
        CHECK(add_vm(s, i % 2 ? "odd" : "even", i, "RUNNING") == (int)i);
    x = (struct seen){.ordered = true};
    CHECK(store_vm_each(s, UINT64_MAX, NULL, 0, see_vm, &x, &e) == 0 && x.n == 100);
    x = (struct seen){.ordered = true};
    CHECK(store_vm_each(s, 51, "odd", 0, see_vm, &x, &e) == 0 && x.n == 25 && x.last == 1);
    x = (struct seen){.ordered = true};
    CHECK(store_vm_each(s, UINT64_MAX, "odd", 2, see_vm, &x, &e) == 0 && x.n == 0);
    x = (struct seen){.ordered = true};
    CHECK(store_vm_each(s, UINT64_MAX, NULL, 1, see_vm, &x, &e) == 0 && x.n == 100);
    x = (struct seen){.ordered = true, .s = s};
    CHECK(store_vm_each(s, UINT64_MAX, "even", 0, see_vm, &x, &e) == 0);
    CHECK(x.n == 50 && x.ordered);
    x = (struct seen){.ordered = true};
    CHECK(store_vm_each(s, UINT64_MAX, NULL, 0, see_vm, &x, &e) == 0 && x.n == 50);
    store_close(s);
}

TEST(microvms)
{
    struct store *s = fresh();
    struct err e = ERR_INIT;
    CHECK(add_vm(s, "box", 1, "PENDING") == 1);
    CHECK(add_vm(s, "box", 1, "PENDING") == -EEXIST);
    struct store_vm vm;
    CHECK(store_vm_get(s, "microvm-00000001", &vm, &e) == 0);
    CHECK(vm.has_idle && vm.idle_seconds == 60 && !vm.ingress && vm.started_at == 7.5);
    CHECK_STR(vm.payload, "secret");
    snprintf(vm.state, sizeof vm.state, "RUNNING");
    CHECK(store_vm_set(s, &vm, "SUSPENDED", &e) == -ESTALE);
    CHECK(strstr(e.msg, "PENDING") != NULL);
    CHECK(store_vm_set(s, &vm, "PENDING", &e) == 0);
    CHECK(store_vm_set(s, &vm, NULL, &e) == 0);
    store_vm_free(&vm);
    CHECK(store_vm_by_label(s, "label-00000001", &vm, &e) == 0);
    CHECK_STR(vm.state, "RUNNING");
    snprintf(vm.id, sizeof vm.id, "microvm-x");
    CHECK(store_vm_set(s, &vm, NULL, &e) == -ENOENT);
    store_vm_free(&vm);

    uint64_t n = 9;
    CHECK(store_vm_count_live(s, "box", 0, &n, &e) == 0 && n == 1);
    CHECK(store_vm_count_live(s, "box", 2, &n, &e) == 0 && n == 0);
    CHECK(add_vm(s, "box", 2, "TERMINATED") == 2);
    CHECK(store_vm_count_live(s, "box", 1, &n, &e) == 0 && n == 1);

    struct store_client_token t = {.token = "t",
                                   .operation = "Run",
                                   .resource = "microvm-00000002",
                                   .request_hash = "h"},
                              old;
    CHECK(store_client_token_add(s, &t, &old, &e) == 0);
    char ended[2][ID_CAP];
    size_t found = 9;
    CHECK(store_vm_ended(s, 0, ended, 2, &found, &e) == 0 && found == 0);
    CHECK(store_vm_ended(s, 1.0, ended, 2, &found, &e) == 0); /* terminated_at is 0 */
    CHECK(found == 1);
    CHECK_STR(ended[0], "microvm-00000002");
    CHECK(add_vm(s, "box", 3, "TERMINATED") == 3 && add_vm(s, "box", 4, "TERMINATED") == 4);
    CHECK(store_vm_ended(s, 1.0, ended, 2, &found, &e) == 0 && found == 2);
    CHECK(store_vm_delete(s, "microvm-00000002", &e) == 0);
    CHECK(store_vm_get(s, "microvm-00000002", &vm, &e) == -ENOENT);
    CHECK(store_client_token_get(s, "t", "Run", &old, &e) == -ENOENT);
    CHECK(store_vm_delete(s, "microvm-00000001", &e) == 0);
    CHECK(store_vm_delete(s, "microvm-00000001", &e) == -ENOENT);
    store_close(s);
}

static bool count_key(void *ctx, const struct store_key *k)
{
    (*(unsigned *)ctx)++;
    return k->id[0] == 'A';
}

TEST(keys_and_client_tokens)
{
    struct store *s = fresh();
    struct err e = ERR_INIT;
    struct store_key k = {.secret = "s", .name = "n", .rights = "run", .created_at = 1}, got;
    for (int i = 0; i < 20; i++) {
        snprintf(k.id, sizeof k.id, "AK%02d", i);
        CHECK(store_key_add(s, &k, &e) == 0);
    }
    CHECK(store_key_add(s, &k, &e) == -EEXIST);
    CHECK(store_key_get(s, "AK07", &got, &e) == 0);
    CHECK_STR(got.rights, "run");
    unsigned n = 0;
    CHECK(store_key_each(s, count_key, &n, &e) == 0 && n == 20);
    CHECK(store_key_delete(s, "AK07", &e) == 0 && store_key_delete(s, "AK07", &e) == -ENOENT);
    CHECK(store_key_get(s, "AK07", &got, &e) == -ENOENT);

    struct store_client_token t = {.token = "t",
                                   .operation = "A",
                                   .resource = "r",
                                   .request_hash = "h",
                                   .major = 3,
                                   .created_at = 10},
                              old;
    CHECK(store_client_token_add(s, &t, &old, &e) == 0);
    snprintf(t.request_hash, sizeof t.request_hash, "other");
    CHECK(store_client_token_add(s, &t, &old, &e) == -EEXIST);
    CHECK_STR(old.request_hash, "h");
    CHECK(old.major == 3);
    snprintf(t.operation, sizeof t.operation, "B"); /* another operation: another token */
    CHECK(store_client_token_add(s, &t, &old, &e) == 0);
    CHECK(store_client_token_drop(s, NULL, 10, &e) == 0);
    CHECK(store_client_token_get(s, "t", "A", &old, &e) == 0);
    CHECK(store_client_token_drop(s, NULL, 10.5, &e) == 0);
    CHECK(store_client_token_get(s, "t", "A", &old, &e) == -ENOENT);
    CHECK(store_client_token_add(s, &t, &old, &e) == 0);
    CHECK(store_client_token_drop(s, "r", 0, &e) == 0);
    CHECK(store_client_token_get(s, "t", "B", &old, &e) == -ENOENT);
    store_close(s);
}

TEST(transactions)
{
    struct store *s = fresh();
    struct err e = ERR_INIT;
    struct store_vm vm;
    CHECK(store_begin(s, &e) == 0);
    CHECK(add_vm(s, "box", 1, "PENDING") == 1);
    CHECK(store_vm_get(s, "microvm-00000001", &vm, &e) == 0); /* sees its own rows */
    store_vm_free(&vm);
    store_rollback(s);
    CHECK(store_vm_get(s, "microvm-00000001", &vm, &e) == -ENOENT);

    CHECK(store_begin(s, &e) == 0);
    CHECK(add_vm(s, "box", 2, "PENDING") > 0);
    CHECK(add_image(s, "box", &e) == 0); /* nests */
    CHECK(store_commit(s, &e) == 0);
    CHECK(store_vm_get(s, "microvm-00000002", &vm, &e) == 0);
    store_vm_free(&vm);

    CHECK(store_begin(s, &e) == 0);
    CHECK(add_vm(s, "box", 3, "PENDING") > 0);
    CHECK(add_image(s, "box", &e) == -EEXIST); /* the inner part fails … */
    CHECK(store_commit(s, &e) == -ECANCELED);  /* … so nothing may be kept */
    CHECK(store_vm_get(s, "microvm-00000003", &vm, &e) == -ENOENT);
    store_close(s);
}

struct worker {
    struct store *s;
    unsigned base;
    int failed;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    for (unsigned i = 0; i < 50; i++) {
        struct store_vm vm;
        char id[32];
        snprintf(id, sizeof id, "microvm-%08u", w->base + i);
        if (store_begin(w->s, NULL) < 0 || add_vm(w->s, "box", w->base + i, "PENDING") < 0 ||
            store_commit(w->s, NULL) < 0 || store_vm_get(w->s, id, &vm, NULL) < 0) {
            w->failed++;
            continue;
        }
        snprintf(vm.state, sizeof vm.state, "RUNNING");
        if (store_vm_set(w->s, &vm, "PENDING", NULL) < 0)
            w->failed++;
        store_vm_free(&vm);
    }
    return NULL;
}

TEST(many_threads)
{
    struct store *s = fresh();
    pthread_t t[4];
    struct worker w[4];
    for (unsigned i = 0; i < 4; i++) {
        w[i] = (struct worker){.s = s, .base = 1000 * (i + 1)};
        CHECK(pthread_create(&t[i], NULL, work, &w[i]) == 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        CHECK(w[i].failed == 0);
    }
    uint64_t n = 0;
    CHECK(store_vm_count_live(s, "box", 0, &n, NULL) == 0 && n == 200);
    store_close(s);
}

TEST(kept_over_a_restart)
{
    struct store *s = fresh();
    struct err e = ERR_INIT;
    struct stat st;
    uint8_t a[16], b[16];
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK(add_image(s, "box", &e) == 0);
    store_secret(s, a);
    store_close(s);
    CHECK(store_open(&s, path, &e) == 0);
    struct store_image i;
    CHECK(store_image_get(s, "box", &i, &e) == 0);
    store_secret(s, b);
    CHECK(memcmp(a, b, sizeof a) == 0);
    store_close(s);
}

TEST(upgrade_leaves_a_backup)
{
    struct store *s = fresh();
    struct err e = ERR_INIT;
    CHECK(add_image(s, "box", &e) == 0);
    store_close(s);
    struct store_step steps[32], bad[32];
    char copy[128], next[32];
    int n = store_nsteps;
    if (!CHECK(n < 31))
        return;
    memcpy(steps, store_steps, (size_t)n * sizeof steps[0]);
    memcpy(bad, store_steps, (size_t)n * sizeof bad[0]);
    steps[n] = (struct store_step){"CREATE TABLE more (a INTEGER) STRICT"};
    bad[n] = (struct store_step){"CREATE TABLE image (a INTEGER)"};
    CHECK(store_open_steps(&s, path, bad, n + 1, &e) < 0);
    CHECK(store_open_steps(&s, path, steps, n + 1, &e) == 0);
    struct store_image i;
    CHECK(store_image_get(s, "box", &i, &e) == 0);
    store_close(s);
    CHECK(store_open(&s, path, &e) == -EPROTO); /* the older program refuses, and says why */
    snprintf(next, sizeof next, "version %d", n + 1);
    CHECK(strstr(e.msg, next) != NULL && e.hint[0] != '\0');
    snprintf(copy, sizeof copy, "%s.v%d.bak", path, n);
    CHECK(store_open(&s, copy, &e) == 0);
    CHECK(store_image_get(s, "box", &i, &e) == 0);
    store_close(s);
}

TEST(damage_is_refused)
{
    struct store *s = fresh();
    struct err e = ERR_INIT;
    for (unsigned i = 0; i < 200; i++)
        add_vm(s, "box", i, "RUNNING");
    store_close(s);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    char junk[8192];
    memset(junk, 0x5a, sizeof junk);
    CHECK(pwrite(fd, junk, sizeof junk, 4096 * 4) == sizeof junk);
    CHECK(store_open(&s, path, &e) == -EUCLEAN);
    CHECK(e.hint[0] != '\0');
    CHECK(pwrite(fd, junk, 100, 0) == 100);
    CHECK(store_open(&s, path, &e) == -EUCLEAN);
    close(fd);
    CHECK(store_open(&s, "/nonexistent/state.db", &e) == -ENOENT);
}

TEST(busy_is_told)
{
    struct store *s = fresh();
    struct err e = ERR_INIT;
    sqlite3 *other = NULL;
    CHECK(sqlite3_open(path, &other) == SQLITE_OK);
    sqlite3_busy_timeout(s->w.db, 1);
    CHECK(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK);
    CHECK(store_begin(s, &e) == -EBUSY && e.hint[0] != '\0');
    CHECK(add_vm(s, "box", 1, "PENDING") == -EBUSY);
    sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(other);
    CHECK(add_vm(s, "box", 1, "PENDING") > 0);
    store_close(s);
}

TEST(a_full_disk_is_told)
{
    struct store *s = fresh();
    int r = 0;
    CHECK(sqlite3_exec(s->w.db, "PRAGMA max_page_count = 60", NULL, NULL, NULL) == SQLITE_OK);
    for (unsigned i = 0; i < 5000 && r >= 0; i++)
        r = add_vm(s, "box", i, "RUNNING");
    CHECK(r == -ENOSPC);
    CHECK(sqlite3_exec(s->w.db, "PRAGMA max_page_count = 9999", NULL, NULL, NULL) == SQLITE_OK);
    CHECK(add_vm(s, "box", 9999, "RUNNING") > 0); /* goes on without a restart */
    store_close(s);
}

/* Adds rows and says so on the pipe after each, until it is killed. */
static void child_writes(int fd, unsigned base)
{
    struct store *s = NULL;
    if (store_open(&s, path, NULL) < 0)
        _exit(1);
    for (unsigned i = base;; i++)
        if (add_vm(s, "box", i, "RUNNING") < 0 || write(fd, &i, sizeof i) != sizeof i)
            _exit(2);
}

/* What was acknowledged is there after a kill at any moment, and nothing is damaged. */
TEST(kill_minus_nine)
{
    struct err e = ERR_INIT;
    store_close(fresh());
    unsigned acknowledged = 0;
    for (unsigned round = 0; round < 20; round++) {
        int fds[2];
        unsigned base = (round + 1) * 100000, last = 0, n = 0;
        CHECK(pipe2(fds, O_CLOEXEC) == 0);
        pid_t pid = fork();
        if (pid == 0)
            child_writes(fds[1], base);
        close(fds[1]);
        while (n < 1 + round * 7 && read(fds[0], &last, sizeof last) == sizeof last)
            n++;
        kill(pid, SIGKILL);
        while (read(fds[0], &last, sizeof last) == sizeof last)
            n++; /* said before it died */
        int status;
        CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
        close(fds[0]);
        CHECK(n > 0 && last == base + n - 1);
        acknowledged += n;
        struct store *s = NULL;
        CHECK(store_open(&s, path, &e) == 0);
        uint64_t live = 0;
        struct store_vm vm;
        char id[32];
        snprintf(id, sizeof id, "microvm-%08u", last);
        CHECK(store_vm_get(s, id, &vm, &e) == 0);
        store_vm_free(&vm);
        /* one more may have been written without being acknowledged, each round */
        CHECK(store_vm_count_live(s, "box", 0, &live, &e) == 0);
        CHECK(live >= acknowledged && live <= acknowledged + round + 1);
        store_close(s);
    }
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Generous bounds for sanitizers and loaded machines; an index lost shows as 100 times more. */
TEST(ten_thousand_rows)
{
    struct store *s = fresh();
    CHECK(store_begin(s, NULL) == 0);
    for (unsigned i = 0; i < 10000; i++)
        add_vm(s, i % 10 ? "box" : "rare", i, i % 3 ? "TERMINATED" : "SUSPENDED");
    CHECK(store_commit(s, NULL) == 0);
    double t0 = now_ms();
    struct store_vm vm;
    for (unsigned i = 0; i < 1000; i++) {
        char id[32];
        snprintf(id, sizeof id, "microvm-%08u", i * 7);
        if (store_vm_get(s, id, &vm, NULL) == 0)
            store_vm_free(&vm);
    }
    double t1 = now_ms();
    for (unsigned i = 0; i < 100; i++) {
        struct seen x = {.stop_after = 50};
        store_vm_each(s, 100 * i + 60, "rare", 0, see_vm, &x, NULL);
    }
    double t2 = now_ms();
    uint64_t n = 0;
    for (unsigned i = 0; i < 100; i++)
        store_vm_count_live(s, "rare", 1, &n, NULL);
    double t3 = now_ms();
    CHECK(n == 334);
    printf("# get %.3f ms, page of 50 %.3f ms, count of live %.3f ms\n", (t1 - t0) / 1000,
           (t2 - t1) / 100, (t3 - t2) / 100);
    CHECK((t1 - t0) / 1000 < 1.0 && (t2 - t1) / 100 < 5.0 && (t3 - t2) / 100 < 5.0);
    store_close(s);
}

int main(void)
{
    if (!mkdtemp(dir)) {
        perror(dir);
        return 1;
    }
    snprintf(path, sizeof path, "%s/state.db", dir);
    RUN(images_and_versions);
    RUN(iteration);
    RUN(microvms);
    RUN(keys_and_client_tokens);
    RUN(transactions);
    RUN(many_threads);
    RUN(kept_over_a_restart);
    RUN(upgrade_leaves_a_backup);
    RUN(damage_is_refused);
    RUN(busy_is_told);
    RUN(a_full_disk_is_told);
    RUN(kill_minus_nine);
    RUN(ten_thousand_rows);
    store_file_remove(path);
    rmdir(dir);
    return TAP_DONE();
}
