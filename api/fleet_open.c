// SPDX-License-Identifier: Apache-2.0
/* Start and orderly end of the fleet; see fleet.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "durable.h"
#include "fleet_priv.h"

#define STOP_REASON "The host was stopped"

static void host_size(struct fleet *f)
{
    struct sysinfo si;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    f->host_cpus = cpus > 0 ? (uint32_t)cpus : 1;
    if (sysinfo(&si) == 0)
        f->host_mem = (uint64_t)si.totalram * si.mem_unit;
}

static void lost_parent(void *ctx)
{
    (void)ctx;
    log_error("the privileged parent is gone");
    _exit(1); /* the microVMs go on; the next daemon takes them over */
}

static int open_all(struct fleet *f, struct err *e)
{
    int r = durable_dir(AT_FDCWD, f->c.state_dir, &f->state_dir, e);
    if (r == 0)
        r = durable_dir(f->state_dir, "images", &f->images_dir, e);
    if (r == 0)
        r = durable_dir(f->state_dir, "vms", &f->vms_dir, e);
    if (r == 0)
        r = durable_dir(f->state_dir, "disks", &f->disks_dir, e);
    if (r == 0)
        r = durable_dir(f->state_dir, "checkpoints", &f->checkpoints_dir, e);
    if (r == 0)
        r = table_open(f, e);
    if (r < 0)
        return r;
    const struct layers_config lc = {.state_dir = f->state_dir,
                                     .images_dir = f->images_dir,
                                     .kernel_fd = f->kernel,
                                     .kernel_text = f->c.host->kernel_text,
                                     .huge = f->c.host->huge};
    if ((r = layers_open(&f->layers, &lc, e)) < 0)
        return r;
    host_size(f);
    uint64_t mem_max[CTL_VCPUS_MAX + 1] = {0};
    /* The limit of a process that waits must fit the largest machine it may become. */
    for (uint32_t mib = 512; mib <= 8192; mib *= 2) {
        uint32_t vcpus;
        uint64_t bytes;
        image_peak(f, mib, &vcpus, &bytes);
        mem_max[vcpus] = MAX(mem_max[vcpus], bytes);
    }
    r = fleet_io_open(&f->io, f->c.parent_sock, lost_parent, NULL, e);
    if (r == 0)
        r = pool_open(&f->pool, f->io, mem_max, e);
    if (r == 0)
        r = jobs_open(f, e);
    if (r == 0)
        r = fleet_reconcile(f, e);
    if (r == 0) {
        layers_collect(f->layers);
        flatten_all(f); /* what the last daemon did not come to */
    }
    if (r == 0)
        r = jobs_start_timer(f, e);
    return r;
}

int fleet_open(struct fleet **ret, const struct fleet_config *c, struct store *s,
               struct artifacts *a, struct err *e)
{
    struct fleet *f = calloc(1, sizeof *f);
    if (!f)
        return err_sys(e, ENOMEM, "start the fleet");
    f->c = *c;
    f->store = s;
    f->artifacts = a;
    f->state_dir = f->images_dir = f->vms_dir = f->kernel = f->initrd = f->meminfo = -1;
    if (c->host) {
        f->kernel = take_fd(&c->host->kernel);
        f->initrd = take_fd(&c->host->initrd);
        f->meminfo = take_fd(&c->host->meminfo);
        f->seal = TAKE_PTR(c->host->seal);
        memcpy(f->dns, c->host->dns, sizeof f->dns);
        f->ndns = c->host->ndns;
        memcpy(f->boot_id, c->host->boot_id, sizeof f->boot_id);
    }
    f->disks_dir = f->checkpoints_dir = -1;
    pthread_mutex_init(&f->lock, NULL);
    pthread_mutex_init(&f->ended_lock, NULL);
    pthread_mutex_init(&f->gate_lock, NULL);
    pthread_cond_init(&f->gate_cond, NULL);
    int r = open_all(f, e);
    if (r < 0) {
        fleet_close(f);
        return r;
    }
    pool_want(f->pool, 1, 3);
    *ret = f;
    return 0;
}

/* A job for every microVM in a state that does not rest over the end of the daemon. */
static void end_all(struct fleet *f)
{
    pthread_mutex_lock(&f->lock);
    for (unsigned b = 0; b < FLEET_BUCKETS; b++) {
        for (struct fvm *vm = f->by_id[b]; vm; vm = vm->next_id) {
            pthread_mutex_lock(&vm->lock);
            bool rests = vm->state == VM_SUSPENDED && !vm->busy;
            pthread_mutex_unlock(&vm->lock);
            if (!rests) {
                vm->refs++;
                job_push(f, JOB_END, vm, NULL, 0);
            }
        }
    }
    pthread_mutex_unlock(&f->lock);
}

/* What requests may wake is put to sleep, and is there after the next start. */
void fleet_end_machine(struct fleet *f, struct fvm *vm)
{
    struct err e = ERR_INIT;
    if (vm->row.has_idle && vm->row.auto_resume && vm->row.suspended_seconds &&
        fleet_begin(vm, EV_SUSPEND, &e) == 0) {
        int r = vm_suspend(f, vm, &e);
        fleet_end(vm);
        if (r == 0)
            return;
        log_err(LOG_WARN, &e, "suspend a microVM at the end");
    }
    if (fleet_begin(vm, EV_TERMINATE, &e) == 0) {
        vm_terminate(f, vm, true, STOP_REASON);
        fleet_end(vm);
    }
}

void fleet_close(struct fleet *f)
{
    if (!f)
        return;
    if (f->writer_on) {
        end_all(f);
        jobs_close(f); /* when they are done */
    }
    pool_close(f->pool);
    fleet_io_close(f->io);
    for (unsigned b = 0; b < FLEET_BUCKETS; b++) {
        while (f->by_id[b])
            fleet_vm_forget(f, f->by_id[b]);
    }
    table_close(f);
    image_free_all(f);
    layers_close(f->layers);
    const int fds[] = {f->state_dir,       f->images_dir, f->vms_dir, f->disks_dir,
                       f->checkpoints_dir, f->kernel,     f->initrd,  f->meminfo};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    seal_free(f->seal);
    pthread_cond_destroy(&f->gate_cond);
    pthread_mutex_destroy(&f->gate_lock);
    pthread_mutex_destroy(&f->ended_lock);
    pthread_mutex_destroy(&f->lock);
    free(f);
}
