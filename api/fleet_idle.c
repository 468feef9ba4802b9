// SPDX-License-Identifier: Apache-2.0
/*
 * The clock of the fleet: one thread that sleeps until the next thing is due
 * (idle, suspended too long, alive too long, forgotten) and hands it to a
 * worker. Requests only move times later, so they need not wake it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "fleet_priv.h"

#define KEEP_TERMINATED_S (24 * 3600.0)
#define SWEEP_EVERY       (600 * NS_PER_S)

/* When a moment of the wall clock comes, on the monotonic one. */
static uint64_t wall_due(double at, double wall, uint64_t now)
{
    double left = at - wall;
    if (left <= 0)
        return now;
    return left > 1e9 ? UINT64_MAX : now + (uint64_t)(left * 1e9);
}

/* With vm->lock: when it is due next and for what. */
static uint64_t due(const struct fvm *vm, uint64_t now, double wall, enum job_kind *ret)
{
    const struct store_vm *r = &vm->row;
    if (vm->busy || (vm->state != VM_RUNNING && vm->state != VM_SUSPENDED))
        return UINT64_MAX; /* the end of what is under way calls fleet_timer_update() */
    *ret = JOB_EXPIRE;
    uint64_t at =
        r->max_seconds ? wall_due(r->started_at + r->max_seconds, wall, now) : UINT64_MAX;
    if (!r->has_idle)
        return at;
    if (vm->state == VM_RUNNING && vm->in_flight == 0) {
        uint64_t idle = vm->idle_since + r->idle_seconds * NS_PER_S;
        if (idle < at) {
            *ret = JOB_IDLE;
            at = idle;
        }
    } else if (vm->state == VM_SUSPENDED) {
        uint64_t stale = wall_due(r->suspended_at + r->suspended_seconds, wall, now);
        if (stale < at) {
            *ret = JOB_STALE;
            at = stale;
        }
    }
    return at;
}

void fleet_timer_update(struct fleet *f, const struct fvm *vm)
{
    enum job_kind kind;
    uint64_t at = due(vm, now_ns(), realtime_s(), &kind);
    pthread_mutex_lock(&f->jlock);
    if (at < f->next_wake) {
        f->next_wake = at;
        f->timer_kick = true;
        pthread_cond_signal(&f->tcond);
    }
    pthread_mutex_unlock(&f->jlock);
}

void fleet_policy(struct fleet *f, const struct store_vm *row)
{
    struct fvm *vm = fleet_vm_find(f, row->id);
    if (!vm)
        return;
    pthread_mutex_lock(&vm->lock);
    vm->row.has_idle = row->has_idle;
    vm->row.auto_resume = row->auto_resume;
    vm->row.idle_seconds = row->idle_seconds;
    vm->row.suspended_seconds = row->suspended_seconds;
    vm->row.max_seconds = row->max_seconds;
    fleet_timer_update(f, vm);
    pthread_mutex_unlock(&vm->lock);
    fleet_vm_put(f, vm);
}

/* Hands everything that is due to the workers; returns when to look again. */
static uint64_t scan(struct fleet *f)
{
    uint64_t now = now_ns(), next = UINT64_MAX;
    double wall = realtime_s();
    pthread_mutex_lock(&f->lock);
    for (unsigned b = 0; b < FLEET_BUCKETS; b++) {
        for (struct fvm *vm = f->by_id[b]; vm; vm = vm->next_id) {
            enum job_kind kind = JOB_EXPIRE;
            pthread_mutex_lock(&vm->lock);
            uint64_t at = due(vm, now, wall, &kind);
            pthread_mutex_unlock(&vm->lock);
            if (at <= now) {
                vm->refs++;
                job_push(f, kind, vm, NULL, 0);
                at = now + NS_PER_S; /* unless it changes its state before */
            }
            next = MIN(next, at);
        }
    }
    pthread_mutex_unlock(&f->lock);
    return next;
}

/* ---- rows of microVMs that ended long ago ---- */

static void sweep(struct fleet *f)
{
    char ids[64][ID_CAP];
    struct err e = ERR_INIT;
    double before = realtime_s() - KEEP_TERMINATED_S;
    bool stop = false;
    size_t n;
    int r;
    do {
        r = store_vm_ended(f->store, before, ids, ARRAY_LEN(ids), &n, &e);
        for (size_t i = 0; i < n && r == 0; i++) {
            snapfiles_drop_tree(&snap_io_host, f->vms_dir, ids[i]);
            r = store_vm_delete(f->store, ids[i], &e);
        }
        pthread_mutex_lock(&f->jlock);
        stop = f->stop;
        pthread_mutex_unlock(&f->jlock);
    } while (r == 0 && n == ARRAY_LEN(ids) && !stop);
    if (r < 0)
        log_err(LOG_WARN, &e, "forget old microVMs");
    checkpoints_forget(f);
}

void *fleet_timer_main(void *arg)
{
    struct fleet *f = arg;
    uint64_t next_sweep = now_ns();
    pthread_mutex_lock(&f->jlock);
    while (!f->stop) {
        f->timer_kick = false;
        f->next_wake = UINT64_MAX; /* updates from here on are kept */
        pthread_mutex_unlock(&f->jlock);
        if (now_ns() >= next_sweep) {
            sweep(f);
            next_sweep = now_ns() + SWEEP_EVERY;
        }
        uint64_t next = MIN(scan(f), next_sweep);
        pthread_mutex_lock(&f->jlock);
        f->next_wake = MIN(f->next_wake, next);
        while (!f->stop && now_ns() < f->next_wake) {
            struct timespec ts = {.tv_sec = (time_t)(f->next_wake / NS_PER_S),
                                  .tv_nsec = (long)(f->next_wake % NS_PER_S)};
            pthread_cond_timedwait(&f->tcond, &f->jlock, &ts);
        }
    }
    pthread_mutex_unlock(&f->jlock);
    return NULL;
}
