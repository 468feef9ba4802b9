// SPDX-License-Identifier: Apache-2.0
/*
 * What must be true before the application runs again after a restore: fresh
 * random numbers, the right time, its own identity and address, no connection
 * that is dead already. Then it is thawed. Nothing here opens a path or waits;
 * the first thing done is the reseeding.
 */
#include <errno.h>
#include <linux/random.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "init.h"

#define ENTROPY_MIN 32u
#define ENTROPY_MAX 512u

static int reseed(struct init *in, const struct req *r, struct fail *f)
{
    _Alignas(8) uint8_t pool[sizeof(struct rand_pool_info) + ENTROPY_MAX];
    const uint8_t *d;
    size_t len;
    if (!req_find(r, GP_T_ENTROPY, &d, &len) || len < ENTROPY_MIN || len > ENTROPY_MAX)
        return fail_set(f, EINVAL, "a restore needs %u to %u bytes of ENTROPY", ENTROPY_MIN,
                        ENTROPY_MAX);
    struct rand_pool_info info = {.entropy_count = (int)len * 8, .buf_size = (int)len};
    memcpy(pool, &info, sizeof(info));
    memcpy(pool + sizeof(info), d, len);
    if (do_ioctl(in->random, RNDADDENTROPY, pool) < 0 ||
        do_ioctl(in->random, RNDRESEEDCRNG, NULL) < 0)
        return fail_sys(f, errno, "reseed the kernel");
    explicit_bzero(pool, sizeof(pool));
    return 0;
}

int step_clock(const struct req *r, struct fail *f)
{
    uint64_t ns;
    if (!req_u64(r, GP_T_REALTIME_NS, 0, &ns))
        return fail_set(f, EINVAL, "REALTIME_NS has the wrong length");
    struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000u),
                          .tv_nsec = (long)(ns % 1000000000u)};
    if (ns != 0 && clock_settime(CLOCK_REALTIME, &ts) < 0)
        return fail_sys(f, errno, "set the clock");
    return 0;
}

static void put_text(struct init *in, const struct req *r, uint16_t tag, enum ident_file which)
{
    char text[300];
    if (!req_has(r, tag) || !req_str(r, tag, text, sizeof(text) - 1))
        return;
    strcat(text, "\n");
    ident_put(in, which, text);
}

static int restored(struct init *in, const struct req *r, struct fail *f)
{
    uint32_t fresh, cut;
    uint64_t generation;
    int err = reseed(in, r, f);
    if (err < 0 || (err = step_clock(r, f)) < 0)
        return err;
    if (!req_u32(r, GP_T_FRESH, 0, &fresh) || !req_u32(r, GP_T_CUT, 0, &cut) ||
        !req_u64(r, GP_T_GENERATION, 0, &generation))
        return fail_set(f, EINVAL, "FRESH, CUT or GENERATION has the wrong length");
    uint8_t ip[4], gateway[4];
    memcpy(ip, in->net.ip, 4);
    if (fresh)
        ident_fresh(in);
    if ((err = net_apply(in, r, f)) < 0)
        return err;
    /* The host's proxy may have kept its end of a connection over a suspend; in a new run,
     * at another address, or after a way back in time, nobody has. */
    memcpy(gateway, in->net.gateway, 4);
    upstreams_restored(in, fresh || cut);
    bool keep = !fresh && !cut && memcmp(ip, in->net.ip, 4) == 0;
    int count = tcp_abort(&in->net, keep ? gateway : NULL);
    if (count < 0)
        return fail_sys(f, -count, "end the old TCP connections");
    put_text(in, r, GP_T_VM_ID, IDENT_VM_ID);
    put_text(in, r, GP_T_ENDPOINT, IDENT_ENDPOINT);
    char text[24];
    text_put(text, sizeof(text), "%llu\n", (unsigned long long)generation);
    ident_put(in, IDENT_GENERATION, text); /* last: who is told by inotify finds all in place */
    return 0;
}

void restore_request(struct init *in, const struct req *r)
{
    struct fail f = {.num = 0};
    int err = restored(in, r, &f);
    /* The reply is on its way before the application competes for the processor; whatever the
     * host asks next is read after the thaw. */
    ctl_fail(in, r->id, &f);
    if (err == 0 && thaw(in) < 0)
        complain("cannot thaw the application");
    logs_stream_up(&in->logs); /* what was not acknowledged may be lost with the old host end */
}
