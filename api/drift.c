// SPDX-License-Identifier: Apache-2.0
/* Working sets and what runs touch; see drift.h. */
#include "drift.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/mem.h"

#define PAUSE_S     600u
#define PAUSE_MAX_S 86400u

void drift_pages_free(struct drift_pages *p)
{
    free(p->v);
    *p = (struct drift_pages){.v = NULL};
}

void drift_reset(struct drift *d)
{
    free(d->votes);
    *d = (struct drift){.votes = NULL};
}

/* The place of a page in a list from *at on, which moves there. */
static bool has(const struct drift_pages *l, size_t *at, uint32_t page)
{
    while (*at < l->n && l->v[*at].page < page)
        ++*at;
    return *at < l->n && l->v[*at].page == page;
}

static const struct drift_vote *vote(const struct drift *d, size_t *at, uint32_t page)
{
    while (*at < d->nvotes && d->votes[*at].page < page)
        ++*at;
    return *at < d->nvotes && d->votes[*at].page == page ? &d->votes[*at] : NULL;
}

int drift_add(struct drift *d, const struct drift_pages *list, const struct drift_pages *seen,
              unsigned percent, uint32_t *ret_beyond, struct err *e)
{
    struct drift_vote *next = calloc(d->nvotes + seen->n + 1, sizeof *next);
    size_t n = 0, old = 0, at = 0;
    uint32_t beyond = 0;
    if (!next)
        return err_sys(e, ENOMEM, "count pages beyond the working set");
    for (size_t i = 0; i < seen->n; i++) {
        struct workset_page p = seen->v[i];
        if (has(list, &at, p.page))
            continue;
        beyond++;
        while (old < d->nvotes && d->votes[old].page < p.page)
            next[n++] = d->votes[old++];
        next[n] = (struct drift_vote){.page = p.page, .flags = p.flags, .runs = 1};
        if (old < d->nvotes && d->votes[old].page == p.page)
            next[n].runs = (uint16_t)(d->votes[old++].runs + 1);
        n++;
    }
    while (old < d->nvotes)
        next[n++] = d->votes[old++];
    free(d->votes);
    d->votes = next;
    d->nvotes = n;
    d->runs++;
    d->drifted +=
        beyond >= DRIFT_PAGES_MIN && (uint64_t)beyond * 100 >= list->n * (uint64_t)percent;
    *ret_beyond = beyond;
    return 0;
}

enum drift_verdict drift_verdict(const struct drift *d)
{
    if (d->runs < DRIFT_RUNS)
        return DRIFT_OPEN;
    /* As large a part of more runs. */
    return d->drifted * DRIFT_RUNS >= d->runs * DRIFT_AGREE ? DRIFT_RECORD : DRIFT_FITS;
}

int drift_list(const struct drift *d, const struct drift_pages *list,
               const struct drift_pages *recorded, struct drift_pages *ret, struct err *e)
{
    size_t in_list = 0, in_votes = 0, v = 0;
    *ret = (struct drift_pages){.v = calloc(d->nvotes + recorded->n + 1, sizeof *ret->v)};
    if (!ret->v)
        return err_sys(e, ENOMEM, "make a working set");
    for (size_t i = 0; i <= recorded->n; i++) {
        uint32_t page = i < recorded->n ? recorded->v[i].page : UINT32_MAX;
        for (; v < d->nvotes && d->votes[v].page < page; v++) {
            if (d->votes[v].runs * 2u >= d->runs)
                ret->v[ret->n++] = (struct workset_page){d->votes[v].page, d->votes[v].flags};
        }
        if (i == recorded->n)
            break;
        const struct drift_vote *other = vote(d, &in_votes, page);
        if (other || has(list, &in_list, page))
            ret->v[ret->n++] = recorded->v[i];
        v += v < d->nvotes && d->votes[v].page == page;
    }
    return 0;
}

uint64_t drift_pause_s(unsigned records)
{
    uint64_t s = PAUSE_S;
    for (unsigned i = 1; i < records && s < PAUSE_MAX_S; i++)
        s *= 2;
    return MIN(s, (uint64_t)PAUSE_MAX_S);
}
