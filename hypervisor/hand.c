// SPDX-License-Identifier: Apache-2.0
/*
 * One machine by hand; see hand.h. For researchers, tests and benchmarks: the
 * command line takes the place of the daemon's messages, the rest is the same
 * code. Arguments and files are the caller's own.
 */
#include "hand.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "../snapshot/snapfile.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

static int open_file(const char *path, int flags, int *ret, struct err *e)
{
    int fd = open(path, flags | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_sys(e, errno, "open '%s'", path);
    *ret = fd;
    return 0;
}

/* "a,b,c": the next part into buf, or false. */
static bool next_part(const char **list, char *buf, size_t size)
{
    size_t n = strcspn(*list, ",");
    if (n == 0 || n >= size)
        return false;
    memcpy(buf, *list, n);
    buf[n] = '\0';
    *list += n + ((*list)[n] == ',');
    return true;
}

/* FILE[,OVERLAY...][:ro] */
static int open_disk(struct hand *h, unsigned i, const char *spec, struct err *e)
{
    char text[1024], path[512];
    struct ctl_disk *d = &h->m.disks[i];
    snprintf(text, sizeof text, "%s", spec);
    size_t len = strlen(text);
    if (len > 3 && strcmp(text + len - 3, ":ro") == 0) {
        d->flags |= CTL_DISK_READONLY;
        text[len - 3] = '\0';
    }
    unsigned n = 0;
    for (const char *p = text; n < CTL_LAYERS_MAX && next_part(&p, path, sizeof path); n++) {
        bool last = *p == '\0';
        bool writable = last && !(d->flags & CTL_DISK_READONLY);
        int r = open_file(path, writable ? O_RDWR : O_RDONLY, &h->fds.layers[i][n], e);
        if (r < 0)
            return r;
    }
    d->nlayers = n;
    snprintf(d->serial, sizeof d->serial, "disk%u", i);
    return 0;
}

static int open_tap(const char *name, int *ret, struct err *e)
{
    struct ifreq ifr;
    memset(&ifr, 0, sizeof ifr);
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", name);
    ifr.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    int r = open_file("/dev/net/tun", O_RDWR | O_NONBLOCK, ret, e);
    if (r == 0 && ioctl(*ret, (int)TUNSETIFF, &ifr) < 0)
        return err_sys(e, errno, "attach to the tap '%s'", name);
    return r;
}

static int open_snapshots(struct hand *h, struct err *e)
{
    const char *p = h->o.restore;
    char path[512];
    while (*p) {
        if (h->m.nmem_layers == 2 || !next_part(&p, path, sizeof path))
            return err_set(e, EINVAL, "--restore wants IMAGE or IMAGE,SESSION");
        int r = open_file(path, O_RDONLY, &h->fds.snapshots[h->m.nmem_layers++], e);
        if (r < 0)
            return r;
    }
    /* The file says how large the machine is. */
    struct snap_info info;
    int r = snap_read_info(h->fds.snapshots[0], &info, e);
    if (r < 0)
        return err_wrap(e, "'%s'", h->o.restore);
    if (h->o.layer && (r = open_file(h->o.layer, O_RDONLY, &h->fds.layer, e)) < 0)
        return r;
    h->m.has_layer = h->o.layer != NULL;
    h->m.vcpus = h->o.vcpus = info.vcpus;
    h->m.mem_bytes = info.mem_bytes;
    return 0;
}

static int open_sources(struct hand *h, struct err *e)
{
    const struct hand_options *o = &h->o;
    if (o->restore)
        return open_snapshots(h, e);
    if (strlen(o->cmdline) >= sizeof h->m.cmdline)
        return err_set(e, E2BIG, "the kernel command line is longer than %zu bytes",
                       sizeof h->m.cmdline - 1);
    snprintf(h->m.cmdline, sizeof h->m.cmdline, "%s", o->cmdline);
    int r = open_file(o->kernel, O_RDONLY, &h->fds.kernel, e);
    if (r == 0 && o->initrd)
        r = open_file(o->initrd, O_RDONLY, &h->fds.initrd, e);
    return r;
}

int hand_open(struct hand *h, struct err *e)
{
    const struct hand_options *o = &h->o;
    machine_fds_init(&h->fds);
    h->save_fd = -1;
    h->hooks.input_fd = -1;
    h->m.version = CTL_VERSION;
    h->m.vcpus = o->vcpus;
    h->m.mem_bytes = o->mem_bytes;
    h->m.ndisks = o->ndisks;
    h->m.has_rng = o->rng;
    h->m.has_balloon = o->balloon;
    int r = open_sources(h, e);
    for (unsigned i = 0; i < o->ndisks && r == 0; i++)
        r = open_disk(h, i, o->disks[i], e);
    if (r == 0 && o->tap) {
        static const uint8_t mac[6] = {0x02, 0, 0, 0, 0, 1};
        h->m.has_net = 1;
        memcpy(h->m.mac, mac, sizeof mac);
        r = open_tap(o->tap, &h->fds.tap, e);
    }
    if (r == 0 && o->console && strcmp(o->console, "-") == 0) {
        h->fds.console = STDOUT_FILENO;
        h->hooks.input_fd = STDIN_FILENO;
        h->hooks.interactive = true;
    } else if (r == 0 && o->console) {
        r = open_file(o->console, O_WRONLY | O_CREAT | O_APPEND, &h->fds.console, e);
    }
    if (r == 0 && o->save)
        r = open_file(o->save, O_RDWR | O_CREAT | O_TRUNC, &h->save_fd, e);
    if (r == 0 && getrandom(h->m.vmgenid, sizeof h->m.vmgenid, 0) < 0)
        r = err_sys(e, errno, "get random bytes");
    return r;
}

static void on_ended(struct vm *vm, void *ctx)
{
    static const struct {
        uint32_t reason;
        int status;
    } table[] = {
        {CTL_EXIT_STOPPED, 0},
        {CTL_EXIT_POWEROFF, 0},
        {CTL_EXIT_RESET, 3},
        {CTL_EXIT_GUEST_FAULT, 4},
    };
    struct hand *h = ctx;
    h->status = 1;
    for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
        if (table[i].reason == vm->end.reason)
            h->status = table[i].status;
    }
    if (vm->uart)
        dev_uart_flush(vm->uart, NULL, 0);
    if (h->status)
        log_error("%s", vm->end.text);
    ring_stop(vm->ring);
}

