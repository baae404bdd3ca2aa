#!/bin/sh
# What every container of Airflow begins with: the registry's connection, once `evc registry init` has made it.
set -eu
connection=$AIRFLOW__EVC__REGISTRY_FOLDER/connection.json
if [ -r "$connection" ]; then
    AIRFLOW_CONN_EVC_REGISTRY=$(cat "$connection")
    export AIRFLOW_CONN_EVC_REGISTRY
fi
exec "$@"
