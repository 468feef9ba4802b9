// SPDX-License-Identifier: Apache-2.0
/*
 * Chains of disk layers made shorter in the background, so that neither a
 * restore has many files to open nor a checkpoint has to join layers first. A
 * thread of the lowest priority writes the new layer, which is then published
 * like any other file: the file, the rows of all that have the old layers, the
 * old files. Meanwhile everything goes on with the old chain: nothing waits but a
 * checkpoint, a fork or a rollback, while the rows are changed. A machine that
 * runs has its files open and keeps them; its next restore takes the new ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/ioprio.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "chain.h"
#include "cpfiles.h"
#include "fleet_priv.h"
#include "metrics.h"

#define SYNC_BYTES (8ull << 20)
#define SPARE      (256ull << 20) /* of the file system; a new microVM needs half of that */

struct flat {
    struct fleet *f;
    struct fvm *vm;
    struct chain_part part;
    uint64_t part_bytes;
    char id[LAYER_CAP]; /* the layer that takes the place of those */
    int result;
    struct err err;
};

/* ---- when ---- */

void flatten_want(struct fleet *f, struct fvm *vm)
{
    pthread_mutex_lock(&f->lock);
    pthread_mutex_lock(&vm->lock);
    bool wanted = vm->disk.n > f->c.disk_layers && !vm->flatten_queued;
    if (wanted) {
        vm->flatten_queued = true;
        vm->refs++;
    }
    pthread_mutex_unlock(&vm->lock);
    pthread_mutex_unlock(&f->lock);
    if (wanted)
        job_push(f, JOB_FLATTEN, vm, NULL, 0);
}

void flatten_all(struct fleet *f)
{
    for (unsigned b = 0; b < FLEET_BUCKETS; b++) {
        struct fvm *found[16];
        unsigned n = 0;
        pthread_mutex_lock(&f->lock);
        for (struct fvm *vm = f->by_id[b]; vm && n < ARRAY_LEN(found); vm = vm->next_id) {
            vm->refs++;
            found[n++] = vm;
        }
        pthread_mutex_unlock(&f->lock);
        for (unsigned i = 0; i < n; i++) {
            flatten_want(f, found[i]);
            fleet_vm_put(f, found[i]);
        }
    }
}

/* With vm->lock: its frozen layers are frozen, and it has not ended. */
static bool rests(struct fvm *vm)
{
    while (vm->busy)
        pthread_cond_wait(&vm->cond, &vm->lock);
    return (vm->state == VM_RUNNING || vm->state == VM_SUSPENDED) &&
           !(vm->vmm && vm->vmm->disk_behind);
}

/* False: nothing to do, or not now. */
static bool choose(struct flat *w)
{
    uint64_t bytes[DISK_FROZEN_MAX], count = 0, all = 0;
    struct fleet *f = w->f;
    struct store_disk d;
    pthread_mutex_lock(&w->vm->lock);
    w->vm->flatten_queued = false; /* from here on a longer chain is another job's */
    bool rest = rests(w->vm);
    d = w->vm->disk;
    pthread_mutex_unlock(&w->vm->lock);
    if (!rest)
        return false;
    for (uint32_t i = 0; i < d.n; i++)
        bytes[i] = fleet_allocated(f->disks_dir, d.layers[i]);
    if (!chain_choose(&d, bytes, (uint32_t)f->c.disk_layers, &w->part, &w->part_bytes))
        return false;
    /* Until nobody has the old ones any more there are both. */
    if (store_layer_sum(f->store, &count, &all, NULL) < 0 ||
        all + w->part_bytes > f->c.checkpoints.all_bytes ||
        fleet_disk_free(f) < w->part_bytes + SPARE) {
        log_info("%s keeps its %u disk layers: there is no space to join %.1f MiB of them",
                 w->vm->row.id, d.n, (double)w->part_bytes / 1048576);
        return false;
    }
    return true;
}

/* ---- the layer ---- */

static bool stopped(void *ctx)
{
    const struct flat *w = ctx;
    enum vm_state s = __atomic_load_n(&w->vm->state, __ATOMIC_RELAXED);
    return __atomic_load_n(&w->f->stop, __ATOMIC_RELAXED) || s == VM_TERMINATING ||
           s == VM_TERMINATED;
}

/* Takes no lock that anybody else may want: it may be a long time between two instructions. */
static void *merge_main(void *arg)
{
    struct flat *w = arg;
    const struct sched_param param = {.sched_priority = 0};
    const struct overlay_pace pace = {.sync_bytes = SYNC_BYTES, .stop = stopped, .ctx = w};
    struct store_disk d = {.n = w->part.n};
    AUTO(disk_close) struct open_disk l = {.n = 0};
    pthread_setschedparam(pthread_self(), SCHED_IDLE, &param);
    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
    memcpy(d.layers, w->part.layers, sizeof d.layers);
    w->result = disk_open(w->f, &d, &l, &w->err);
    if (w->result == 0)
        w->result =
            cpfiles_merge(&snap_io_host, w->f->disks_dir, l.fd, l.n, w->id, &pace, &w->err);
    return NULL;
}

