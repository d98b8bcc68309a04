"""Column spaces and columns of R's model.matrix, and the terms of lme4's lFormula.

R 4.2.2, lme4 1.1-31. The data are made by integer arithmetic, the same in both languages:

    d <- expand.grid(a=c("a1","a2","a3"), b=c("b1","b2"), r=1:4); i <- 1:24
    d$x <- (i*7) %% 11 / 4; d$z <- (i*5) %% 13 / 8 + 1; d$fl <- d$x > 1
    v <- (i*i) %% 17; w <- (i^3) %% 23
    m <- model.matrix(as.formula(paste("~", f)), d); q <- qr(m)
    ncol(m); q$rank; sum(qr.fitted(q, v)^2); sum(qr.fitted(q, w)^2)
    sum(abs(m) * outer(i, seq_len(ncol(m))))
"""

import numpy as np
import pandas as pd
import pytest

from skmixed.design import build_design, parse_formula

# formula, number of columns, rank, squared lengths of the projections of v and w, checksum
MODEL_MATRICES = [
    ("x:a", 4, 4, 1587.7399893524, 2707.6599041718, 1452.50000000),
    ("0 + a:b", 6, 6, 1676.2500000000, 2811.5000000000, 1120.00000000),
    ("a + a:b", 6, 6, 1676.2500000000, 2811.5000000000, 1672.00000000),
    ("a/b", 6, 6, 1676.2500000000, 2811.5000000000, 1672.00000000),
    ("(a+b)^2", 6, 6, 1676.2500000000, 2811.5000000000, 2136.00000000),
    ("(a+b+x)^2", 10, 10, 1752.9451207141, 2833.1413268411, 8386.50000000),
    ("a*b", 6, 6, 1676.2500000000, 2811.5000000000, 2136.00000000),
    ("b %in% a", 7, 6, 1676.2500000000, 2811.5000000000, 1700.00000000),
    ("a + b %in% a", 6, 6, 1676.2500000000, 2811.5000000000, 1672.00000000),
    ("0+a+b", 4, 4, 1627.1666666667, 2703.1666666667, 1288.00000000),
    ("0+x:a", 3, 3, 1195.6938824334, 1854.2005809979, 800.00000000),
    ("x+x:a", 4, 4, 1587.7399893524, 2707.6599041718, 2059.50000000),
    ("x*a", 6, 6, 1626.0773809524, 2710.1719576720, 3398.50000000),
    ("0+a", 3, 3, 1576.1250000000, 2700.5000000000, 616.00000000),
    ("a:b", 7, 6, 1676.2500000000, 2811.5000000000, 1720.00000000),
    ("x:a:b", 7, 7, 1730.6633094319, 2783.1475890185, 1992.50000000),
    ("x + x:a:b", 8, 7, 1730.6633094319, 2783.1475890185, 3050.00000000),
    ("a+x:b", 5, 5, 1632.1449190787, 2737.3728602552, 2414.00000000),
    ("a:x + b:x", 5, 5, 1635.6395522321, 2736.0311124648, 2352.50000000),
    ("0 + a:x + b:x", 4, 4, 1223.0481286735, 1862.3178223194, 1520.00000000),
    ("0+a*b", 6, 6, 1676.2500000000, 2811.5000000000, 1928.00000000),
    ("-1+a/x", 6, 6, 1626.0773809524, 2710.1719576720, 2473.50000000),
    ("fl", 2, 2, 1555.1258741259, 2691.4405594406, 598.00000000),
    ("0+fl", 2, 2, 1555.1258741259, 2691.4405594406, 449.00000000),
    ("fl:x", 3, 3, 1668.0628601362, 2783.3329792600, 1280.00000000),
    ("a*fl", 6, 6, 1719.4500000000, 2726.8000000000, 2168.00000000),
    ("poly(x,2)*a", 9, 9, 1755.0973895582, 2855.3182571556, 2012.74762369),
    ("a+b-1", 4, 4, 1627.1666666667, 2703.1666666667, 1288.00000000),
    ("a*b-a", 6, 6, 1676.2500000000, 2811.5000000000, 1600.00000000),
    ("a*b-b", 6, 6, 1676.2500000000, 2811.5000000000, 1672.00000000),
    ("a*b*x-a:b:x", 10, 10, 1752.9451207141, 2833.1413268411, 8386.50000000),
    ("1", 1, 1, 1520.0416666667, 2688.1666666667, 300.00000000),
    ("x", 2, 2, 1527.0592105263, 2705.5745614035, 1005.00000000),
    ("0+x", 1, 1, 1011.1413043478, 1759.4794685990, 352.50000000),
    ("I(x^2)", 2, 2, 1539.7761166707, 2702.3274347083, 1481.25000000),
    ("I(x^2):a", 4, 4, 1567.6221810857, 2706.7859910904, 2244.62500000),
    ("a/x - 1", 6, 6, 1626.0773809524, 2710.1719576720, 2473.50000000),
    ("(a+b)/x", 10, 10, 1813.1744075156, 2790.7018625450, 4246.00000000),
    ("a/(b+x)", 9, 9, 1752.4599056604, 2826.1735849057, 4587.00000000),
    ("log(z+5):a", 4, 4, 1602.0060038617, 2744.0597415155, 2050.25594466),
    ("b + a:b", 6, 6, 1676.2500000000, 2811.5000000000, 1592.00000000),
    ("x*z - x", 3, 3, 1562.8132218643, 2746.1439321952, 3345.25000000),
    ("offset(x)+z", 2, 2, 1558.0335051546, 2724.6876288660, 1357.00000000),
    ("scale(x) + scale(z):a", 5, 5, 1708.4952868879, 2845.0347528418, 1879.90687301),
    ("factor(r)*b", 8, 8, 1829.6666666667, 2910.0000000000, 3156.00000000),
    ("I(x > 1)*b", 4, 4, 1616.4190476190, 2722.8428571429, 1422.00000000),
    ("C(a, contr.sum)*x", 6, 6, 1626.0773809524, 2710.1719576720, 5520.00000000),
    ("C(a, contr.helmert) + b", 4, 4, 1627.1666666667, 2703.1666666667, 2580.00000000),
    ("C(a, contr.treatment('a2'))", 3, 3, 1576.1250000000, 2700.5000000000, 808.00000000),
    ("poly(z,3,raw=TRUE)", 4, 4, 1700.1332334531, 2854.8798183665, 12288.70312500),
    ("bs(x, df=5)", 6, 6, 1672.6972102638, 3158.0510332656, 1264.23673469),
]
# R leaves aliased columns in these, or orders the factors of an interaction the other way round
OTHER_COLUMNS = {"b %in% a", "a:b", "x + x:a:b", "b + a:b"}


