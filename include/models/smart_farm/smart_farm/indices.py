"""Greenness indices from red, green and blue, by their standard names.

Each takes the three channels as float arrays of one shape, any unit, and returns an array of that shape, without unit.
Where all three are 0, and where a denominator is 0, the index is 0. Capital letters below are the channels, small ones
their chromatic coordinates: r = R / (R + G + B), g and b alike.

Sources:

- ExG: Woebbecke et al. (1995), Color indices for weed identification under various soil, residue, and lighting
  conditions. Transactions of the ASAE 38(1), 259-269.
- ExGR: Meyer and Neto (2008), Verification of color vegetation indices for automated crop imaging applications.
  Computers and Electronics in Agriculture 63(2), 282-293.
- GLI: Louhaichi, Borman and Johnson (2001), Spatially located platform and aerial photography for documentation of
  grazing impacts on wheat. Geocarto International 16(1), 65-70.
- NGRDI: Tucker (1979), Red and photographic infrared linear combinations for monitoring vegetation. Remote Sensing of
  Environment 8(2), 127-150; under this name Hunt et al. (2005), Precision Agriculture 6(4), 359-378.
- VARI: Gitelson et al. (2002), Novel algorithms for remote estimation of vegetation fraction. Remote Sensing of
  Environment 80(1), 76-87.
- MGRVI: Bendig et al. (2015), Combining UAV-based plant height from crop surface models, visible, and near infrared
  vegetation indices for biomass monitoring in barley. International Journal of Applied Earth Observation and
  Geoinformation 39, 79-87.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Index = Callable[[Floats, Floats, Floats], Floats]


def ratio(above: Floats, below: Floats) -> Floats:
    """Return ``above / below``, 0 where ``below`` is 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)


def exg(red: Floats, green: Floats, blue: Floats) -> Floats:
    """Excess green, 2g - r - b: -1 to 2."""
    return ratio(2 * green - red - blue, red + green + blue)


def exgr(red: Floats, green: Floats, blue: Floats) -> Floats:
    """Excess green minus excess red, (2g - r - b) - (1.4r - g): -2.4 to 3."""
    return ratio(3 * green - np.float32(2.4) * red - blue, red + green + blue)


def gli(red: Floats, green: Floats, blue: Floats) -> Floats:
    """Green leaf index, (2G - R - B) / (2G + R + B): -1 to 1."""
    return ratio(2 * green - red - blue, 2 * green + red + blue)


def ngrdi(red: Floats, green: Floats, blue: Floats) -> Floats:
    """Normalized green-red difference index, (G - R) / (G + R): -1 to 1; blue has no part in it."""
    del blue
    return ratio(green - red, green + red)


def vari(red: Floats, green: Floats, blue: Floats) -> Floats:
    """Visible atmospherically resistant index, (G - R) / (G + R - B), cut to -1 to 1: its denominator may be near 0."""
    return np.clip(ratio(green - red, green + red - blue), -1, 1)


def mgrvi(red: Floats, green: Floats, blue: Floats) -> Floats:
    """Modified green-red vegetation index, (G^2 - R^2) / (G^2 + R^2): -1 to 1; blue has no part in it."""
    del blue
    return ratio(green**2 - red**2, green**2 + red**2)


INDICES: dict[str, Index] = {"exg": exg, "exgr": exgr, "gli": gli, "ngrdi": ngrdi, "vari": vari, "mgrvi": mgrvi}
"""What is printed of each canopy, by the kind of its line."""
