// SPDX-License-Identifier: Apache-2.0
/*
 * Working sets that follow what runs do. The build records one after one request
 * that it has made up; real ones may touch other pages. So now and then a run is
 * asked, when it has answered its first request, which pages are there; drift.c
 * says what follows. When another list is due, the next run gets none, which makes
 * it a little slower, and what it has touched, with what the others have, is the
 * new one. It is published as all files are, and used by the next runs. Whatever
 * fails here, the runs do not notice.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "drift.h"
#include "fleet_priv.h"
#include "metrics.h"

#define ASK_MS    20000
#define SAMPLE_NS NS_PER_S         /* between two runs that are looked at, and … */
#define WINDOW_NS (600 * NS_PER_S) /* … after a look that found nothing */
#define RUNS_MAX  1000u            /* without a record: none of its runs gets a request, say */
#define PROMPT_NS \
    (10 * NS_PER_S) /* who takes longer for the first answer does more than that */

/* ---- which runs ---- */

static uint64_t get(const uint64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static void put(uint64_t *at, uint64_t v)
{
    __atomic_store_n(at, v, __ATOMIC_RELAXED);
}

bool drift_start(struct fleet *f, struct fvm *vm)
{
    struct image *img = vm->image;
    vm->first_request = f->c.worksets != WORKSETS_OFF && f->c.drift_percent && !vm->source;
    vm->recording =
        vm->first_request && __atomic_exchange_n(&img->drift.record, false, __ATOMIC_RELAXED);
    return vm->recording;
}

bool drift_wanted(const struct fvm *vm, uint64_t began)
{
    uint64_t now = now_ns();
    return now - began < PROMPT_NS && (vm->recording || now >= get(&vm->image->drift.next));
}

/* ---- what a run has touched ---- */

static int read_pages(int fd, const struct snap_info *info, struct drift_pages *ret,
                      struct err *e)
{
    AUTO_FREE uint8_t *space = NULL;
    struct workset w;
    int r = workset_read(fd, info, &space, &w, e);
    uint64_t n = r == 0 ? workset_count(&w) : 0;
    if (r < 0)
        return r;
    if (n > DRIFT_PAGES_MAX)
        return err_set(e, E2BIG, "%llu pages were touched: too many to keep a list",
                       (unsigned long long)n);
    ret->v = calloc(n + 1, sizeof *ret->v);
    if (!ret->v)
        return err_sys(e, ENOMEM, "list the pages that were touched");
    ret->n = n;
    workset_expand(&w, ret->v);
    return 0;
}

/* The machine runs on meanwhile. */
static int ask(struct fvm *vm, int fd, struct err *e)
{
    int r = -EAGAIN;
    pthread_mutex_lock(&vm->lock);
    bool mine = vm->state == VM_RUNNING && !vm->busy && vm->vmm;
    vm->busy = vm->busy || mine;
    pthread_mutex_unlock(&vm->lock);
    if (!mine)
        return err_set(e, EAGAIN, "the microVM is busy");
    if (!vm->vmm->dead)
        r = vmm_call(vm->vmm, CTL_WORKSET, NULL, 0, &fd, 1, deadline_ms(ASK_MS), NULL, e);
    fleet_end(vm);
    return r;
}

static int touched(struct fvm *vm, const struct snap_info *info, struct drift_pages *ret,
                   struct err *e)
{
    AUTO_CLOSE int fd = memfd_create("touched", MFD_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "make room for a list of pages");
    int r = ask(vm, fd, e);
    return r < 0 ? r : read_pages(fd, info, ret, e);
}

/* ---- the new list ---- */

struct list {
    const struct snap_info *info;
    const struct drift_pages *pages;
    size_t len;
};

static int write_list(void *ctx, int fd, struct err *e)
{
    struct list *l = ctx;
    AUTO_FREE uint8_t *bytes = malloc(WORKSET_BYTES);
    if (!bytes)
        return err_sys(e, ENOMEM, "write a working set");
    l->len = workset_pack(l->info->id, l->pages->v, l->pages->n, bytes);
    int r = snap_io_write_full(&snap_io_host, fd, bytes, l->len, 0);
    return r < 0 ? err_sys(e, -r, "write a working set") : 0;
}

/* The number of the descriptor stays: who passes it on at this moment passes the old file or
 * the new one. */
static int use(struct fleet *f, struct image *img, int dir, struct err *e)
{
    AUTO_CLOSE int fd = openat(dir, "workset", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "open the new working set");
    if (img->workset < 0)
        __atomic_store_n(&img->workset, take_fd(&fd), __ATOMIC_RELAXED);
    else if (dup3(fd, img->workset, O_CLOEXEC) < 0)
        return err_sys(e, errno, "use the new working set");
    pool_forget(f->pool, img->file_id); /* what is prepared, is so by the old one */
    return 0;
}

static int publish(struct fleet *f, struct image *img, const struct snap_info *info,
                   const struct drift_pages *pages, struct err *e)
{
    struct list l = {.info = info, .pages = pages};
    const struct snapfiles_steps steps = {.save = write_list, .ctx = &l};
    AUTO_CLOSE int dir =
        openat(f->images_dir, img->file_id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(e, errno, "open the files of the image");
    int r = snapfiles_write(&snap_io_host, NULL, dir, "workset", &steps, NULL, e);
    return r < 0 ? r : use(f, img, dir, e);
}

static void record(struct fleet *f, struct image *img, const struct snap_info *info,
                   const struct drift_pages *list, const struct drift_pages *seen)
{
    AUTO(drift_pages_free) struct drift_pages next = {.v = NULL};
    struct image_drift *w = &img->drift;
    struct err e = ERR_INIT;
    size_t kept = 0;
    int r = drift_list(&w->seen, list, seen, &next, &e);
    if (r == 0)
        r = publish(f, img, info, &next, &e);
    metrics_recorded(f->c.metrics, r == 0);
    w->records++;
    w->next_record = now_ns() + drift_pause_s(w->records) * NS_PER_S;
    for (size_t i = 0, k = 0; i < next.n; i++) {
        while (k < list->n && list->v[k].page < next.v[i].page)
            k++;
        kept += k < list->n && list->v[k].page == next.v[i].page;
    }
    if (r < 0)
        log_err(LOG_WARN, &e, "record a working set again");
    else
        log_info("image %s %u.0: working set recorded again, %zu pages: %zu of the %zu it had, "
                 "%zu new; not before %llu s have passed another time",
                 img->name, img->major, next.n, kept, list->n, next.n - kept,
                 (unsigned long long)drift_pause_s(w->records));
    drift_reset(&w->seen);
    put(&w->next, now_ns() + SAMPLE_NS);
}

/* ---- the decision ---- */

static void sample(struct fleet *f, struct image *img, const struct drift_pages *list,
                   const struct drift_pages *seen)
{
    struct image_drift *w = &img->drift;
    struct err e = ERR_INIT;
    uint32_t beyond = 0;
    uint64_t now = now_ns();
    put(&w->next, now + SAMPLE_NS);
    if (drift_add(&w->seen, list, seen, (unsigned)f->c.drift_percent, &beyond, &e) < 0) {
        log_err(LOG_WARN, &e, img->name);
        return;
    }
    metrics_touched(f->c.metrics, list->n, beyond);
    log_debug("image %s %u.0: a run touched %u pages beyond the %zu of the working set",
              img->name, img->major, beyond, list->n);
    switch (drift_verdict(&w->seen)) {
    case DRIFT_OPEN:
        return;
    case DRIFT_FITS:
        drift_reset(&w->seen);
        w->records = 0;
        put(&w->next, now + WINDOW_NS);
        return;
    case DRIFT_RECORD:
        if (now < w->next_record || w->seen.runs > RUNS_MAX) {
            drift_reset(&w->seen);
            put(&w->next, MAX(w->next_record, now));
            return;
        }
        if (!__atomic_exchange_n(&w->record, true, __ATOMIC_RELAXED))
            log_info("image %s %u.0: %u of %u runs touched many pages beyond the working set; "
                     "the next run records another one",
                     img->name, img->major, w->seen.drifted, w->seen.runs);
        return;
    }
}

void fleet_drift(struct fleet *f, struct fvm *vm)
{
    AUTO(drift_pages_free) struct drift_pages list = {.v = NULL}, seen = {.v = NULL};
    struct image *img = vm->image;
    struct snap_info info;
    struct err e = ERR_INIT;
    if (__atomic_load_n(&f->stop, __ATOMIC_RELAXED))
        return;
    int r = snap_read_info(img->mem, &info, &e);
    if (r == 0)
        r = touched(vm, &info, &seen, &e);
    /* A damaged one is as good as none. */
    if (r == 0 && img->workset >= 0 && read_pages(img->workset, &info, &list, NULL) == -ENOMEM)
        r = -ENOMEM;
    if (r < 0)
        log_debug("image %s %u.0: a run was not looked at: %s", img->name, img->major, e.msg);
    else if (vm->recording)
        record(f, img, &info, &list, &seen);
    else
        sample(f, img, &list, &seen);
    /* A recording that came to nothing is the next run's again, after the next look. */
    vm->recording = false;
}
