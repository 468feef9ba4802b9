// SPDX-License-Identifier: Apache-2.0
/*
 * The machine: KVM objects, guest memory, devices, and the one state machine
 * embryo -> running <-> paused -> ended. All functions are called in the I/O
 * thread (the one that owns the ring) except vm_end(), which any thread may
 * call.
 */
#ifndef DORMOUSE_VM_H
#define DORMOUSE_VM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../snapshot/snapfile.h"
#include "arm64_regs.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/filter.h"
#include "base/mem.h"
#include "base/ring.h"
#include "ctl.h"
#include "dev.h"
#include "mem.h"

#define VM_DEVS_MAX     16u
#define VM_RING_ENTRIES 64u
#define VCPU_STACK      (64u << 10)

enum vm_state {
    VM_EMBRYO,  /* no memory, no devices */
    VM_RUNNING, /* vCPUs run */
    VM_PAUSING, /* vCPUs are being stopped or devices drained */
    VM_PAUSED,  /* nothing moves: may be saved */
};

struct vm;
struct prepared; /* vm_prepare.h */
struct vcpu {
    struct vm *vm;
    unsigned index;
    int fd;
    struct kvm_run *run;
    pid_t tid;
    pthread_cond_t wake; /* see park() */
    bool on;             /* in the snapshot it was restored from */
    _Atomic uint64_t exits, mmio;
};

struct vm {
    int kvm_fd, fd, gic_fd;
    int pagemap_fd; /* /proc/self/pagemap */
    unsigned gic;   /* 2 or 3 */
    unsigned nvcpus;
    bool seccomp; /* threads enter their filters */
    /* Learnt by vm_probe(), and the same for every machine on this host. */
    unsigned long type; /* for KVM_CREATE_VM */
    struct kvm_vcpu_init init;
    size_t run_len;
    bool nisv;            /* accesses that nobody can emulate are reported */
    struct arena arena;   /* for the devices and who gives orders */
    uint8_t *stack;       /* of the first vCPU's thread */
    uint8_t *place;       /* where images are mapped: below it nothing is */
    struct buf gic_fresh; /* and a fresh GIC, where that is not zero: words as in a snapshot */
    bool primed;          /* see gic_prime() */

    struct guest_mem mem;
    struct bus bus;
    struct ring *ring;
    struct dev *devs[VM_DEVS_MAX];
    unsigned ndevs;
    struct dev *uart, *vmgenid, *vsock, *balloon; /* also in devs; NULL: not there */
    struct dev *disks[CTL_DISKS_MAX];
    struct gdb *gdb; /* of the debug twin */

    enum vm_state state;
    bool draining;    /* VM_PAUSING: vCPUs are parked, devices not yet quiet */
    uint64_t counter; /* the guest's CNTVCT when it was paused */
    uint64_t paused_at_ns;
    uint64_t restore_ticks[8]; /* of each phase, by CNTVCT */
    void (*on_paused)(struct vm *vm, void *ctx);
    void (*on_ended)(struct vm *vm, void *ctx); /* paused, and `end` says why */
    void (*on_kick)(void *ctx);                 /* after each ring_kick(); may be NULL */
    void *paused_ctx, *ended_ctx, *kick_ctx;

    int image_fd; /* the image layer this machine was restored from, or -1 */
    uint8_t image_id[16];
    struct prepared *prepared; /* an image's memory that came before the order; NULL: none */
    int layer_fd;              /* the memory layer below it, or -1 */

    /* Shared with the vCPU threads, under `lock`. */
    pthread_mutex_t lock;
    pthread_mutex_t load_lock; /* held while kernel and initrd are not all in place yet, … */
    _Atomic bool loading;      /* … and whether they are */
    bool go;                   /* vCPUs may run, … */
    unsigned nready; /* … the first so many: the others' registers are on their way */
    bool touching;   /* only the first one, and not the guest (vm_prepare.c) */
    unsigned nparked;
    pthread_cond_t parked; /* all of them */
    struct {
        uint32_t reason; /* enum ctl_exit_reason, 0: alive */
        int vcpu;        /* whose fault, or -1 */
        char text[240];
    } end;

    /* The large ones last: a clone of the nursery copies each page that it writes to. */
    struct vcpu vcpus[CTL_VCPUS_MAX];
    struct filter_narrow filters[2];  /* by enum seccomp_kind */
    struct regs regs;                 /* what a fresh vCPU holds */
    uint8_t scratch[2][SNAP_SCRATCH]; /* for the heads of snapshot files */
};

/* Looks at what a machine of this host is, and keeps nothing open but kvm_fd. vm is zeroed by
 * the caller. */
int vm_probe(struct vm *vm, int kvm_fd, struct err *e);
/* Makes VM, vCPUs, GIC and, if there is none, the ring; closes kvm_fd. */
int vm_create(struct vm *vm, unsigned nvcpus, struct err *e);
/* An embryo's work while nobody wants it: what the first order would have to do. */
void vm_warm(struct vm *vm);
/* Starts the vCPU threads; they wait. After the jail, before the I/O thread's filter. */
int vm_start_threads(struct vm *vm, struct err *e);
/* Until all of them wait, filtered. */
int vm_wait_threads(struct vm *vm, struct err *e);

/* Anonymous memory for a cold boot. */
int vm_map_anonymous(struct vm *vm, uint64_t size, struct err *e);
/* Between the two, parts of memory are read-only or not there: a vCPU that finds out, or has
 * anything else to tell, waits for the second call. */
void vm_loading(struct vm *vm, bool loading);
/* Hands vm->mem to KVM. */
int vm_set_memslot(struct vm *vm, struct err *e);
/* Maps the file's first `len` bytes (rounded up to pages) over guest memory, privately; fd -1:
 * zeros. */
int vm_overlay(struct vm *vm, uint64_t off, uint64_t len, int fd, uint64_t file_off,
               struct err *e);

int vm_add_dev(struct vm *vm, struct dev *d, struct err *e);
/* Starts the devices and lets the vCPUs go (or leaves them parked). */
int vm_start(struct vm *vm, bool paused, struct err *e);
/* Who waits looks again whether it may run. */
void vm_wake(struct vm *vm);
/* Only the first `n` vCPUs may run. */
void vm_admit(struct vm *vm, unsigned n);
int vm_pause(struct vm *vm, void (*on_paused)(struct vm *vm, void *ctx), void *ctx,
             struct err *e);
int vm_resume(struct vm *vm, struct err *e);
/* The machine is over. The first reason wins; on_ended follows once all is quiet. */
void vm_end(struct vm *vm, uint32_t reason, int vcpu, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void vm_stats(struct vm *vm, struct ctl_stats *ret);
uint64_t vm_now_ns(void);

#endif
