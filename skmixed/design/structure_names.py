"""Names of covariance structures, of random effects and of residuals, here and elsewhere."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

# Covariances of a level's effects, in glmmTMB's spelling; the spatial ones of coordinates
SPATIAL = ("expo", "gau", "mat")
STRUCTURES = ("us", "diag", "homdiag", "cs", "homcs", "ar1", "hetar1", "toep", *SPATIAL)
_IN_TIME = ("ar1", "hetar1", "toep")

# Of residuals: standard deviations by group, by covariate; correlations by time; over visits
BY_LEVEL, BY_COVARIATE = ("ident",), ("power", "exponential")
BY_TIME, BY_VISIT = ("ar1", "car1"), ("us", "cs", "homcs", "toep", "hetar1")
RESIDUAL_STRUCTURES = (*BY_LEVEL, *BY_TIME, *BY_VISIT, *BY_COVARIATE)

# What other programs call them, in lower case. Without an h SAS means equal variances.
_EVERYWHERE = {
    "un": "us",
    "unstructured": "us",
    "corsymm": "us",
    "cs": "homcs",
    "csh": "cs",
    "corcompsymm": "homcs",
    "corar1": "ar1",
    "arh1": "hetar1",
    "ar1h": "hetar1",
    "toeph": "toep",
    "toeplitz": "toep",
}
_OF_EFFECTS = _EVERYWHERE | {
    "ar": "ar1",
    "arh": "hetar1",
    "homtoep": "toep",
    "vc": "diag",
    "idh": "diag",
    "pddiag": "diag",
    "pdident": "homdiag",
    "pdcompsymm": "homcs",
    "car1": "expo",
    "corcar1": "expo",
    "corexp": "expo",
    "exp": "expo",
    "exponential": "expo",
    "ou": "expo",
    "sp": "expo",
    "spatial": "expo",
    "corgaus": "gau",
    "gaus": "gau",
    "gaussian": "gau",
    "matern": "mat",
}
_OF_RESIDUALS = _EVERYWHERE | {
    "varident": "ident",
    "corcar1": "car1",
    "varpower": "power",
    "varexp": "exponential",
    "exp": "exponential",
    "diag": "ident",
}


def effects_usage(name: str) -> str:
    """How a structure of random effects is written."""
    if name in SPATIAL:
        return f"{name}(x + y | g)"
    return f"{name}(0 + C(time) | g)" if name in _IN_TIME else f"{name}(0 + f | g)"


def residual_usage(name: str) -> str:
    """How a structure of residuals is written."""
    if name in BY_LEVEL:
        return f"{name}(g)"
    if name in BY_COVARIATE:
        return f"{name}(x)"
    return f"{name}(time | g)" if name in BY_TIME else f"{name}(visit | g)"


def is_known_elsewhere(name: str) -> bool:
    """Whether another program has a structure of this name, or we in other letters."""
    own = {"car1", "ident", *STRUCTURES, *_OF_EFFECTS, *_OF_RESIDUALS}
    return name.lower() in own and name not in STRUCTURES


def no_structure_of_effects(name: str) -> str:
    """What to say of a name that is no structure of random effects."""
    residual = _same(name, RESIDUAL_STRUCTURES, _OF_RESIDUALS)
    effects = _same(name, STRUCTURES, _OF_EFFECTS)
    if not effects and not residual:
        effects = _alike(name, STRUCTURES)
    message = (
        f"{name!r} is no covariance structure of random effects, which are {', '.join(STRUCTURES)}"
    )
    if effects:
        message += f"; did you mean {effects_usage(effects)}?"
    if residual in (*BY_TIME, *BY_VISIT) or (residual and not effects):
        message += ("" if effects else ".") + _as_argument(residual)
    return message


def structure_out_of_place(name: str) -> str:
    """What to say of a structure of random effects that is no summand, or has no bar."""
    what = f"{name}() is a covariance structure of random effects, which"
    if name == "cs":
        what = "cs() of one thing is no spline, cs(x, df=4); a covariance structure of its name"
    message = f"{what} is written {effects_usage(name)} and added on its own"
    return message + (f".{_as_argument(name)}" if name in RESIDUAL_STRUCTURES else "")


def _as_argument(name: str) -> str:
    return f' Of residuals it is the argument residual="{residual_usage(name)}"'


def no_structure_of_residuals(name: str) -> str:
    """What to say of a name that is no structure of residuals."""
    near = _same(name, RESIDUAL_STRUCTURES, _OF_RESIDUALS) or _alike(name, RESIDUAL_STRUCTURES)
    hint = f". Did you mean {residual_usage(near)}?" if near else ""
    return f"{name!r} is no residual structure, which are {', '.join(RESIDUAL_STRUCTURES)}{hint}"


def _same(name: str, names: Collection[str], elsewhere: Mapping[str, str]) -> str | None:
    """Our name for what another program calls ``name``, or ours in other letters."""
    lower = name.lower()
    if name in names:
        return name
    return elsewhere.get(lower) or (lower if lower in names else None)


def _alike(name: str, names: Collection[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name.lower(), names, n=1)), None)
