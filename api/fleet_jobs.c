// SPDX-License-Identifier: Apache-2.0
/*
 * Background work of the fleet: queues with worker threads made on demand
 * (lives of microVMs, builds, chores), and one thread that writes rows to the store
 * while their owner does something else.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../hypervisor/base/log.h"
#include "fleet_priv.h"

#define LIVES_MAX  16u
#define BUILDS_MAX 2u

static void run_life(struct fleet *f, struct job *j)
{
    struct fvm *vm = j->vm;
    struct err e = ERR_INIT;
    switch (j->kind) {
    case JOB_START:
        vm_start(f, vm); /* busy since it was made */
        fleet_end(vm);
        return;
    case JOB_ADOPT:
        vm_adopt(f, vm); /* busy since it was found */
        fleet_end(vm);
        return;
    case JOB_IDLE: {
        /* Somebody may have come since the timer fired, so look and take it in one step. */
        bool keep = vm->row.suspended_seconds > 0;
        pthread_mutex_lock(&vm->lock);
        bool idle = vm->state == VM_RUNNING && !vm->busy && vm->in_flight == 0 &&
                    now_ns() >= vm->idle_since + vm->row.idle_seconds * NS_PER_S;
        if (idle) {
            vm->state = (enum vm_state)fsm_next(vm->state, keep ? EV_SUSPEND : EV_TERMINATE);
            vm->busy = true;
        }
        pthread_mutex_unlock(&vm->lock);
        if (!idle)
            return;
        if (!keep)
            vm_terminate(f, vm, true, "MicroVM was idle and its policy keeps no suspended one");
        else if (vm_suspend(f, vm, &e) < 0)
            log_err(LOG_WARN, &e, "suspend an idle microVM");
        fleet_end(vm);
        return;
    }
    case JOB_EXPIRE:
    case JOB_STALE:
    case JOB_LOST: {
        char reason[REASON_CAP];
        snprintf(reason, sizeof reason, "%s",
                 j->kind == JOB_EXPIRE  ? "MicroVM exceeded maximum lifetime"
                 : j->kind == JOB_STALE ? "MicroVM exceeded maximum suspended duration"
                                        : "The microVM ended");
        pthread_mutex_lock(&vm->lock);
        while (vm->busy)
            pthread_cond_wait(&vm->cond, &vm->lock);
        bool fits = j->kind == JOB_STALE  ? vm->state == VM_SUSPENDED
                    : j->kind == JOB_LOST ? vm->vmm && (vm->vmm->dead || vm->vmm->app_ended)
                                          : vm->state != VM_TERMINATED;
        if (fits && j->kind == JOB_LOST)
            snprintf(reason, sizeof reason, "%s", vm->vmm->reason);
        pthread_mutex_unlock(&vm->lock);
        if (!fits || fleet_begin(vm, EV_TERMINATE, &e) < 0)
            return;
        vm_terminate(f, vm, j->kind == JOB_EXPIRE, reason);
        fleet_end(vm);
        return;
    }
    case JOB_END:
        fleet_end_machine(f, vm);
        return;
    case JOB_FLATTEN:
        fleet_flatten(f, vm);
        return;
    case JOB_DRIFT:
        fleet_drift(f, vm);
        return;
    case JOB_BUILD: {
        pthread_mutex_lock(&f->jlock);
        bool stop = f->stop;
        pthread_mutex_unlock(&f->jlock);
        if (!stop) /* else it is found in progress at the next start */
            fleet_build_job(f, j->image, j->major);
        return;
    }
    }
}

struct worker {
    struct fleet *f;
    struct job_queue *q;
};

static void *worker_main(void *arg)
{
    struct worker w = *(struct worker *)arg;
    struct fleet *f = w.f;
    free(arg);
    pthread_mutex_lock(&f->jlock);
    for (;;) {
        struct job *j = w.q->head;
        if (!j) {
            if (f->stop)
                break;
            w.q->idle++;
            pthread_cond_wait(&f->jcond, &f->jlock);
            w.q->idle--;
            continue;
        }
        w.q->head = j->next;
        if (!w.q->head)
            w.q->tail = &w.q->head;
        pthread_mutex_unlock(&f->jlock);
        run_life(f, j);
        if (j->vm)
            fleet_vm_put(f, j->vm);
        free(j);
        pthread_mutex_lock(&f->jlock);
    }
    w.q->threads--;
    f->workers--;
    pthread_cond_broadcast(&f->jcond);
    pthread_mutex_unlock(&f->jlock);
    return NULL;
}

static void add_worker(struct fleet *f, struct job_queue *q)
{
    pthread_t t;
    pthread_attr_t attr;
    struct worker *w = malloc(sizeof *w);
    if (!w)
        return;
    *w = (struct worker){f, q};
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&t, &attr, worker_main, w) == 0) {
        q->threads++;
        f->workers++;
    } else {
        free(w);
    }
    pthread_attr_destroy(&attr);
}

