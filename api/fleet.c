// SPDX-License-Identifier: Apache-2.0
/*
 * The fleet's tables and its calls (fleet.h): who may do what when. The work
 * itself is in fleet_run.c and fleet_build.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "events.h"
#include "fleet_take.h"

static unsigned bucket(const char *s)
{
    uint32_t h = 2166136261u;
    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 16777619u;
    return h % FLEET_BUCKETS;
}

/* ---- tables ---- */

struct fvm *fleet_vm_new(struct fleet *f, struct store_vm *row)
{
    struct fvm *vm = calloc(1, sizeof *vm);
    if (!vm)
        return NULL;
    vm->f = f;
    vm->row = *row;
    row->ingress = row->egress = row->payload = row->logging = row->tags = row->env = NULL;
    vm->dir = -1;
    vm->log.dir = vm->log.fd = -1;
    if (fleet_address_keep(f, vm->row.ip)) {
        vm->ip = vm->row.ip;
    } else if (fleet_address_take(f, &vm->ip, NULL) < 0) {
        store_vm_free(&vm->row);
        free(vm);
        return NULL;
    }
    vm->row.ip = vm->ip;
    vm->refs = 2; /* the tables' and the caller's */
    if (!fsm_parse(vm->row.state, &vm->state))
        vm->state = VM_TERMINATED;
    pthread_mutex_init(&vm->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&vm->cond, &attr);
    pthread_condattr_destroy(&attr);
    unsigned bi = bucket(vm->row.id), bl = bucket(vm->row.label);
    pthread_mutex_lock(&f->lock);
    vm->next_id = f->by_id[bi];
    f->by_id[bi] = vm;
    vm->next_label = f->by_label[bl];
    f->by_label[bl] = vm;
    pthread_mutex_unlock(&f->lock);
    return vm;
}

void fleet_vm_put(struct fleet *f, struct fvm *vm)
{
    pthread_mutex_lock(&f->lock);
    bool last = --vm->refs == 0;
    pthread_mutex_unlock(&f->lock);
    if (!last)
        return;
    vm_settle(vm);
    fork_source_put(f, vm->source);
    fleet_address_drop(f, vm->ip);
    image_put(f, vm->image);
    applog_close(&vm->log);
    if (vm->dir >= 0)
        close(vm->dir);
    store_vm_free(&vm->row);
    pthread_cond_destroy(&vm->cond);
    pthread_mutex_destroy(&vm->lock);
    free(vm);
}

void fleet_vm_forget(struct fleet *f, struct fvm *vm)
{
    bool found = false;
    pthread_mutex_lock(&f->lock);
    for (struct fvm **at = &f->by_id[bucket(vm->row.id)]; *at; at = &(*at)->next_id) {
        if (*at == vm) {
            *at = vm->next_id;
            found = true;
            break;
        }
    }
    for (struct fvm **at = &f->by_label[bucket(vm->row.label)]; *at; at = &(*at)->next_label) {
        if (*at == vm) {
            *at = vm->next_label;
            break;
        }
    }
    pthread_mutex_unlock(&f->lock);
    if (found)
        fleet_vm_put(f, vm);
}

struct fvm *fleet_vm_find(struct fleet *f, const char *id)
{
    pthread_mutex_lock(&f->lock);
    struct fvm *vm = f->by_id[bucket(id)];
    while (vm && strcmp(vm->row.id, id) != 0)
        vm = vm->next_id;
    if (vm)
        vm->refs++;
    pthread_mutex_unlock(&f->lock);
    return vm;
}

static struct fvm *find_label(struct fleet *f, const char *label)
{
    pthread_mutex_lock(&f->lock);
    struct fvm *vm = f->by_label[bucket(label)];
    while (vm && strcmp(vm->row.label, label) != 0)
        vm = vm->next_label;
    if (vm)
        vm->refs++;
    pthread_mutex_unlock(&f->lock);
    return vm;
}

/* ---- ownership and state ---- */

