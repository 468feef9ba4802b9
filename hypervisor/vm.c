// SPDX-License-Identifier: Apache-2.0
/*
 * The machine; see vm.h. Pausing is a chain of events, not a wait: a vCPU
 * thread may itself be waiting for the I/O thread (a device reset), so the I/O
 * thread never blocks on a vCPU.
 */
#include "vm.h"

#include <errno.h>
#include <linux/mman.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../snapshot/snapmem.h"
#include "arm64_gic.h"
#include "arm64_vcpu.h"
#include "base/log.h"
#include "base/mem.h"
#include "debug/debug.h"
#include "kvm.h"

#define OVERLAYS_MAX 1024u
#define GUARD        (64u << 10)
#define ARENA        (1u << 20) /* four disks, the largest device, and all others */
#define BELOW        (64u << 20)

uint64_t vm_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void vm_kicked(void *ctx);

static int make(struct vm *vm, unsigned nvcpus, struct err *e)
{
    vm->nvcpus = nvcpus;
    vm->fd = vm->gic_fd = vm->image_fd = vm->layer_fd = -1;
    int r = vm->fd = kvm_call(vm->kvm_fd, KVM_CREATE_VM, vm->type, e);
    if (r >= 0 && !vm->run_len)
        r = vcpu_probe(vm, e);
    /* vCPUs before the GIC: a finished GIC admits no more. */
    for (unsigned i = 0; i < nvcpus && r >= 0; i++)
        r = vcpu_create(vm, i, e);
    if (r >= 0)
        r = gic_create(vm, e);
    return r < 0 ? r : 0;
}

/* Address space that each machine needs: a guard page, a stack above it, and above that the
 * arena, which is touched where it is used. Images go far enough below for what comes later. */
static int reserve(struct vm *vm, struct err *e)
{
    uint8_t *p = mmap(NULL, GUARD + VCPU_STACK + ARENA, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p, GUARD, PROT_NONE) < 0)
        return err_sys(e, errno, "reserve memory");
    vm->stack = p + GUARD;
    vm->arena = (struct arena){(char *)vm->stack + VCPU_STACK, ARENA};
    vm->place = (uint8_t *)align_down((uintptr_t)p - BELOW, 2u << 20);
    return 0;
}

int vm_probe(struct vm *vm, int kvm_fd, struct err *e)
{
    vm->kvm_fd = kvm_fd;
    int r = kvm_check(kvm_fd, &vm->type, e);
    if (r == 0)
        r = reserve(vm, e);
    if (r == 0)
        r = make(vm, 1, e);
    if (r == 0)
        r = regs_probe(&vm->regs, &vm->vcpus[0], e);
    if (r == 0)
        r = gic_probe(vm, e);
    if (r < 0)
        return r;
    vm->nisv = kvm_cap(vm->fd, KVM_CAP_ARM_INJECT_EXT_DABT) > 0;
    munmap(vm->vcpus[0].run, vm->run_len);
    close(vm->vcpus[0].fd);
    close(vm->gic_fd);
    close(vm->fd);
    return 0;
}

int vm_create(struct vm *vm, unsigned nvcpus, struct err *e)
{
    pthread_mutex_init(&vm->lock, NULL);
    for (unsigned i = 0; i < nvcpus; i++)
        pthread_cond_init(&vm->vcpus[i].wake, NULL);
    pthread_cond_init(&vm->parked, NULL);
    pthread_mutex_init(&vm->load_lock, NULL);
    vm->nready = nvcpus;
    int r = make(vm, nvcpus, e);
    close(vm->kvm_fd);
    vm->kvm_fd = -1;
    if (r < 0)
        return r;
    /* Without it (or if it fails), such an access ends the machine instead. */
    if (vm->nisv)
        kvm_enable_cap(vm->fd, KVM_CAP_ARM_NISV_TO_USER, NULL);
    if (!vm->ring)
        r = ring_make(&vm->ring, VM_RING_ENTRIES, e);
    if (r == 0)
        r = ring_enter(vm->ring, e);
    if (r == 0)
        ring_on_kick(vm->ring, vm_kicked, vm);
    return r;
}

