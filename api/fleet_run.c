// SPDX-License-Identifier: Apache-2.0
/*
 * Start, suspend, resume and end of one microVM. The caller owns it (busy).
 * Rows are written last when something became true, first when something is
 * about to be undone, so that after a crash the row never promises more than
 * the files hold:
 *     suspended: vms/<id>/mem.snap.<generation> and disk.ovl, with that generation in the row;
 *     a resume marks the disk with the next generation before the guest runs, so files of the
 *     generation before are not taken for a suspended session once the disk may have changed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "fleet_take.h"
#include "metrics.h"

/* The directory and the log are open while there is a process; ten thousand suspended microVMs
 * hold no descriptors. */
int vm_open_dir(struct fleet *f, struct fvm *vm, struct err *e)
{
    if (vm->dir >= 0)
        return 0;
    vm->dir = openat(f->vms_dir, vm->row.id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (vm->dir < 0)
        return err_sys(e, errno, "open the microVM's directory");
    applog_open(&vm->log, vm->dir);
    return 0;
}

void vm_close_dir(struct fvm *vm)
{
    applog_close(&vm->log);
    if (vm->dir >= 0)
        close(vm->dir);
    vm->dir = -1;
}

/* A row that is written while its owner goes on; one per microVM. */
struct row_later {
    struct row_write w;
    struct store_vm row;
};

/* Until it is in the store. */
static void row_settle(struct fleet *f, struct fvm *vm)
{
    struct err e = ERR_INIT;
    struct row_later *l = vm->later;
    if (!l)
        return;
    if (row_write_end(f, &l->w, &e) < 0)
        log_err(LOG_ERROR, &e, "write the state of a microVM");
    vm->later = NULL;
    free(l);
}

static int row_later(struct fleet *f, struct fvm *vm, const struct store_vm *row)
{
    row_settle(f, vm);
    struct row_later *l = malloc(sizeof *l);
    if (!l)
        return -ENOMEM;
    l->row = *row; /* its strings are not written */
    vm->later = l;
    row_write_begin(f, &l->w, &l->row);
    return 0;
}

void vm_settle(struct fvm *vm)
{
    row_settle(vm->f, vm);
}

static int write_row(struct fleet *f, struct fvm *vm, enum vm_state state, struct err *e)
{
    row_settle(f, vm);
    snprintf(vm->row.state, sizeof vm->row.state, "%s", fsm_name(state));
    int r = store_vm_set(f->store, &vm->row, NULL, e);
    if (r < 0 && e)
        log_err(LOG_ERROR, e, "write the state of a microVM");
    return r;
}

void vm_write_running(struct fleet *f, struct fvm *vm)
{
    struct err e = ERR_INIT;
    vm->row.suspended_at = 0;
    write_row(f, vm, VM_RUNNING, &e);
}

/* ---- the process ---- */

/* Machines that come up do nothing but use CPUs; more at once than those only make all of them
 * late. Hooks are waited for outside. */
static void gate_enter(struct fleet *f)
{
    pthread_mutex_lock(&f->gate_lock);
    while (f->gate_in >= f->host_cpus + 1)
        pthread_cond_wait(&f->gate_cond, &f->gate_lock);
    f->gate_in++;
    pthread_mutex_unlock(&f->gate_lock);
}

static void gate_leave(struct fleet *f)
{
    pthread_mutex_lock(&f->gate_lock);
    f->gate_in--;
    pthread_cond_signal(&f->gate_cond);
    pthread_mutex_unlock(&f->gate_lock);
}

static void on_log(void *ctx, const struct gp_line *line)
{
    struct fvm *vm = ctx;
    applog_line(&vm->log, line);
    if (!line && vm->vmm)
        table_logged(vm->f, vm->vmm->slot, vm->vmm->last_seq);
}

void vm_own_process(struct fvm *vm, struct vmm *v)
{
    v->on_log = on_log;
    v->on_lost = fleet_vm_lost;
    v->ctx = vm;
    vm->vmm = v;
    vm->lost_queued = false;
}

static int take_process(struct fleet *f, struct fvm *vm, struct io_request *address,
                        struct phases *ph, struct err *e)
{
    struct vmm *v;
    struct pool_image image;
    bool known = !vm->recording && image_for_pool(vm->image, &image);
    int r = pool_take(f->pool, vm->image->vcpus, known ? &image : NULL, &v, &ph->pooled, e);
    if (r < 0)
        return r;
    ph->embryo = now_ns();
    table_begin(f, v->slot, vm->ip, vm->row.generation + 1);
    pthread_mutex_lock(&vm->lock);
    bool unwanted = vm->kill_wanted;
    if (!unwanted)
        vm_own_process(vm, v);
    pthread_mutex_unlock(&vm->lock);
    if (unwanted) {
        table_end(f, v->slot);
        vmm_free(v);
        return err_set(e, ECANCELED, "terminated while it started");
    }
    return fleet_io_address_begin(f->io, address, v->slot, vm->ip, e);
}

/* Loads the machine while the parent routes its address. A session's disk is marked as used
 * when the table says where, and right before the machine may run. */
static int load_machine(struct fleet *f, struct fvm *vm, const struct restore_fds *rf,
                        struct io_request *address, struct err *e)
{
    int r = rf->session_mem < 0
                ? 0
                : snapfiles_use(&snap_io_host, rf->session_disk, vm->row.generation + 1, e);
    if (r == 0)
        r = guest_load(vm->vmm, vm->image, rf, e);
    if (r == -ETIMEDOUT)
        guest_silent(f, vm->vmm, "loaded");
    if (r == 0)
        table_loaded(f, vm->vmm->slot);
    int ar = fleet_io_address_end(f->io, address, r == 0 ? e : NULL);
    return r < 0 ? r : ar;
}

void vm_drop_process(struct fleet *f, struct fvm *vm)
{
    pthread_mutex_lock(&vm->lock);
    struct vmm *v = vm->vmm;
    vm->vmm = NULL;
    pthread_mutex_unlock(&vm->lock);
    fleet_unadmit(f, vm);
    if (v)
        table_end(f, v->slot);
    vmm_free(v);
}

static int open_console(struct fvm *vm, struct err *e)
{
    int fd = openat(vm->dir, "console.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    return fd < 0 ? err_sys(e, errno, "open the console log") : fd;
}

static void log_phases(const struct fvm *vm, const char *what, const struct phases *p)
{
#define MS(a, b) ((double)((b) - (a)) / 1e6)
    log_info("%s %s in %.2f ms (embryo %.2f%s, load %.2f, guest %.2f, hook %.2f, end %.2f)",
             vm->row.id, what, MS(p->begin, p->end), MS(p->begin, p->embryo),
             p->pooled ? "" : " not pooled", MS(p->embryo, p->load), MS(p->load, p->guest),
             MS(p->guest, p->hook), MS(p->hook, p->end));
#undef MS
    struct metrics *m = vm->f->c.metrics;
    const uint64_t at[] = {p->begin, p->embryo, p->load, p->guest, p->hook, p->end};
    enum metric_phase first =
        strcmp(what, "started") == 0 ? METRIC_run_embryo : METRIC_resume_embryo;
    for (unsigned i = 0; i + 1 < ARRAY_LEN(at); i++)
        metrics_phase(m, first + i, at[i + 1] - at[i]);
    metrics_phase(m, first + 5, p->end - p->begin);
}

void vm_tell_resumed(struct fvm *vm)
{
    pthread_mutex_lock(&vm->lock);
    struct phases p = vm->resumed;
    bool untold = vm->untold;
    vm->untold = false;
    pthread_mutex_unlock(&vm->lock);
    if (untold)
        log_phases(vm, "resumed", &p);
}

/* The guest runs: requests may come in. The row follows. */
static int now_running(struct fleet *f, struct fvm *vm, enum vm_event ev, struct err *e)
{
    struct vmm *v = vm->vmm;
    if (v->dead || v->app_ended)
        return err_set(e, ECONNRESET, "%s", v->reason);
    fleet_io_attach(f->io, v);
    pthread_mutex_lock(&vm->lock);
    bool unwanted = vm->kill_wanted;
    vm->idle_since = now_ns();
    table_idle(f, v->slot, vm->idle_since);
    pthread_mutex_unlock(&vm->lock);
    if (unwanted)
        return err_set(e, ECANCELED, "terminated while it started");
    fleet_step(vm, ev);
    return 0;
}

/* ---- start ---- */

static int start(struct fleet *f, struct fvm *vm, struct phases *ph, struct err *e)
{
    if (mkdirat(f->vms_dir, vm->row.id, 0700) < 0 && errno != EEXIST)
        return err_sys(e, errno, "make the microVM's directory");
    if (vm_open_dir(f, vm, e) < 0)
        return -e->num;
    AUTO_CLOSE int disk = -1;
    AUTO_CLOSE int console = open_console(vm, e);
    if (console < 0)
        return -e->num;
    int r = overlay_make(vm->dir, "disk.ovl", vm->image->disk_bytes, &disk, e);
    if (r < 0)
        return r;
    struct fork_source *src = vm->source;
    const struct restore_fds rf = {.console = console,
                                   .session_mem = src ? src->mem : -1,
                                   .session_disk = disk,
                                   .cold = drift_start(f, vm),
                                   .layers = src ? src->layers : NULL,
                                   .nlayers = src ? src->nlayers : 0};
    vm->new_dir = true;
    struct io_request address;
    gate_enter(f);
    r = take_process(f, vm, &address, ph, e);
    if (r == 0)
        r = load_machine(f, vm, &rf, &address, e);
    ph->load = now_ns();
    vm->row.generation++;
    if (r == 0)
        r = guest_restored(f, vm->vmm, vm, vm->ip, true, vm->row.id, e);
    ph->guest = now_ns();
    gate_leave(f);
    if (r == 0 && vm->row.env)
        r = guest_environment(vm->vmm, vm->row.env, e);
    if (r < 0)
        return r;
    /* The application of a fork is long past its start. */
    r = guest_hook(vm->vmm, &vm->image->config, src ? IMAGE_HOOK_RESUME : IMAGE_HOOK_RUN,
                   vm->row.id, src ? NULL : vm->row.payload, src ? NULL : vm->row.env, e);
    if (r < 0)
        return r;
    ph->hook = now_ns();
    return now_running(f, vm, EV_STARTED, e);
}

int vm_start(struct fleet *f, struct fvm *vm)
{
    struct err e = ERR_INIT;
    struct phases ph = {.begin = now_ns()};
    int r = start(f, vm, &ph, &e);
    if (r < 0 && vm->vmm && vm->vmm->app_ended) /* that is why the hook got no answer */
        err_set(&e, ECHILD, "%s", vm->vmm->reason);
    ph.end = now_ns();
    fork_source_put(f, vm->source);
    vm->source = NULL;
    if (r == 0) {
        write_row(f, vm, VM_RUNNING, &e);
        pthread_mutex_lock(&vm->lock);
        vm->started = ph;
        pthread_mutex_unlock(&vm->lock);
        log_phases(vm, "started", &ph);
    } else {
        if (!vm->kill_wanted)
            log_err(LOG_WARN, &e, vm->row.id);
        fleet_step(vm, EV_TERMINATE);
        vm_terminate(f, vm, false, vm->kill_wanted ? vm->kill_reason : e.msg);
    }
    pool_refill(f->pool);
    return r;
}

/* ---- suspend ---- */

struct saving {
    struct fleet *f;
    struct fvm *vm;
    struct ctl_saved *saved;
};

static int save_memory(void *ctx, int fd, struct err *e)
{
    struct saving *s = ctx;
    return guest_save(s->vm->vmm, false, fd, s->saved, e);
}

static int save_row(void *ctx, struct err *e)
{
    struct saving *s = ctx;
    s->vm->row.suspended_at = realtime_s();
    int r = write_row(s->f, s->vm, VM_SUSPENDED, e);
    if (r < 0)
        s->vm->row.suspended_at = 0;
    return r;
}

/* Frozen guest -> files of `generation`, and the row that says so. */
static int save_session(struct fleet *f, struct fvm *vm, struct ctl_saved *saved, struct err *e)
{
    struct saving s = {.f = f, .vm = vm, .saved = saved};
    const struct snapfiles_steps steps = {.save = save_memory, .commit = save_row, .ctx = &s};
    int r =
        snapfiles_suspend(&snap_io_host, f->seal, vm->new_dir ? f->vms_dir : -1, vm->dir,
                          vm->disk.serial, vm->row.generation, &steps, &saved->file_bytes, e);
    vm->new_dir = vm->new_dir && r < 0;
    return r;
}

/* Back to work after a suspend that failed half-way. */
static void undo_freeze(struct vmm *v)
{
    vmm_call(v, CTL_RESUME, NULL, 0, NULL, 0, deadline_ms(RESTORE_LIMIT_MS), NULL, NULL);
    guest_thaw(v, NULL);
}

int vm_suspend(struct fleet *f, struct fvm *vm, struct err *e)
{
    struct vmm *v = vm->vmm;
    struct ctl_saved saved = {.file_bytes = 0};
    uint64_t begin = now_ns();
    fleet_io_detach(f->io, v);
    int r = guest_hook(v, &vm->image->config, IMAGE_HOOK_SUSPEND, vm->row.id, NULL, NULL, e);
    uint64_t hook = now_ns();
    bool frozen = r == 0;
    if (r == 0)
        r = guest_freeze(v, false, e);
    if (r == 0 && v->app_ended)
        r = err_set(e, ECONNRESET, "%s", v->reason);
    uint64_t freeze = now_ns();
    if (r == 0)
        r = save_session(f, vm, &saved, e);
    uint64_t end = now_ns();
    if (r == 0) {
        vm_drop_process(f, vm);
        vm_close_dir(vm);
        fleet_step(vm, EV_SUSPENDED);
        flatten_want(f, vm);
        log_info("%s suspended in %.2f ms (hook %.2f, freeze %.2f, save %.2f, paused %.2f), "
                 "%.1f MiB",
                 vm->row.id, (double)(end - begin) / 1e6, (double)(hook - begin) / 1e6,
                 (double)(freeze - hook) / 1e6, (double)(end - freeze) / 1e6,
                 (double)saved.pause_ns / 1e6, (double)saved.file_bytes / 1048576);
        struct metrics *m = f->c.metrics;
        metrics_phase(m, METRIC_suspend_hook, hook - begin);
        metrics_phase(m, METRIC_suspend_freeze, freeze - hook);
        metrics_phase(m, METRIC_suspend_save, end - freeze);
        metrics_phase(m, METRIC_suspend_paused, saved.pause_ns);
        metrics_phase(m, METRIC_suspend_total, end - begin);
        return 0;
    }
    bool lost = r == -ENOTRECOVERABLE; /* what it wrote to its disk */
    if (frozen && !v->dead && !lost)
        undo_freeze(v);
    if (v->dead || v->app_ended || vm->kill_wanted || lost) {
        fleet_step(vm, EV_TERMINATE);
        vm_terminate(f, vm, false,
                     vm->kill_wanted ? vm->kill_reason
                     : lost          ? e->msg
                                     : v->reason);
        return r;
    }
    fleet_io_attach(f->io, v);
    fleet_step(vm, EV_SUSPEND_FAILED);
    pthread_mutex_lock(&vm->lock);
    vm->idle_since = now_ns(); /* try again after another idle time, not at once */
    pthread_mutex_unlock(&vm->lock);
    applog_say(&vm->log, "suspend failed: %s", e->msg);
    return r;
}

/* ---- resume ---- */

static int load_session(struct fleet *f, struct fvm *vm, struct phases *ph, bool *ret_ran,
                        struct err *e)
{
    char name[SNAPFILES_NAME];
    snapfiles_name(name, vm->row.generation);
    if (vm->dir < 0)
        return err_set(e, ENOENT, "the files of the suspended microVM are gone");
    AUTO_CLOSE int mem = openat(vm->dir, name, O_RDONLY | O_CLOEXEC);
    if (mem < 0)
        return err_sys(e, errno, "open the files of the suspended microVM");
    AUTO_CLOSE int disk = vm_disk_open(vm, e);
    AUTO(disk_close) struct open_disk layers;
    if (vm_disk_layers(vm, &layers, e) < 0 || disk < 0)
        return -e->num;
    if (f->seal && seal_check(f->seal, mem, e) < 0)
        return -e->num;
    AUTO_CLOSE int console = open_console(vm, e);
    if (console < 0)
        return -e->num;
    struct io_request address;
    const struct restore_fds rf = {.console = console,
                                   .session_mem = mem,
                                   .session_disk = disk,
                                   .layers = layers.fd,
                                   .nlayers = layers.n};
    int r = take_process(f, vm, &address, ph, e);
    if (r == 0)
        r = load_machine(f, vm, &rf, &address, e);
    if (r < 0)
        return r;
    *ret_ran = true;
    ph->load = now_ns();
    vm->row.generation++;
    vm->row.suspended_at = 0;
    if ((r = guest_restored(f, vm->vmm, vm, vm->ip, false, vm->row.id, e)) < 0)
        return r;
    vm->cut = false;
    ph->guest = now_ns();
    return 0;
}

void vm_unuse_disk(struct fvm *vm)
{
    struct err e = ERR_INIT;
    AUTO_CLOSE int disk = vm->dir < 0 ? -1 : vm_disk_open(vm, &e);
    if (disk >= 0 && snapfiles_use(&snap_io_host, disk, vm->row.generation, &e) < 0)
        log_err(LOG_WARN, &e, vm->row.id);
}

void vm_back_to_sleep(struct fleet *f, struct fvm *vm)
{
    vm_drop_process(f, vm);
    vm_unuse_disk(vm);
    vm_close_dir(vm);
    fleet_step(vm, EV_RESUME_FAILED);
}

/* The application refused to continue: back to sleep with what it is now. */
static int sleep_again(struct fleet *f, struct fvm *vm, struct err *e)
{
    struct ctl_saved saved;
    int r = guest_freeze(vm->vmm, false, e);
    if (r == 0)
        r = save_session(f, vm, &saved, e);
    if (r == 0)
        vm_drop_process(f, vm);
    return r;
}

int vm_resume(struct fleet *f, struct fvm *vm, bool wait, struct err *e)
{
    struct phases ph = {.begin = now_ns()};
    struct err werr = ERR_INIT;
    bool ran = false, refused = false;
    int r = fleet_admit_or_make_room(f, vm, false, e);
    if (r == 0) {
        gate_enter(f);
        r = load_session(f, vm, &ph, &ran, e);
        gate_leave(f);
    }
    if (r == 0) {
        r = guest_hook(vm->vmm, &vm->image->config, IMAGE_HOOK_RESUME, vm->row.id, NULL, NULL,
                       e);
        refused = r < 0;
    }
    ph.hook = now_ns();
    if (r == 0)
        r = now_running(f, vm, EV_RESUMED, e);
    if (r == 0) {
        snprintf(vm->row.state, sizeof vm->row.state, "%s", fsm_name(VM_RUNNING));
        /* Until it is written the mark in the disk says that the snapshot is used up. */
        if (row_later(f, vm, &vm->row) < 0)
            write_row(f, vm, VM_RUNNING, &werr);
        if (wait)
            row_settle(f, vm);
        ph.end = now_ns();
        pthread_mutex_lock(&vm->lock);
        vm->resumed = ph;
        vm->untold = true;
        pthread_mutex_unlock(&vm->lock);
        if (wait)
            vm_tell_resumed(vm);
        if (wait || pool_empty(f->pool, vm->image->vcpus))
            pool_refill(f->pool); /* else when the request is done */
        return 0;
    }
    if (vm->vmm && vm->vmm->app_ended)
        err_set(e, ECHILD, "%s", vm->vmm->reason);
    log_err(LOG_WARN, e, vm->row.id);
    bool asleep = !ran;
    if (ran && refused && !vm->vmm->dead && !vm->vmm->app_ended && !vm->kill_wanted)
        asleep = sleep_again(f, vm, &werr) == 0;
    if (!asleep || vm->kill_wanted) {
        char reason[REASON_CAP];
        snprintf(reason, sizeof reason, "%s", vm->kill_wanted ? vm->kill_reason : e->msg);
        fleet_step(vm, EV_TERMINATE);
        vm_terminate(f, vm, false, reason);
    } else {
        vm_drop_process(f, vm); /* sleep_again() has, a failed load has not */
        if (!ran)
            vm_unuse_disk(vm);
        applog_say(&vm->log, "resume failed: %s", e->msg);
        vm_close_dir(vm);
        fleet_step(vm, EV_RESUME_FAILED);
    }
    pool_refill(f->pool);
    return r;
}

/* ---- end ---- */

void vm_terminate(struct fleet *f, struct fvm *vm, bool hook, const char *reason)
{
    struct err e = ERR_INIT;
    struct vmm *v = vm->vmm;
    snprintf(vm->row.reason, sizeof vm->row.reason, "%s", reason);
    reason = vm->row.reason; /* the caller's may go with the process */
    write_row(f, vm, VM_TERMINATING, &e);
    if (v && v->attached)
        fleet_io_detach(f->io, v);
    if (v && hook && !v->dead && !v->app_ended &&
        guest_hook(v, &vm->image->config, IMAGE_HOOK_TERMINATE, vm->row.id, NULL, NULL, &e) < 0)
        applog_say(&vm->log, "%s", e.msg);
    vm_drop_process(f, vm);
    fleet_cut(vm);
    if (vm_open_dir(f, vm, &e) == 0) {
        if (reason[0])
            applog_say(&vm->log, "terminated: %s", reason);
        if (snapfiles_end(&snap_io_host, vm->dir, &e) < 0)
            log_err(LOG_WARN, &e, vm->row.id);
    }
    checkpoints_end(f, vm->row.id, reason[0] != '\0');
    vm->row.terminated_at = realtime_s();
    vm->row.ip = 0;
    vm->row.suspended_at = 0;
    write_row(f, vm, VM_TERMINATED, &e);
    fleet_step(vm, EV_TERMINATED);
    fleet_vm_forget(f, vm);
    log_info("%s terminated%s%s", vm->row.id, reason[0] ? ": " : "", reason);
}
