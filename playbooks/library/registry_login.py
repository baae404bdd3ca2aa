#!/usr/bin/python
"""Login to a container registry in ``~/.docker/config.json``, as ``docker login`` keeps it; needs no docker client."""

from __future__ import annotations

import base64
import binascii
import json
import os
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: registry_login
short_description: Login to a container registry in the user's docker configuration
options:
  account: {type: str, required: true, description: Login name.}
  address: {type: str, description: "host:port of the registry. With state absent it may be empty."}
  password: {type: str, description: Needed with state present.}
  state:
    type: str
    choices: [present, absent]
    default: present
    description: >-
      present puts the login at the address. absent removes the logins of the account, at whatever address, no others.
  path: {type: path, default: ~/.docker/config.json, description: The configuration.}
"""
RETURN = """
addresses:
  description: >-
    With state absent: where nobody is left logged in: the addresses of the removed logins, and the one that was given
    unless another account is logged in there.
  type: list
"""


def account_of(entry):
    """Return the login name in an entry of ``auths``; None where it has none."""
    try:
        return base64.b64decode(entry["auth"]).decode().partition(":")[0]
    except (KeyError, TypeError, ValueError, binascii.Error):
        return entry.get("username") if isinstance(entry, dict) else None


def with_login(config, address, account, password):
    """Return ``config`` with the login; every other entry as it was."""
    auth = base64.b64encode(f"{account}:{password}".encode()).decode()
    return {**config, "auths": {**(config.get("auths") or {}), address: {"auth": auth}}}


def without_logins(config, account, address):
    """Return ``config`` without the logins of ``account``, and at which addresses nobody is logged in now."""
    auths = config.get("auths") or {}
    kept = {where: entry for where, entry in auths.items() if account_of(entry) != account}
    gone = [where for where in auths if where not in kept]
    if address and address not in kept and address not in gone:
        gone.append(address)
    if kept == auths:
        return config, gone
    rest = {key: value for key, value in config.items() if key != "auths"}
    return ({**rest, "auths": kept} if kept else rest), gone


def read(path):
    """Return the configuration; empty where there is none. A ``ValueError`` says what is wrong with it."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return {}
    config = json.loads(text) if text.strip() else {}
    if not isinstance(config, dict) or not isinstance(config.get("auths", {}), dict):
        raise ValueError("not an object with auths")
    return config


def write(path, config):
    """Replace the configuration at once, 0600; an empty one is removed, and its folder where that is empty then."""
    folder = os.path.dirname(path)
    if not config:
        if os.path.exists(path):
            os.remove(path)
        try:
            os.rmdir(folder)
        except OSError:
            pass  # not empty, or not there
        return
    os.makedirs(folder, mode=0o700, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".config.", dir=folder)  # 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(config, file, indent="\t")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.remove(temporary)
        raise


def main():
    """Do what the options say."""
    module = AnsibleModule(
        argument_spec={
            "account": {"type": "str", "required": True},
            "address": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "path": {"type": "path", "default": "~/.docker/config.json"},
        },
        required_if=[("state", "present", ("address", "password"))],
        supports_check_mode=True,
    )
    path, state = os.path.realpath(module.params["path"]), module.params["state"]
    address, account = module.params["address"] or "", module.params["account"]
    addresses = []
    try:
        before = read(path)
        if state == "present":
            after = with_login(before, address, account, module.params["password"])
        else:
            after, addresses = without_logins(before, account, address)
        is_open = bool(after) and os.path.exists(path) and os.stat(path).st_mode & 0o077
        changed = after != before or bool(is_open and state == "present")
        if changed and not module.check_mode:
            write(path, after)
    except ValueError as error:
        module.fail_json(msg=f"{path} is not a docker configuration: {type(error).__name__}; mend or remove it")
    except OSError as error:
        module.fail_json(msg=f"{path}: {error.strerror}: the login must be able to write its docker configuration")
    module.exit_json(changed=changed, addresses=addresses)


if __name__ == "__main__":
    main()
