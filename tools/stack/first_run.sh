#!/bin/sh
# Switch on the DAGs that have a schedule, once: what is switched off later stays off.
set -eu
done=$AIRFLOW__EVC__STATE_FOLDER/.switched-on
[ ! -e "$done" ] || exit 0
wanted='collect_telemetry|locate_nodes|reconcile_fleet|collect_results|sync_registry|maintain_metrics'
tries=0
until [ "$(airflow dags list --output plain | grep -cE "^($wanted)[[:space:]]")" -eq 6 ]; do
    tries=$((tries + 1))
    if [ $tries -eq 10 ]; then
        echo 'Airflow does not list the DAGs that have a schedule; what it could not import:' >&2
        airflow dags list-import-errors --output plain >&2
        exit 1
    fi
    sleep 3
done
airflow dags unpause --yes --treat-dag-id-as-regex "^($wanted)\$" >/dev/null
: >"$done"
