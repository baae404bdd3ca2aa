#!/bin/sh
# The stack of docker-compose.yaml: tools/stack.sh up | down | airflow ... | evc ...
set -eu
umask 077
CDPATH='' cd -- "$(dirname -- "$0")/.."

say() { printf 'stack: %s\n' "$*"; }
fail() { printf 'stack: %s\n' "$*" >&2; exit 1; }

# -- .env --------------------------------------------------------------------------------------------------------------

secret() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n'; }

# value NAME DEFAULT: what the environment says, which wins as it does for compose, else .env
value() { printenv "$1" || sed -n "s/^$1=//p" .env 2>/dev/null | tail -n 1 | grep . || echo "$2"; }

# keep NAME VALUE: what .env does not say yet
keep() { grep -q "^$1=" .env.new || printf '%s=%s\n' "$1" "$(printenv "$1" || echo "$2")" >>.env.new; }

secrets='METADATA_PASSWORD METRICS_PASSWORD GRAFANA_DATABASE_PASSWORD ADMIN_PASSWORD GRAFANA_ADMIN_PASSWORD GRAFANA_SECRET
    API_SECRET JWT_SECRET'

write_env() {
    rm -f .env.new
    if [ -e .env ]; then
        awk 1 .env >.env.new # the last line may lack its end
    else
        printf '# Settings and secrets of the stack; docs/stack.md says what more may stand here.\n' >.env.new
    fi
    keep COMPOSE_PROJECT_NAME evc
    keep COMPOSE_PROFILES grafana
    keep EVC_ADDRESS "$(hostname -I 2>/dev/null | awk '{ for (i = 1; i <= NF; i++) if ($i !~ /:/) { print $i; exit } }')"
    keep EVC_NODES_LOGIN edge
    project=$(sed -n 's/^COMPOSE_PROJECT_NAME=//p' .env.new | tail -n 1)
    if ! grep -q '^EVC_METADATA_PASSWORD=' .env.new && docker volume inspect "${project}_metadata" >/dev/null 2>&1; then
        rm .env.new
        fail "the data of a stack \"$project\" are here, but not its .env: put that back, or see docs/stack.md, Care"
    fi
    for name in $secrets; do
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

# Compose, URLs and JSON each read other characters in their own way
check_env() {
    [ -n "$(value EVC_ADDRESS '')" ] || fail 'EVC_ADDRESS in .env is empty: the name or address by which nodes reach this machine'
    for name in $secrets FERNET_KEY; do
        value "EVC_$name" '' | grep -qxE '[A-Za-z0-9_=-]+' || fail "EVC_$name in .env: only letters, digits, _, - and = are allowed"
    done
    value EVC_NODES_LOGIN edge | grep -qxE '[A-Za-z0-9._-]+' || fail 'EVC_NODES_LOGIN in .env: only letters, digits, ., _ and - are allowed'
    for name in EVC_AIRFLOW_PORT EVC_GRAFANA_PORT EVC_REGISTRY_PORT EVC_REGISTRY_PULL_PORT; do
        value "$name" 1 | grep -qxE '[1-9][0-9]{0,4}' || fail "$name in .env: only the number of a port is allowed"
    done
    for name in $(sed -n 's/^\(EVC_[A-Za-z0-9_]*\)=.*/\1/p' .env); do
        cat docker-compose*.y*ml tools/stack.sh | grep -qw "$name" || fail "$name in .env is no setting; docs/stack.md lists those that are"
    done
    include=$(value EVC_INCLUDE ./include)
    [ -d "$include" ] || fail "EVC_INCLUDE in .env: $include is no folder"
    closed=$(find "$include" grafana \( -type d ! -perm -005 -o -type f ! -perm -004 \) -print -quit)
    [ -z "$closed" ] || fail "$closed is closed to the users of the stack: chmod -R o+rX $include grafana"
}

# what browsers are sent to follows address and port
choose_urls() {
    listen=$(value EVC_LISTEN 127.0.0.1)
    [ "$listen" != 0.0.0.0 ] || listen=$(value EVC_ADDRESS '')
    EVC_AIRFLOW_URL=$(value EVC_AIRFLOW_URL "http://$listen:$(value EVC_AIRFLOW_PORT 8080)")
    EVC_GRAFANA_URL=$(value EVC_GRAFANA_URL "http://$listen:$(value EVC_GRAFANA_PORT 3000)")
    export EVC_AIRFLOW_URL EVC_GRAFANA_URL
}

# -- containers --------------------------------------------------------------------------------------------------------

if docker compose version >/dev/null 2>&1; then
    program='docker compose'
    # without: each build has another digest, and all containers would be made anew
    compose() { BUILDX_NO_DEFAULT_ATTESTATIONS=1 docker compose "$@"; }
elif command -v docker-compose >/dev/null; then
    program=docker-compose
    # its other way to build asks the docker command for BuildKit, which that may lack
    compose() { COMPOSE_DOCKER_CLI_BUILD=0 docker-compose "$@"; }
else
    fail 'neither "docker compose" nor docker-compose is here: apt install docker-compose, or docker-compose-plugin'
fi

# before anything is written: whether there are data of an older stack only the engine knows
check_engine() {
    error=$(docker version --format '{{.Server.Version}}' 2>&1 >/dev/null) ||
        fail "no Docker Engine answers (${error:-no reason given}): start it, systemctl start docker, or set DOCKER_HOST"
}

inside() {
    [ -t 0 ] && [ -t 1 ] && terminal= || terminal=-T
    # shellcheck disable=SC2086  # none, where there is a terminal
    compose exec $terminal scheduler tools/stack/entry.sh "$@"
}

# a line for each container that does not do what it should: name, state, exit status, health
unwell() {
    compose ps --all -q | xargs -r docker inspect --format \
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

wait_until_well() {
    waited=0
    while [ -n "$(unwell)" ]; do
        waited=$((waited + 3))
        [ $waited -lt 300 ] || give_up 'not everything is healthy after 300 s'
        sleep 3
    done
}

up() {
    check_engine
    write_env
    check_env
    choose_urls
    say 'building the image of Airflow'
    compose build --quiet init || fail "the image of Airflow could not be built; to see why: $program build init"
    compose up --detach --remove-orphans || give_up 'it did not start'
    case ,$(value COMPOSE_PROFILES ''), in
    *,grafana,*) ;;
    *) COMPOSE_PROFILES=grafana compose rm --stop --force grafana >/dev/null 2>&1 || true ;;
    esac
    wait_until_well
    if ! inside python3 tools/stack/fresh.py </dev/null; then
        compose restart registry registry-pull
        wait_until_well
    fi
    inside tools/stack/first_run.sh </dev/null
    tell
}

