// SPDX-License-Identifier: Apache-2.0
/*
 * The daemon killed while it takes a checkpoint of a running microVM: between the row that
 * calls a disk layer frozen and the machine's switch to the one above, before, and behind.
 * Whatever the application had written is on its disk afterwards, by the disk's own word and
 * not by the guest's cache, also over layers that were joined since; what was acknowledged can
 * be gone back to; no file is left that nobody has. After each checkpoint the daemon joins all
 * layers in the background, so that kills hit that as well, and what is read is joined.
 */
#include <dirent.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../hypervisor/base/mem.h"
#include "fault_cases.h"
#include "fault_host.h"

#define JOINED   "joined to one of"
#define VM       "/dormouse/v1/microvms/%"
#define KEPT     6 /* checkpoints at a time */
#define QUIET_MS 300000

struct taker {
    pthread_t thread;
    struct client c; /* a connection of its own */
    char name[24], vm[72];
    bool ok;
};

struct point {
    char name[24];
    unsigned long counted;
    unsigned files;
};

static bool call(struct client *c, const char *method, const char *template, const char *more,
                 json_t *in, json_t **ret)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    cli_path(&path, template, c->id, more);
    int rc = buf_cstr(&path) ? cli_call(&c->cli, method, buf_cstr(&path), NULL, in, ret) : -1;
    json_decref(in);
    return rc == CLI_OK;
}

/* A shell command in the microVM; what it printed stands in `ret`. */
static bool command(struct client *c, const char *text, char *ret, size_t cap)
{
    json_t *v = NULL;
    bool ok = call(c, "POST", VM "/exec", NULL,
                   json_pack("{s:[s, s, s]}", "command", "/bin/sh", "-c", text), &v);
    const char *out = json_string_value(json_object_get(v, "stdout"));
    const char *err = json_string_value(json_object_get(v, "stderr"));
    ok = ok && json_integer_value(json_object_get(v, "exitCode")) == 0 && out;
    if (ok)
        snprintf(ret, cap, "%s", out);
    else
        printf("# '%s' failed: %s%s\n", text, err ? err : "", c->cli.fail.e.msg);
    json_decref(v);
    return ok;
}

/* Another file, half as long again as the one before, and its sum beside it. */
static bool write_file(struct client *c, unsigned n)
{
    char text[300], out[8];
    snprintf(text, sizeof text,
             "mkdir -p /kept && cd /kept && dd if=/dev/urandom of=f%u bs=4096 count=%u "
             "2>/dev/null && sha256sum f%u >s%u && sync",
             n, 16 + 37 * (n % 5), n, n);
    return command(c, text, out, sizeof out);
}

/* Read past the guest's cache. */
static bool files_whole(struct client *c, unsigned n)
{
    static const char text[] =
        "cd /kept && n=0; for s in s*; do f=f${s#s}; "
        "[ \"$(dd if=$f bs=4096 iflag=direct 2>/dev/null | sha256sum | cut -c1-64)\" = "
        "\"$(cut -c1-64 $s)\" ] && n=$((n + 1)) || echo $f; done; echo whole $n";
    char out[2000], want[40];
    snprintf(want, sizeof want, "whole %u\n", n);
    if (!command(c, text, out, sizeof out))
        return false;
    if (strcmp(out, want) == 0)
        return true;
    printf("# of %u files: %s", n, out);
    return false;
}

static void *take(void *arg)
{
    struct taker *t = arg;
    t->ok =
        call(&t->c, "POST", VM "/checkpoints", NULL, json_pack("{s:s}", "name", t->name), NULL);
    return NULL;
}

static bool take_begin(struct taker *t, const struct client *c, unsigned n)
{
    snprintf(t->name, sizeof t->name, "point-%u", n);
    snprintf(t->c.id, sizeof t->c.id, "%s", c->id);
    t->ok = false;
    return pthread_create(&t->thread, NULL, take, t) == 0;
}

static int count_rows(const char *table)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    char sql[160];
    int n = -1;
    snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", table);
    if (sqlite3_open_v2(STATE_DIR "/dormouse.db", &db, SQLITE_OPEN_READONLY, NULL) ==
            SQLITE_OK &&
        sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW)
        n = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

static int count_files(const char *path)
{
    int n = 0;
    DIR *dir = opendir(path);
    for (struct dirent *d; dir && (d = readdir(dir));)
        n += d->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return dir ? n : -1;
}

