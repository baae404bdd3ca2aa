"""End with 1 where a face of the registry serves another certificate than its file: renewed, but not started anew.

For tools/stack.sh, in a container of Airflow.
"""

from __future__ import annotations

import os
import ssl
import sys
from pathlib import Path


def main() -> int:
    """Compare both faces with the file."""
    pem = Path(os.environ["AIRFLOW__EVC__REGISTRY_FOLDER"], "server.crt").read_text()
    wanted = ssl.PEM_cert_to_DER_cert(pem[: pem.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")])
    faces = (("registry", "EVC_REGISTRY_PORT"), ("registry-pull", "EVC_REGISTRY_PULL_PORT"))
    served = (ssl.get_server_certificate((host, int(os.environ[port])), timeout=10) for host, port in faces)
    try:
        return int(any(ssl.PEM_cert_to_DER_cert(certificate) != wanted for certificate in served))
    except OSError as error:
        print(f"the registry does not answer and is started anew: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