/* With vm->lock. */
static int refused(const struct fvm *vm, enum vm_event ev, struct err *e)
{
    static const char *const verbs[VM_EVENTS] = {[EV_SUSPEND] = "suspended",
                                                 [EV_RESUME] = "resumed",
                                                 [EV_TERMINATE] = "terminated",
                                                 [EV_ROLLBACK] = "rolled back"};
    return err_set(e, EINVAL, "MicroVM %s cannot be %s in state %s", vm->row.id,
                   verbs[ev] ? verbs[ev] : "changed", fsm_name(vm->state));
}

/* With vm->lock. */
static void tell_state(const struct fvm *vm)
{
    if (vm->state == VM_RESUMING) /* to others it sleeps until it is awake */
        return;
    const struct event x = {.type = "microvm",
                            .id = vm->row.id,
                            .image = vm->row.image,
                            .major = vm->row.major,
                            .state = fsm_name(vm->state),
                            .reason = vm->state == VM_TERMINATED ? vm->row.reason : NULL};
    events_tell(vm->f->c.events, &x);
}

int fleet_begin(struct fvm *vm, enum vm_event ev, struct err *e)
{
    pthread_mutex_lock(&vm->lock);
    while (vm->busy || (ev == EV_ROLLBACK && vm->rejoining))
        pthread_cond_wait(&vm->cond, &vm->lock);
    int next = fsm_next(vm->state, ev), r = 0;
    if (next < 0) {
        r = refused(vm, ev, e);
    } else {
        vm->state = (enum vm_state)next;
        vm->busy = true;
        tell_state(vm);
    }
    pthread_mutex_unlock(&vm->lock);
    return r;
}

void fleet_step(struct fvm *vm, enum vm_event ev)
{
    pthread_mutex_lock(&vm->lock);
    int next = fsm_next(vm->state, ev);
    if (next >= 0) {
        vm->state = (enum vm_state)next;
        tell_state(vm);
    } else
        log_error("%s: event %u does not fit state %s", vm->row.id, ev, fsm_name(vm->state));
    pthread_cond_broadcast(&vm->cond);
    pthread_mutex_unlock(&vm->lock);
}

void fleet_end(struct fvm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->busy = false;
    pthread_cond_broadcast(&vm->cond);
    fleet_timer_update(vm->f, vm);
    pthread_mutex_unlock(&vm->lock);
}

void fleet_vm_lost(void *ctx)
{
    struct fvm *vm = ctx;
    if (vm->lost_queued)
        return;
    vm->lost_queued = true;
    pthread_mutex_lock(&vm->f->lock);
    vm->refs++; /* the job's */
    pthread_mutex_unlock(&vm->f->lock);
    job_push(vm->f, JOB_LOST, vm, NULL, 0);
}

/* ---- calls ---- */

int fleet_run(struct fleet *f, const char *vm_id, struct err *e)
{
    struct store_vm row = {.row = 0};
    int r = store_vm_get(f->store, vm_id, &row, e);
    if (r < 0)
        return r;
    struct image *img = NULL;
    r = image_get(f, row.image, row.major, &img, e);
    struct fvm *vm = r == 0 ? fleet_vm_new(f, &row) : NULL;
    store_vm_free(&row);
    if (r < 0)
        return r;
    if (!vm) {
        image_put(f, img);
        return err_set(e, ENOSPC, "no capacity: neither memory nor an address for one more");
    }
    vm->image = img;
    vm->busy = true;
    if ((r = fleet_admit_or_make_room(f, vm, true, e)) < 0) {
        fleet_vm_forget(f, vm);
        fleet_vm_put(f, vm);
        return r;
    }
    tell_state(vm);
    job_push(f, JOB_START, vm, NULL, 0); /* takes our reference */
    return 0;
}

/* Loads what a microVM that was found suspended at start does not have open yet. */
static int prepare(struct fleet *f, struct fvm *vm, struct err *e)
{
    if (!vm->image) {
        int r = image_get(f, vm->row.image, vm->row.major, &vm->image, e);
        if (r < 0)
            return r;
    }
    return vm_open_dir(f, vm, e);
}