void vm_warm(struct vm *vm)
{
    extern char __executable_start[], etext[], __data_start[], end[];
    uintptr_t from = align_down((uintptr_t)__executable_start, 4096);
    uintptr_t text = align_up((uintptr_t)etext, 4096), to = align_up((uintptr_t)end, 4096);
    /* Linux 5.14; without it the first order is a little slower. */
    madvise((void *)from, text - from, MADV_POPULATE_READ);
    madvise((void *)align_down((uintptr_t)__data_start, 4096),
            to - align_down((uintptr_t)__data_start, 4096), MADV_POPULATE_WRITE);
    gic_prime(vm);
}

int vm_start_threads(struct vm *vm, struct err *e)
{
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        int r = vcpu_start_thread(&vm->vcpus[i], e);
        if (r < 0)
            return r;
    }
    return 0;
}

int vm_wait_threads(struct vm *vm, struct err *e)
{
    for (int r = 0; r == 0;) {
        pthread_mutex_lock(&vm->lock);
        bool parked = vm->nparked == vm->nvcpus;
        pthread_mutex_unlock(&vm->lock);
        if (parked)
            return 0;
        r = ring_turn(vm->ring, true, e); /* the last one kicks */
        if (r < 0)
            return r;
    }
    return 0;
}

int vm_map_anonymous(struct vm *vm, uint64_t size, struct err *e)
{
    if (size < MEM_MIN || size > MEM_MAX || size % (2u << 20))
        return err_set(e, EINVAL,
                       "memory of %llu bytes; it takes 128 MiB to 32 GiB in whole "
                       "multiples of 2 MiB",
                       (unsigned long long)size);
    vm->mem.size = size;
    return memory_map_anonymous(size, &vm->mem.host, e);
}

void vm_loading(struct vm *vm, bool loading)
{
    if (loading)
        pthread_mutex_lock(&vm->load_lock);
    vm->loading = loading;
    if (!loading)
        pthread_mutex_unlock(&vm->load_lock);
}

int vm_set_memslot(struct vm *vm, struct err *e)
{
    struct kvm_userspace_memory_region slot = {.guest_phys_addr = MEM_BASE,
                                               .memory_size = vm->mem.size,
                                               .userspace_addr = (uintptr_t)vm->mem.host};
    int r = kvm_call(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot, e);
    return r < 0 ? r : 0;
}

static int add_overlay(struct vm *vm, uint64_t off, uint64_t len, struct err *e)
{
    struct guest_mem *m = &vm->mem;
    struct mem_overlay *last = m->noverlays ? &m->overlays[m->noverlays - 1] : NULL;
    if (last && last->off + last->len == off) {
        last->len += len;
        return 0;
    }
    if (last && off < last->off + last->len)
        return err_set(e, EINVAL, "memory overlays out of order");
    if (!m->overlays)
        m->overlays = calloc(OVERLAYS_MAX, sizeof *m->overlays);
    if (!m->overlays || m->noverlays == OVERLAYS_MAX)
        return err_sys(e, ENOMEM, "map a file into guest memory");
    m->overlays[m->noverlays++] = (struct mem_overlay){.off = off, .len = len};
    return 0;
}

int vm_overlay(struct vm *vm, uint64_t off, uint64_t len, int fd, uint64_t file_off,
               struct err *e)
{
    len = align_up(len, 4096);
    if (off % 4096 || !range_ok(off, len, vm->mem.size))
        return err_set(e, EINVAL, "mapping outside guest memory");
    int r = add_overlay(vm, off, len, e);
    if (r < 0)
        return r;
    int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0);
    if (mmap(vm->mem.host + off, len, PROT_READ | PROT_WRITE, flags, fd, (off_t)file_off) ==
        MAP_FAILED)
        return err_sys(e, errno, "map a file into guest memory");
    return 0;
}

