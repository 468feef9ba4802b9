// SPDX-License-Identifier: Apache-2.0
/*
 * System call filters; see seccomp.h. The tables are the policy: a call that is
 * not in the thread's list ends the process with a line that names it.
 */
#include "seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "kvm.h"

struct rule {
    int nr;
    const char *why;
};

static const struct rule vcpu_rules[] = {
    {SYS_ioctl, "KVM_RUN"},
    {SYS_futex, "locks of the machine and of devices"},
    {SYS_write, "eventfds (interrupts, kicks) and the console"},
    {SYS_rt_sigreturn, "end of a kick"},
    {SYS_clock_gettime, "the clock device, where the vDSO cannot"},
    {SYS_exit_group, "end after a refused call"},
};
static const uint32_t vcpu_ioctls[] = {
    KVM_RUN, KVM_SET_VCPU_EVENTS, /* external abort for an access nobody can emulate */
};

static const struct rule io_rules[] = {
    {SYS_io_uring_enter, "the loop"},
    {SYS_ioctl, "KVM, pagemap, tap"},
    {SYS_read, "eventfds, console input"},
    {SYS_write, "eventfds, console, log"},
    {SYS_readv, "tap into guest memory"},
    {SYS_writev, "tap from guest memory"},
    {SYS_pread64, "snapshot and disk metadata, pages of a session"},
    {SYS_pwrite64, "snapshot and disk metadata, pages of a snapshot"},
    {SYS_recvfrom, "vsock peers"},
    {SYS_recvmsg, "control messages, vsock peers"},
    {SYS_sendmsg, "control messages, vsock peers"},
    {SYS_shutdown, "half-closed vsock streams"},
    {SYS_socketpair, "a stream for each connection the guest opens"},
    {SYS_eventfd2, "interrupt lines and doorbells"},
    {SYS_close, "descriptors of ended connections and failed orders"},
    {SYS_fcntl, "access mode of what arrives"},
    {SYS_fstat, "sizes of files that arrive"},
    {SYS_ftruncate, "size of a new snapshot"},
    {SYS_mmap, "guest memory, heap; never executable"},
    {SYS_munmap, "the same"},
    {SYS_mremap, "the same"},
    {SYS_brk, "heap"},
    {SYS_madvise, "pages the guest gives back"},
    {SYS_futex, "locks shared with vCPU threads"},
    {SYS_tkill, "kicks vCPU threads"},
    {SYS_rt_sigprocmask, "around a kick"},
    {SYS_rt_sigreturn, "after a signal"},
    {SYS_clock_gettime, "time, where the vDSO cannot"},
    {SYS_getrandom, "snapshot ids, random device"},
    {SYS_exit_group, "the end"},
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
};

static const struct list {
    const struct rule *rules;
    const uint32_t *ioctls;
    unsigned nrules, nioctls;
} lists[] = {
    [SECCOMP_VCPU] = {vcpu_rules, vcpu_ioctls, ARRAY_LEN(vcpu_rules), ARRAY_LEN(vcpu_ioctls)},
    [SECCOMP_IO] = {io_rules, io_ioctls, ARRAY_LEN(io_rules), ARRAY_LEN(io_ioctls)},
};

#define FILTER_MAX 256u
#define RULES_MAX  32u
_Static_assert(ARRAY_LEN(io_rules) <= RULES_MAX, "the table fits");

struct filter {
    struct sock_filter ins[FILTER_MAX];
    unsigned short n;
};

static void emit(struct filter *f, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
    if (f->n < FILTER_MAX)
        f->ins[f->n++] = (struct sock_filter){code, yes, no, k};
}

static void load_arg(struct filter *f, unsigned i)
{
    /* The low half: our arguments are 32 bits wide, and little-endian. */
    emit(f, BPF_LD | BPF_W | BPF_ABS,
         (uint32_t)(offsetof(struct seccomp_data, args) + i * sizeof(uint64_t)), 0, 0);
}

static void ret(struct filter *f, uint32_t action)
{
    emit(f, BPF_RET | BPF_K, action, 0, 0);
}

static void allow_if(struct filter *f, uint32_t value)
{
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    ret(f, SECCOMP_RET_ALLOW);
}

/* What follows when the call is rule's: most are allowed, two depend on an argument. */
static void one_rule(struct filter *f, const struct list *l, const struct rule *rule)
{
    if (rule->nr == SYS_ioctl) {
        load_arg(f, 1);
        for (unsigned k = 0; k < l->nioctls; k++)
            allow_if(f, l->ioctls[k]);
        ret(f, SECCOMP_RET_TRAP);
    } else if (rule->nr == SYS_mmap) {
        load_arg(f, 2);
        emit(f, BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1);
        ret(f, SECCOMP_RET_TRAP);
    }
    ret(f, SECCOMP_RET_ALLOW);
}

/* A binary search: the kernel tries each filter with every call's number when it is installed,
 * so a long chain costs at start-up, too. rules[0..n) are sorted. */
static void search(struct filter *f, const struct list *l, const struct rule *rules, unsigned n)
{
    unsigned short at = f->n;
    if (n == 1) {
        emit(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)rules->nr, 1, 0);
        ret(f, SECCOMP_RET_TRAP);
        one_rule(f, l, rules);
        return;
    }
    emit(f, BPF_JMP | BPF_JGE | BPF_K, (uint32_t)rules[n / 2].nr, 0, 0);
    search(f, l, rules, n / 2);
    f->ins[at].jt = (uint8_t)(f->n - at - 1);
    search(f, l, rules + n / 2, n - n / 2);
}

static int by_number(const void *a, const void *b)
{
    return ((const struct rule *)a)->nr - ((const struct rule *)b)->nr;
}

static void build(struct filter *f, const struct list *l)
{
    struct rule sorted[RULES_MAX];
    memcpy(sorted, l->rules, l->nrules * sizeof sorted[0]);
    qsort(sorted, l->nrules, sizeof sorted[0], by_number);
    emit(f, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
    emit(f, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_AARCH64, 1, 0);
    ret(f, SECCOMP_RET_KILL_PROCESS);
    emit(f, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
    search(f, l, sorted, l->nrules);
}

unsigned seccomp_count(enum seccomp_kind kind)
{
    return lists[kind].nrules;
}

int seccomp_enter(enum seccomp_kind kind, struct err *e)
{
    struct filter f = {.n = 0};
    build(&f, &lists[kind]);
    if (f.n == FILTER_MAX)
        return err_set(e, E2BIG, "the system call filter is too long");
    struct sock_fprog prog = {.len = f.n, .filter = f.ins};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
        return err_sys(e, errno, "install the system call filter");
    return 0;
}

static void refused(int sig, siginfo_t *info, void *context)
{
    char line[] = "dormouse-vmm: refused system call ???\n";
    unsigned nr = (unsigned)info->si_syscall;
    (void)sig;
    (void)context;
    for (unsigned i = 0; i < 3; i++, nr /= 10)
        line[sizeof line - 3 - i] = (char)('0' + nr % 10);
    ssize_t n = write(STDERR_FILENO, line, sizeof line - 1);
    (void)n;
    _exit(128 + SIGSYS);
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
