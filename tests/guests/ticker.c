// SPDX-License-Identifier: Apache-2.0
/*
 * PID 1 of a guest that shows whether time, memory and randomness survive a
 * snapshot. It fills some memory, prints "ready", then one line per tick:
 *     tick N mono MS real S uuid X sum OK
 * and powers off after the number of ticks in the kernel's command line
 * (ticks=N, default 20). Where there are such devices, a tick also writes and
 * reads back a block of /dev/vda (" disk ok"), reads /dev/hwrng (" rng ok") and
 * sends its line to vsock port 1024 of the host, reconnecting when it has to.
 * A stream that connects to guest port 5000 gets its bytes back. With the word
 * "brk" a process of the guest runs into a breakpoint instruction of its own first,
 * and the signal that it got is printed; the device of docs/research.md is named if
 * it is there. With the word "busy" a thread on each CPU computes and passes a token on
 * to the next CPU's, and a tick tells how often the first had it. Used by tests/vm.
 */
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS    (512u * 1024) /* 4 MiB of a known pattern */
#define TICK_MS  50
#define CPUS_MAX 16
#define BLOCK    4096
#define PORT_UP  1024
#define PORT_IN  5000

static uint64_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state;
}

static void fill(uint64_t *p)
{
    uint64_t state = 1;
    for (unsigned i = 0; i < WORDS; i++)
        p[i] = next(&state);
}

static int intact(const uint64_t *p)
{
    uint64_t state = 1;
    for (unsigned i = 0; i < WORDS; i++) {
        if (p[i] != next(&state))
            return 0;
    }
    return 1;
}

static void read_line(const char *path, char *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, buf, size - 1);
    buf[n > 0 ? n : 0] = '\0';
    buf[strcspn(buf, "\n")] = '\0';
    if (fd >= 0)
        close(fd);
}

static long long now_ms(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static bool disk_works(long tick)
{
    static _Alignas(BLOCK) uint8_t out[BLOCK], in[BLOCK];
    off_t at = (tick % 64) * BLOCK;
    int fd = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
    memset(out, (int)tick, sizeof out);
    bool ok = fd >= 0 && pwrite(fd, out, sizeof out, at) == BLOCK && fsync(fd) == 0 &&
              pread(fd, in, sizeof in, at) == BLOCK && memcmp(in, out, BLOCK) == 0;
    /* What an earlier tick wrote, perhaps before a snapshot. */
    if (ok && tick > 1)
        ok = pread(fd, in, sizeof in, ((tick - 1) % 64) * BLOCK) == BLOCK &&
             in[0] == (uint8_t)(tick - 1);
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool rng_works(void)
{
    uint8_t bytes[32];
    int fd = open("/dev/hwrng", O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && read(fd, bytes, sizeof bytes) > 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static void send_up(const char *line)
{
    static int sock = -1;
    struct sockaddr_vm host = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = PORT_UP};
    if (sock < 0)
        sock = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return;
    if (send(sock, line, strlen(line), MSG_NOSIGNAL) > 0)
        return;
    close(sock);
    sock = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock >= 0 && connect(sock, (struct sockaddr *)&host, sizeof host) == 0)
        send(sock, line, strlen(line), MSG_NOSIGNAL);
}

static void *echo(void *arg)
{
    struct sockaddr_vm any = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = PORT_IN};
    int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)arg;
    if (listener < 0 || bind(listener, (struct sockaddr *)&any, sizeof any) < 0 ||
        listen(listener, 8) < 0)
        return NULL;
    for (;;) {
        static char buf[16384];
        int fd = accept(listener, NULL, NULL);
        for (ssize_t n; fd >= 0 && (n = recv(fd, buf, sizeof buf, 0)) > 0;) {
            for (ssize_t at = 0, m; at < n; at += m) {
                m = send(fd, buf + at, (size_t)(n - at), MSG_NOSIGNAL);
                if (m <= 0)
                    break;
            }
        }
        if (fd >= 0)
            close(fd);
    }
}

static void own_breakpoint(void)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        __asm__ volatile("brk #1");
        _exit(0);
    }
    waitpid(child, &status, 0);
    printf("brk signal %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

/* Registers of both kinds, and an interrupt between CPUs for each token passed on. */
static struct worker {
    sem_t token;
    pthread_t thread;
    _Atomic unsigned long laps;
} workers[CPUS_MAX];
static long ncpus;
static atomic_bool wrong;

static uint64_t compute(uint64_t seed)
{
    double x = (double)(seed + 1);
    for (unsigned i = 0; i < 500; i++)
        x = x / 3 + (double)(next(&seed) >> 40);
    return seed ^ (uint64_t)x;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    long at = w - workers;
    uint64_t want = compute((uint64_t)at);
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET((size_t)at, &own);
    sched_setaffinity(0, sizeof own, &own);
    for (;;) {
        while (sem_wait(&w->token) < 0)
            ;
        if (compute((uint64_t)at) != want)
            wrong = true;
        w->laps++;
        sem_post(&workers[(at + 1) % ncpus].token);
    }
    return NULL;
}

static void be_busy(void)
{
    ncpus = sysconf(_SC_NPROCESSORS_ONLN);
    ncpus = ncpus < CPUS_MAX ? ncpus : CPUS_MAX;
    for (long i = 0; i < ncpus; i++)
        sem_init(&workers[i].token, 0, i % 8 == 0);
    for (long i = 0; i < ncpus; i++)
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
}

int main(void)
{
    char laps[48] = "", cmdline[1024], uuid[64], line[256];
    pthread_t echoer;
    uint64_t *memory = malloc(WORDS * sizeof *memory);
    long ticks = 20;
    mkdir("/proc", 0755);
    mkdir("/dev", 0755);
    mkdir("/sys", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    int tty = open("/dev/console", O_RDWR);
    if (tty >= 0) {
        dup2(tty, 1);
        dup2(tty, 2);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    read_line("/proc/cmdline", cmdline, sizeof cmdline);
    const char *arg = strstr(cmdline, "ticks=");
    if (arg)
        ticks = strtol(arg + 6, NULL, 10);
    if (!memory)
        return 1;
    fill(memory);
    pthread_create(&echoer, NULL, echo, NULL);
    if (access("/sys/firmware/devicetree/base/count@9020000", F_OK) == 0)
        printf("a device of its own\n");
    if (strstr(cmdline, "brk"))
        own_breakpoint();
    if (strstr(cmdline, "busy"))
        be_busy();
    printf("ready cpus %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
    for (long i = 1; i <= ticks; i++) {
        struct timespec pause = {.tv_nsec = TICK_MS * 1000000L};
        nanosleep(&pause, NULL);
        read_line("/proc/sys/kernel/random/uuid", uuid, sizeof uuid);
        const char *disk = access("/dev/vda", F_OK) ? ""
                           : disk_works(i)          ? " disk ok"
                                                    : " disk BROKEN";
        const char *rng = access("/dev/hwrng", F_OK) ? ""
                          : rng_works()              ? " rng ok"
                                                     : " rng BROKEN";
        if (ncpus)
            snprintf(laps, sizeof laps, " laps %lu %s", workers[0].laps,
                     wrong ? "BROKEN" : "ok");
        snprintf(line, sizeof line, "tick %ld mono %lld real %lld uuid %s%s%s%s sum %s\n", i,
                 now_ms(CLOCK_MONOTONIC), now_ms(CLOCK_REALTIME) / 1000, uuid, disk, rng, laps,
                 intact(memory) ? "ok" : "BROKEN");
        send_up(line);
        fputs(line, stdout);
    }
    printf("done\n");
    reboot(RB_POWER_OFF);
    return 0;
}