int mem_discard(const struct guest_mem *m, uint64_t gpa, uint64_t len)
{
    uint8_t *p = mem_at(m, gpa, len);
    if (!p || gpa % 4096 || len % 4096)
        return -EINVAL;
    uint64_t off = gpa - MEM_BASE, end = off + len;
    for (unsigned i = 0; i < m->noverlays; i++) {
        /* Dropping the page would bring the file's content back, and with it the need to
         * save it: real zeros instead. */
        uint64_t from = MAX(off, m->overlays[i].off);
        uint64_t to = MIN(end, m->overlays[i].off + m->overlays[i].len);
        if (from < to &&
            mmap(m->host + from, to - from, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
            return -errno;
    }
    return madvise(p, len, MADV_DONTNEED) < 0 ? -errno : 0;
}

void vm_wake(struct vm *vm)
{
    for (unsigned i = 0; i < vm->nready; i++)
        pthread_cond_signal(&vm->vcpus[i].wake);
}

void vm_admit(struct vm *vm, unsigned n)
{
    pthread_mutex_lock(&vm->lock);
    vm->nready = n;
    bool go = vm->go;
    pthread_mutex_unlock(&vm->lock);
    if (go)
        pthread_cond_signal(&vm->vcpus[n - 1].wake);
}

static void let_go(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->go = vm->end.reason == 0;
    pthread_mutex_unlock(&vm->lock);
    vm_wake(vm);   /* those who wake find the lock free, … */
    sched_yield(); /* … and, if they share it, the processor */
}

static int start_devs(struct vm *vm, bool quiet, struct err *e)
{
    for (unsigned i = 0; i < vm->ndevs; i++) {
        struct dev *d = vm->devs[i];
        if (quiet && d->ops->quiesce) /* nothing is in flight yet: quiet at once */
            d->ops->quiesce(d);
        int r = d->ops->start ? d->ops->start(d, e) : 0;
        if (r < 0)
            return err_wrap(e, "start %s", d->ops->name);
    }
    return 0;
}

int vm_start(struct vm *vm, bool paused, struct err *e)
{
    if (paused) {
        int r = start_devs(vm, true, e);
        if (r < 0)
            return r;
        vm->state = VM_PAUSED;
        vm->paused_at_ns = vm_now_ns();
        return regs_counter_get(&vm->vcpus[0], &vm->counter, e);
    }
    /* The vCPUs first: what they want of a device waits in its doorbell or register until the
     * device is started, as it does whenever this thread is busy. */
    vm->state = VM_RUNNING;
    let_go(vm);
    return start_devs(vm, false, e);
}

static void stop_vcpus(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->go = false;
    for (unsigned i = 0; i < vm->nvcpus; i++)
        vcpu_kick(&vm->vcpus[i]);
    pthread_mutex_unlock(&vm->lock);
    vm->state = VM_PAUSING;
    vm->draining = false;
}

int vm_pause(struct vm *vm, void (*on_paused)(struct vm *vm, void *ctx), void *ctx,
             struct err *e)
{
    if (vm->state != VM_RUNNING)
        return err_set(e, EBUSY, "the machine is not running");
    vm->on_paused = on_paused;
    vm->paused_ctx = ctx;
    vm->paused_at_ns = vm_now_ns();
    stop_vcpus(vm);
    vm_kicked(vm);
    return 0;
}

static void check_quiet(void *ctx)
{
    struct vm *vm = ctx;
    if (vm->state != VM_PAUSING || !vm->draining)
        return;
    for (unsigned i = 0; i < vm->ndevs; i++) {
        if (vm->devs[i]->ops->quiesce && !vm->devs[i]->quiet)
            return;
    }
    vm->state = VM_PAUSED;
    vm->draining = false;
    if (vm->end.reason) {
        debug_ended(vm);
        vm->on_ended(vm, vm->ended_ctx);
    } else {
        vm->on_paused(vm, vm->paused_ctx);
    }
}

int vm_add_dev(struct vm *vm, struct dev *d, struct err *e)
{
    if (vm->ndevs == VM_DEVS_MAX)
        return err_set(e, ENOSPC, "more than %u devices", VM_DEVS_MAX);
    for (unsigned i = 0; i < vm->ndevs; i++)
        d->instance += vm->devs[i]->ops->tag == d->ops->tag;
    d->on_quiet = check_quiet;
    d->on_quiet_ctx = vm;
    vm->devs[vm->ndevs++] = d;
    return 0;
}

static void drain(struct vm *vm)
{
    /* The guest's time stands still from here. */
    struct err e = ERR_INIT;
    if (regs_counter_get(&vm->vcpus[0], &vm->counter, &e) < 0)
        vm_end(vm, CTL_EXIT_ERROR, -1, "%s", e.msg);
    for (unsigned i = 0; i < vm->ndevs; i++) {
        if (vm->devs[i]->ops->quiesce)
            vm->devs[i]->ops->quiesce(vm->devs[i]);
    }
    vm->draining = true;
    check_quiet(vm);
}

/* Somebody left something for the I/O thread: a vCPU that parked, one that ended the machine,
 * or a device register that was written. */
static void vm_kicked(void *ctx)
{
    struct vm *vm = ctx;
    pthread_mutex_lock(&vm->lock);
    bool parked = vm->nparked == vm->nvcpus, ended = vm->end.reason != 0;
    pthread_mutex_unlock(&vm->lock);
    for (unsigned i = 0; i < vm->ndevs; i++) {
        if (vm->devs[i]->ops->kicked)
            vm->devs[i]->ops->kicked(vm->devs[i]);
    }
    debug_kicked(vm);
    if (vm->on_kick)
        vm->on_kick(vm->kick_ctx);
    if (ended && vm->state == VM_RUNNING)
        stop_vcpus(vm);
    else if (ended && (vm->state == VM_PAUSED || vm->state == VM_EMBRYO))
        vm->on_ended(vm, vm->ended_ctx);
    if (vm->state == VM_PAUSING && !vm->draining && parked)
        drain(vm);
}

int vm_resume(struct vm *vm, struct err *e)
{
    if (vm->state != VM_PAUSED)
        return err_set(e, EBUSY, "the machine is not paused");
    int r = regs_counter_set(&vm->vcpus[0], vm->counter, e);
    if (r < 0)
        return r;
    vm->state = VM_RUNNING;
    for (unsigned i = 0; i < vm->ndevs; i++) {
        if (vm->devs[i]->ops->resume)
            vm->devs[i]->ops->resume(vm->devs[i]);
    }
    let_go(vm);
    return 0;
}

void vm_end(struct vm *vm, uint32_t reason, int vcpu, const char *fmt, ...)
{
    pthread_mutex_lock(&vm->lock);
    if (vm->end.reason == 0) {
        vm->end.reason = reason;
        vm->end.vcpu = vcpu;
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(vm->end.text, sizeof vm->end.text, fmt, ap);
        va_end(ap);
    }
    vm->go = false;
    if (vcpu >= 0) /* the caller's own: out of its loop, to park */
        vm->vcpus[vcpu].run->immediate_exit = 1;
    pthread_mutex_unlock(&vm->lock);
    ring_kick(vm->ring);
}

void vm_stats(struct vm *vm, struct ctl_stats *ret)
{
    memset(ret, 0, sizeof *ret);
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        ret->run_exits += vm->vcpus[i].exits;
        ret->mmio_exits += vm->vcpus[i].mmio;
    }
    ret->bus_misses = vm->bus.misses;
    for (unsigned i = 0; i < vm->ndevs; i++) {
        if (vm->devs[i]->ops->stats)
            vm->devs[i]->ops->stats(vm->devs[i], ret);
    }
    for (unsigned i = 0; i < ARRAY_LEN(ret->restore_ns); i++)
        ret->restore_ns[i] = vm->restore_ticks[i] * 1000000000u / vm->regs.facts.cntfrq;
}
