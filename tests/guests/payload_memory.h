// SPDX-License-Identifier: Apache-2.0
/* Verbs of payload.c that use up memory. */
#ifndef DORMOUSE_TESTS_PAYLOAD_MEMORY_H
#define DORMOUSE_TESTS_PAYLOAD_MEMORY_H

/* memhog [MB]: takes that much, or all there is, and writes to it. */
int verb_memhog(int argc, char **argv);
/* pressure PROCS MB FILE FILE_MB ROUNDS: that many processes of MB each, whose pages have
 * numbers that must still be there when all were written, while another writes FILE and reads
 * it. */
int verb_pressure(int argc, char **argv);

#endif