/* The caller owns it in state RESUMING. */
static int resume(struct fleet *f, struct fvm *vm, bool wait, struct err *e)
{
    int r = prepare(f, vm, e);
    if (r < 0)
        fleet_step(vm, EV_RESUME_FAILED);
    else
        r = vm_resume(f, vm, wait, e);
    return r;
}

int fleet_suspend(struct fleet *f, const char *vm_id, struct err *e)
{
    struct fvm *vm = fleet_vm_find(f, vm_id);
    if (!vm)
        return err_set(e, EINVAL, "MicroVM %s is not running", vm_id);
    int r = fleet_begin(vm, EV_SUSPEND, e);
    if (r == 0) {
        r = vm_suspend(f, vm, e);
        fleet_end(vm);
    }
    fleet_vm_put(f, vm);
    return r;
}

int fleet_resume(struct fleet *f, const char *vm_id, struct err *e)
{
    struct fvm *vm = fleet_vm_find(f, vm_id);
    if (!vm)
        return err_set(e, EINVAL, "MicroVM %s is not suspended", vm_id);
    int r = fleet_begin(vm, EV_RESUME, e);
    if (r == 0) {
        r = resume(f, vm, true, e);
        fleet_end(vm);
    }
    fleet_vm_put(f, vm);
    return r;
}

int fleet_terminate(struct fleet *f, const char *vm_id, struct err *e)
{
    struct fvm *vm = fleet_vm_find(f, vm_id);
    if (!vm)
        return 0; /* it has ended */
    pthread_mutex_lock(&vm->lock);
    if (vm->busy && (vm->state == VM_PENDING || vm->state == VM_RESUMING)) {
        vm->kill_wanted = true;
        if (vm->vmm)
            vmm_kill(vm->vmm);
    }
    while (vm->busy)
        pthread_cond_wait(&vm->cond, &vm->lock);
    bool gone = vm->state == VM_TERMINATED;
    bool running = vm->state == VM_RUNNING;
    pthread_mutex_unlock(&vm->lock);
    int r = gone ? 0 : fleet_begin(vm, EV_TERMINATE, e);
    if (!gone && r == 0) {
        vm_terminate(f, vm, running, "");
        fleet_end(vm);
    } else if (r < 0) {
        pthread_mutex_lock(&vm->lock);
        if (vm->state == VM_TERMINATED)
            r = 0; /* it ended by itself meanwhile */
        pthread_mutex_unlock(&vm->lock);
    }
    fleet_vm_put(f, vm);
    return r;
}

void fleet_state_now(struct fleet *f, const char *id, char state[16])
{
    bool runs = strcmp(state, "RUNNING") == 0, sleeps = strcmp(state, "SUSPENDED") == 0;
    struct fvm *vm = runs || sleeps ? fleet_vm_find(f, id) : NULL;
    if (!vm)
        return;
    pthread_mutex_lock(&vm->lock);
    enum vm_state now = vm->state;
    pthread_mutex_unlock(&vm->lock);
    if (runs ? now == VM_SUSPENDING : now == VM_RUNNING)
        snprintf(state, 16, "%s", fsm_name(now));
    fleet_vm_put(f, vm);
}

/* ---- the endpoint proxy ---- */