/* vm: with a reference that the job takes over. */
void job_push(struct fleet *f, enum job_kind kind, struct fvm *vm, const char *image,
              uint32_t major)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j) {
        log_error("out of memory: a job of the fleet is lost");
        return;
    }
    j->kind = kind;
    j->vm = vm;
    j->major = major;
    snprintf(j->image, sizeof j->image, "%s", image ? image : "");
    pthread_mutex_lock(&f->jlock);
    struct job_queue *q = kind == JOB_BUILD     ? &f->builds
                          : kind == JOB_FLATTEN ? &f->chores
                          : kind == JOB_DRIFT   ? &f->looks
                                                : &f->lives;
    *q->tail = j;
    q->tail = &j->next;
    if (q->idle == 0 && q->threads < q->max)
        add_worker(f, q);
    pthread_cond_broadcast(&f->jcond);
    pthread_mutex_unlock(&f->jlock);
}

/* ---- rows ---- */

static void *writer_main(void *arg)
{
    struct fleet *f = arg;
    /* Does not interrupt the thread whose row it writes. */
    const struct sched_param param = {.sched_priority = 0};
    pthread_setschedparam(pthread_self(), SCHED_BATCH, &param);
    pthread_mutex_lock(&f->jlock);
    for (;;) {
        struct row_write *w = f->writes;
        if (!w) {
            if (f->writer_stop)
                break;
            pthread_cond_wait(&f->wcond, &f->jlock);
            continue;
        }
        f->writes = w->next;
        if (!f->writes)
            f->writes_tail = &f->writes;
        pthread_mutex_unlock(&f->jlock);
        int r = store_vm_set(f->store, w->row, NULL, &w->err);
        pthread_mutex_lock(&f->jlock);
        w->result = r;
        w->done = true;
        pthread_cond_broadcast(&f->wcond);
    }
    pthread_mutex_unlock(&f->jlock);
    return NULL;
}

void row_write_begin(struct fleet *f, struct row_write *w, const struct store_vm *row)
{
    *w = (struct row_write){.row = row};
    pthread_mutex_lock(&f->jlock);
    *f->writes_tail = w;
    f->writes_tail = &w->next;
    pthread_cond_broadcast(&f->wcond);
    pthread_mutex_unlock(&f->jlock);
}

int row_write_end(struct fleet *f, struct row_write *w, struct err *e)
{
    pthread_mutex_lock(&f->jlock);
    while (!w->done)
        pthread_cond_wait(&f->wcond, &f->jlock);
    pthread_mutex_unlock(&f->jlock);
    if (w->result < 0 && e)
        *e = w->err;
    return w->result;
}

/* ---- life of the threads ---- */

int jobs_open(struct fleet *f, struct err *e)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&f->jlock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->jcond, &attr);
    pthread_cond_init(&f->wcond, &attr);
    pthread_cond_init(&f->tcond, &attr);
    pthread_condattr_destroy(&attr);
    f->lives = (struct job_queue){.tail = &f->lives.head, .max = LIVES_MAX};
    f->builds = (struct job_queue){.tail = &f->builds.head, .max = BUILDS_MAX};
    f->chores = (struct job_queue){.tail = &f->chores.head, .max = 1};
    f->looks = (struct job_queue){.tail = &f->looks.head, .max = 1};
    f->writes_tail = &f->writes;
    f->next_wake = UINT64_MAX;
    int r = pthread_create(&f->writer_thread, NULL, writer_main, f);
    if (r)
        return err_sys(e, r, "start the fleet's writer");
    f->writer_on = true;
    return 0;
}

int jobs_start_timer(struct fleet *f, struct err *e)
{
    int r = pthread_create(&f->timer_thread, NULL, fleet_timer_main, f);
    if (r)
        return err_sys(e, r, "start the fleet's timers");
    f->timer_on = true;
    return 0;
}

void jobs_close(struct fleet *f)
{
    pthread_mutex_lock(&f->jlock);
    __atomic_store_n(&f->stop, true, __ATOMIC_RELAXED); /* chores look without the lock */
    build_cancel_all(f);
    pthread_cond_broadcast(&f->jcond);
    pthread_cond_broadcast(&f->tcond);
    while (f->workers)
        pthread_cond_wait(&f->jcond, &f->jlock);
    f->writer_stop = true;
    pthread_cond_broadcast(&f->wcond);
    pthread_mutex_unlock(&f->jlock);
    if (f->timer_on)
        pthread_join(f->timer_thread, NULL);
    if (f->writer_on)
        pthread_join(f->writer_thread, NULL);
    pthread_cond_destroy(&f->tcond);
    pthread_cond_destroy(&f->wcond);
    pthread_cond_destroy(&f->jcond);
    pthread_mutex_destroy(&f->jlock);
}
