// SPDX-License-Identifier: Apache-2.0
/* PL031 real-time clock: reads the host's clock, in seconds. */
#ifndef DORMOUSE_DEV_RTC_H
#define DORMOUSE_DEV_RTC_H

#include "dev.h"

int dev_rtc_new(struct dev **ret, const struct dev_env *env, struct err *e);

#endif
