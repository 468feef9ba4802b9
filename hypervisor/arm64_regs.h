// SPDX-License-Identifier: Apache-2.0
/*
 * All registers of a vCPU through KVM_GET/SET_ONE_REG. A fresh vCPU's values
 * are read once, before the jail; restoring writes only what differs from them.
 */
#ifndef DORMOUSE_ARM64_REGS_H
#define DORMOUSE_ARM64_REGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define REGS_MAX       640u
#define REGS_BYTES_MAX 32768u

struct vcpu;
struct dstate_reader;
struct dstate_writer;

/* Host facts that a snapshot must meet again. */
struct host_facts {
    uint64_t midr;
    uint64_t cntfrq;
    uint64_t fingerprint; /* of the register list and the ID registers */
};

struct regs {
    struct host_facts facts;
    unsigned n;
    uint32_t len;
    uint16_t at[REGS_MAX + 1];     /* where each is in `fresh` */
    uint8_t fresh[REGS_BYTES_MAX]; /* each id and value, as in a snapshot */
};

int regs_probe(struct regs *regs, struct vcpu *v, struct err *e);
int regs_counter_get(struct vcpu *v, uint64_t *ret, struct err *e);
int regs_counter_set(struct vcpu *v, uint64_t counter, struct err *e);

/* Fields of the vCPU's block; the counter is the machine's, not among them. */
int regs_save(const struct regs *regs, struct vcpu *v, struct dstate_writer *w, struct err *e);
int regs_load(const struct regs *regs, struct vcpu *v, struct dstate_reader *r, struct err *e);
/* Whether it is on, which other vCPUs can ask for and change. */
int regs_load_power(struct vcpu *v, struct dstate_reader *r, bool *ret_on, struct err *e);

#endif
