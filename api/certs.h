// SPDX-License-Identifier: Apache-2.0
/*
 * Where the server's certificate comes from: the operator's files, or an own CA
 * in <state>/ca, which is root's alone. The parent role makes and renews what is
 * there; the api role, which the network reaches, gets the server's certificate
 * and key as descriptors and never sees the CA's key.
 */
#ifndef DORMOUSE_API_CERTS_H
#define DORMOUSE_API_CERTS_H

#include "config.h"

#define CERTS_PATH 640

/* Paths of certificate and key, whichever are used. */
void certs_paths(const struct config *c, char cert[CERTS_PATH], char key[CERTS_PATH]);
/* As root, at the start and twice a day: nothing is done when the operator has given
 * certificates. A CA of an earlier release, whose key the api role could read, is moved. */
int certs_ensure(const struct config *c, bool *ret_renewed, struct err *e);

#endif