/* Once the background is done: no chain of a microVM is longer than one layer. */
static bool no_strays(void)
{
    int layers, disks, points, memories, chains;
    for (uint64_t end = now_ms() + QUIET_MS;; nap(20)) {
        chains = count_rows("(SELECT 1 FROM disk_layer WHERE holder LIKE 'microvm-%' "
                            "GROUP BY holder HAVING count(*) > 1)");
        layers = count_rows("layer");
        disks = count_files(STATE_DIR "/disks");
        points = count_rows("checkpoint");
        memories = count_files(STATE_DIR "/checkpoints");
        if (layers == disks && points == memories && chains == 0)
            return true;
        if (now_ms() > end)
            break;
    }
    printf("# %d layers in %d files, %d checkpoints in %d files, %d long chains\n", layers,
           disks, points, memories, chains);
    return false;
}

/* What was acknowledged is in the list. */
static bool is_listed(struct client *c, const char *name)
{
    json_t *v = NULL;
    bool ok = call(c, "GET", VM "/checkpoints/%", name, NULL, &v);
    json_decref(v);
    return ok;
}

static bool go_back(struct client *c, const struct point *p)
{
    if (!call(c, "POST", VM "/checkpoints/%/rollback", p->name, NULL, NULL)) {
        printf("# rollback to %s: %s\n", p->name, c->cli.fail.e.msg);
        return false;
    }
    c->counted = p->counted;
    return client_ask(c) && c->counted == p->counted + 1 && files_whole(c, p->files);
}

static bool forget(struct client *c, struct point *points, unsigned *n)
{
    bool ok = call(c, "DELETE", VM "/checkpoints/%", points[0].name, NULL, NULL);
    memmove(points, points + 1, --*n * sizeof *points);
    return ok;
}

FAULT_CASE(case_layers)
{
    static const char *const args[] = {"--disk-layers", "1", NULL};
    static struct taker t;
    struct client c;
    struct point points[KEPT + 1];
    unsigned n = 0, files = 0, rounds = setting("KILLS", 10), taken = 0, harm = 0;
    unsigned joined = daemon_said(JOINED);
    if (!CHECK(daemon_stop() && daemon_start(args) && client_open(&c, 90, image) &&
               client_open(&t.c, 91, image) && client_run(&c) && client_ask(&c)))
        return;
    if (!CHECK(write_file(&c, files++) && take_begin(&t, &c, 999)))
        return;
    uint64_t begin = now_ms();
    pthread_join(t.thread, NULL);
    unsigned took = (unsigned)(now_ms() - begin);
    CHECK(t.ok && call(&c, "DELETE", VM "/checkpoints/%", t.name, NULL, NULL));
    printf("# a checkpoint takes %u ms\n", took);
    for (unsigned i = 0; i < rounds && harm == 0; i++) {
        if (!CHECK(client_ask(&c) && write_file(&c, files++) && take_begin(&t, &c, i)))
            break;
        unsigned long counted = c.counted;
        unsigned after = draw(2 * took + 2);
        enum victim v = draw(4) < 2 ? VICTIM_ALL : (enum victim)(1 + draw(2));
        nap(after);
        daemon_kill(v);
        bool again = daemon_again(args);
        pthread_join(t.thread, NULL);
        printf("# %u: victim %u after %u ms, checkpoint %s\n", i, (unsigned)v, after,
               t.ok ? "acknowledged" : "cut");
        if (!CHECK(again))
            break;
        /* One that was not acknowledged may be there all the same. */
        if (t.ok || is_listed(&c, t.name)) {
            points[n++] = (struct point){.counted = counted, .files = files};
            snprintf(points[n - 1].name, sizeof points->name, "%s", t.name);
            taken++;
        }
        harm += !CHECK(client_check(&c));
        for (unsigned k = 0; k < n; k++)
            harm += !CHECK(is_listed(&c, points[k].name));
        harm += !CHECK(no_strays());
        /* Some rounds go on with the machine as the kill left it: the next checkpoint finds it
         * so, and joins layers of it. */
        if (draw(3) == 0)
            CHECK(client_act(&c, "suspend") && client_ask(&c));
        harm += !CHECK(files_whole(&c, files));
        if (n > 0 && draw(4) == 0) {
            const struct point *p = &points[draw(n)];
            harm += !CHECK(go_back(&c, p));
            files = p->files;
        }
        while (n > KEPT && harm == 0)
            CHECK(forget(&c, points, &n));
    }
    printf("# %u of %u checkpoints were taken\n", taken, rounds);
    joined = daemon_said(JOINED) - joined;
    printf("# layers were joined %u times\n", joined);
    CHECK(harm == 0 && c.lost == 0 && joined > 0);
    CHECK(client_act(&c, "terminate"));
    CHECK(no_strays());
    CHECK(daemon_stop() && daemon_start(NULL));
    client_close(&c);
    client_close(&t.c);
}