/* With vm->lock: takes a request in, or says why not. 1: it has to be woken by the caller. */
static int admit_request(struct fvm *vm, uint64_t deadline, struct err *e)
{
    struct timespec ts = {.tv_sec = (time_t)(deadline / NS_PER_S),
                          .tv_nsec = (long)(deadline % NS_PER_S)};
    for (;;) {
        switch (vm->state) {
        case VM_RUNNING:
            vm->in_flight++;
            return 0;
        case VM_TERMINATING:
        case VM_TERMINATED:
            return err_set(e, EHOSTDOWN, "the microVM has ended");
        case VM_SUSPENDED:
            if (!vm->row.has_idle || !vm->row.auto_resume)
                return err_set(e, EHOSTDOWN,
                               "the microVM is suspended and not resumed by "
                               "requests");
            if (!vm->busy) {
                vm->state = VM_RESUMING;
                vm->busy = true;
                return 1;
            }
            break;
        default:
            break;
        }
        if (pthread_cond_timedwait(&vm->cond, &vm->lock, &ts) == ETIMEDOUT)
            return err_set(e, EAGAIN, "the microVM is still in state %s", fsm_name(vm->state));
    }
}

int fleet_acquire(struct fleet *f, const char *label, struct fleet_target *ret, struct err *e)
{
    uint64_t begin = now_ns();
    struct fvm *vm = find_label(f, label);
    if (!vm)
        return err_set(e, ENOENT, "no microVM has this endpoint");
    bool woken = false;
    pthread_mutex_lock(&vm->lock);
    int r = admit_request(vm, begin + HOLD_LIMIT_MS * NS_PER_MS, e);
    if (r == 1) {
        pthread_mutex_unlock(&vm->lock);
        r = resume(f, vm, false, e);
        pthread_mutex_lock(&vm->lock);
        if (r == 0) {
            vm->in_flight++;
            woken = true;
        }
        vm->busy = false;
        pthread_cond_broadcast(&vm->cond);
        fleet_timer_update(f, vm);
        if (r < 0 && r != -EHOSTDOWN && r != -ENOENT)
            r = -EIO;
    }
    if (r == 0) {
        memset(ret, 0, sizeof *ret);
        snprintf(ret->vm_id, sizeof ret->vm_id, "%s", vm->row.id);
        ret->ip = vm->ip;
        ret->priv = vm;
        ret->passage = vm->passage;
        ret->began = begin;
        ret->resumed_us = woken ? (now_ns() - begin) / 1000 : 0;
    }
    pthread_mutex_unlock(&vm->lock);
    if (r < 0)
        fleet_vm_put(f, vm);
    return r;
}

void fleet_release(struct fleet *f, struct fleet_target *t)
{
    struct fvm *vm = t->priv;
    if (!vm)
        return;
    t->priv = NULL;
    pthread_mutex_lock(&vm->lock);
    vm->idle_since = now_ns();
    if (vm->vmm)
        table_idle(f, vm->vmm->slot, vm->idle_since);
    if (--vm->in_flight == 0)
        fleet_timer_update(f, vm);
    bool untold = vm->untold;
    bool look = vm->first_request && drift_wanted(vm, t->began);
    vm->first_request = false;
    pthread_mutex_unlock(&vm->lock);
    if (untold)
        vm_tell_resumed(vm);
    if (look)
        job_push(f, JOB_DRIFT, vm, NULL, 0); /* takes our reference */
    else
        fleet_vm_put(f, vm);
    pool_refill(f->pool);
}

int fleet_log_open(struct fleet *f, const char *id, int *ret_fd, struct err *e)
{
    char path[120];
    bool vm = strncmp(id, "microvm-", 8) == 0;
    const char *uuid = vm ? id + 8 : id;
    if (!uuid_is(uuid, strlen(uuid)))
        return err_set(e, EINVAL, "'%.60s' is neither a microVM nor a build", id);
    snprintf(path, sizeof path, "%s/%s", id, vm ? "app.log" : "build.log");
    int fd = openat(vm ? f->vms_dir : f->images_dir, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "open the log of %s", id);
    *ret_fd = fd;
    return 0;
}

int fleet_build(struct fleet *f, const char *image, uint32_t major, struct err *e)
{
    pthread_mutex_lock(&f->jlock);
    bool stop = f->stop;
    pthread_mutex_unlock(&f->jlock);
    if (stop)
        return err_set(e, ESHUTDOWN, "the daemon is stopping");
    job_push(f, JOB_BUILD, NULL, image, major);
    return 0;
}
