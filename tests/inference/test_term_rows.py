"""Rows of types I, II and III against lmerTest's, and under other codings."""

import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from skmixed.design import build_design
from skmixed.design.full import FullTerm
from skmixed.inference.degrees_of_freedom import joint_test
from skmixed.inference.term_rows import TermStructure

KINDS = {"I": 1, "II": 2, "III": 3}


def full_design(frame, terms):
    """Full design (n, p_full) with its intercept, and the FullTerms, of tuples of column names."""
    blocks, found, begin = [np.ones((len(frame), 1))], [], 1
    for names in terms:
        block, base = np.ones((len(frame), 1)), np.zeros(1, dtype=bool)
        factors, covariates = set(), []
        for name in names:
            power = re.fullmatch(r"I\((\w+)\^(\d)\)", name)
            column = frame[power[1]] ** int(power[2]) if power else frame[name]
            if isinstance(column.dtype, pd.CategoricalDtype):
                own = pd.get_dummies(column).to_numpy(dtype=float)
                factors.add(name)
                first = np.arange(own.shape[1]) == 0
            else:
                own, first = column.to_numpy(dtype=float)[:, None], np.zeros(1, dtype=bool)
                covariates.append(name)
            block = np.einsum("na,nb->nba", block, own).reshape(len(frame), -1)
            base = (first[:, None] | base).ravel()
        columns = begin + np.arange(block.shape[1])
        begin += block.shape[1]
        blocks.append(block)
        found.append(FullTerm(":".join(names), columns, frozenset(factors),
                              tuple(sorted(covariates)), frozenset(names), base))  # fmt: skip
    return np.hstack(blocks), found


def fixed_terms(formula):
    """Terms of the fixed part of an R formula, by degree."""
    found = []
    for part in re.sub(r"\([^()|]*\|[^()]*\)", "", formula.split("~")[1]).split("+"):
        names = [name.strip() for name in part.split("*")]
        if names != [""] and names != ["1"]:
            found += [c for d in range(1, len(names) + 1) for c in combinations(names, d)]
    return sorted(dict.fromkeys(found), key=len)


def structure_of(frame, terms):
    X, found = full_design(frame, terms)
    return X, TermStructure.build(found, X)


@pytest.fixture
def anova(reference):
    if "anova_L" not in reference.ref:
        pytest.skip("no term but the intercept")
    return structure_of(reference.table, fixed_terms(reference.ref["formula"]))


def test_rows_are_those_of_lmertest(reference, anova, plain_name):
    if "rankdef" in reference.ref["id"]:
        pytest.skip("lmerTest tests the coefficient that it happened to keep")
    X_full, structure = anova
    # the position of every coefficient of the reference among the kept columns
    C = np.linalg.lstsq(X_full[:, structure.kept], user_columns(reference), rcond=None)[0]
    kept = [plain_name(n) for n in reference.model.fixed_effects_.index]
    order = [
        int(np.argmax(np.abs(C[:, kept.index(plain_name(name))])))
        for name in reference.ref["fit"]["coef_names"]
    ]
    for name, kind in KINDS.items():
        for term in structure.terms:
            expected = np.array(reference.ref["anova_L"][name][term.name], dtype=float)
            rows = structure.rows(term, kind)
            expected = expected.reshape(-1, len(structure.kept))
            np.testing.assert_allclose(rows[:, order], expected, atol=1e-8)


def table_of_tests(reference, X_full, structure, kind, method):
    """{term: JointTest} of a model for rows of the structure, written in the model's columns."""
    basis = reference.fit.basis
    C = np.linalg.lstsq(user_columns(reference)[:, basis.kept], X_full, rcond=None)[0]
    found = {}
    for term in structure.terms:
        L = structure.in_columns(structure.rows(term, kind), C) @ basis.to_coef
        found[term.name] = joint_test(reference.record, reference.beta, L, method)
    return found


def user_columns(reference):
    formula = reference.ref["formula"].replace("^", "**")
    return build_design(formula, reference.table).X


