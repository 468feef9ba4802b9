// SPDX-License-Identifier: Apache-2.0
/* Interrupt lines and doorbells; see irq.h. */
#include "irq.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/mem.h"
#include "debug/trace.h"
#include "kvm.h"

static int set_line(int vm_fd, unsigned spi, uint32_t level)
{
    const struct kvm_irq_level line = {.irq = KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT |
                                              (spi + 32) << KVM_ARM_IRQ_NUM_SHIFT,
                                       .level = level};
    return ioctl(vm_fd, (int)KVM_IRQ_LINE, &line);
}

int irq_open(struct irq *irq, int vm_fd, unsigned spi, struct err *e)
{
    (void)e;
    *irq = (struct irq){.fd = vm_fd, .spi = spi};
    return 0;
}

void irq_raise(struct irq *irq)
{
    /* All lines are edge-triggered: the rise is the interrupt. Down again, for a guest that
     * says otherwise. Cannot fail for an SPI that the GIC has. */
    trace_irq(irq->spi);
    set_line(irq->fd, irq->spi, 1);
    set_line(irq->fd, irq->spi, 0);
}

void irq_close(struct irq *irq)
{
    irq->fd = -1;
}

int doorbell_open(int vm_fd, uint64_t gpa, uint32_t val, int *ret_fd, struct err *e)
{
    AUTO_CLOSE int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return err_sys(e, errno, "make an eventfd");
    struct kvm_ioeventfd arg = {.datamatch = val,
                                .addr = gpa,
                                .len = 4,
                                .fd = fd,
                                .flags = KVM_IOEVENTFD_FLAG_DATAMATCH};
    int r = kvm_call(vm_fd, KVM_IOEVENTFD, &arg, e);
    if (r < 0)
        return r;
    *ret_fd = take_fd(&fd);
    return 0;
}
