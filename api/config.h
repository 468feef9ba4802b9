// SPDX-License-Identifier: Apache-2.0
/*
 * dormoused's settings: defaults, then a file of `name = value` lines, then the
 * command line. One table says what exists; --help is made from it.
 */
#ifndef DORMOUSE_API_CONFIG_H
#define DORMOUSE_API_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"

#define CONFIG_FILE "/etc/dormouse/dormoused.conf"

struct config {
    char state[512], run[512], snapshot_key[512], bases[512], kernel[512], initrd[512],
        vmm[512], nft[512];
    char listen[64];
    char region[64], account[16], domain[128];
    char tls_cert[512], tls_key[512]; /* "": our own CA */
    char tls_client_ca[512];          /* "": clients need no certificate */
    char tls_names[512];              /* more names for our certificate, commas between */
    char log_level[8];
    uint64_t port, public_port; /* public_port 0: the one listened on */
    uint64_t max_conns, vm_requests;
    uint64_t artifact_quota_mib, artifact_max_mib;
    uint64_t checkpoint_max, checkpoint_vm_mib, checkpoint_quota_mib;
    uint64_t disk_layers;              /* frozen ones that are not joined in the background */
    uint64_t max_duration_s;           /* of a microVM's life; 0: no limit */
    uint64_t max_running;              /* microVMs at once; 0: as many as fit */
    uint64_t api_rate, api_operations; /* per second, at once; 0: no limit */
    uint64_t drift_percent;            /* of a working set; 0: never recorded again */
    uint64_t api_uid;
    uint64_t working_sets; /* enum fleet_worksets */
};

enum config_action { CONFIG_RUN, CONFIG_HELP, CONFIG_VERSION };

/* Fills in all settings. -EINVAL with a sentence that names the setting. */
int config_load(struct config *c, int argc, char **argv, enum config_action *ret,
                struct err *e);
/* The text of --help; malloc'd. */
char *config_help(void);

#endif
