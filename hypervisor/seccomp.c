// SPDX-License-Identifier: Apache-2.0
/*
 * System call filters; see jail.h. The tables are the policy: a call that is
 * not in the thread's list ends the process with a line that names it. The first
 * filter lets through all of them, the second takes away what a thread is not to do:
 * the kernel tries each filter with every call's number when it is installed, but
 * only with those that the filters before let through, so the first is the dear one,
 * and a nursery installs it once for all its children.
 */
#include <errno.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/filter.h"
#include "base/mem.h"
#include "jail.h"
#include "kvm.h"

/* The last is for an access that nobody can emulate. */
#define VCPU_IOCTLS KVM_RUN, KVM_IRQ_LINE, KVM_SET_VCPU_EVENTS
/* Made before the first guest instruction, and by nobody afterwards. (Only vCPUs run.) */
#define SETUP_IOCTLS                                                                      \
    KVM_CREATE_VM, KVM_CREATE_VCPU, KVM_GET_VCPU_MMAP_SIZE, KVM_ARM_PREFERRED_TARGET,     \
        KVM_ARM_VCPU_INIT, KVM_ARM_VCPU_FINALIZE, KVM_CREATE_DEVICE, KVM_CHECK_EXTENSION, \
        KVM_ENABLE_CAP, KVM_GET_REG_LIST, KVM_RUN

static const uint32_t vcpu_ioctls[] = {VCPU_IOCTLS};
static const uint32_t setup_ioctls[] = {SETUP_IOCTLS};
/* Of all threads, the most frequent first. */
static const uint32_t all_ioctls[] = {
    VCPU_IOCTLS,
    KVM_SET_ONE_REG,
    KVM_SET_DEVICE_ATTR,
    KVM_GET_ONE_REG,
    KVM_GET_DEVICE_ATTR,
    KVM_GET_MP_STATE,
    KVM_SET_MP_STATE,
    KVM_GET_VCPU_EVENTS,
    KVM_SET_USER_MEMORY_REGION,
    KVM_IOEVENTFD,
    (uint32_t)PAGEMAP_SCAN,
    (uint32_t)TUNSETOFFLOAD,
    (uint32_t)TUNSETVNETHDRSZ,
#ifdef DORMOUSE_DEBUG
    KVM_SET_GUEST_DEBUG,
#endif
    SETUP_IOCTLS,
};
#define IOCTLS(list) .arg = 1, .values = (list), .nvalues = ARRAY_LEN(list)

static const struct filter_rule vcpu_rules[] = {
    CALL(ioctl, "KVM_RUN", IOCTLS(vcpu_ioctls)),
    CALL(futex, "locks of the machine and of devices"),
    CALL(write, "eventfds (kicks) and the console"),
    CALL(rt_sigreturn, "end of a kick"),
    CALL(clock_gettime, "the clock device, where the vDSO cannot"),
    CALL(exit_group, "end after a refused call"),
};

static const struct filter_rule io_rules[] = {
    CALL(io_uring_enter, "the loop"),
    CALL(ioctl, "KVM, pagemap, tap", IOCTLS(all_ioctls)),
    CALL(read, "eventfds, console input"),
    CALL(write, "eventfds, console, log"),
    CALL(readv, "tap into guest memory"),
    CALL(writev, "tap from guest memory"),
    CALL(pread64, "snapshot and disk metadata, pages of a session"),
    CALL(pwrite64, "snapshot and disk metadata, pages of a snapshot"),
    CALL(recvmsg, "control messages, vsock peers"),
    CALL(sendmsg, "control messages, vsock peers"),
    CALL(shutdown, "half-closed vsock streams"),
    CALL(accept4, "the control of a daemon that was started again"),
    CALL(socketpair, "a stream for each connection the guest opens"),
    CALL(eventfd2, "doorbells"),
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
    CALL(sched_yield, "to a vCPU that starts"),
    CALL(rt_sigreturn, "after a signal"),
    CALL(clock_gettime, "time, where the vDSO cannot"),
    CALL(getrandom, "snapshot ids, random device"),
    CALL(exit_group, "the end"),
};
_Static_assert(ARRAY_LEN(io_rules) <= 30 && ARRAY_LEN(vcpu_rules) <= 8, "what was promised");

static const struct filter_rule setup_rules[] = {
    CALL(ioctl, "the parts of a machine", IOCTLS(setup_ioctls)),
    CALL(clone3, "a nursery's children"),
    CALL(ppoll, "its pauses between two of them"),
    CALL(clone, "vCPU threads"),
    CALL(mprotect, "guard pages of their stacks"),
    CALL(prctl, "their names; no dump"),
    CALL(gettid, "their numbers"),
    CALL(rt_sigprocmask, "while they are made"),
    CALL(capset, "gives up capabilities"),
    CALL(setresgid, "the machine's own user"),
    CALL(setresuid, "the same"),
    CALL(openat, "its own pagemap"),
    CALL(landlock_restrict_self, "the fence"),
    CALL(io_uring_setup, "the loop's ring"),
    CALL(io_uring_register, "its restrictions"),
    CALL(seccomp, "the second filter"),
};

unsigned seccomp_count(enum seccomp_kind kind)
{
    return kind == SECCOMP_VCPU ? ARRAY_LEN(vcpu_rules) : ARRAY_LEN(io_rules);
}

/* Both tables: the vCPUs' calls are among those of the I/O thread, and its rule for ioctl has
 * those of all. */
static int enter_all(struct err *e)
{
    struct filter_rule all[ARRAY_LEN(io_rules) + ARRAY_LEN(setup_rules) - 1];
    memcpy(all, io_rules, sizeof io_rules);
    memcpy(all + ARRAY_LEN(io_rules), setup_rules + 1, sizeof all - sizeof io_rules);
    return filter_enter(all, ARRAY_LEN(all), e);
}

int seccomp_setup(struct filter_narrow ret[2], struct err *e)
{
    int r =
        filter_narrow(&ret[SECCOMP_VCPU], vcpu_rules, ARRAY_LEN(vcpu_rules), true, NULL, 0, e);
    if (r == 0)
        r = filter_narrow(&ret[SECCOMP_IO], setup_rules, ARRAY_LEN(setup_rules), false,
                          io_rules, ARRAY_LEN(io_rules), e);
    return r < 0 ? r : enter_all(e);
}

int seccomp_enter(const struct filter_narrow *f, struct err *e)
{
    return filter_narrow_enter(f, e);
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
