// SPDX-License-Identifier: Apache-2.0
/*
 * Many of everything: how many runs a second, a mixed load that must leave the
 * daemon as it was, and a start over ten thousand microVMs. Times are of the
 * clock on the wall, so they say something on a machine that does nothing else.
 */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../hypervisor/base/mem.h"
#include "fault_cases.h"
#include "fault_host.h"

#define RSS_MAX_KIB (64 << 10)
#define GROWTH_KIB  (4 << 10)
#define FDS_SLACK   16
#define ROWS        10000

/* ---- runs a second ---- */

struct runner {
    pthread_t thread;
    struct client c;
    unsigned runs, failed;
    char ids[64][72];
};

static void *runner_main(void *arg)
{
    struct runner *r = arg;
    for (unsigned i = 0; i < r->runs; i++) {
        r->failed += !client_run(&r->c);
        snprintf(r->ids[i], sizeof r->ids[i], "%s", r->c.id);
    }
    return NULL;
}

/* Each of them answered PENDING and on its way to RUNNING. */
static double runs_per_second(const char *image, unsigned threads, unsigned each)
{
    struct runner *r = calloc(threads, sizeof *r);
    unsigned failed = 0;
    uint64_t begin = now_ms();
    for (unsigned i = 0; i < threads; i++) {
        r[i].runs = each;
        CHECK(client_open(&r[i].c, 1000 + i, image));
        CHECK(pthread_create(&r[i].thread, NULL, runner_main, &r[i]) == 0);
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(r[i].thread, NULL);
        failed += r[i].failed;
    }
    double accepted = (double)(now_ms() - begin) / 1000;
    char state[24];
    for (unsigned i = 0; i < threads; i++) {
        for (unsigned k = 0; k < each; k++) {
            struct client *c = &r[i].c;
            snprintf(c->id, sizeof c->id, "%s", r[i].ids[k]);
            for (client_state(c, state); strcmp(state, "PENDING") == 0; client_state(c, state))
                nap(5);
        }
    }
    double running = (double)(now_ms() - begin) / 1000;
    for (unsigned i = 0; i < threads; i++) {
        for (unsigned k = 0; k < each; k++) {
            snprintf(r[i].c.id, sizeof r[i].c.id, "%s", r[i].ids[k]);
            CHECK(client_act(&r[i].c, "terminate"));
        }
        client_close(&r[i].c);
    }
    free(r);
    CHECK(failed == 0);
    printf("# %u runs: accepted at %.1f/s, all RUNNING at %.1f/s\n", threads * each,
           threads * each / accepted, threads * each / running);
    return threads * each / accepted;
}

FAULT_CASE(case_runs)
{
    CHECK(runs_per_second(image, 4, 2) > 0); /* the first ones fill the pool and the caches */
    CHECK(runs_per_second(image, 4, setting("RUNS", 10)) > 0);
}

/* ---- mixed load ---- */

struct shape {
    long rss_api, rss_parent;
    unsigned fds_api, fds_parent;
};

static struct shape shape_now(void)
{
    pid_t api = daemon_api(), parent = daemon_pid();
    struct shape s = {host_rss_kib(api), host_rss_kib(parent), host_fds(api), host_fds(parent)};
    printf("# api: %ld KiB, %u descriptors; parent: %ld KiB, %u descriptors\n", s.rss_api,
           s.fds_api, s.rss_parent, s.fds_parent);
    host_room();
    return s;
}

