"""Temperature of every thermal zone.

Source: ``/sys/class/thermal/thermal_zone*/{type,temp}``, kernel documentation ABI/testing/sysfs-class-thermal:
millidegrees Celsius; some vendors' kernels count in tenths of a kelvin (the node's ``thermal_unit`` says so). No
privilege needed. A zone that cannot be read, as those of a Jetson's sleeping engines, loses only itself.
"""

from __future__ import annotations

from evc.probes.answer import Answer
from evc.probes.fields import excerpt, printable, signed
from evc.probes.probe import Before, Probe, Sample, Value

_BEGIN, _TEMP, _TYPE = "/sys/class/thermal/thermal_zone", "/temp", "/type"
_MAX_ZONES = 64
_MAX_CELSIUS = 250.0
_NOTHING = -200.0  # drivers say -256, or 0 K, where a sensor is off: no node is that cold
# The power chip of a Jetson has no thermometer: it gives 100 for "below 120" (NVIDIA's own words), else 120 or 140.
_PMIC, _PMIC_UNKNOWN = "PMIC-Die", 100.0


def parse(text: str, thermal_unit: str) -> float | None:
    """Read one zone in degrees Celsius; None where it says that it has no value.

    :raises ValueError: not a number, or hotter than any node
    """
    raw = signed(text)
    celsius = round(raw / 10 - 273.15, 2) if thermal_unit == "deci_kelvin" else raw / 1000
    if raw == -256 or celsius < _NOTHING:
        return None
    if celsius > _MAX_CELSIUS:
        raise ValueError
    return celsius


def read(answer: Answer, before: Before | None) -> Sample | None:
    """Return ``temperature_celsius`` of the hottest zone, and a row of ``temperature_samples`` for each zone."""
    zones = [(path[: -len(_TEMP)], text) for path, text in answer.files(_BEGIN, _TEMP).items()][:_MAX_ZONES]
    if not zones:
        return None
    names = _names(answer, [zone for zone, _ in zones])
    celsius: dict[str, float] = {}
    problems = []
    for zone, text in zones:
        name = names[zone]
        try:
            value = parse(text, answer.thermal_unit)
        except ValueError:
            problems.append(f"{printable(zone, 80)}{_TEMP}: {excerpt(text) if text else 'could not be read'} ({name})")
            continue
        if value is not None and (name != _PMIC or value > _PMIC_UNKNOWN):
            celsius[name] = value
    columns: dict[str, Value] = {"temperature_celsius": max(celsius.values(), default=None)}
    rows: list[dict[str, Value]] = [{"zone": name, "celsius": value} for name, value in celsius.items()]
    return Sample(columns=columns, details={"temperature_samples": rows}, problems=problems)


def _names(answer: Answer, zones: list[str]) -> dict[str, str]:
    """Name zones by their type, by type and number where several are of one type; the same at every reading."""
    types = {zone: printable(answer.file(zone + _TYPE) or "", 40) for zone in zones}
    times: dict[str, int] = {}
    for kind in types.values():
        times[kind] = times.get(kind, 0) + 1
    return {
        zone: kind if kind and times[kind] == 1 else f"{kind or 'zone'}-{printable(zone[len(_BEGIN) :], 20)}"
        for zone, kind in types.items()
    }


PROBE = Probe(name="temperature", files=(f"{_BEGIN}*{_TYPE}", f"{_BEGIN}*{_TEMP}"), read=read)
