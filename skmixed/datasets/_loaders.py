"""The public loaders.

Every loader reads a bundled file; nothing is downloaded. Grouping columns are categorical with
text levels, everything else is numeric.
"""

import pandas as pd
from sklearn.utils import Bunch

from skmixed.datasets._base import load

__all__ = [
    "load_cake",
    "load_cbpp",
    "load_co2",
    "load_dnase",
    "load_dyestuff",
    "load_dyestuff2",
    "load_early",
    "load_grouseticks",
    "load_indometh",
    "load_insteval",
    "load_loblolly",
    "load_machines",
    "load_orange",
    "load_pastes",
    "load_penicillin",
    "load_scotssec",
    "load_sleepstudy",
    "load_soybean",
    "load_theoph",
    "load_verbagg",
    "load_wheat2",
]


def load_dyestuff(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return the yield of a dyestuff by batch of its raw material (30 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_dyestuff
    >>> load_dyestuff().frame.groupby("Batch", observed=True)["Yield"].mean().round(1).to_list()
    [1505.0, 1528.0, 1564.0, 1498.0, 1600.0, 1470.0]
    """
    return load("dyestuff", return_X_y)


def load_dyestuff2(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return a constructed one-way layout without a batch effect (30 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_dyestuff2
    >>> load_dyestuff2().target.head(3).to_list()
    [7.298, 3.846, 2.434]
    """
    return load("dyestuff2", return_X_y)


def load_pastes(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return the strength of a paste by delivery and cask, a nested design (60 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_pastes
    >>> load_pastes().data["sample"].cat.categories[:4].to_list()
    ['A:a', 'A:b', 'A:c', 'B:a']
    """
    return load("pastes", return_X_y)


def load_penicillin(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return zones of inhibition of six samples on 24 plates, fully crossed (144 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_penicillin
    >>> X, y = load_penicillin(return_X_y=True)
    >>> X.shape, y.name
    ((144, 2), 'diameter')
    """
    return load("penicillin", return_X_y)


def load_cake(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return the breaking angle of chocolate cakes, a split-plot experiment (270 rows).

    `temperature` is the factor and `temp` the same as a number, in degrees Fahrenheit.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_cake
    >>> load_cake().data.head(2)
      replicate recipe temperature  temp
    0         1      A         175   175
    1         1      A         185   185
    """
    return load("cake", return_X_y)


def load_cbpp(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return cases of pleuropneumonia by herd and quarter (56 rows).

    The target is the number of new cases, out of the `size` animals of the herd.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_cbpp
    >>> cbpp = load_cbpp()
    >>> int(cbpp.target.sum()), int(cbpp.data["size"].sum())
    (99, 842)
    """
    return load("cbpp", return_X_y)


def load_sleepstudy(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return reaction times over ten days with three hours of sleep a night (180 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_sleepstudy
    >>> sleepstudy = load_sleepstudy()
    >>> sleepstudy.feature_names, sleepstudy.target_names
    (['Days', 'Subject'], ['Reaction'])
    >>> sleepstudy.frame.head(2)
       Reaction  Days Subject
    0  249.5600     0     308
    1  258.7047     1     308
    """
    return load("sleepstudy", return_X_y)


def load_early(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return cognitive scores of infants in a study of early intervention (309 rows).

    Time on study `tos` is `age` - 0.5, in years: the treatment began at the age of half a year.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_early
    >>> load_early().frame.head(2)
       id  cog  age trt  tos
    0  68  103  1.0   Y  0.5
    1  68  119  1.5   Y  1.0
    """
    return load("early", return_X_y)


def load_scotssec(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return attainment of pupils of 148 primary and 19 secondary schools (3435 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_scotssec
    >>> load_scotssec().data.nunique().to_dict()
    {'verbal': 66, 'primary': 148, 'sex': 2, 'social': 4, 'second': 19}
    """
    return load("scotssec", return_X_y)


def load_machines(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return the productivity of six workers on three machines (54 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_machines
    >>> machines = load_machines().frame
    >>> machines.groupby("Machine", observed=True)["score"].mean().round(2).to_dict()
    {'A': 52.36, 'B': 60.32, 'C': 66.27}
    """
    return load("machines", return_X_y)


def load_insteval(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return ratings of lectures by students at ETH Zurich (73421 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_insteval
    >>> load_insteval().data[["s", "d", "dept"]].nunique().to_dict()
    {'s': 2972, 'd': 1128, 'dept': 14}
    """
    return load("insteval", return_X_y)


def load_verbagg(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return answers to a questionnaire on verbal aggression (7584 rows).

    The target `r2` is `resp` in two classes; leave `resp` out when predicting it.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_verbagg
    >>> X, y = load_verbagg(return_X_y=True)
    >>> y.value_counts().to_dict()
    {'N': 3973, 'Y': 3611}
    """
    return load("verbagg", return_X_y)


def load_grouseticks(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return ticks on red grouse chicks by brood and location (403 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_grouseticks
    >>> grouseticks = load_grouseticks()
    >>> grouseticks.target.name, int(grouseticks.target.sum())
    ('TICKS', 2567)
    """
    return load("grouseticks", return_X_y)


def load_orange(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return the trunk circumference of orange trees as they grow (35 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_orange
    >>> load_orange().target.head(3).to_list()
    [30, 58, 87]
    """
    return load("orange", return_X_y)


def load_theoph(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return the concentration of theophylline after an oral dose (132 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_theoph
    >>> load_theoph().target.head(3).to_list()
    [0.74, 2.84, 6.57]
    """
    return load("theoph", return_X_y)


def load_loblolly(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return the height of Loblolly pines as they grow (84 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_loblolly
    >>> load_loblolly().target.head(3).to_list()
    [4.51, 10.89, 28.72]
    """
    return load("loblolly", return_X_y)


def load_indometh(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return the concentration of indometacin after an injection (66 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_indometh
    >>> load_indometh().target.head(3).to_list()
    [1.5, 0.94, 0.78]
    """
    return load("indometh", return_X_y)


def load_dnase(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return the optical density of an assay of DNase (176 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_dnase
    >>> load_dnase().target.head(3).to_list()
    [0.017, 0.018, 0.121]
    """
    return load("dnase", return_X_y)


def load_co2(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return the uptake of carbon dioxide by grass plants (84 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_co2
    >>> load_co2().target.head(3).to_list()
    [16.0, 30.4, 34.8]
    """
    return load("co2", return_X_y)


def load_soybean(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return the leaf weight of soybean plants as they grow (412 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_soybean
    >>> load_soybean().target.head(3).to_list()
    [0.106, 0.261, 0.666]
    """
    return load("soybean", return_X_y)


def load_wheat2(*, return_X_y: bool = False) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Return the yields of wheat varieties with the places of their plots (224 rows).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return only ``(data, target)``.

    Returns
    -------
    Bunch or (DataFrame, Series)
        With `data`, `target`, `frame` (both together), `feature_names`, `target_names` and
        `DESCR`, which describes the columns and gives their units and source.

    Examples
    --------
    >>> from skmixed.datasets import load_wheat2
    >>> load_wheat2().target.head(3).to_list()
    [29.25, 31.55, 35.05]
    """
    return load("wheat2", return_X_y)
