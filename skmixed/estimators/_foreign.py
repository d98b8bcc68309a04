"""Arguments of the constructor and of ``fit`` under the names that other programs give them."""

from __future__ import annotations

import difflib
import inspect
from functools import wraps

_ROWS = "sample_weight= of fit says how often a row counts"
_PRECISION = f"prior_weights='w' of the constructor divides residual variances (R); {_ROWS}"
_TERMS = "random effects stand in the formula, as in 'y ~ x + (x | g)'"
_PREDICT = "random_effects= of predict: True, False or a list of grouping factors"
_UNSEEN = "unseen_groups= of the constructor: 'population', 'raise' or 'nan'"
_SEARCH = "max_iter=, tol= and max_time= of the constructor control the search"
_QUADRATURE = "n_agq= of generalised and nonlinear models"
_DATA = "the first argument of fit: fit(data) where the formula names the response, else fit(X, y)"
_GROUPS = "groups= of fit, or (1 | g) in the formula"
_RESIDUAL = "residual= of MixedLinearRegressor, such as residual='ar1(time | g)'"
_NOT_HERE = "there is none here"

# name elsewhere, in small letters and with _ for . -> what it is here
_ELSEWHERE = {
    "weights": _PRECISION,
    "weight": _PRECISION,
    "var_weights": "prior_weights='w' of the constructor, the name of a column",
    "freq_weights": _ROWS,
    "class_weight": (
        f"{_NOT_HERE}: weights by class would change the probabilities. {_ROWS}, and "
        "TunedThresholdClassifierCV chooses a threshold"
    ),
    "family": "MixedGLMRegressor(formula, family=...) and MixedLogisticClassifier have other "
    "families than the normal one",
    "link": "link= of MixedGLMRegressor and MixedLogisticClassifier",
    "distribution": "family= of MixedGLMRegressor",
    "re_form": _PREDICT,
    "reml": "reml= of the constructor of MixedLinearRegressor, True or False",
    "method": "reml=True or False of the constructor; every model has one optimiser",
    "data": _DATA,
    "df": _DATA,
    "frame": _DATA,
    "dataset": _DATA,
    "exog": "X, the first argument of fit",
    "endog": "y, the second argument of fit",
    "nagq": _QUADRATURE,
    "n_quad": _QUADRATURE,
    "random": _TERMS,
    "ranef": _TERMS,
    "random_effects": f"{_TERMS}; {_PREDICT}",
    "re_formula": _TERMS,
    "exog_re": _TERMS,
    "fixed": "fixed effects stand in the formula, as in 'y ~ x + (x | g)'",
    "vc_formula": "variance components are terms of the formula: (1 | g) + (1 | h), or (1 | g / h)",
    "exog_vc": "variance components are terms of the formula: (1 | g) + (1 | h), or (1 | g / h)",
    "allow_new_levels": _UNSEEN,
    "group": _GROUPS,
    "groups": _GROUPS,
    "cluster": _GROUPS,
    "clusters": _GROUPS,
    "id": _GROUPS,
    "subject": _GROUPS,
    "na_action": "missing='drop' of the constructor",
    "subset": "rows of the data, chosen before: fit(data[rows])",
    "offset": "offset(x) in the formula",
    "contrasts": "codings stand in the formula, as in C(f, contr.sum)",
    "control": _SEARCH,
    "optimizer": _SEARCH,
    "maxiter": _SEARCH,
    "start_params": "warm_start=True of the constructor starts from the previous fit",
    "correlation": _RESIDUAL,
    "cor_struct": _RESIDUAL,
    "cov_struct": _RESIDUAL,
    "cov_type": "skmixed.inference.cluster_robust(model, X) for robust standard errors",
    "ziformula": f"{_NOT_HERE}: models have no part for extra zeros",
    "dispformula": f"{_NOT_HERE}: {_RESIDUAL} for variances that differ",
    "priors": "prior= of generalised models",
    "fit_intercept": "'0 + x' in the formula leaves the intercept out",
    "alpha": f"{_NOT_HERE}: variances of random effects are estimated, not chosen",
}


class KnowsOtherNames:
    """Constructors and ``fit`` tell what an argument that they do not have is called here."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name in ("__init__", "fit"):
            if name in vars(cls):
                setattr(cls, name, _asking(vars(cls)[name]))


def _asking(method):
    """The method, which names the rule where an argument has a name that it does not know."""
    parameters = inspect.signature(method).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return method

    @wraps(method)
    def asked(self, *args, **kwargs):
        for name in kwargs:
            if name not in parameters:
                raise TypeError(_told(type(self), method.__name__, name, list(parameters)[1:]))
        return method(self, *args, **kwargs)

    return asked


def _told(cls, method, name, known):
    """Who, the argument, and what it is here."""
    who = f"{cls.__name__}{'' if method == '__init__' else '.' + method}"
    begin = f"{who}() got an unexpected keyword argument {name!r}"
    hint = _own(cls, name, known) or _ELSEWHERE.get(name.lower().replace(".", "_"))
    return f"{begin}: {hint}" if hint else f"{begin}. It has {', '.join(known)}"


def _own(cls, name, known):
    """Where this class has an argument of this name, or one that is nearly the same."""
    constructor = inspect.signature(cls).parameters
    if name in constructor:
        return f"it belongs to the constructor, {cls.__name__}(..., {name}=...)"
    if name in inspect.signature(cls.fit).parameters:
        return f"it belongs to fit, fit(..., {name}=...)"
    if name.lower().replace(".", "_") in _ELSEWHERE:
        return None
    near = difflib.get_close_matches(name.lower(), [*known, *constructor], n=1, cutoff=0.7)
    return f"did you mean {near[0]}=?" if near else None
