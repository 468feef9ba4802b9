// SPDX-License-Identifier: Apache-2.0
/* What the guest suites have in common: their arguments, one machine `g`, the usual requests.
 */
#ifndef DORMOUSE_TESTS_GUEST_HOST_H
#define DORMOUSE_TESTS_GUEST_HOST_H

#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "../tap.h"
#include "guest_client.h"

static struct {
    struct setup s;
    const char *root;
    char disk[256], disk2[256], context[256], image[256], session[256];
} arg;

/* VMM KERNEL INITRD ROOT [DIR]; false when they are not these. */
static inline bool host_args(int argc, char **argv)
{
    if (argc < 5)
        return false;
    const char *dir = argc > 5 ? argv[5] : "/tmp";
    const struct {
        char *path;
        const char *name;
    } paths[] = {{arg.disk, "disk"},
                 {arg.disk2, "disk2"},
                 {arg.context, "context"},
                 {arg.image, "image"},
                 {arg.session, "session"}};
    arg.s = (struct setup){.vmm = argv[1], .kernel = argv[2], .initrd = argv[3]};
    arg.root = argv[4];
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        snprintf(paths[i].path, sizeof arg.disk, "%.200s/guest.%s", dir, paths[i].name);
    return true;
}

static struct guest g;
static uint8_t space[GP_BODY_MAX];

static inline struct tlv_writer fields(void)
{
    return tlv_writer_init(space, sizeof space);
}

static inline void args(struct tlv_writer *w, const char *const *argv)
{
    for (; *argv; argv++)
        tlv_put_str(w, GP_T_ARG, *argv);
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static inline struct disk root_disk(const char *path)
{
    return (struct disk){.path = path, .serial = "root"};
}

/* A machine with a fresh root, mounted. */
static inline bool machine_up(struct guest *m)
{
    struct disk d = root_disk(arg.disk);
    struct tlv_writer w = fields();
    tlv_put_str(&w, GP_T_DISK, "root");
    return CHECK(copy_file(arg.root, arg.disk)) && CHECK(guest_boot(m, &arg.s, &d, 1)) &&
           CHECK(guest_ok(m, GP_MOUNT_ROOT, &w));
}

static inline bool start(struct guest *m, const char *const *argv)
{
    struct tlv_writer w = fields();
    args(&w, argv);
    tlv_put_str(&w, GP_T_HOSTNAME, "first");
    return CHECK(guest_ok(m, GP_START, &w));
}

static inline bool has(const char *what)
{
    bool ok = strstr(g.text, what) != NULL;
    if (!ok)
        printf("# no \"%s\"\n", what);
    return ok;
}

static inline bool freeze(struct guest *m, uint32_t trim)
{
    struct tlv_writer w = fields();
    tlv_put_u32(&w, GP_T_TRIM, trim);
    return CHECK(guest_ok(m, GP_FREEZE, &w));
}

static inline uint64_t clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline struct tlv_writer restore_fields(bool fresh, uint64_t generation,
                                               const char *name)
{
    uint8_t entropy[64];
    struct tlv_writer w = fields();
    if (getrandom(entropy, sizeof entropy, 0) < 0)
        abort();
    tlv_put_u64(&w, GP_T_GENERATION, generation);
    tlv_put_u64(&w, GP_T_REALTIME_NS, clock_ns());
    tlv_put_bytes(&w, GP_T_ENTROPY, entropy, sizeof entropy);
    tlv_put_u32(&w, GP_T_FRESH, fresh);
    tlv_put_str(&w, GP_T_VM_ID, name);
    tlv_put_str(&w, GP_T_ENDPOINT, "host.example");
    tlv_put_str(&w, GP_T_HOSTNAME, name);
    return w;
}

static inline bool restored(struct guest *m, bool fresh, uint64_t generation, const char *name)
{
    struct tlv_writer w = restore_fields(fresh, generation, name);
    return CHECK(guest_ok(m, GP_RESTORED, &w));
}

static char out[65536];
static struct answer last;

static inline bool run_in(struct guest *m, const char *const *argv)
{
    struct tlv_writer w = fields();
    args(&w, argv);
    return guest_command(m, &w, NULL, out, sizeof out, &last) && last.has_exit &&
           last.exit_status == 0;
}

#endif
