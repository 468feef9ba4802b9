// SPDX-License-Identifier: Apache-2.0
/*
 * PL011 (ARM DDI 0183). Registers are touched by vCPU threads under the lock.
 * Transmission is instant, so the transmit FIFO is always empty. What the guest
 * prints goes to a bounded log (base/linelog.h).
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../snapshot/devstate.h"
#include "../snapshot/snapstate.h"
#include "base/linelog.h"
#include "base/mem.h"
#include "devices.h"

#define RX_BYTES 64u
#ifndef CONSOLE_LIMIT /* a test of the limit sets a small one */
#define CONSOLE_LIMIT (1ull << 20)
#endif

enum {
    REG_DR = 0x00,
    REG_FR = 0x18,
    REG_IBRD = 0x24,
    REG_FBRD = 0x28,
    REG_LCR_H = 0x2c,
    REG_CR = 0x30,
    REG_IFLS = 0x34,
    REG_IMSC = 0x38,
    REG_RIS = 0x3c,
    REG_MIS = 0x40,
    REG_ICR = 0x44,
    REG_ID = 0xfe0,
};
#define FR_TXFE (1u << 7)
#define FR_RXFF (1u << 6)
#define FR_RXFE (1u << 4)
#define INT_RX  (1u << 4)
#define INT_TX  (1u << 5)
#define INT_ALL 0x7ffu

struct uart {
    struct dev dev;
    int input_fd;
    struct ring_op input;
    pthread_mutex_t lock;
    uint32_t imsc, ris, cr, lcr_h, ifls;
    uint32_t baud; /* IBRD << 16 | FBRD */
    bool raised;
    uint8_t rx[RX_BYTES];
    unsigned rx_head, rx_len;
    struct linelog log;
};

static const struct dstate_field fields[] = {
    DSTATE_FIELD(1, struct uart, imsc), DSTATE_FIELD(2, struct uart, ris),
    DSTATE_FIELD(3, struct uart, cr),   DSTATE_FIELD(4, struct uart, lcr_h),
    DSTATE_FIELD(5, struct uart, ifls), DSTATE_FIELD(6, struct uart, baud),
};

static struct uart *uart_of(struct dev *d)
{
    return container_of(d, struct uart, dev);
}

/* The line is an edge: raise it whenever it goes from low to high, and again after the guest
 * has dealt with a part of what was pending. */
static void update_irq(struct uart *u, bool again)
{
    bool level = (u->ris & u->imsc) != 0;
    if (level && (!u->raised || again))
        dev_interrupt(&u->dev);
    u->raised = level;
}

static uint32_t read_data(struct uart *u)
{
    uint32_t v = 0;
    if (u->rx_len) {
        v = u->rx[u->rx_head];
        if (u->rx_len == RX_BYTES)
            ring_kick(u->dev.env.ring); /* there is room to read more */
        u->rx_head = (u->rx_head + 1) % RX_BYTES;
        if (--u->rx_len == 0)
            u->ris &= ~INT_RX;
        update_irq(u, false);
    }
    return v;
}

static uint32_t read_reg(struct uart *u, uint64_t off)
{
    static const uint8_t id[8] = {0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1};
    if (off >= REG_ID)
        return id[(off - REG_ID) / 4 % ARRAY_LEN(id)];
    switch (off) {
    case REG_DR:
        return read_data(u);
    case REG_FR:
        return FR_TXFE | (u->rx_len == 0 ? FR_RXFE : 0) | (u->rx_len == RX_BYTES ? FR_RXFF : 0);
    case REG_IBRD:
        return u->baud >> 16;
    case REG_FBRD:
        return u->baud & 0x3f;
    case REG_LCR_H:
        return u->lcr_h;
    case REG_CR:
        return u->cr;
    case REG_IFLS:
        return u->ifls;
    case REG_IMSC:
        return u->imsc;
    case REG_RIS:
        return u->ris;
    case REG_MIS:
        return u->ris & u->imsc;
    default:
        return 0;
    }
}

static void write_reg(struct uart *u, uint64_t off, uint32_t v)
{
    switch (off) {
    case REG_DR:
        linelog_put(&u->log, (char)v);
        u->ris |= INT_TX;
        update_irq(u, false);
        break;
    case REG_IBRD:
        u->baud = (v << 16) | (u->baud & 0x3f);
        break;
    case REG_FBRD:
        u->baud = (u->baud & 0xffff0000) | (v & 0x3f);
        break;
    case REG_LCR_H:
        u->lcr_h = v & 0xff;
        break;
    case REG_CR:
        u->cr = v & 0xffff;
        break;
    case REG_IFLS:
        u->ifls = v & 0x3f;
        break;
    case REG_IMSC:
        u->imsc = v & INT_ALL;
        update_irq(u, true);
        break;
    case REG_ICR:
        u->ris &= ~v;
        if (u->rx_len)
            u->ris |= INT_RX;
        update_irq(u, true);
        break;
    default:
        break;
    }
}

