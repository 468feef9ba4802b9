// SPDX-License-Identifier: Apache-2.0
/*
 * PID 1 of the guests that benchmarks measure: static, small, and the same under
 * every virtual machine monitor. It brings up what the machine has (a read of
 * the disk, eth0), prints "ready", then does what the kernel's command line
 * says:
 *     bench=idle    nothing
 *     bench=spin    reads the clock device for ever, an MMIO exit each time, and
 *                   prints a dot after every 50 reads: a restored machine shows
 *                   itself with its first instructions
 *     bench=fill    writes fill=N MiB of memory first, then nothing
 *     bench=disk    reads, writes and syncs the disk, prints bytes and time
 *     bench=off     powers off
 */
#include <fcntl.h>
#include <linux/rtc.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The request is int in one C library and unsigned long in the other. */
#define RTC_READ(fd, t) syscall(SYS_ioctl, fd, RTC_RD_TIME, t)
#define READS_A_DOT     50
#define BLOCK           (64u << 10)
#define DISK_BYTES      (16u << 20)
#define SYNCS           64

static char cmdline[1024];

static long number(const char *name, long def)
{
    const char *at = strstr(cmdline, name);
    return at ? strtol(at + strlen(name), NULL, 10) : def;
}

static void say(const char *text)
{
    ssize_t n = write(1, text, strlen(text));
    (void)n;
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void bring_up(void)
{
    static char block[4096];
    int disk = open("/dev/vda", O_RDONLY | O_CLOEXEC);
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq ifr = {.ifr_flags = IFF_UP};
    if (disk >= 0 && read(disk, block, sizeof block) < 0)
        say("the disk cannot be read\n");
    if (disk >= 0)
        close(disk);
    strcpy(ifr.ifr_name, "eth0");
    if (sock >= 0) {
        ioctl(sock, SIOCSIFFLAGS, &ifr); /* there may be none */
        close(sock);
    }
}

static void spin(void)
{
    struct rtc_time t;
    int rtc = open("/dev/rtc0", O_RDONLY | O_CLOEXEC);
    if (rtc < 0) {
        say("no clock device\n");
        return;
    }
    for (;;) {
        for (unsigned i = 0; i < READS_A_DOT; i++)
            RTC_READ(rtc, &t);
        say(".\n"); /* a line: consoles may buffer */
    }
}

/* No two pages alike, and none of them easy to compress. */
static void fill(size_t bytes)
{
    uint64_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t state = 1;
    if (p == MAP_FAILED) {
        say("no memory to fill\n");
        return;
    }
    for (size_t i = 0; i < bytes / sizeof *p; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        p[i] = state;
    }
}

static void result(const char *what, uint64_t amount, uint64_t since)
{
    char line[128];
    snprintf(line, sizeof line, "result %s %llu in %llu ns\n", what, (unsigned long long)amount,
             (unsigned long long)(now_ns() - since));
    say(line);
}

static void disk(void)
{
    uint8_t *buf = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    int fd = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
    if (fd < 0 || buf == MAP_FAILED) {
        say("no disk\n");
        return;
    }
    for (int round = 0; round < 3; round++) {
        uint64_t t = now_ns();
        for (off_t at = 0; at < DISK_BYTES; at += BLOCK)
            if (pwrite(fd, buf, BLOCK, at) != BLOCK)
                say("write failed\n");
        result("write", DISK_BYTES, t);
        t = now_ns();
        for (off_t at = 0; at < DISK_BYTES; at += BLOCK)
            if (pread(fd, buf, BLOCK, at) != BLOCK)
                say("read failed\n");
        result("read", DISK_BYTES, t);
        t = now_ns();
        for (off_t at = 0; at < DISK_BYTES / 4; at += 4096)
            if (pread(fd, buf, 4096, at) != 4096)
                say("read failed\n");
        result("read4k", DISK_BYTES / 4, t);
        t = now_ns();
        for (int i = 0; i < SYNCS; i++)
            if (pwrite(fd, buf, 4096, i * 4096) != 4096 || fdatasync(fd) < 0)
                say("sync failed\n");
        result("sync", SYNCS, t);
    }
    say("finished\n");
}

int main(void)
{
    mkdir("/proc", 0755);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    int tty = open("/dev/console", O_RDWR);
    if (tty >= 0) {
        dup2(tty, 1);
        dup2(tty, 2);
    }
    int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, cmdline, sizeof cmdline - 1) < 0)
        cmdline[0] = '\0';
    bring_up();
    if (strstr(cmdline, "bench=fill"))
        fill((size_t)number("fill=", 1) << 20);
    say("ready\n");
    if (strstr(cmdline, "bench=spin"))
        spin();
    if (strstr(cmdline, "bench=disk"))
        disk();
    if (strstr(cmdline, "bench=off"))
        reboot(RB_POWER_OFF);
    for (;;)
        pause();
}
