// SPDX-License-Identifier: Apache-2.0
/* The state of a microVM at one moment, as files; see fleet_take.h. */
#include "fleet_take.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "../snapshot/overlay.h"
#include "chain.h"
#include "cpfiles.h"

int take_hold(struct fvm *vm, const char *verb, bool *ret_running, struct err *e)
{
    int r = 0;
    pthread_mutex_lock(&vm->lock);
    while (vm->busy || vm->rejoining)
        pthread_cond_wait(&vm->cond, &vm->lock);
    if (vm->state == VM_RUNNING || vm->state == VM_SUSPENDED) {
        vm->busy = true;
        *ret_running = vm->state == VM_RUNNING;
    } else {
        r = err_set(e, EINVAL, "MicroVM %s cannot be %s while it is in state: %s", vm->row.id,
                    verb, fsm_name(vm->state));
    }
    pthread_mutex_unlock(&vm->lock);
    return r;
}

bool take_ended(struct fvm *vm)
{
    pthread_mutex_lock(&vm->lock);
    bool ended = vm->state == VM_TERMINATED;
    pthread_mutex_unlock(&vm->lock);
    return ended;
}

int take_prepare(struct fleet *f, struct fvm *vm, struct err *e)
{
    int r = vm->image ? 0 : image_get(f, vm->row.image, vm->row.major, &vm->image, e);
    return r < 0 ? r : vm_open_dir(f, vm, e);
}

void take_init(struct take *t, struct fvm *vm, bool running)
{
    *t = (struct take){.vm = vm, .running = running, .before = vm->disk, .disk = vm->disk};
    t->top = -1;
    t->begin = now_ns();
}

/* ---- the layers ---- */

/* When checkpoints follow each other faster than fleet_flatten.c shortens the chain. */
static int make_room(struct fleet *f, struct take *t, struct err *e)
{
    struct store_disk *d = &t->disk;
    uint64_t bytes[DISK_FROZEN_MAX], sum;
    struct chain_part part;
    for (uint32_t i = 0; i < d->n; i++)
        bytes[i] = fleet_allocated(f->disks_dir, d->layers[i]);
    if (!chain_choose(d, bytes, DISK_FROZEN_MAX - 1, &part, &sum))
        return 0;
    struct store_disk joined = {.n = part.n};
    memcpy(joined.layers, part.layers, sizeof joined.layers);
    AUTO(disk_close) struct open_disk l;
    int r = disk_open(f, &joined, &l, e);
    char *id = t->fresh[t->nfresh];
    uuid_make(id);
    if (r == 0)
        r = cpfiles_merge(&snap_io_host, f->disks_dir, l.fd, l.n, id, NULL, e);
    if (r < 0)
        return err_wrap(e, "shorten the chain of disk layers");
    t->nfresh++;
    chain_join(d, &part, id);
    log_debug("%s: merged %u disk layers of %.1f MiB", t->vm->row.id, part.n,
              (double)sum / 1048576);
    return 0;
}

static bool top_is_empty(const struct fvm *vm)
{
    struct overlay *o;
    AUTO_CLOSE int fd = vm_disk_open(vm, NULL);
    if (fd < 0 || overlay_open(&o, fd, false, NULL) < 0)
        return false;
    bool empty = overlay_count(o) == 0;
    overlay_free(o);
    return empty;
}

static int push(struct fleet *f, struct take *t, struct err *e)
{
    struct fvm *vm = t->vm;
    struct store_disk *d = &t->disk;
    char *id = t->fresh[t->nfresh], name[SNAPFILES_NAME];
    uuid_make(id);
    int r = cpfiles_freeze(&snap_io_host, vm->dir, d->serial, f->disks_dir, id, e);
    if (r < 0)
        return r;
    t->nfresh++;
    snapfiles_disk(name, d->serial);
    t->layer_bytes = fleet_allocated(vm->dir, name);
    r = cpfiles_top(&snap_io_host, vm->dir, d->serial + 1, vm->image->disk_bytes, !t->running,
                    &t->top, e);
    if (r < 0)
        return r;
    t->pushed = true;
    memcpy(d->layers[d->n++], id, LAYER_CAP);
    d->serial++;
    if (!t->running && fsync(vm->dir) < 0)
        return err_sys(e, errno, "make the session's directory durable");
    return 0;
}

int take_begin(struct fleet *f, struct take *t, struct err *e)
{
    /* What was not written to since the last time need not be frozen again. */
    if (!t->running && top_is_empty(t->vm))
        return 0;
    if (t->running && t->vm->vmm->disk_behind)
        return err_set(e, EINVAL,
                       "MicroVM %s still writes to a frozen layer of its disk, as a "
                       "checkpoint failed; suspend it, then try again",
                       t->vm->row.id);
    int r = make_room(f, t, e);
    if (r == 0)
        r = push(f, t, e);
    if (r < 0)
        take_undo(f, t);
    return r;
}

int take_rows(struct fleet *f, const struct take *t, struct err *e)
{
    int r = 0;
    for (unsigned i = 0; i < t->nfresh && r == 0; i++)
        r = store_layer_add(f->store, t->fresh[i], fleet_allocated(f->disks_dir, t->fresh[i]),
                            e);
    return r == 0 && t->nfresh ? store_disk_set(f->store, t->vm->row.id, &t->disk, e) : r;
}