FAULT_CASE(case_load)
{
    unsigned n = setting("CLIENTS", 4), minutes = setting("MINUTES", 5);
    unsigned pace = setting("PACE_MS", 10000);
    unsigned ops, failed, lost;
    struct client c;
    if (!CHECK(client_open(&c, 97, image)))
        return;
    struct crowd *w = crowd_start(n, image);
    client_tells = true;
    crowd_pace(w, pace);
    crowd_go(w);
    nap(20000 + 500 * n); /* every thread and cache there will be */
    crowd_stop(w);
    CHECK(crowd_check(w));
    struct shape before = shape_now();
    crowd_go(w);
    for (unsigned i = 1; i <= minutes; i++) {
        nap(60000);
        printf("# minute %u of %u: %u operations, api %ld KiB, %u descriptors\n", i, minutes,
               crowd_steps(w), host_rss_kib(daemon_api()), host_fds(daemon_api()));
    }
    crowd_stop(w);
    CHECK(crowd_check(w));
    struct shape after = shape_now();
    int runs = client_count(&c);
    CHECK(runs >= 0 && host_leftovers((unsigned)runs + 8) == 0);
    crowd_end(w, &ops, &failed, &lost);
    printf("# %u clients, %u minutes, %u ms between two of one: %u operations, %u failed, %u "
           "promises broken\n",
           n, minutes, pace, ops, failed, lost);
    CHECK(lost == 0 && failed * 100 <= ops);
    CHECK(after.fds_api <= before.fds_api + FDS_SLACK + 8 * n);
    CHECK(after.fds_parent <= before.fds_parent + FDS_SLACK + 2 * n);
    CHECK(after.rss_api <= before.rss_api + GROWTH_KIB + 40 * (long)n);
    CHECK(after.rss_parent <= before.rss_parent + GROWTH_KIB);
    CHECK(after.rss_api + after.rss_parent <= RSS_MAX_KIB);
    client_close(&c);
}

/* ---- ten thousand ---- */

/* Copies of a suspended microVM, with links to its files. */
static bool copy_row(sqlite3 *db, const char *id, unsigned n, unsigned ip)
{
    char from[200], to[200], sql[1400];
    static const char *const files[] = {"disk.ovl", "mem.snap.1"};
    snprintf(to, sizeof to, STATE_DIR "/vms/microvm-00000000-0000-4000-8000-%012u", n);
    if (mkdir(to, 0700) < 0 || chown(to, 63000, 63000) < 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(from, sizeof from, STATE_DIR "/vms/%s/%s", id, files[i]);
        snprintf(to, sizeof to, STATE_DIR "/vms/microvm-00000000-0000-4000-8000-%012u/%s", n,
                 files[i]);
        if (link(from, to) < 0)
            return false;
    }
    snprintf(sql, sizeof sql,
             "CREATE TEMP TABLE t AS SELECT * FROM vm WHERE id = '%s';"
             "UPDATE t SET row = NULL, id = 'microvm-00000000-0000-4000-8000-%012u',"
             " label = '00000000-0000-4000-8000-%012u', ip = %u;"
             "INSERT INTO vm SELECT * FROM t; DROP TABLE t;",
             id, n, n, ip);
    char *why = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &why) == SQLITE_OK)
        return true;
    printf("# %s\n", why);
    return false;
}

static bool make_rows(const char *id)
{
    sqlite3 *db = NULL;
    bool ok = sqlite3_open(STATE_DIR "/dormouse.db", &db) == SQLITE_OK &&
              sqlite3_exec(db, "BEGIN", NULL, NULL, NULL) == SQLITE_OK;
    for (unsigned n = 0; n < ROWS && ok; n++)
        ok = copy_row(db, id, n, 0x0ab58001u + (n / 200) * 256 + n % 200);
    ok = ok && sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK;
    sqlite3_close(db);
    return ok;
}

FAULT_CASE(case_rows)
{
    struct client c;
    if (!CHECK(client_open(&c, 0, image) && client_run(&c) && client_ask(&c) &&
               client_act(&c, "suspend")))
        return;
    CHECK(daemon_stop());
    uint64_t begin = now_ms();
    if (!CHECK(make_rows(c.id)))
        return;
    printf("# made %u microVMs in %llu ms\n", ROWS, (unsigned long long)(now_ms() - begin));
    sync();
    begin = now_ms();
    CHECK(daemon_start(NULL));
    uint64_t took = now_ms() - begin;
    begin = now_ms();
    json_t *v = NULL;
    for (unsigned i = 0; i < 20; i++) {
        json_decref(v);
        v = client_get(&c, MICROVMS, "maxResults=50");
    }
    uint64_t page = (now_ms() - begin) / 20;
    CHECK(json_array_size(json_object_get(v, "items")) == 50);
    json_decref(v);
    printf("# start over %u suspended microVMs: %llu ms; a page of 50: %llu ms\n", ROWS,
           (unsigned long long)took, (unsigned long long)page);
    struct shape s = shape_now();
    CHECK(s.rss_api + s.rss_parent <= RSS_MAX_KIB);
    CHECK(s.fds_api < 200);
    CHECK(client_ask(&c) && c.lost == 0);
    client_close(&c);
}
