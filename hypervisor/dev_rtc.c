// SPDX-License-Identifier: Apache-2.0
/*
 * PL031 (ARM DDI 0224). The guest reads the host's wall clock, so that a
 * restored guest sees the time of today; it may set its own clock, which is an
 * offset. No alarm, hence no interrupt and no state worth saving: a clock the
 * guest had set is the host's again after a restore.
 */
#include "dev_rtc.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "arm64_fdt.h"
#include "base/mem.h"
#include "debug/trace.h"

enum { REG_DR = 0x00, REG_LR = 0x08, REG_CR = 0x0c, REG_ID = 0xfe0 };

struct rtc {
    struct dev dev;
    _Atomic uint32_t offset;
};

static uint32_t host_seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint32_t)ts.tv_sec;
}

static uint64_t rtc_read(void *ctx, uint64_t off, unsigned len)
{
    static const uint8_t id[8] = {0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1};
    struct rtc *r = ctx;
    (void)len;
    if (off >= REG_ID && off < REG_ID + 32)
        return id[(off - REG_ID) / 4];
    switch (off) {
    case REG_DR:
    case REG_LR:
        return host_seconds() + r->offset;
    case REG_CR:
        return 1; /* always on */
    default:
        return 0;
    }
}

static void rtc_write(void *ctx, uint64_t off, unsigned len, uint64_t val)
{
    struct rtc *r = ctx;
    (void)len;
    if (off == REG_LR)
        r->offset = (uint32_t)val - host_seconds();
}

static int rtc_fdt(struct dev *d, void *fdt, struct err *e)
{
    static const char compatible[] = "arm,pl031\0arm,primecell";
    (void)d;
    return fdt_primecell(fdt, "pl031", compatible, sizeof compatible, MAP_RTC, SPI_RTC, e);
}

static const struct dev_ops rtc_ops = {.name = "pl031", .fdt = rtc_fdt};

int dev_rtc_new(struct dev **ret, const struct dev_env *env, struct err *e)
{
    static const struct bus_ops bus_ops = {.read = rtc_read, .write = rtc_write};
    struct rtc *r = calloc(1, sizeof *r);
    if (!r)
        return err_sys(e, ENOMEM, "make the clock");
    r->dev.ops = &rtc_ops;
    r->dev.env = *env;
    trace_device(rtc_ops.name, MAP_RTC, 0x1000, SPI_RTC);
    *ret = &r->dev;
    return bus_map(env->bus, MAP_RTC, 0x1000, &bus_ops, r, e);
}
