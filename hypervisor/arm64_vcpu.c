// SPDX-License-Identifier: Apache-2.0
/*
 * One vCPU: making it, and the thread that sits in KVM_RUN. What an exit
 * reports (addresses, values, event types) is the guest's doing and trusted
 * for nothing: at worst this one machine ends with a reason.
 */
#include "arm64_vcpu.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "debug/debug.h"
#include "jail.h"
#include "kvm.h"

int vcpu_probe(struct vm *vm, struct err *e)
{
    struct kvm_vcpu_init *init = &vm->init;
    int len = kvm_call(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0, e);
    int r = len < 0 ? len : kvm_call(vm->fd, KVM_ARM_PREFERRED_TARGET, init, e);
    if (r < 0)
        return r;
    vm->run_len = (size_t)len;
    init->features[0] |= 1u << KVM_ARM_VCPU_PSCI_0_2;
    if (kvm_cap(vm->fd, KVM_CAP_ARM_PTRAUTH_ADDRESS) > 0 &&
        kvm_cap(vm->fd, KVM_CAP_ARM_PTRAUTH_GENERIC) > 0)
        init->features[0] |=
            1u << KVM_ARM_VCPU_PTRAUTH_ADDRESS | 1u << KVM_ARM_VCPU_PTRAUTH_GENERIC;
    if (kvm_cap(vm->fd, KVM_CAP_ARM_SVE) > 0)
        init->features[0] |= 1u << KVM_ARM_VCPU_SVE;
    return 0;
}

