// SPDX-License-Identifier: Apache-2.0
/*
 * When a working set has drifted, and what takes its place: decisions over runs
 * of pages, and new lists compared with what each page says by itself.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../api/drift.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"
#include "snap_sample.h"

#define PERCENT 25

/* Pages from `first` on, n of them, every `step`-th. */
static struct drift_pages pages_of(uint32_t first, size_t n, uint32_t step)
{
    struct drift_pages p = {.v = calloc(n + 1, sizeof *p.v), .n = n};
    for (size_t i = 0; i < n; i++)
        p.v[i] = (struct workset_page){first + (uint32_t)i * step, (uint16_t)(i % 7)};
    return p;
}

static uint32_t run(struct drift *d, const struct drift_pages *list, struct drift_pages seen)
{
    uint32_t beyond = UINT32_MAX;
    CHECK(drift_add(d, list, &seen, PERCENT, &beyond, NULL) == 0);
    drift_pages_free(&seen);
    return beyond;
}

TEST(fits)
{
    AUTO(drift_reset) struct drift d = {.runs = 0};
    AUTO(drift_pages_free) struct drift_pages list = pages_of(100, 1000, 1);
    for (unsigned i = 0; i < DRIFT_RUNS; i++) {
        CHECK(drift_verdict(&d) == DRIFT_OPEN);
        CHECK(run(&d, &list, pages_of(100, 1249, 1)) == 249); /* one short of a quarter */
    }
    CHECK(drift_verdict(&d) == DRIFT_FITS);
    drift_reset(&d);
    CHECK(d.runs == 0 && d.nvotes == 0 && drift_verdict(&d) == DRIFT_OPEN);
}

TEST(drifted)
{
    AUTO(drift_pages_free) struct drift_pages list = pages_of(100, 1000, 1);
    for (unsigned drifting = 0; drifting <= DRIFT_RUNS; drifting++) {
        AUTO(drift_reset) struct drift d = {.runs = 0};
        for (unsigned i = 0; i < DRIFT_RUNS; i++)
            run(&d, &list, pages_of(1000, i < drifting ? 350 : 300, 1));
        CHECK(drift_verdict(&d) == (drifting >= DRIFT_AGREE ? DRIFT_RECORD : DRIFT_FITS));
    }
}

/* A quarter of a short list is not worth a record; with no list at all everything is. */
TEST(small)
{
    AUTO(drift_reset) struct drift d = {.runs = 0};
    AUTO(drift_reset) struct drift none = {.runs = 0};
    AUTO(drift_pages_free) struct drift_pages list = pages_of(0, 40, 1);
    const struct drift_pages empty = {.n = 0};
    for (unsigned i = 0; i < DRIFT_RUNS; i++) {
        CHECK(run(&d, &list, pages_of(0, 40 + DRIFT_PAGES_MIN - 1, 1)) == DRIFT_PAGES_MIN - 1);
        CHECK(run(&none, &empty, pages_of(0, DRIFT_PAGES_MIN, 9)) == DRIFT_PAGES_MIN);
    }
    CHECK(drift_verdict(&d) == DRIFT_FITS);
    CHECK(drift_verdict(&none) == DRIFT_RECORD);
}

static bool has(const struct drift_pages *l, uint32_t page, uint16_t *ret_flags)
{
    for (size_t i = 0; i < l->n; i++) {
        if (l->v[i].page == page) {
            *ret_flags = l->v[i].flags;
            return true;
        }
    }
    return false;
}

