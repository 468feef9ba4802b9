// SPDX-License-Identifier: Apache-2.0
/*
 * The hostile guest: a bare-metal arm64 program that plays a driver and a kernel which do what
 * they must not. `verb=NAME` on its command line chooses one of the verbs of hostile_main.c.
 * A verb ends in a power-off after the line "held" (the VMM and the device behaved), or after
 * "broken: WHY"; or it goes on for ever after the line "holding", for the driver of the test
 * (tests/vm/hostile_drive.c) to look at.
 */
#ifndef DORMOUSE_GUESTS_HOSTILE_H
#define DORMOUSE_GUESTS_HOSTILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As in hypervisor/mem.h: this guest knows its machine. */
#define RAM_BASE  0x40000000ull
#define RAM_SIZE  (128ull << 20)
#define RAM_END   (RAM_BASE + RAM_SIZE)
#define VMGENID   (RAM_BASE + 0x1000)
#define GICD      0x08000000ull
#define GICR      0x080a0000ull
#define UART      0x09000000ull
#define RTC       0x09010000ull
#define VIRTIO(n) (0x0a000000ull + (n)*0x1000ull)
#define PLAIN(a)  ((a) + (64ull << 30)) /* the same devices, unaligned accesses allowed */
#define NOWHERE   (65ull << 30)         /* beyond what the machine can address */

/* The devices that the test gives it, in slots. */
enum { DISK, NET, VSOCK, RNG, BALLOON, SLOTS };

/* ---- the CPU: hostile_start.S, hostile_lib.c -------------------------------------------- */

struct cpu_state {
    uint64_t resume, faults, esr, far, sp, pad[3];
};
extern struct cpu_state cpu_states[16];
extern uint64_t page_table[512];

void secondary_entry(void);
void call_and_return(uintptr_t function);
uint64_t hvc4(uint64_t function, uint64_t a, uint64_t b, uint64_t c);
uint64_t smc4(uint64_t function, uint64_t a, uint64_t b, uint64_t c);
uint64_t faults(void); /* of this CPU, so far */
uint64_t now(void);    /* ticks */
uint64_t ticks_per_s(void);
void power_off(void) __attribute__((noreturn));
/* Runs work(cpu) on another CPU. */
bool start_cpu(unsigned cpu, void (*work)(unsigned cpu));
uint32_t rnd(void);

void print(const char *s);
void print_hex(uint64_t v);
void held(void) __attribute__((noreturn));
void broken(const char *why) __attribute__((noreturn));
#define MUST(cond, why) ((cond) ? (void)0 : broken(why))
/* "holding": the test may look now. */
void holding(void);

static inline void fence(void)
{
    __asm__ volatile("dsb sy" ::: "memory");
}
#define ACCESSORS(bits, suffix, reg)                                                     \
    static inline uint##bits##_t read##bits(uint64_t a)                                  \
    {                                                                                    \
        uint64_t v;                                                                      \
        __asm__ volatile("ldr" suffix " %" reg "0, [%1]" : "=r"(v) : "r"(a) : "memory"); \
        return (uint##bits##_t)v;                                                        \
    }                                                                                    \
    static inline void write##bits(uint64_t a, uint##bits##_t v)                         \
    {                                                                                    \
        __asm__ volatile("str" suffix " %" reg "0, [%1]"                                 \
                         :                                                               \
                         : "r"((uint64_t)v), "r"(a)                                      \
                         : "memory");                                                    \
    }
ACCESSORS(8, "b", "w")
ACCESSORS(16, "h", "w")
ACCESSORS(32, "", "w")
ACCESSORS(64, "", "x")

/* ---- a virtio driver: hostile_virtio.c --------------------------------------------------- */

enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };
enum { ACK = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 64, FAILED = 128 };
enum {
    R_MAGIC = 0x000,
    R_ID = 0x008,
    R_FEATURES = 0x010,
    R_FEATURES_SEL = 0x014,
    R_ACCEPT = 0x020,
    R_ACCEPT_SEL = 0x024,
    R_QUEUE_SEL = 0x030,
    R_QUEUE_MAX = 0x034,
    R_QUEUE_NUM = 0x038,
    R_QUEUE_READY = 0x044,
    R_NOTIFY = 0x050,
    R_ISR = 0x060,
    R_ISR_ACK = 0x064,
    R_STATUS = 0x070,
    R_DESC = 0x080,
    R_AVAIL = 0x090,
    R_USED = 0x0a0,
    R_CONFIG = 0x100,
};
#define F_INDIRECT (1ull << 28)
#define F_EVENT    (1ull << 29)
#define F_VERSION1 (1ull << 32)

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};
struct used_elem {
    uint32_t id, len;
};
#define QMAX 256u
struct queue {
    _Alignas(4096) struct desc desc[QMAX];
    _Alignas(64) struct {
        uint16_t flags, idx, ring[QMAX], event;
    } avail;
    _Alignas(64) struct {
        uint16_t flags, idx;
        struct used_elem ring[QMAX];
        uint16_t event;
    } used;
    unsigned slot, index, size;
    uint16_t seen;
    bool recycled; /* used buffers are given to the device again */
};
extern struct queue queues[SLOTS][3];
extern uint8_t page_a[65536], page_b[65536]; /* scratch, page-aligned */

uint32_t reg(unsigned slot, unsigned off);
void set_reg(unsigned slot, unsigned off, uint32_t v);
void reset(unsigned slot);
/* Reset, features, queues as they are meant to be used, DRIVER_OK. */
void bring_up(unsigned slot, uint64_t features);
/* The same without DRIVER_OK. */
void prepare(unsigned slot, uint64_t features);
void set_queue(struct queue *q, unsigned size);
void put_desc(struct queue *q, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
              uint16_t next);
void publish(struct queue *q, uint16_t head);
void notify(const struct queue *q);
/* Waits until the device has used `idx` or needs a reset; true when it used it. */
bool wait_used(struct queue *q, uint16_t idx);
/* The device shall refuse what it was just given: ask for a reset, or hand it back as is. */
void expect_refusal(struct queue *q);
void expect_broken(struct queue *q);
/* From a reset on, an ordinary request is served. */
void works(unsigned slot);
void all_work(void);
/* One block request in descriptors 0..2. */
void blk_request(struct queue *q, uint32_t type, uint64_t sector, uint64_t data, uint32_t len);
bool vsock_send(struct queue *q, uint64_t src, uint64_t dst, uint32_t src_port,
                uint32_t dst_port, uint32_t len, uint16_t type, uint16_t op, uint32_t real_len);

struct verb {
    const char *name;
    void (*run)(void);
};
extern const struct verb virtio_verbs[], device_verbs[], cpu_verbs[];

#endif