@pytest.fixture(scope="module")
def data():
    i = np.arange(1, 25)
    frame = pd.DataFrame(
        {
            "a": np.tile(["a1", "a2", "a3"], 8),
            "b": np.tile(np.repeat(["b1", "b2"], 3), 4),
            "r": np.repeat([1, 2, 3, 4], 6),
            "x": (i * 7) % 11 / 4,
            "z": (i * 5) % 13 / 8 + 1,
            "g": np.array(list("pqrs"))[(i * 3) % 4],
            "h": i // 5,
            "v": (i * i) % 17,
            "w": (i**3) % 23,
        }
    )
    frame["fl"] = frame.x > 1
    return frame


@pytest.mark.parametrize(("formula", "columns", "rank", "v", "w", "checksum"), MODEL_MATRICES)
def test_fixed_part_is_rs_model_matrix(data, formula, columns, rank, v, w, checksum):
    X = build_design(formula, data).X
    q, singular, _ = np.linalg.svd(X, full_matrices=False)
    q = q[:, singular > 1e-10 * singular[0]]
    assert q.shape[1] == rank
    for response, squared_length in ((data.v, v), (data.w, w)):
        assert np.sum((q.T @ response) ** 2) == pytest.approx(squared_length, rel=1e-10)
    if formula in OTHER_COLUMNS:
        assert X.shape[1] == rank
    else:
        assert X.shape[1] == columns
        weights = np.outer(np.arange(1, 25), np.arange(1, columns + 1))
        assert np.sum(np.abs(X) * weights) == pytest.approx(checksum, rel=1e-9)


# lFormula(y ~ 1 + term, d)$reTrms: group, columns per level (cnms), levels, and sum(abs(Zt)),
# with g = c("p","q","r","s")[1 + (i*3) %% 4], h = factor(i %/% 5); lme4 writes b:g for our g:b
LFORMULA = [
    ("(1|g)", ["g/Intercept/4"], 24),
    ("(x|g)", ["g/Intercept,x/4"], 54),
    ("(0+x|g)", ["g/x/4"], 30),
    ("(a|g)", ["g/Intercept,a[T.a2],a[T.a3]/4"], 40),
    ("(0+a|g)", ["g/a[a1],a[a2],a[a3]/4"], 24),
    ("(x||g)", ["g/Intercept/4", "g/x/4"], 54),
    ("(a||g)", ["g/Intercept/4", "g/a[a1],a[a2],a[a3]/4"], 48),
    (
        "(x*a||g)",
        ["g/Intercept/4", "g/x/4", "g/a[a1],a[a2],a[a3]/4", "g/x:a[a1],x:a[a2],x:a[a3]/4"],
        108,
    ),
    ("(0+x+z||g)", ["g/x/4", "g/z/4"], 72.5),
    ("(1|g/b)", ["g/Intercept/4", "g:b/Intercept/8"], 48),
    ("(1|g:b)", ["g:b/Intercept/8"], 24),
    ("(x+a|h)", ["h/Intercept,x,a[T.a2],a[T.a3]/5"], 70),
    ("(x*b|h)", ["h/Intercept,x,b[T.b2],x:b[T.b2]/5"], 79.5),
    ("(poly(x,2)|g)", ["g/Intercept,poly(x, 2)[1],poly(x, 2)[2]/4"], 32.40776),
    ("(x|g/b)", ["g/Intercept,x/4", "g:b/Intercept,x/8"], 108),
]


@pytest.mark.parametrize(("formula", "terms", "total"), LFORMULA)
def test_random_part_is_lme4s(data, formula, terms, total):
    design = build_design(formula, data)
    found = [f"{t.group}/{','.join(t.names)}/{len(t.levels)}" for t in design.random]
    assert found == terms
    assert sum(np.abs(t.z).sum() for t in design.random) == pytest.approx(total, rel=1e-6)
    for spec, term in zip(parse_formula(formula).random, design.random, strict=True):
        np.testing.assert_allclose(term.z, build_design(spec.expr, data).X, rtol=1e-9, atol=1e-9)
