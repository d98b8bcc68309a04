"""Names of covariance structures, and what other programs call them."""

import pytest

from skmixed.design.structure_names import (
    RESIDUAL_STRUCTURES,
    STRUCTURES,
    effects_usage,
    is_known_elsewhere,
    no_structure_of_effects,
    no_structure_of_residuals,
    residual_usage,
)


@pytest.mark.parametrize(
    ("name", "effects", "residual"),
    [
        ("AR1", "ar1(0 + C(time) | g)", "ar1(time | g)"),
        ("corAR1", "ar1(0 + C(time) | g)", "ar1(time | g)"),
        ("corCAR1", "expo(x + y | g)", "car1(time | g)"),
        ("un", "us(0 + f | g)", "us(visit | g)"),
        ("UN", "us(0 + f | g)", "us(visit | g)"),
        ("CS", "homcs(0 + f | g)", "homcs(visit | g)"),  # of equal variances, as in SAS
        ("csh", "cs(0 + f | g)", "cs(visit | g)"),
        ("toeplitz", "toep(0 + C(time) | g)", "toep(visit | g)"),
        ("TOEP", "toep(0 + C(time) | g)", "toep(visit | g)"),
        ("varIdent", None, "ident(g)"),
        ("varPower", None, "power(x)"),
        ("spatial", "expo(x + y | g)", None),
        ("exp", "expo(x + y | g)", None),
        ("matern", "mat(x + y | g)", None),
        ("pdDiag", "diag(0 + f | g)", None),
        ("expoo", "expo(x + y | g)", None),
        ("ar2", "ar1(0 + C(time) | g)", None),
        ("foo", None, None),
    ],
)
def test_what_random_effects_have_instead(name, effects, residual):
    text = no_structure_of_effects(name)
    known = ", ".join(STRUCTURES)
    begin = f"{name!r} is no covariance structure of random effects, which are {known}"
    assert text.startswith(begin)
    rest = text.removeprefix(begin)
    assert rest.partition(" Of residuals")[0].strip(".") == (
        f"; did you mean {effects}?" if effects else ""
    )
    assert rest.partition("residual=")[2].strip('"') == (residual or "")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("UN", "us(visit | g)"),
        ("AR1", "ar1(time | g)"),
        ("corAR1", "ar1(time | g)"),
        ("CorSymm", "us(visit | g)"),
        ("CS", "homcs(visit | g)"),
        ("CSH", "cs(visit | g)"),
        ("varIdent", "ident(g)"),
        ("exp", "exponential(x)"),
        ("powr", "power(x)"),
    ],
)
def test_what_residuals_have_instead(name, near):
    text = no_structure_of_residuals(name)
    assert text.startswith(f"{name!r} is no residual structure, which are ident, ar1, ")
    assert text.endswith(f". Did you mean {near}?")


def test_a_name_like_no_other_has_no_hint():
    assert no_structure_of_residuals("zzz").endswith(", exponential")


def test_names_of_our_own_are_those_of_no_other_program():
    assert not any(is_known_elsewhere(name) for name in STRUCTURES)
    assert all(is_known_elsewhere(name.upper()) for name in STRUCTURES)
    assert not is_known_elsewhere("sqr")


def test_every_structure_is_written_with_its_name():
    assert all(effects_usage(name).startswith(f"{name}(") for name in STRUCTURES)
    assert all(residual_usage(name).startswith(f"{name}(") for name in RESIDUAL_STRUCTURES)
