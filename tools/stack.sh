#!/bin/sh
# The stack of docker-compose.yaml, from the project's folder: tools/stack.sh up | down | airflow ... | evc ...
set -eu
umask 077

say() { printf 'stack: %s\n' "$*"; }
fail() { printf 'stack: %s\n' "$*" >&2; exit 1; }

if docker compose version >/dev/null 2>&1; then
    compose() { docker compose "$@"; }
elif command -v docker-compose >/dev/null; then
    # its other way to build asks the docker command for BuildKit, which that may lack
    compose() { COMPOSE_DOCKER_CLI_BUILD=0 docker-compose "$@"; }
else
    fail 'neither "docker compose" nor docker-compose is here: apt install docker-compose, or docker-compose-plugin'
fi

secret() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n'; }

# keep NAME VALUE: what .env does not say yet
keep() { grep -q "^$1=" .env.new || printf '%s=%s\n' "$1" "$2" >>.env.new; }

write_env() {
    rm -f .env.new
    if [ -e .env ]; then
        cat .env >.env.new
    else
        printf '# Settings and secrets of the stack; docs/stack.md says what more may stand here.\n' >.env.new
    fi
    keep COMPOSE_PROJECT_NAME evc
    keep COMPOSE_PROFILES grafana
    keep EVC_ADDRESS "$(hostname -I 2>/dev/null | awk '{ print $1 }')"
    keep EVC_NODES_LOGIN edge
    for name in METADATA_PASSWORD METRICS_PASSWORD GRAFANA_DATABASE_PASSWORD ADMIN_PASSWORD GRAFANA_ADMIN_PASSWORD \
        GRAFANA_SECRET API_SECRET JWT_SECRET; do
        keep "EVC_$name" "$(secret | tr -d =)"
    done
    keep EVC_FERNET_KEY "$(secret)"
    if cmp -s .env.new .env; then
        rm .env.new
        chmod 600 .env
    else
        [ -e .env ] || say 'wrote .env, with fresh secrets: keep a copy of it in a safe place'
        mv .env.new .env
    fi
}

# value NAME DEFAULT: what .env says
value() { sed -n "s/^$1=//p" .env | tail -n 1 | grep . || echo "$2"; }

# a line for each container that does not do what it should: name, state, exit status, health
unwell() {
    compose ps -q | xargs -r docker inspect --format \
        '{{.Name}} {{.State.Status}} {{.State.ExitCode}} {{if .State.Health}}{{.State.Health.Status}}{{end}}' |
        sed 's#^/##' | grep -vE ' running 0 (healthy)?$| exited 0 $' || true
}

# give up, with the last words of those that are unwell
give_up() {
    unwell | while read -r name state; do
        printf '%s: %s\n' "$name" "$state"
        docker logs --tail 8 "$name" 2>&1 | sed 's/^/    /'
    done >&2
    fail "$1"
}

up() {
    write_env
    say 'building the image of Airflow'
    compose build --quiet init
    compose up --detach --remove-orphans || give_up 'it did not start'
    waited=0
    while [ -n "$(unwell)" ]; do
        waited=$((waited + 3))
        [ $waited -lt 300 ] || give_up 'not everything is healthy after 300 s'
        sleep 3
    done
    compose exec -T scheduler tools/stack/entry.sh tools/stack/first_run.sh
    tell
}

tell() {
    listen=$(value EVC_LISTEN 127.0.0.1) address=$(value EVC_ADDRESS localhost)
    say "Airflow   $(value EVC_AIRFLOW_URL "http://$listen:$(value EVC_AIRFLOW_PORT 8080)"), user admin, password EVC_ADMIN_PASSWORD in .env"
    case ,$(value COMPOSE_PROFILES ''), in *,grafana,*)
        say "Grafana   $(value EVC_GRAFANA_URL "http://$listen:$(value EVC_GRAFANA_PORT 3000)"), user admin, password EVC_GRAFANA_ADMIN_PASSWORD in .env" ;;
    esac
    say "registry  $address:$(value EVC_REGISTRY_PORT 5000) for builders, $address:$(value EVC_REGISTRY_PULL_PORT 5001) for nodes"
    say "nodes     let this key in as user $(value EVC_NODES_LOGIN edge), in ~/.ssh/authorized_keys:"
    compose exec -T scheduler cat /var/lib/evc/id_ed25519.pub
    say 'then trigger register_node, in Airflow or by: tools/stack.sh airflow dags trigger register_node --conf ...'
}

inside() {
    [ -e .env ] || fail 'there is no .env: make up was never run here'
    [ -t 0 ] && [ -t 1 ] && terminal= || terminal=-T
    # shellcheck disable=SC2086  # none, where there is a terminal
    compose exec $terminal scheduler tools/stack/entry.sh "$@"
}

down() {
    [ -e .env ] || fail 'there is no .env: make up was never run here'
    compose down --remove-orphans
    say 'ended; data stay in volumes, .env belongs to them'
}

case ${1:-} in
up | down) "$1" ;;
airflow | evc) inside "$@" ;;
*) fail 'tools/stack.sh up | down | airflow ... | evc ...' ;;
esac