/* Random runs; each page of the new list, and each that is not in it, has its reason. */
TEST(new_list)
{
    enum { PAGES = 300 };
    struct sample_rng rng = {5};
    for (unsigned round = 0; round < 50; round++) {
        AUTO(drift_reset) struct drift d = {.runs = 0};
        struct drift_pages list = pages_of(0, 0, 1), next;
        unsigned votes[PAGES] = {0};
        uint16_t flags;
        free(list.v);
        list.v = calloc(PAGES, sizeof *list.v);
        for (uint32_t p = 0; p < PAGES; p++) {
            if (sample_random(&rng) % 3 == 0)
                list.v[list.n++] = (struct workset_page){p, 1};
        }
        for (unsigned i = 0; i <= DRIFT_RUNS; i++) { /* the last is the record */
            struct drift_pages seen = {.v = calloc(PAGES, sizeof *seen.v)};
            for (uint32_t p = 0; p < PAGES; p++) {
                if (sample_random(&rng) % (1 + p % 11) == 0)
                    seen.v[seen.n++] = (struct workset_page){p, i < DRIFT_RUNS ? 2 : 3};
            }
            if (i < DRIFT_RUNS) {
                for (size_t k = 0; k < seen.n; k++)
                    votes[seen.v[k].page] += !has(&list, seen.v[k].page, &flags);
                run(&d, &list, seen);
                continue;
            }
            CHECK(drift_list(&d, &list, &seen, &next, NULL) == 0);
            for (size_t k = 1; k < next.n; k++)
                CHECK(next.v[k - 1].page < next.v[k].page);
            for (uint32_t p = 0; p < PAGES; p++) {
                bool recorded = has(&seen, p, &flags), old = has(&list, p, &flags);
                bool want = recorded ? old || votes[p] : votes[p] * 2 >= DRIFT_RUNS;
                bool got = has(&next, p, &flags);
                CHECK(got == want && (!got || flags == (recorded ? 3 : 2)));
            }
            drift_pages_free(&seen);
        }
        drift_pages_free(&next);
        drift_pages_free(&list);
    }
}

/* A list that was wrong is right after one record. */
TEST(settles)
{
    AUTO(drift_reset) struct drift d = {.runs = 0};
    AUTO(drift_pages_free) struct drift_pages list = pages_of(100, 500, 1), next = {.n = 0};
    AUTO(drift_pages_free) struct drift_pages record = pages_of(400, 900, 2);
    for (unsigned i = 0; i < DRIFT_RUNS; i++)
        CHECK(run(&d, &list, pages_of(400, 900, 2)) == 800);
    CHECK(drift_verdict(&d) == DRIFT_RECORD);
    CHECK(drift_list(&d, &list, &record, &next, NULL) == 0);
    CHECK(next.n == 900); /* without the 400 that are not touched any more */
    drift_reset(&d);
    for (unsigned i = 0; i < DRIFT_RUNS; i++)
        CHECK(run(&d, &next, pages_of(400, 900, 2)) == 0);
    CHECK(drift_verdict(&d) == DRIFT_FITS);
}

TEST(pauses)
{
    CHECK(drift_pause_s(1) == 600 && drift_pause_s(2) == 1200 && drift_pause_s(5) == 9600);
    CHECK(drift_pause_s(9) == 86400 && drift_pause_s(4000000000u) == 86400);
}

TEST(there_and_back)
{
    struct snap_info info = sample_info(SNAP_FULL);
    AUTO_FREE uint8_t *bytes = malloc(WORKSET_BYTES);
    AUTO(drift_pages_free) struct drift_pages list = pages_of(3, 90, 1), got = {.n = 0};
    struct workset w;
    for (size_t i = 0; i < list.n; i++)
        list.v[i].flags = i < 30 ? WORKSET_WRITTEN : i < 60 ? 0 : (uint16_t)(i - 50);
    size_t len = workset_pack(info.id, list.v, list.n, bytes);
    CHECK(len == WORKSET_HEAD + 32 * WORKSET_ENTRY); /* those with a `ret` stand alone */
    CHECK(workset_parse(bytes, len, &info, &w, NULL) == 0);
    CHECK(w.pages == 90 && w.written == 30 && workset_count(&w) == 90);
    got = (struct drift_pages){.v = calloc(90, sizeof *got.v), .n = 90};
    workset_expand(&w, got.v);
    for (size_t i = 0; i < 90; i++)
        CHECK(got.v[i].page == list.v[i].page && got.v[i].flags == list.v[i].flags);
}

int main(void)
{
    RUN(fits);
    RUN(drifted);
    RUN(small);
    RUN(new_list);
    RUN(settles);
    RUN(pauses);
    RUN(there_and_back);
    return TAP_DONE();
}