@pytest.mark.parametrize("method", ["satterthwaite", "kenward_roger"])
def test_tables_are_those_of_lmertest(reference, anova, method):
    if "rankdef" in reference.ref["id"]:
        pytest.skip("lmerTest tests the coefficient that it happened to keep")
    X_full, structure = anova
    for name, kind in KINDS.items():
        rows = reference.ref["anova"][name].get(method, [])
        if not rows:
            continue
        found = table_of_tests(reference, X_full, structure, kind, method)
        for row in rows:
            test = found[row["term"]]
            assert test.df_num == row["NumDF"]
            np.testing.assert_allclose(test.df_den, row["DenDF"], rtol=1e-5)
            np.testing.assert_allclose(test.F, row["F value"], rtol=1e-6)


@pytest.mark.parametrize("coding", ["contr.sum", "contr.helmert", "contr.poly"])
@pytest.mark.parametrize("kind", [1, 2, 3])
def test_coding_does_not_matter(coding, kind, reference_of):
    """Rows written in the columns of another coding are the same functions of the means."""
    plain = reference_of("cake_unbalanced_factors_reml")
    X_full, structure = structure_of(plain.table, fixed_terms(plain.ref["formula"]))
    coded = plain.ref["formula"]
    for name in ("recipe", "temperature"):
        coded = re.sub(rf"\b{name}\b(?=[ *+])", f"C({name}, {coding})", coded)
    X, other = (build_design(f, plain.table).X for f in (plain.ref["formula"], coded))
    assert not np.allclose(X, other)
    C, C_other = (np.linalg.lstsq(A, X_full, rcond=None)[0] for A in (X, other))
    for term in structure.terms:
        rows = structure.rows(term, kind)
        here = structure.in_columns(rows, C) @ np.linalg.pinv(X)
        there = structure.in_columns(rows, C_other) @ np.linalg.pinv(other)
        np.testing.assert_allclose(here, there, atol=1e-9)


def test_an_aliased_covariate_has_no_degrees_of_freedom(reference_of):
    """temp is a function of the categories of temperature: nothing of it is left."""
    reference = reference_of("cake_rankdef_reml")
    _, structure = structure_of(reference.table, fixed_terms(reference.ref["formula"]))
    n_rows = {t.name: [len(structure.rows(t, kind)) for kind in (1, 2, 3)]
              for t in structure.terms}  # fmt: skip
    # type I: temp is the straight line, temperature what is left of its six levels
    assert n_rows == {"recipe": [2, 2, 2], "temp": [1, 0, 0], "temperature": [4, 4, 4]}


def test_rows_of_type_3_compare_unweighted_means(reference_of):
    """Without empty cells, main effects are differences of averages over the cells."""
    reference = reference_of("cake_unbalanced_factors_reml")
    frame = reference.table
    X_full, structure = structure_of(frame, fixed_terms(reference.ref["formula"]))
    cells = frame.drop_duplicates(["recipe", "temperature"]).index
    X = X_full[cells][:, structure.kept]
    means = np.array(
        [X[(frame["recipe"][cells] == r).to_numpy()].mean(axis=0) for r in ("A", "B", "C")]
    )
    rows = structure.rows(structure.terms[0], 3)
    np.testing.assert_allclose(rows, means[1:] - means[0], atol=1e-9)


def test_units_of_a_covariate_do_not_matter():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": pd.Categorical(rng.integers(0, 3, 40)), "x": rng.normal(size=40)})
    terms = [("a",), ("x",), ("a", "x")]
    _, plain = structure_of(frame, terms)
    _, scaled = structure_of(frame.assign(x=1e6 * frame["x"]), terms)
    unit = np.where(np.isin(plain.kept, plain.terms[0].columns) | (plain.kept == 0), 1.0, 1e6)
    for kind in (1, 2, 3):
        for one, other in zip(plain.terms, scaled.terms, strict=True):
            rows, same = plain.rows(one, kind), scaled.rows(other, kind) / unit
            Q, R = (np.linalg.qr((A / np.abs(A).max()).T)[0] for A in (rows, same))
            np.testing.assert_allclose(Q @ Q.T, R @ R.T, atol=1e-6)


def test_a_term_without_columns_of_its_own_has_no_rows():
    frame = pd.DataFrame({"a": pd.Categorical([0, 0, 1, 1]), "b": pd.Categorical([0, 0, 1, 1])})
    _, structure = structure_of(frame, [("a",), ("b",), ("a", "b")])
    assert [len(structure.rows(t, 3)) for t in structure.terms] == [0, 0, 0]
    assert [len(structure.rows(t, 1)) for t in structure.terms] == [1, 0, 0]