tell() {
    address=$(value EVC_ADDRESS '')
    say "Airflow   $EVC_AIRFLOW_URL, user admin, password EVC_ADMIN_PASSWORD in .env"
    case ,$(value COMPOSE_PROFILES ''), in
    *,grafana,*) say "Grafana   $EVC_GRAFANA_URL, user admin, password EVC_GRAFANA_ADMIN_PASSWORD in .env" ;;
    esac
    say "registry  $address:$(value EVC_REGISTRY_PORT 5000) for builders, $address:$(value EVC_REGISTRY_PULL_PORT 5001) for nodes"
    say "nodes     let this key in as user $(value EVC_NODES_LOGIN edge), in ~/.ssh/authorized_keys:"
    inside cat /var/lib/evc/id_ed25519.pub </dev/null
    say 'then trigger register_node, in Airflow or by: tools/stack.sh airflow dags trigger register_node --conf ...'
}

down() {
    COMPOSE_PROFILES=grafana compose down --remove-orphans
    say 'ended; data stay in volumes, .env belongs to them'
}

case ${1:-} in
up) up ;;
down | airflow | evc)
    [ -e .env ] || fail 'there is no .env: make up was never run here'
    check_engine
    if [ "$1" = down ]; then down; else inside "$@"; fi
    ;;
*) fail "\"${1:-}\" is no command; allowed: up, down, airflow ..., evc ..." ;;
esac
