// SPDX-License-Identifier: Apache-2.0
/*
 * PL031 (ARM DDI 0224). The guest reads the host's wall clock, so that a
 * restored guest sees the time of today; it may set its own clock, which is an
 * offset. No alarm, hence no interrupt and no state worth saving: a clock the
 * guest had set is the host's again after a restore.
 */
#include <time.h>

#include "base/mem.h"
#include "devices.h"

enum { REG_DR = 0x00, REG_LR = 0x08, REG_CR = 0x0c, REG_ID = 0xfe0 };

struct rtc {
    struct dev dev;
    _Atomic uint32_t offset;
};

static uint64_t rtc_read(struct dev *d, uint64_t off, unsigned size)
{
    static const uint8_t id[8] = {0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1};
    (void)size;
    if (off == REG_DR || off == REG_LR)
        return (uint32_t)time(NULL) + container_of(d, struct rtc, dev)->offset;
    if (off >= REG_ID)
        return id[(off - REG_ID) / 4 % ARRAY_LEN(id)];
    return off == REG_CR; /* always on */
}

static bool rtc_write(struct dev *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)size;
    if (off == REG_LR)
        container_of(d, struct rtc, dev)->offset = (uint32_t)val - (uint32_t)time(NULL);
    return true;
}

const struct dev_ops dev_rtc_ops = {
    .name = "pl031",
    .size = sizeof(struct rtc),
    .base = MAP_RTC,
    .len = MAP_DEV_LEN,
    .spi = SPI_RTC,
    DEV_NODE("pl031", "arm,pl031\0arm,primecell"),
    .periphid = 0x00041031,
    .read = rtc_read,
    .write = rtc_write,
};
