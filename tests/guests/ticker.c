// SPDX-License-Identifier: Apache-2.0
/*
 * PID 1 of a guest that shows whether time, memory and randomness survive a
 * snapshot. It fills some memory, prints "ready", then one line per tick:
 *     tick N mono MS real S uuid X sum OK
 * and powers off after the number of ticks in the kernel's command line
 * (ticks=N, default 20). Used by tests/vm.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WORDS   (512u * 1024) /* 4 MiB of a known pattern */
#define TICK_MS 50

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

int main(void)
{
    char cmdline[1024], uuid[64];
    uint64_t *memory = malloc(WORDS * sizeof *memory);
    long ticks = 20;
    mkdir("/proc", 0755);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
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
    printf("ready cpus %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
    for (long i = 1; i <= ticks; i++) {
        struct timespec pause = {.tv_nsec = TICK_MS * 1000000L};
        nanosleep(&pause, NULL);
        read_line("/proc/sys/kernel/random/uuid", uuid, sizeof uuid);
        printf("tick %ld mono %lld real %lld uuid %s sum %s\n", i, now_ms(CLOCK_MONOTONIC),
               now_ms(CLOCK_REALTIME) / 1000, uuid, intact(memory) ? "ok" : "BROKEN");
    }
    printf("done\n");
    reboot(RB_POWER_OFF);
    return 0;
}
