"""``python -m reid``: looks at what ``EVC_INPUT`` names and prints what it sees; ``--self-test``: whether it could."""

from __future__ import annotations

import os
import signal
import sys

import cv2

from reid.detection import NetworkError
from reid.frames import SourceError
from reid.lines import say
from reid.self_test import self_test
from reid.settings import SettingError, read_settings
from reid.watch import watch


def main(arguments: list[str]) -> int:
    """Do what the environment says; returns the exit status: 0, 1 where nothing could be seen, 2 where it is wrong."""
    try:
        settings = read_settings(os.environ)
        cv2.setNumThreads(settings.threads or -1)
        if arguments == ["--self-test"]:
            return self_test(settings)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the summary still comes
        return watch(settings, say)
    except (SettingError, NetworkError) as error:
        say("error", message=str(error))
        return 2
    except SourceError as error:
        say("error", message=str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
