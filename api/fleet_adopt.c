// SPDX-License-Identifier: Apache-2.0
/*
 * microVMs that ran on while this process was started again: the parent offers
 * a new control connection to each, the table (fleet_table.c) says whose it is,
 * the row what it was promised to be. Called by reconcile.c, and as a job for
 * each of them, side by side.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "fleet_priv.h"

#define ANSWER_LIMIT_MS 120000 /* a process that was busy or swapped out */

int adopt_list(struct fleet *f, struct found_list *l, struct err *e)
{
    *l = (struct found_list){.v = calloc(PRIV_SLOTS, sizeof *l->v)};
    if (!l->v)
        return err_sys(e, ENOMEM, "look for microVMs that run");
    for (uint32_t from = 0; from < PRIV_SLOTS; from++) {
        struct found *o = &l->v[l->n];
        int r = fleet_io_adopt(f->io, from, &o->slot, &o->pidfd, &o->ctl, e);
        if (r < 0)
            return r;
        if (o->slot >= PRIV_SLOTS)
            break;
        from = o->slot;
        l->n++;
    }
    return 0;
}

/* Those that nobody took. */
unsigned adopt_end(struct fleet *f, struct found_list *l)
{
    unsigned n = 0;
    for (size_t i = 0; i < l->n; i++) {
        struct found *o = &l->v[i];
        if (o->taken)
            continue;
        n += o->ctl >= 0;
        if (o->ctl >= 0)
            close(o->ctl);
        if (o->pidfd >= 0)
            close(o->pidfd);
        table_end(f, o->slot);
        fleet_io_release(f->io, o->slot);
    }
    free(l->v);
    *l = (struct found_list){.v = NULL};
    return n;
}

struct found *adopt_find(struct found_list *l, uint32_t slot)
{
    for (size_t i = 0; i < l->n; i++) {
        if (l->v[i].slot == slot && l->v[i].ctl >= 0 && !l->v[i].taken)
            return &l->v[i];
    }
    return NULL;
}

int adopt_begin(struct fleet *f, struct fvm *vm, struct found *o, const struct table_entry *t)
{
    struct vmm *v = vmm_adopt(f->io, o->slot, vm->image->vcpus, o->ctl, o->pidfd);
    if (!v)
        return -ENOMEM;
    o->taken = true;
    v->last_seq = t->last_seq;
    vm_own_process(vm, v);
    vm->idle_since = t->idle_since;
    vm->busy = true;
    /* Its memory is in use already, so nobody is asked. */
    fleet_admit_anyhow(f, vm);
    pthread_mutex_lock(&f->lock);
    vm->refs++; /* the job's */
    pthread_mutex_unlock(&f->lock);
    job_push(f, JOB_ADOPT, vm, NULL, 0);
    return 0;
}

/* A restore that was cut short between the machine's first instruction and its row. */
static int finish_resume(struct fleet *f, struct fvm *vm, struct err *e)
{
    int r = guest_restored(f, vm->vmm, vm, vm->ip, false, vm->row.id, e);
    if (r == 0 && guest_hook(vm->vmm, &vm->image->config, IMAGE_HOOK_RESUME, vm->row.id, NULL,
                             NULL, e) < 0)
        applog_say(&vm->log, "%s", e->msg);
    return r;
}

/* Between the row of a checkpoint and the machine's switch to its new top, a machine writes to
 * the layer that the row calls frozen, and which the next checkpoint may join with another. It
 * is not known whether it has switched, and does no harm twice. */
static int catch_up(struct fleet *f, struct fvm *vm, uint64_t deadline, struct err *e)
{
    struct vmm *v = vm->vmm;
    AUTO(disk_close) struct open_disk l = {.n = 0};
    if (vm->disk.n == 0 || vm->state == VM_RESUMING)
        return 0;
    AUTO_CLOSE int top = vm_disk_open(vm, e);
    int r = top < 0 ? top : disk_open(f, &vm->disk, &l, e);
    if (r == 0 && v->machine != CTL_PAUSED)
        r = vmm_call(v, CTL_PAUSE, NULL, 0, NULL, 0, deadline, NULL, e);
    if (r < 0)
        return r;
    v->machine = CTL_PAUSED;
    struct err why = ERR_INIT;
    v->disk_behind = disk_switch(vm, &l, top, &why) < 0; /* no reason to end it */
    if (v->disk_behind)
        log_err(LOG_WARN, &why, vm->row.id);
    return 0;
}

static int take_over(struct fleet *f, struct fvm *vm, struct err *e)
{
    struct vmm *v = vm->vmm;
    struct io_request address;
    uint64_t deadline = deadline_ms(ANSWER_LIMIT_MS);
    int r = vm_open_dir(f, vm, e);
    while (r == 0 && !v->ready)
        r = vmm_pump(v, deadline, e);
    if (r == 0 && v->machine == CTL_EMBRYO)
        r = err_set(e, ESTALE, "its process has no machine");
    if (r == 0)
        r = catch_up(f, vm, deadline, e);
    if (r == 0 && v->machine == CTL_PAUSED)
        r = vmm_call(v, CTL_RESUME, NULL, 0, NULL, 0, deadline, NULL, e);
    if (r == 0 && (r = fleet_io_address_begin(f->io, &address, v->slot, vm->ip, e)) == 0)
        r = fleet_io_address_end(f->io, &address, e);
    if (r == 0 && (r = vmm_wait_link(v, true, deadline_ms(RESTORE_LIMIT_MS), e)) == -ETIMEDOUT)
        guest_silent(f, v, "taken over");
    if (r < 0)
        return r;
    if (vm->state == VM_RESUMING)
        return finish_resume(f, vm, e);
    /* It may have been on its way to sleep. */
    return guest_thaw(v, e);
}

void vm_adopt(struct fleet *f, struct fvm *vm)
{
    struct err e = ERR_INIT;
    uint64_t begin = now_ns();
    bool resuming = vm->state == VM_RESUMING;
    int r = take_over(f, vm, &e);
    if (r == 0 && (vm->vmm->dead || vm->vmm->app_ended))
        r = err_set(&e, ECONNRESET, "%s", vm->vmm->reason);
    if (r == 0) {
        fleet_io_attach(f->io, vm->vmm);
        if (resuming)
            fleet_step(vm, EV_RESUMED);
        if (strcmp(vm->row.state, fsm_name(VM_RUNNING)) != 0)
            vm_write_running(f, vm);
        log_info("%s taken over in %.2f ms", vm->row.id, (double)(now_ns() - begin) / 1e6);
        return;
    }
    struct table_entry t;
    if (resuming && !vm->vmm->ready && table_find(f, vm->ip, &t) && !t.loaded) {
        vm->row.generation--;
        vm_back_to_sleep(f, vm); /* the order to load it was never sent */
        return;
    }
    char reason[REASON_CAP];
    snprintf(reason, sizeof reason, "%s",
             vm->vmm->app_ended || (vm->vmm->dead && vm->vmm->reason[0]) ? vm->vmm->reason
                                                                         : e.msg);
    log_err(LOG_WARN, &e, vm->row.id);
    fleet_step(vm, EV_TERMINATE);
    vm_terminate(f, vm, false, reason);
}