static void on_paused(struct vm *vm, void *ctx)
{
    struct hand *h = ctx;
    struct ctl_saved saved;
    struct err e = ERR_INIT;
    if (machine_save(vm, h->save_fd, !h->o.diff, -1, &saved, &e) < 0) {
        log_err(LOG_ERROR, &e, "save");
        h->status = 1;
    } else {
        log_info("saved %llu bytes, %llu pages stored, %llu zero, %llu as in the image, "
                 "%llu free, paused %llu us",
                 (unsigned long long)saved.file_bytes, (unsigned long long)saved.pages_stored,
                 (unsigned long long)saved.pages_zero, (unsigned long long)saved.pages_same,
                 (unsigned long long)saved.pages_free,
                 (unsigned long long)saved.pause_ns / 1000);
    }
    dev_uart_flush(vm->uart, NULL, 0);
    ring_stop(vm->ring);
}

static void on_kick(void *ctx)
{
    struct hand *h = ctx;
    struct err e = ERR_INIT;
    if (!h->seen || h->vm->state != VM_RUNNING)
        return;
    h->seen = false;
    if (vm_pause(h->vm, on_paused, h, &e) < 0)
        log_err(LOG_ERROR, &e, "pause");
}

/* On a vCPU thread. */
static void on_seen(void *ctx)
{
    struct hand *h = ctx;
    h->seen = true;
    ring_kick(h->vm->ring);
}

int hand_start(struct hand *h, struct err *e)
{
    struct vm *vm = h->vm;
    vm->on_ended = on_ended;
    vm->ended_ctx = h;
    vm->on_kick = on_kick;
    vm->kick_ctx = h;
    h->hooks.ctx = h;
    h->hooks.watch = h->o.save ? h->o.save_after : NULL;
    h->hooks.seen = on_seen;
    int r = h->o.restore ? machine_restore(vm, &h->m, &h->fds, &h->hooks, e)
                         : machine_boot(vm, &h->m, &h->fds, &h->hooks, e);
    machine_fds_close(&h->fds);
    return r;
}
