// SPDX-License-Identifier: Apache-2.0
/* What the fleet knows of itself; see fleet_info.h. */
#include "fleet_info.h"

#include <stdio.h>

#include "../hypervisor/base/mem.h"
#include "fleet_priv.h"

static double ms(uint64_t from, uint64_t to)
{
    return to > from ? (double)(to - from) / 1e6 : 0;
}

static void timing(const struct phases *p, struct fleet_timing *ret)
{
    *ret = (struct fleet_timing){.total = ms(p->begin, p->end),
                                 .embryo = ms(p->begin, p->embryo),
                                 .load = ms(p->embryo, p->load),
                                 .guest = ms(p->load, p->guest),
                                 .hook = ms(p->guest, p->hook),
                                 .end = ms(p->hook, p->end),
                                 .pooled = p->pooled};
}

static uint64_t allocated(const struct fleet *f, const char *id, const char *name)
{
    char path[ID_CAP + 48];
    snprintf(path, sizeof path, "%s/%s", id, name);
    return fleet_allocated(f->vms_dir, path);
}

/* With the frozen layers below it, which others may have, too. */
static uint64_t allocated_disk(struct fleet *f, const struct store_vm *row)
{
    struct store_disk d;
    if (store_disk_get(f->store, row->id, &d, NULL) < 0)
        return 0;
    char name[SNAPFILES_NAME];
    snapfiles_disk(name, d.serial);
    uint64_t bytes = allocated(f, row->id, name);
    for (uint32_t i = 0; i < d.n; i++)
        bytes += fleet_allocated(f->disks_dir, d.layers[i]);
    return bytes;
}

void fleet_vm_info(struct fleet *f, const struct store_vm *row, struct fleet_vm_info *ret)
{
    char snap[40];
    enum vm_state state;
    *ret = (struct fleet_vm_info){.vcpus = 0};
    if (!fsm_parse(row->state, &state) || state == VM_TERMINATED)
        return;
    struct image *img = NULL;
    if (image_get(f, row->image, row->major, &img, NULL) == 0) {
        ret->vcpus = img->vcpus;
        ret->memory_bytes = img->mem_bytes;
        image_put(f, img);
    }
    ret->disk_bytes = allocated_disk(f, row);
    if (state == VM_SUSPENDED) {
        snprintf(snap, sizeof snap, "mem.snap.%llu", (unsigned long long)row->generation);
        ret->suspended_bytes = ret->disk_bytes + allocated(f, row->id, snap);
    }
    struct fvm *vm = fleet_vm_find(f, row->id);
    if (!vm)
        return;
    pthread_mutex_lock(&vm->lock);
    timing(&vm->started, &ret->start);
    timing(&vm->resumed, &ret->resume);
    pthread_mutex_unlock(&vm->lock);
    fleet_vm_put(f, vm);
}

void fleet_host_info(struct fleet *f, struct fleet_host_info *ret)
{
    *ret = (struct fleet_host_info){
        .slots = PRIV_SLOTS, .cpus = f->host_cpus, .memory_bytes = f->host_mem};
    pthread_mutex_lock(&f->lock);
    for (unsigned b = 0; b < FLEET_BUCKETS; b++) {
        for (struct fvm *vm = f->by_id[b]; vm; vm = vm->next_id) {
            pthread_mutex_lock(&vm->lock);
            ret->states[vm->state == VM_RESUMING ? VM_SUSPENDED : vm->state]++;
            pthread_mutex_unlock(&vm->lock);
        }
    }
    ret->memory_in_use = f->mem_live;
    pthread_mutex_unlock(&f->lock);
    pthread_mutex_lock(&f->jlock);
    ret->builds = f->builds.threads - f->builds.idle;
    for (const struct job *j = f->builds.head; j; j = j->next)
        ret->builds++;
    pthread_mutex_unlock(&f->jlock);
    store_layer_sum(f->store, &ret->disk_layers, &ret->disk_layer_bytes, NULL);
    /* Embryos first: one taken between the two counts is then in use, not lost. */
    ret->embryos = pool_count(f->pool);
    unsigned used = fleet_io_slots_used(f->io);
    ret->slots_in_use = used > ret->embryos ? used - ret->embryos : 0;
}

int fleet_file(struct fleet *f, uint32_t which, int *ret_fd, struct err *e)
{
    return fleet_io_file(f->io, which, ret_fd, e);
}
