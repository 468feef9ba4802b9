// SPDX-License-Identifier: Apache-2.0
/* Fault verbs of the debug twin; see verbs.h. Never linked into the lean binary. */
#include "verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "../base/mem.h"
#include "../kvm.h"
#include "../vm.h"

#define REBOOT_NOTHING 0x1234 /* magic numbers that the kernel refuses */

static long connect_to(int family, const struct sockaddr *to, socklen_t len)
{
    long fd = syscall(SYS_socket, family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? fd : syscall(SYS_connect, fd, to, len);
}

static long connect_tcp(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(80)};
    a.sin_addr.s_addr = htonl(0x0a000202); /* 10.0.2.2: the emulated host's gateway */
    return connect_to(AF_INET, (const struct sockaddr *)&a, sizeof a);
}

static long connect_unix(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/run/dormouse/test"};
    return connect_to(AF_UNIX, (const struct sockaddr *)&a, sizeof a);
}

static const char no_bytes[] = "";

static long read_process(pid_t pid)
{
    char byte;
    struct iovec to = {&byte, 1}, from = {(void *)(uintptr_t)no_bytes, 1};
    return syscall(SYS_process_vm_readv, pid, &to, 1ul, &from, 1ul, 0ul);
}

static long open_path(const char *path, int flags)
{
    return syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600);
}

static long open_mem(pid_t pid)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    return open_path(path, O_RDWR);
}

static long make_executable(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? -1 : syscall(SYS_mprotect, p, 4096ul, PROT_READ | PROT_EXEC);
}

/* What a child would be for; it ends at once. */
static long fork_once(void)
{
    long pid = syscall(SYS_clone, SIGCHLD, 0ul, 0ul, 0ul, 0ul);
    if (pid == 0)
        _exit(0);
    return pid;
}

