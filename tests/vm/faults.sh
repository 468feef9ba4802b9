#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs inside the emulated host: what the daemon under faults needs, then fault_drive with the
# cases named. The end of the daemon's log is shown when something failed.
# shellcheck disable=SC3045 # busybox has ulimit -n
set -eu
ulimit -n 65536
mkdir -p /tests/app
cp /tests/payload /tests/app/payload
chmod 755 /tests/app/payload
cat >/tests/app/Dockerfile <<'END'
FROM dormouse/debian
COPY payload /payload
EXPOSE 8080
CMD ["/payload", "count", "8080"]
END
status=0
/tests/fault_drive /tests/app "$@" || status=$?
[ $status -eq 0 ] || tail -n "${LOG_LINES:-60}" /tmp/dormoused.log | sed 's/^/# /'
exit $status
