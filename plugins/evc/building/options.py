"""What ``docker build`` is told of a model: labels, build arguments, platform, name.

Source: OCI image specification 1.1, "Pre-Defined Annotation Keys". No time of creation among them: an unchanged source
has to give the same image.
"""

from __future__ import annotations

from collections.abc import Mapping

from evc.building.source import Source

MODEL_LABEL = "evc.model"
REVISION_LABEL = "evc.source-revision"


def image_labels(source: Source) -> dict[str, str]:
    """Return the labels of a model's image."""
    model = source.model
    return {
        "org.opencontainers.image.title": model.name,
        "org.opencontainers.image.description": " ".join(model.description.split()),
        "org.opencontainers.image.version": model.version,
        "org.opencontainers.image.revision": source.revision,
        MODEL_LABEL: model.name,
        REVISION_LABEL: source.revision,
    }


def build_options(
    source: Source,
    *,
    image: str,
    platform: str | None = None,
    arguments: Mapping[str, str] | None = None,
    is_fresh: bool = False,
) -> list[str]:
    """Return the options of ``docker build``, one text each; none holds a line end.

    :param image: the name that the image gets
    :param platform: e.g. ``linux/arm64``; None: the builder's own
    :param arguments: build arguments; None: those of model.yaml
    :param is_fresh: take nothing from the builder's cache
    """
    given = source.model.build.arguments if arguments is None else arguments
    return [
        f"--tag={image}",
        *([f"--platform={platform}"] if platform else []),
        *(["--no-cache"] if is_fresh else []),
        *(f"--label={name}={value}" for name, value in image_labels(source).items()),
        *(f"--build-arg={name}={value}" for name, value in sorted(given.items())),
    ]
