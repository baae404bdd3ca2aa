# Airflow with EVC in it, what docker-compose.yaml runs. It needs no BuildKit.
#
# PYTHON_IMAGE names another base: any Debian with Python 3.11 to 3.13 and its venv module. What that has already (an ssh
# client, authorities to trust, settings of pip and uv) is used as it is.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS packages
WORKDIR /opt/evc
# uv itself is of the version and the hash that the lock says
COPY requirements.lock pyproject.toml ./
RUN python3 -m venv /opt/uv && \
    awk '/^uv==/ { take = 1 } take { print } take && !/\\$/ { exit }' requirements.lock >uv.lock && \
    /opt/uv/bin/pip install --quiet --no-cache-dir --require-hashes --no-deps -r uv.lock
# what EVC runs with, and nothing that only its tests need: versions and hashes are the lock's
RUN python3 -m venv --without-pip /opt/venv && \
    /opt/uv/bin/uv pip install --quiet --no-cache --compile-bytecode --python /opt/venv \
        --constraint requirements.lock -r pyproject.toml
COPY README.md LICENSE ./
COPY plugins plugins
RUN /opt/uv/bin/uv pip install --quiet --no-cache --python /opt/venv --build-constraint requirements.lock \
        --no-deps --editable .
# a checkout of a careful user may be closed to all others, EVC is one of them
COPY . .
RUN chmod -R a+rX .

FROM ${PYTHON_IMAGE}
# Ansible's way to a node
RUN command -v ssh-keygen >/dev/null || { \
        apt-get update -qq && apt-get install -y -qq --no-install-recommends openssh-client && \
        rm -rf /var/lib/apt/lists/*; }
# a volume takes owner and mode of the folder on which it is mounted first
RUN groupadd --gid 50000 evc && useradd --uid 50000 --gid evc --create-home --shell /bin/sh evc && \
    install -d -o evc -g evc -m 700 /var/lib/evc /var/log/evc /srv/registry
COPY --from=packages /opt/venv /opt/venv
WORKDIR /opt/evc
COPY --from=packages /opt/evc /opt/evc
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/evc/config \
    PYTHONUNBUFFERED=1 \
    PYTHONWARNINGS=ignore \
    AIRFLOW_HOME=/home/evc/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/evc/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/evc/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__LOGGING__BASE_LOG_FOLDER=/var/log/evc \
    AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY=/var/log/evc/dag_processor \
    AIRFLOW__EVC__STATE_FOLDER=/var/lib/evc \
    AIRFLOW__EVC__REGISTRY_FOLDER=/srv/registry
USER evc
ENTRYPOINT ["tools/stack/entry.sh"]
CMD ["airflow", "version"]
