// SPDX-License-Identifier: Apache-2.0
/* See firecracker_api.h. No JSON is read: an answer without success is shown as it is. */
#include "firecracker_api.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"

#define LIMIT_MS 120000

static int try_connect(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

int fc_connect(const char *path, int limit_ms)
{
    char dir[256];
    snprintf(dir, sizeof dir, "%s", path);
    char *end = strrchr(dir, '/');
    AUTO_CLOSE int watch = inotify_init1(IN_CLOEXEC);
    if (!end || watch < 0)
        return -1;
    *end = '\0';
    inotify_add_watch(watch, dir, IN_CREATE);
    for (int waited = 0; waited <= limit_ms; waited++) {
        int fd = try_connect(path);
        if (fd >= 0)
            return fd;
        /* Between the socket's name and its listener there is no event. */
        struct pollfd p = {.fd = watch, .events = POLLIN};
        poll(&p, 1, 1);
    }
    return -1;
}

/* The head ends with an empty line; a body follows when the head says how long it is. */
static bool answered(const char *text, size_t len)
{
    const char *end = strstr(text, "\r\n\r\n");
    const char *size = strcasestr(text, "\r\ncontent-length:");
    if (!end)
        return false;
    size_t body = size && size < end ? strtoul(size + 17, NULL, 10) : 0;
    return len - (size_t)(end + 4 - text) >= body;
}

bool fc_request(int fd, const char *method, const char *path, const char *body, char *why,
                size_t cap)
{
    char text[4096];
    size_t len = 0;
    int n = snprintf(text, sizeof text,
                     "%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
                     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                     method, path, strlen(body), body);
    snprintf(why, cap, "%s %s: no answer", method, path);
    if (n < 0 || (size_t)n >= sizeof text || fd_write_full(fd, text, (size_t)n) < 0)
        return false;
    do {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (len == sizeof text - 1 || poll(&p, 1, LIMIT_MS) != 1)
            return false;
        ssize_t got = read(fd, text + len, sizeof text - 1 - len);
        if (got <= 0)
            return false;
        len += (size_t)got;
        text[len] = '\0';
    } while (!answered(text, len));
    unsigned status = 0;
    if (sscanf(text, "HTTP/1.%*1[01] %u", &status) == 1 && (status == 204 || status == 200))
        return true;
    const char *end = strstr(text, "\r\n\r\n");
    snprintf(why, cap, "%s %s: status %u %.300s", method, path, status, end + 4);
    return false;
}

bool fc_boot(int fd, const struct fc_machine *m, char *why, size_t cap)
{
    char body[2048];
    snprintf(body, sizeof body, "{\"vcpu_count\":%u,\"mem_size_mib\":%llu}", m->vcpus,
             (unsigned long long)(m->mem >> 20));
    bool ok = fc_request(fd, "PUT", "/machine-config", body, why, cap);
    snprintf(body, sizeof body,
             "{\"kernel_image_path\":\"%s\",\"initrd_path\":\"%s\",\"boot_args\":\"%s\"}",
             m->kernel, m->initrd, m->cmdline);
    ok = ok && fc_request(fd, "PUT", "/boot-source", body, why, cap);
    if (m->disk) {
        snprintf(body, sizeof body,
                 "{\"drive_id\":\"d\",\"path_on_host\":\"%s\",\"is_root_device\":false,"
                 "\"is_read_only\":false}",
                 m->disk);
        ok = ok && fc_request(fd, "PUT", "/drives/d", body, why, cap);
    }
    if (m->tap) {
        snprintf(body, sizeof body,
                 "{\"iface_id\":\"n\",\"guest_mac\":\"%s\",\"host_dev_name\":\"%s\"}", m->mac,
                 m->tap);
        ok = ok && fc_request(fd, "PUT", "/network-interfaces/n", body, why, cap);
    }
    return ok &&
           fc_request(fd, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}", why, cap);
}

bool fc_pause(int fd, char *why, size_t cap)
{
    return fc_request(fd, "PATCH", "/vm", "{\"state\":\"Paused\"}", why, cap);
}

bool fc_save(int fd, const char *state, const char *memory, char *why, size_t cap)
{
    char body[1024];
    snprintf(body, sizeof body,
             "{\"snapshot_type\":\"Full\",\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s\"}",
             state, memory);
    return fc_request(fd, "PUT", "/snapshot/create", body, why, cap);
}

bool fc_load(int fd, const char *state, const char *memory, char *why, size_t cap)
{
    char body[1024];
    snprintf(body, sizeof body,
             "{\"snapshot_path\":\"%s\",\"mem_backend\":{\"backend_type\":\"File\","
             "\"backend_path\":\"%s\"},\"resume_vm\":true}",
             state, memory);
    return fc_request(fd, "PUT", "/snapshot/load", body, why, cap);
}
