// SPDX-License-Identifier: Apache-2.0
/* Offsets in a snapshot's header page (docs/snapshot-format.md), for its reader and writer. */
#ifndef DORMOUSE_SNAPSHOT_SNAPFILE_LAYOUT_H
#define DORMOUSE_SNAPSHOT_SNAPFILE_LAYOUT_H

#define SNAP_MAGIC    "DORMSNAP"
#define SECTION_BYTES 24u

enum {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_ID = 16,
    AT_PARENT = 32,
    AT_MEM_BASE = 48,
    AT_MEM_BYTES = 56,
    AT_VCPUS = 64,
    AT_GIC = 68,
    AT_MIDR = 72,
    AT_CNTFRQ = 80,
    AT_FINGERPRINT = 88,
    AT_DATA_OFF = 96,
    AT_DATA_LEN = 104,
    AT_PAGES_STORED = 112,
    AT_PAGES_ZERO = 120,
    AT_FILE_LEN = 128,
    AT_NSECTIONS = 136,
    AT_SECTIONS = 144,
    AT_LAYER_ID = 336, /* SNAP_LAYER_ID bytes */
    AT_LAYER_OFF = 368,
    AT_LAYER_LEN = 376,
    AT_LAYER_OWN = 384,
    AT_SEAL = 4056, /* SNAP_SEAL bytes */
    AT_HEADER_CRC = 4092,
};

#endif