static void close_top(struct take *t)
{
    if (t->top >= 0)
        close(t->top);
    t->top = -1;
}

static void remove_top(const struct take *t, uint64_t serial)
{
    char name[SNAPFILES_NAME];
    snapfiles_disk(name, serial);
    snap_io_host.unlink(NULL, t->vm->dir, name, false);
}

void take_kept(struct fleet *f, struct take *t)
{
    close_top(t);
    if (t->pushed)
        remove_top(t, t->before.serial);
    t->vm->disk = t->disk;
    if (t->nfresh > 1)
        disk_collect(f); /* those that were merged, when nobody else has them */
}

void take_undo(struct fleet *f, struct take *t)
{
    close_top(t);
    if (t->pushed)
        remove_top(t, t->disk.serial);
    for (unsigned i = 0; i < t->nfresh; i++)
        cpfiles_remove(&snap_io_host, f->disks_dir, t->fresh[i]);
    t->pushed = false;
    t->nfresh = 0;
    t->disk = t->before;
}

/* ---- the machine ---- */

static int rows_commit(struct fleet *f, struct take *t, struct err *e)
{
    int r = store_begin(f->store, e);
    if (r == 0 && (r = take_rows(f, t, e)) < 0)
        store_rollback(f->store);
    else if (r == 0)
        r = store_commit(f->store, e);
    return r;
}

/* The machine still writes to the old top: so says the row again. When that cannot be written,
 * the new row is as good: the old top is then read as the frozen layer that it is by name. */
static void rows_back(struct fleet *f, struct take *t)
{
    struct err e = ERR_INIT;
    if (store_disk_set(f->store, t->vm->row.id, &t->before, &e) < 0) {
        log_err(LOG_WARN, &e, t->vm->row.id);
        t->vm->disk = t->disk;
        t->vm->vmm->disk_behind = true;
        close_top(t);
        return;
    }
    close_top(t);
    remove_top(t, t->disk.serial);
    disk_collect(f);
    t->disk = t->before;
}

/* Frozen guest -> memory and disk. */
static int save(struct take *t, const struct open_disk *l, int mem, struct err *e)
{
    struct vmm *v = t->vm->vmm;
    t->frozen = now_ns();
    int r = guest_freeze(v, false, e);
    if (r == 0 && v->app_ended)
        r = err_set(e, ECONNRESET, "%s", v->reason);
    if (r == 0)
        r = guest_save(v, false, mem, &t->saved, e);
    return r == 0 ? disk_switch(t->vm, l, t->top, e) : r;
}

static int run_on(struct take *t, struct err *e)
{
    struct vmm *v = t->vm->vmm;
    uint64_t deadline = deadline_ms(RESTORE_LIMIT_MS);
    int r = vmm_call(v, CTL_RESUME, NULL, 0, NULL, 0, deadline, NULL, e);
    if (r == 0 || r == -EBUSY) /* it was not paused yet */
        r = guest_thaw(v, e);
    t->thawed = now_ns();
    return r;
}

/* It could not go on, or its application has ended: that is its end. */
static int give_back(struct fleet *f, struct take *t, int r, bool stuck, struct err *e)
{
    struct fvm *vm = t->vm;
    struct vmm *v = vm->vmm;
    if (!v->dead && !v->app_ended && !stuck) {
        fleet_io_attach(f->io, v);
        pthread_mutex_lock(&vm->lock);
        vm->idle_since = now_ns();
        table_idle(f, v->slot, vm->idle_since);
        pthread_mutex_unlock(&vm->lock);
        return r;
    }
    char reason[REASON_CAP];
    snprintf(reason, sizeof reason, "%s",
             v->reason[0] ? v->reason : "The microVM could not go on after a checkpoint");
    fleet_step(vm, EV_TERMINATE);
    vm_terminate(f, vm, false, reason);
    return err_set(e, EINVAL, "MicroVM %s has ended: %s", vm->row.id, reason);
}

int take_machine(struct fleet *f, struct take *t, int mem, struct err *e)
{
    struct fvm *vm = t->vm;
    struct vmm *v = vm->vmm;
    const struct image_config *c = &vm->image->config;
    struct err late = ERR_INIT;
    AUTO(disk_close) struct open_disk l = {.n = 0};
    int r = disk_open(f, &t->disk, &l, e);
    if (r == 0)
        r = rows_commit(f, t, e);
    if (r < 0) {
        take_undo(f, t);
        return r;
    }
    fleet_io_detach(f->io, v);
    r = guest_hook(v, c, IMAGE_HOOK_SUSPEND, vm->row.id, NULL, NULL, e);
    t->hook = now_ns();
    bool stuck = false;
    if (r == 0) {
        r = save(t, &l, mem, e);
        stuck = run_on(t, &late) < 0;
        if (!stuck && guest_hook(v, c, IMAGE_HOOK_RESUME, vm->row.id, NULL, NULL, &late) < 0)
            applog_say(&vm->log, "after a checkpoint: %s", late.msg);
    }
    if (r < 0)
        rows_back(f, t);
    else
        take_kept(f, t);
    return give_back(f, t, r, stuck, e);
}