static uint64_t uart_read(struct dev *d, uint64_t off, unsigned size)
{
    struct uart *u = uart_of(d);
    (void)size;
    pthread_mutex_lock(&u->lock);
    uint32_t v = read_reg(u, off);
    pthread_mutex_unlock(&u->lock);
    return v;
}

static bool uart_write(struct dev *d, uint64_t off, unsigned size, uint64_t val)
{
    struct uart *u = uart_of(d);
    (void)size;
    pthread_mutex_lock(&u->lock);
    write_reg(u, off, (uint32_t)val);
    pthread_mutex_unlock(&u->lock);
    return true;
}

static void wait_input(struct dev *d)
{
    struct uart *u = uart_of(d);
    if (u->input_fd >= 0 && !u->input.armed && u->rx_len < RX_BYTES)
        ring_poll(d->env.ring, &u->input, u->input_fd, POLLIN);
}

static void input_done(struct ring_op *op, int res)
{
    struct uart *u = container_of(op, struct uart, input);
    uint8_t buf[RX_BYTES];
    pthread_mutex_lock(&u->lock);
    ssize_t n = res < 0 ? 0 : read(u->input_fd, buf, RX_BYTES - u->rx_len);
    for (ssize_t i = 0; i < n; i++)
        u->rx[(u->rx_head + u->rx_len++) % RX_BYTES] = buf[i];
    if (n > 0) {
        u->ris |= INT_RX;
        update_irq(u, true);
    } else {
        u->input_fd = -1; /* end of input */
    }
    pthread_mutex_unlock(&u->lock);
    wait_input(&u->dev);
}

static int uart_start(struct dev *d, struct err *e)
{
    (void)e;
    wait_input(d);
    return 0;
}

static int uart_save(struct dev *d, struct dstate_writer *w, struct err *e)
{
    struct uart *u = uart_of(d);
    (void)e;
    dw_fields(w, fields, ARRAY_LEN(fields), u);
    return 0;
}

static int uart_load(struct dev *d, struct dstate_reader *r, struct err *e)
{
    struct uart *u = uart_of(d);
    int res = dr_fields(r, fields, ARRAY_LEN(fields), u, e);
    if (res < 0)
        return res;
    u->imsc &= INT_ALL;
    u->ris &= INT_ALL & ~INT_RX;
    /* The injection may have been under way when the GIC was saved. */
    u->raised = false;
    update_irq(u, true);
    return 0;
}

void dev_uart_flush(struct dev *d, char *tail, size_t size)
{
    struct uart *u = uart_of(d);
    pthread_mutex_lock(&u->lock);
    linelog_flush(&u->log);
    if (tail)
        linelog_tail(&u->log, tail, size);
    pthread_mutex_unlock(&u->lock);
}

static int uart_make(struct dev *d, struct dev_order *o, struct err *e)
{
    const struct machine_hooks *h = o->hooks;
    struct uart *u = uart_of(d);
    (void)e;
    u->input_fd = h->input_fd;
    u->log = (struct linelog){.fd = take_fd(&o->fds->console),
                              .limit = h->interactive ? 0 : CONSOLE_LIMIT,
                              .direct = h->interactive,
                              .watch = h->watch,
                              .seen = h->seen,
                              .seen_ctx = h->ctx};
    u->cr = 0x300;
    u->ifls = 0x12;
    u->input.done = input_done;
    pthread_mutex_init(&u->lock, NULL);
    return 0;
}

const struct dev_ops dev_uart_ops = {
    .name = "pl011",
    .tag = SNAP_TAG_UART,
    .size = sizeof(struct uart),
    .base = MAP_UART,
    .len = MAP_DEV_LEN,
    .spi = SPI_UART,
    DEV_NODE("pl011", "arm,pl011\0arm,primecell"),
    .periphid = 0x00141011,
    .make = uart_make,
    .read = uart_read,
    .write = uart_write,
    .start = uart_start,
    .kicked = wait_input,
    .save = uart_save,
    .load = uart_load,
};
