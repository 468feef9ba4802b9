// SPDX-License-Identifier: Apache-2.0
/*
 * System call filters; see seccomp.h. The tables are the policy: a call that is
 * not in the thread's list ends the process with a line that names it.
 */
#include "seccomp.h"

#include <errno.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/filter.h"
#include "base/mem.h"
#include "kvm.h"

static const uint32_t vcpu_ioctls[] = {
    KVM_RUN, KVM_SET_VCPU_EVENTS, /* external abort for an access nobody can emulate */
};
static const struct filter_rule vcpu_rules[] = {
    CALL(ioctl, "KVM_RUN", .arg = 1, .values = vcpu_ioctls, .nvalues = ARRAY_LEN(vcpu_ioctls)),
    CALL(futex, "locks of the machine and of devices"),
    CALL(write, "eventfds (interrupts, kicks) and the console"),
    CALL(rt_sigreturn, "end of a kick"),
    CALL(clock_gettime, "the clock device, where the vDSO cannot"),
    CALL(exit_group, "end after a refused call"),
};

static const uint32_t io_ioctls[] = {
    KVM_SET_ONE_REG,
    KVM_GET_ONE_REG,
    KVM_SET_DEVICE_ATTR,
    KVM_GET_DEVICE_ATTR,
    KVM_GET_MP_STATE,
    KVM_SET_MP_STATE,
    KVM_GET_VCPU_EVENTS,
    KVM_SET_VCPU_EVENTS,
    KVM_SET_USER_MEMORY_REGION,
    KVM_IRQFD,
    KVM_IOEVENTFD,
    KVM_IRQ_LINE,
    (uint32_t)PAGEMAP_SCAN,
    (uint32_t)TUNSETOFFLOAD,
    (uint32_t)TUNSETVNETHDRSZ,
#ifdef DORMOUSE_DEBUG
    KVM_SET_GUEST_DEBUG,
#endif
};
static const struct filter_rule io_rules[] = {
    CALL(io_uring_enter, "the loop"),
    CALL(ioctl, "KVM, pagemap, tap", .arg = 1, .values = io_ioctls,
         .nvalues = ARRAY_LEN(io_ioctls)),
    CALL(read, "eventfds, console input"),
    CALL(write, "eventfds, console, log"),
    CALL(readv, "tap into guest memory"),
    CALL(writev, "tap from guest memory"),
    CALL(pread64, "snapshot and disk metadata, pages of a session"),
    CALL(pwrite64, "snapshot and disk metadata, pages of a snapshot"),
    CALL(recvfrom, "vsock peers"),
    CALL(recvmsg, "control messages, vsock peers"),
    CALL(sendmsg, "control messages, vsock peers"),
    CALL(shutdown, "half-closed vsock streams"),
    CALL(accept4, "the control of a daemon that was started again"),
    CALL(socketpair, "a stream for each connection the guest opens"),
    CALL(eventfd2, "interrupt lines and doorbells"),
    CALL(close, "descriptors of ended connections and failed orders"),
    CALL(fcntl, "access mode of what arrives"),
    CALL(fstat, "sizes of files that arrive"),
    CALL(ftruncate, "size of a new snapshot"),
    CALL(mmap, "guest memory, heap; never executable", .arg = 2, .without = PROT_EXEC),
    CALL(munmap, "the same"),
    CALL(mremap, "the same"),
    CALL(brk, "heap"),
    CALL(madvise, "pages the guest gives back"),
    CALL(futex, "locks shared with vCPU threads"),
    CALL(tkill, "kicks vCPU threads"),
    CALL(rt_sigprocmask, "around a kick"),
    CALL(rt_sigreturn, "after a signal"),
    CALL(clock_gettime, "time, where the vDSO cannot"),
    CALL(getrandom, "snapshot ids, random device"),
    CALL(exit_group, "the end"),
};

static const struct list {
    const struct filter_rule *rules;
    unsigned n;
} lists[] = {
    [SECCOMP_VCPU] = {vcpu_rules, ARRAY_LEN(vcpu_rules)},
    [SECCOMP_IO] = {io_rules, ARRAY_LEN(io_rules)},
};

unsigned seccomp_count(enum seccomp_kind kind)
{
    return lists[kind].n;
}

int seccomp_enter(enum seccomp_kind kind, struct err *e)
{
    return filter_enter(lists[kind].rules, lists[kind].n, e);
}

static void refused(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    filter_refused("dormouse-vmm", info);
}

static void cut_short(int sig)
{
    static const char line[] = "dormouse-vmm: a kernel or snapshot file was cut short while it "
                               "was mapped\n";
    ssize_t n = write(STDERR_FILENO, line, sizeof line - 1);
    (void)n;
    _exit(128 + sig);
}

int seccomp_handler(struct err *e)
{
    struct sigaction sys = {.sa_sigaction = refused, .sa_flags = SA_SIGINFO};
    struct sigaction bus = {.sa_handler = cut_short};
    if (sigaction(SIGSYS, &sys, NULL) < 0 || sigaction(SIGBUS, &bus, NULL) < 0)
        return err_sys(e, errno, "handle refused system calls");
    return 0;
}
