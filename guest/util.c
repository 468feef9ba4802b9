// SPDX-License-Identifier: Apache-2.0
/* See util.h. */
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

__attribute__((format(printf, 3, 0))) static void fail_text(struct fail *f, int num,
                                                            const char *fmt, va_list ap)
{
    f->num = num;
    text_vput(f->text, sizeof(f->text), fmt, ap);
}

int fail_set(struct fail *f, int num, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail_text(f, num, fmt, ap);
    va_end(ap);
    return -num;
}

int fail_sys(struct fail *f, int num, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail_text(f, num, fmt, ap);
    va_end(ap);
    size_t len = strlen(f->text);
    text_put(f->text + len, sizeof(f->text) - len, ": %s", strerror(num));
    return -num;
}

int write_full(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int write_file(const char *path, const char *text)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return write_full(fd, text, strlen(text));
}

int rewrite_fd(int fd, const void *data, size_t len)
{
    ssize_t n = pwrite(fd, data, len, 0);
    if (n < 0)
        return -errno;
    if ((size_t)n != len)
        return -ENOSPC;
    return ftruncate(fd, (off_t)len) < 0 ? -errno : 0;
}

ssize_t read_fd(int fd, char *buf, size_t size)
{
    ssize_t n = pread(fd, buf, size - 1, 0);
    if (n < 0)
        return -errno;
    buf[n] = '\0';
    return n;
}

ssize_t read_file(const char *path, char *buf, size_t size)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return read_fd(fd, buf, size);
}

int make_dirs(const char *path, unsigned mode)
{
    char buf[1024];
    size_t len = strlen(path);
    if (len >= sizeof(buf))
        return -ENAMETOOLONG;
    memcpy(buf, path, len + 1);
    for (char *p = buf + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(buf, mode) < 0 && errno != EEXIST)
            return -errno;
        *p = '/';
    }
    if (mkdir(buf, mode) < 0 && errno != EEXIST)
        return -errno;
    return 0;
}

bool parse_u64(const char *s, uint64_t max, uint64_t *ret)
{
    uint64_t v = 0;
    const char *p = s;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
            return false;
    }
    if (p == s || v > max || (*p != '\0' && *p != '\n' && *p != ' ' && *p != '\t'))
        return false;
    *ret = v;
    return true;
}

void complain(const char *fmt, ...)
{
    char line[320] = "dormouse-init: ";
    va_list ap;
    va_start(ap, fmt);
    text_vput(line + 15, sizeof(line) - 17, fmt, ap);
    va_end(ap);
    size_t len = strlen(line);
    line[len++] = '\n';
    /* nothing can be done when even the console fails */
    if (write_full(STDERR_FILENO, line, len) < 0)
        return;
}

uint64_t realtime_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int do_ioctl(int fd, unsigned long op, void *arg)
{
    return (int)syscall(SYS_ioctl, fd, op, arg);
}
