"""This side of ``evc_model``: takes stock of the source, asks the node what it lacks, sends that and nothing else."""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
if find_spec("evc") is None and PLUGINS.is_dir():
    sys.path.append(str(PLUGINS))  # an Airflow that has EVC in its plugins folder, not installed
try:
    from evc.building.options import build_options
    from evc.building.source import Source, read_source
    from evc.errors import InputError
except ImportError as error:
    raise AnsibleActionFail(
        "Edge Vision Cluster is not installed beside this Ansible: use the ansible-playbook of its environment"
    ) from error


class ActionModule(ActionBase):  # type: ignore[misc]
    """Bring the source of a model to a node."""

    TRANSFERS_FILES = True
    _supports_check_mode = True
    _VALID_ARGS = frozenset({"model", "models_folder", "revision"})

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Return the node's ``folder``, the ``revision``, ``files_sent``, ``bytes_sent``, ``options`` of the build."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        source = self._source()
        manifest = {
            "name": source.model.name,
            "revision": source.revision.removeprefix("sha256:"),
            "files": [
                {"path": file.path, "sha256": file.sha256, "executable": file.executable} for file in source.files
            ],
        }
        try:
            answer = self._ask(manifest, task_vars)
            sent = self._send(source, set(answer["missing"]), manifest, task_vars)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return {
            **result,
            "changed": answer["changed"],
            "folder": answer["folder"],
            "model": source.model.name,
            "version": source.model.version,
            "revision": source.revision,
            "files": len(source.files),
            "bytes": source.size_bytes,
            **sent,
            "options": build_options(source, image=f"{source.model.name}:{source.model.version}"),
        }

    def _source(self) -> Source:
        arguments = self._task.args
        unknown = set(arguments) - self._VALID_ARGS
        if unknown or not arguments.get("model") or not arguments.get("models_folder"):
            raise AnsibleActionFail("evc_model takes model and models_folder, and revision if wanted")
        try:
            source = read_source(Path(str(arguments["models_folder"])), str(arguments["model"]))
        except InputError as error:
            raise AnsibleActionFail(str(error)) from None
        expected = arguments.get("revision")
        if expected and expected != source.revision:
            raise AnsibleActionFail(f"{source.model.name}: the source was changed while it was about to be copied")
        return source

    def _ask(self, manifest: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name="evc_model", module_args=manifest, task_vars=task_vars
        )
        if answer.get("failed"):
            raise AnsibleActionFail(str(answer.get("msg") or answer.get("module_stderr") or "no reason given"))
        return answer

    def _send(self, source: Source, missing: set[str], manifest: dict[str, Any], task_vars: Any) -> dict[str, int]:
        """Send the contents that the node lacks, each once, named by its checksum: no path of ours goes with them."""
        files = {file.sha256: file for file in source.files if file.sha256 in missing}
        sent = {"files_sent": len(files), "bytes_sent": sum(file.size_bytes for file in files.values())}
        if not files or self._task.check_mode:
            return sent
        with tempfile.TemporaryDirectory(prefix="evc-model-") as folder:
            archive = os.path.join(folder, "contents.tar")
            with tarfile.open(archive, "w") as tar:
                for digest, file in files.items():
                    info = tarfile.TarInfo(digest)
                    info.size = file.size_bytes
                    try:
                        with source.open(file) as content:
                            tar.addfile(info, content)
                    except (InputError, OSError) as error:
                        raise AnsibleActionFail(f"{file.path}: {error}") from None
            if not self._connection._shell.tmpdir:
                self._make_tmp_path()
            remote = self._connection._shell.join_path(self._connection._shell.tmpdir, "contents.tar")
            self._transfer_file(archive, remote)
        self._ask({**manifest, "archive": remote}, task_vars)
        return sent