int vcpu_create(struct vm *vm, unsigned index, struct err *e)
{
    struct vcpu *v = &vm->vcpus[index];
    struct kvm_vcpu_init init = vm->init;
    v->vm = vm;
    v->index = index;
    v->fd = kvm_call(vm->fd, KVM_CREATE_VCPU, index, e);
    if (v->fd < 0)
        return err_wrap(e, "vCPU %u", index);
    v->run = mmap(NULL, vm->run_len, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (v->run == MAP_FAILED)
        return err_sys(e, errno, "map the run page of vCPU %u", index);
    if (index > 0)
        init.features[0] |= 1u << KVM_ARM_VCPU_POWER_OFF;
    int r = kvm_call(v->fd, KVM_ARM_VCPU_INIT, &init, e);
    if (r >= 0 && (init.features[0] & 1u << KVM_ARM_VCPU_SVE)) {
        int feature = KVM_ARM_VCPU_SVE;
        r = kvm_call(v->fd, KVM_ARM_VCPU_FINALIZE, &feature, e);
    }
    return r < 0 ? err_wrap(e, "vCPU %u", index) : 0;
}

int vcpu_set_x(struct vcpu *v, unsigned n, uint64_t value, struct err *e)
{
    size_t at = n < 31 ? offsetof(struct kvm_regs, regs.regs) + n * sizeof value
                       : offsetof(struct kvm_regs, regs.pc);
    uint64_t id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | (at / sizeof(uint32_t));
    int r = kvm_set_reg(v->fd, id, &value);
    return r < 0 ? err_sys(e, -r, "set a register of vCPU %u", v->index) : 0;
}

int vcpu_set_entry(struct vcpu *v, uint64_t pc, uint64_t x0, struct err *e)
{
    int r = vcpu_set_x(v, 31, pc, e);
    return r < 0 ? r : vcpu_set_x(v, 0, x0, e);
}

/* A load or store that KVM cannot describe: to the guest it is a bus error. */
static int inject_abort(struct vcpu *v)
{
    struct kvm_vcpu_events events;
    memset(&events, 0, sizeof events);
    events.exception.ext_dabt_pending = 1;
    return ioctl(v->fd, (int)KVM_SET_VCPU_EVENTS, &events);
}

static void handle_mmio(struct vcpu *v)
{
    struct kvm_run *run = v->run;
    unsigned len = run->mmio.len;
    uint64_t val = 0;
    v->mmio++;
    if (len > sizeof run->mmio.data)
        return;
    if (run->mmio.is_write) {
        memcpy(&val, run->mmio.data, len);
        bus_write(&v->vm->bus, run->mmio.phys_addr, len, val);
    } else {
        val = bus_read(&v->vm->bus, run->mmio.phys_addr, len);
        memcpy(run->mmio.data, &val, len);
    }
}

static void handle_event(struct vcpu *v)
{
    int index = (int)v->index;
    switch (v->run->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        vm_end(v->vm, CTL_EXIT_POWEROFF, index, "the guest powered off");
        break;
    case KVM_SYSTEM_EVENT_RESET:
        vm_end(v->vm, CTL_EXIT_RESET, index, "the guest asked for a reset");
        break;
    default:
        vm_end(v->vm, CTL_EXIT_GUEST_FAULT, index, "the guest raised system event %u",
               v->run->system_event.type);
    }
}

static void handle_exit(struct vcpu *v)
{
    struct kvm_run *run = v->run;
    int index = (int)v->index;
    if (debug_exit(v))
        return;
    switch (run->exit_reason) {
    case KVM_EXIT_MMIO:
        handle_mmio(v);
        break;
    case KVM_EXIT_INTR:
        break;
    case KVM_EXIT_SYSTEM_EVENT:
        handle_event(v);
        break;
    case KVM_EXIT_ARM_NISV:
        if (inject_abort(v) < 0)
            vm_end(v->vm, CTL_EXIT_GUEST_FAULT, index,
                   "access to 0x%llx that cannot be emulated",
                   (unsigned long long)run->arm_nisv.fault_ipa);
        break;
    case KVM_EXIT_FAIL_ENTRY:
        vm_end(v->vm, CTL_EXIT_GUEST_FAULT, index, "vCPU %u cannot be entered (0x%llx)",
               v->index, (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
        break;
    default:
        vm_end(v->vm, CTL_EXIT_GUEST_FAULT, index, "vCPU %u stopped with KVM exit %u", v->index,
               run->exit_reason);
    }
}

/* Until somebody takes vm->go away or the machine ends. An MMIO access is completed by the
 * next KVM_RUN, so the only way out is a KVM_RUN that was interrupted: then nothing of the
 * vCPU's state is left in the run page. */
static void run_until_kicked(struct vcpu *v)
{
    for (;;) {
        bool loading = v->vm->loading; /* may be over when the guest is out again */
        int r = ioctl(v->fd, KVM_RUN, 0) == 0 ? 0 : errno;
        if (loading) {
            pthread_mutex_lock(&v->vm->load_lock);
            pthread_mutex_unlock(&v->vm->load_lock);
        }
        if (r == 0) {
            v->exits++;
            handle_exit(v);
            continue;
        }
        if (r == EINTR) {
            if (v->run->immediate_exit)
                return;
            continue;
        }
        if (r == EAGAIN || (r == EFAULT && loading))
            continue;
        vm_end(v->vm, CTL_EXIT_GUEST_FAULT, (int)v->index, "vCPU %u: KVM_RUN: %s", v->index,
               strerror(r));
        /* Wait for the machine to be taken down. */
        return;
    }
}

/* Runs the few instructions of vm_prepare.c, until they write to VCPU_TOUCHED. */
static void touch_pages(struct vcpu *v)
{
    struct vm *vm = v->vm;
    struct kvm_run *run = v->run;
    int r;
    do
        r = ioctl(v->fd, KVM_RUN, 0);
    while (r < 0 && (errno == EAGAIN || (errno == EINTR && !run->immediate_exit)));
    if (r == 0 && run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write &&
        run->mmio.phys_addr == VCPU_TOUCHED) {
        run->immediate_exit = 1;
        ioctl(v->fd, KVM_RUN, 0); /* completes the access and ends with EINTR */
    } else {
        vm_end(vm, CTL_EXIT_ERROR, (int)v->index,
               "the pages of the working set cannot be touched");
    }
    pthread_mutex_lock(&vm->lock);
    vm->go = vm->touching = false;
    pthread_mutex_unlock(&vm->lock);
}

/* True: only to touch pages. */
static bool park(struct vcpu *v)
{
    struct vm *vm = v->vm;
    pthread_mutex_lock(&vm->lock);
    if (++vm->nparked == vm->nvcpus) {
        pthread_cond_signal(&vm->parked);
        ring_kick(vm->ring);
    }
    while (!vm->go || v->index >= vm->nready || debug_held(v) || (vm->touching && v->index))
        pthread_cond_wait(&v->wake, &vm->lock);
    vm->nparked--;
    v->run->immediate_exit = 0;
    bool touching = vm->touching;
    pthread_mutex_unlock(&vm->lock);
    return touching;
}

static void *vcpu_thread(void *arg)
{
    struct vcpu *v = arg;
    char name[16] = "vcpu";
    name[4] = (char)(v->index < 10 ? '0' + v->index : '1');
    if (v->index >= 10)
        name[5] = (char)('0' + v->index - 10);
    prctl(PR_SET_NAME, name, 0, 0, 0);
    v->tid = (pid_t)syscall(SYS_gettid);
    struct err e = ERR_INIT;
    if (v->vm->seccomp && seccomp_enter(&v->vm->filters[SECCOMP_VCPU], &e) < 0)
        vm_end(v->vm, CTL_EXIT_ERROR, (int)v->index, "%s", e.msg);
    /* What KVM does before a vCPU's first instruction (it maps the GIC, for one) is done now.
     */
    v->run->immediate_exit = 1;
    ioctl(v->fd, KVM_RUN, 0);
    for (;;) {
        if (park(v))
            touch_pages(v);
        else
            run_until_kicked(v);
    }
    return NULL;
}

static void on_kick(int sig)
{
    (void)sig; /* its only work is to interrupt KVM_RUN */
}

void vcpu_handle_kicks(void)
{
    struct sigaction sa = {.sa_handler = on_kick};
    sigaction(SIGUSR1, &sa, NULL);
}

int vcpu_start_thread(struct vcpu *v, struct err *e)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    if (v->index)
        pthread_attr_setstacksize(&attr, VCPU_STACK);
    else
        pthread_attr_setstack(&attr, v->vm->stack, VCPU_STACK);
    pthread_t thread;
    int r = pthread_create(&thread, &attr, vcpu_thread, v);
    pthread_attr_destroy(&attr);
    return r ? err_sys(e, r, "start the thread of vCPU %u", v->index) : 0;
}

void vcpu_kick(struct vcpu *v)
{
    v->run->immediate_exit = 1;
    syscall(SYS_tkill, v->tid, SIGUSR1);
}
