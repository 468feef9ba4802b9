#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs inside the emulated host: dormoused as the appliance runs it, an image built by the command
# line tool, then the client that measures. Called by inside.sh: daemon-inside.sh RUNS RESULTS.
# shellcheck disable=SC3045 # busybox has ulimit -n
set -eu
state=/var/lib/dormouse
runs=$1 results=$2

ulimit -n 65536
# In memory: while a disk of the emulated machine works, its clock does not count instructions.
mount -t tmpfs -o mode=0755,size=60% none $state
dormoused --listen 127.0.0.1:8443 </dev/null >/bench/dormoused.log 2>&1 &
daemon=$!
until [ -e /run/dormouse/ready ]; do
    kill -0 $daemon 2>/dev/null || {
        tail -n 5 /bench/dormoused.log
        exit 1
    }
    usleep 20000
done
set -a
# shellcheck disable=SC1091 # made by dormoused
. $state/bootstrap.env
set +a
export DORMOUSE_URL=https://localhost:8443 AWS_CA_BUNDLE=$state/ca.pem
mkdir -p /bench/app
cp /bench/payload /bench/app/payload
chmod 755 /bench/app/payload
printf 'FROM dormouse/debian\nCOPY payload /payload\nEXPOSE 8080\nCMD ["/payload", "http", "8080"]\n' \
    >/bench/app/Dockerfile
status=0
/bench/dormouse build --name bench --quiet /bench/app || status=$?
[ $status -ne 0 ] || /bench/daemon bench "$runs" /bench/dormoused.log "$results" || status=$?
grep -E ' (started|resumed|suspended) in ' /bench/dormoused.log | tail -n 6 | sed 's/^/# /'
[ $status -eq 0 ] || tail -n 20 /bench/dormoused.log | sed 's/^/# /'
kill -TERM $daemon
wait $daemon || true
exit $status
