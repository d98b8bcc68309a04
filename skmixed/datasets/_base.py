"""The one reader behind every ``load_*`` function."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import pandas as pd
from sklearn.utils import Bunch

_FOLDER = files("skmixed.datasets") / "data"

_WORKERS = "6 2 4 1 3 5"  # by best score, the order of the published tables
_DEPARTMENTS = "15 5 10 12 6 7 4 8 9 14 1 3 11 2"
_INFANTS = """
    86 87 77 122 110 84 117 72 96 97 134 68 76 105 149 111 70 101 121 89 93 71 79 83 90 99 112 114
    126 128 135 75 137 80 125 136 113 115 120 152 102 109 143 144 129 145 107 116 146 148 98 81 100
    151 91 127 92 106 979 970 906 977 925 916 942 949 975 909 940 982 953 917 924 966 971 984 926
    935 938 980 950 904 947 968 985 919 934 967 908 936 964 972 976 969 902 929 931 913 941 944 973
    960 911
"""
_ITEMS = """
    S1WantCurse S1WantScold S1WantShout S2WantCurse S2WantScold S2WantShout
    S3WantCurse S3WantScold S3WantShout S4wantCurse S4WantScold S4WantShout
    S1DoCurse S1DoScold S1DoShout S2DoCurse S2DoScold S2DoShout
    S3DoCurse S3DoScold S3DoShout S4DoCurse S4DoScold S4DoShout
"""


@dataclass(frozen=True)
class _Source:
    """File, target column, and for every factor its levels in order (None: sorted)."""

    file: str
    target: str
    factors: Mapping[str, str | None]


_SOURCES = {
    "dyestuff": _Source("dyestuff.csv", "Yield", {"Batch": None}),
    "dyestuff2": _Source("dyestuff2.csv", "Yield", {"Batch": None}),
    "pastes": _Source("pastes.csv", "strength", {"batch": None, "cask": None, "sample": None}),
    "penicillin": _Source("penicillin.csv", "diameter", {"plate": None, "sample": None}),
    "cake": _Source("cake.csv", "angle", {"replicate": None, "recipe": None, "temperature": None}),
    "cbpp": _Source("cbpp.csv", "incidence", {"herd": None, "period": None}),
    "sleepstudy": _Source("sleepstudy.csv", "Reaction", {"Subject": None}),
    "early": _Source("early.csv", "cog", {"id": _INFANTS, "trt": None}),
    "scotssec": _Source(
        "scotssec.csv.gz", "attain", {"primary": None, "sex": "M F", "second": None}
    ),
    "machines": _Source("machines.csv", "score", {"Worker": _WORKERS, "Machine": None}),
    "insteval": _Source(
        "insteval.csv.gz",
        "y",
        {
            "s": None,
            "d": None,
            "studage": None,
            "lectage": None,
            "service": None,
            "dept": _DEPARTMENTS,
        },
    ),
    "verbagg": _Source(
        "verbagg.csv.gz",
        "r2",
        {
            "Gender": None,
            "item": _ITEMS,
            "resp": None,
            "id": None,
            "btype": None,
            "situ": None,
            "mode": "want do",
            "r2": None,
        },
    ),
    "grouseticks": _Source(
        "grouseticks.csv",
        "TICKS",
        {"INDEX": None, "BROOD": None, "YEAR": None, "LOCATION": None},
    ),
    "orange": _Source("orange.csv", "circumference", {"Tree": None}),
    "wheat2": _Source("wheat2.csv", "yield", {"Block": None, "variety": None}),
    "theoph": _Source("theoph.csv", "conc", {"Subject": None}),
    "loblolly": _Source("loblolly.csv", "height", {"Seed": None}),
    "indometh": _Source("indometh.csv", "conc", {"Subject": None}),
    "dnase": _Source("dnase.csv", "density", {"Run": None}),
    "co2": _Source("co2.csv", "uptake", {"Plant": None, "Type": None, "Treatment": None}),
    "soybean": _Source("soybean.csv", "weight", {"Plot": None, "Variety": None, "Year": None}),
}


def load(name: str, return_X_y: bool) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """The bundled data set `name` as a Bunch, or as the pair (data, target)."""
    source = _SOURCES[name]
    frame = _read(source)
    data, target = frame.drop(columns=source.target), frame[source.target]
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        frame=frame,
        feature_names=list(data.columns),
        target_names=[source.target],
        DESCR=(_FOLDER / f"{name}.rst").read_text(encoding="utf-8"),
    )


def _read(source: _Source) -> pd.DataFrame:
    compression = "gzip" if source.file.endswith(".gz") else None
    with (_FOLDER / source.file).open("rb") as stream:
        frame = pd.read_csv(stream, compression=compression)
    factors = {column: _factor(frame[column], levels) for column, levels in source.factors.items()}
    return frame.assign(**factors)


def _factor(codes: pd.Series, levels: str | None) -> pd.Categorical:
    """Text levels; sorted as numbers where all of them are, unless `levels` gives the order."""
    factor = pd.Categorical(codes)
    factor = factor.rename_categories([str(level) for level in factor.categories])
    return factor if levels is None else factor.reorder_categories(levels.split())