/* The call's number, and its result as syscall() returns it. */
static long attempt(struct vm *vm, const struct ctl_debug *d, uint32_t *ret_nr)
{
    union bpf_attr bpf;
    struct perf_event_attr perf;
    struct io_uring_params uring;
    static const char *const no_args[] = {"/bin/sh", NULL};
    memset(&bpf, 0, sizeof bpf);
    memset(&perf, 0, sizeof perf);
    memset(&uring, 0, sizeof uring);
#define TRY(nr, call) (*ret_nr = (uint32_t)(nr), (call))
    switch ((enum debug_verb)d->verb) {
    case DEBUG_OPEN_FILE:
        return TRY(SYS_openat, open_path("/etc/passwd", O_RDONLY));
    case DEBUG_OPEN_PROC:
        return TRY(SYS_openat, open_path("/proc/self/maps", O_RDONLY));
    case DEBUG_OPEN_PROC_MEM:
        return TRY(SYS_openat, open_mem(d->pid));
    case DEBUG_OPEN_ROOT:
        return TRY(SYS_openat, open_path("/", O_RDONLY | O_DIRECTORY));
    case DEBUG_CREATE:
        return TRY(SYS_openat, open_path("/new", O_WRONLY | O_CREAT));
    case DEBUG_UNLINK:
        return TRY(SYS_unlinkat, syscall(SYS_unlinkat, AT_FDCWD, "/etc/passwd", 0));
    case DEBUG_CONNECT_TCP:
        return TRY(SYS_socket, connect_tcp());
    case DEBUG_CONNECT_UNIX:
        return TRY(SYS_socket, connect_unix());
    case DEBUG_PTRACE:
        return TRY(SYS_ptrace, syscall(SYS_ptrace, PTRACE_SEIZE, d->pid, 0ul, 0ul));
    case DEBUG_READ_PROCESS:
        return TRY(SYS_process_vm_readv, read_process(d->pid));
    case DEBUG_PIDFD:
        return TRY(SYS_pidfd_open, syscall(SYS_pidfd_open, d->pid, 0u));
    case DEBUG_KILL:
        return TRY(SYS_kill, syscall(SYS_kill, d->pid, SIGTERM));
    case DEBUG_TKILL:
        return TRY(SYS_tkill, syscall(SYS_tkill, d->pid, SIGTERM));
    case DEBUG_MOUNT:
        return TRY(SYS_mount, syscall(SYS_mount, "none", "/", "tmpfs", 0ul, NULL));
    case DEBUG_UNSHARE:
        return TRY(SYS_unshare, syscall(SYS_unshare, CLONE_NEWNS));
    case DEBUG_USER_NAMESPACE:
        return TRY(SYS_unshare, syscall(SYS_unshare, CLONE_NEWUSER));
    case DEBUG_CHROOT:
        return TRY(SYS_chroot, syscall(SYS_chroot, "/"));
    case DEBUG_EXECVE:
        return TRY(SYS_execve, syscall(SYS_execve, "/bin/sh", no_args, no_args + 1));
    case DEBUG_FORK:
        return TRY(SYS_clone, fork_once());
    case DEBUG_SETUID:
        return TRY(SYS_setuid, syscall(SYS_setuid, 0));
    case DEBUG_BPF:
        return TRY(SYS_bpf, syscall(SYS_bpf, BPF_PROG_LOAD, &bpf, sizeof bpf));
    case DEBUG_PERF:
        perf.size = sizeof perf;
        return TRY(SYS_perf_event_open,
                   syscall(SYS_perf_event_open, &perf, d->pid, -1, -1, 0ul));
    case DEBUG_USERFAULT:
        return TRY(SYS_userfaultfd, syscall(SYS_userfaultfd, 0));
    case DEBUG_MODULE:
        return TRY(SYS_init_module, syscall(SYS_init_module, no_args, 8ul, ""));
    case DEBUG_REBOOT:
        return TRY(SYS_reboot, syscall(SYS_reboot, REBOOT_NOTHING, 0, 0, NULL));
    case DEBUG_MMAP_EXEC:
        return TRY(SYS_mmap, (long)mmap(NULL, 4096, PROT_READ | PROT_EXEC,
                                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    case DEBUG_MPROTECT_EXEC:
        return TRY(SYS_mprotect, make_executable());
    case DEBUG_URING_SETUP:
        return TRY(SYS_io_uring_setup, syscall(SYS_io_uring_setup, 8u, &uring));
    case DEBUG_IOCTL_TTY:
        return TRY(SYS_ioctl, syscall(SYS_ioctl, 0, TIOCSTI, ""));
    case DEBUG_IOCTL_KVM:
        return TRY(SYS_ioctl, syscall(SYS_ioctl, vm->kvm_fd, KVM_CREATE_VM, 0));
    default:
        errno = ENOSYS;
        return TRY(0, -1);
    }
}

/* ---- the same through the I/O ring --------------------------------------------------------
 */

static struct {
    struct ring_op op;
    void (*done)(void *ctx, const struct ctl_debug_done *result);
    void *ctx;
} through_ring;

static void ring_done(struct ring_op *op, int res)
{
    struct ctl_debug_done r = {.num = res < 0 ? -res : 0, .nr = SYS_io_uring_enter};
    (void)op;
    through_ring.done(through_ring.ctx, &r);
}

static uint8_t ring_opcode(uint32_t verb)
{
    switch (verb) {
    case DEBUG_RING_OPEN:
        return IORING_OP_OPENAT;
    case DEBUG_RING_SOCKET:
        return IORING_OP_SOCKET;
    case DEBUG_RING_CONNECT:
        return IORING_OP_CONNECT;
    case DEBUG_RING_UNLINK:
        return IORING_OP_UNLINKAT;
    default:
        return IORING_OP_LAST;
    }
}

int debug_try(struct vm *vm, const struct ctl_debug *d,
              void (*done)(void *ctx, const struct ctl_debug_done *result), void *ctx,
              struct err *e)
{
    if (d->verb >= DEBUG_VERBS)
        return err_set(e, EINVAL, "no fault verb %u", d->verb);
    uint8_t opcode = ring_opcode(d->verb);
    if (opcode != IORING_OP_LAST) {
        through_ring.op.done = ring_done;
        through_ring.done = done;
        through_ring.ctx = ctx;
        /* A socket is the one that nothing else is against. */
        bool sock = opcode == IORING_OP_SOCKET;
        ring_debug(vm->ring, &through_ring.op, opcode, sock ? AF_UNIX : AT_FDCWD,
                   sock ? SOCK_STREAM : 0);
        return 0;
    }
    struct ctl_debug_done r = {.num = 0};
    errno = 0;
    if (attempt(vm, d, &r.nr) == -1)
        r.num = errno;
    done(ctx, &r);
    return 0;
}