/* In a thread of its own: one that has stepped back this far may not step forward again. */
static int merge(struct flat *w)
{
    pthread_t t;
    int r = pthread_create(&t, NULL, merge_main, w);
    if (r)
        return err_sys(&w->err, r, "start a thread that joins disk layers");
    pthread_join(t, NULL);
    return w->result;
}

/* ---- the rows ---- */

static int rows(struct flat *w, const struct fvm *vm, bool first, uint32_t *ret_n)
{
    struct store *s = w->f->store;
    int r = store_begin(s, &w->err);
    if (r < 0)
        return r;
    if (first)
        r = store_layer_add(s, w->id, fleet_allocated(w->f->disks_dir, w->id), &w->err);
    if (r == 0)
        r = store_disk_join(s, vm ? vm->row.id : NULL, &w->part, w->id, ret_n, &w->err);
    if (r == 0 && first && *ret_n == 0)
        r = err_set(&w->err, ESTALE, "the disk has other layers by now");
    if (r == 0)
        return store_commit(s, &w->err);
    store_rollback(s);
    return r;
}

/* While `rejoining`, nobody copies the chain of the microVM's disk or of its checkpoints in
 * order to write it somewhere; resumes, suspends and its end go on. */
static int put_in_place(struct flat *w, struct fvm *vm, bool first, uint32_t *ret_n)
{
    int r;
    pthread_mutex_lock(&vm->lock);
    bool rest = rests(vm);
    vm->rejoining = rest;
    pthread_mutex_unlock(&vm->lock);
    if (!rest)
        return err_set(&w->err, ESTALE, "the microVM has ended");
    r = rows(w, vm, first, ret_n);
    pthread_mutex_lock(&vm->lock);
    if (r == 0) {
        struct store_disk d = vm->disk;
        chain_join(&d, &w->part, w->id);
        vm->disk.n = d.n;
        memcpy(vm->disk.layers, d.layers, sizeof d.layers);
    }
    vm->rejoining = false;
    pthread_cond_broadcast(&vm->cond);
    pthread_mutex_unlock(&vm->lock);
    return r;
}

/* Forks have the same layers, and so have checkpoints, also of microVMs that have ended. Who
 * keeps the old ones, as it came in between, only keeps their files. */
static uint32_t others(struct flat *w)
{
    AUTO(store_ids_free) struct store_ids l = {.n = 0};
    uint32_t n = 0, all = 0;
    if (store_layer_vms(w->f->store, w->part.layers[0], &l, &w->err) < 0)
        return 0;
    for (size_t i = 0; i < l.n; i++) {
        struct fvm *vm = fleet_vm_find(w->f, l.v[i]);
        if (!vm)
            continue;
        if (vm != w->vm && put_in_place(w, vm, false, &n) == 0)
            all += n;
        fleet_vm_put(w->f, vm);
    }
    pthread_mutex_lock(&w->f->ended_lock);
    if (rows(w, NULL, false, &n) == 0)
        all += n;
    pthread_mutex_unlock(&w->f->ended_lock);
    return all;
}

/* ---- all of it ---- */

void fleet_flatten(struct fleet *f, struct fvm *vm)
{
    struct flat w = {.f = f, .vm = vm, .err = ERR_INIT};
    uint64_t begin = now_ns();
    uint32_t n = 0;
    if (stopped(&w) || !choose(&w))
        return;
    uuid_make(w.id);
    int r = merge(&w);
    uint64_t bytes = r == 0 ? fleet_allocated(f->disks_dir, w.id) : 0;
    if (r == 0 && (r = put_in_place(&w, vm, true, &n)) < 0)
        cpfiles_remove(&snap_io_host, f->disks_dir, w.id);
    if (r == 0) {
        n += others(&w);
        disk_collect(f);
    }
    uint64_t ns = now_ns() - begin;
    /* Its chain was changed, it ended, or the daemon does. */
    bool dropped = r == -ESTALE || r == -ECANCELED || r == -ENOENT;
    metrics_flatten(f->c.metrics,
                    r == 0    ? FLATTEN_DONE
                    : dropped ? FLATTEN_DROPPED
                              : FLATTEN_FAILED,
                    w.part.n, bytes, ns);
    if (r == 0)
        log_info("%s: %u disk layers of %.1f MiB joined to one of %.1f MiB in %.0f ms, for %u "
                 "disks",
                 vm->row.id, w.part.n, (double)w.part_bytes / 1048576, (double)bytes / 1048576,
                 (double)ns / 1e6, n);
    else if (dropped)
        log_info("%s: joining %u disk layers was given up: %s", vm->row.id, w.part.n,
                 w.err.msg);
    else
        log_err(LOG_WARN, &w.err, vm->row.id); /* the next checkpoint or suspend tries again */
}
