"""Arguments and attributes under the names that other programs give them."""

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

_INTERVAL = "the method predict_interval(X, level=, kind=)"
_LEVEL = "level=, the coverage: 0.95 for an alpha of 0.05"
_DRAWS = "random_state="
_FIRST = "X, the first argument"

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
    "newdata": _FIRST,
    "exog": _FIRST,
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
    "seed": _DRAWS,
    "ddf": "ddf= of coefficients, anova, contrast and confint",
}
_OF_PREDICTIONS = {
    "data": _FIRST,
    "df": "ddf= of coefficients and anova; intervals of predictions are normal",
    "se_fit": "return_std=True of predict",
    "std": "return_std=True of predict",
    "return_cov": "return_std=True of predict",
    "interval": _INTERVAL,
    "level": _INTERVAL,
    "kind": _INTERVAL,
    "alpha": f"{_INTERVAL}; {_LEVEL}",
    "type": "scale='response' or 'link' of predict of generalised models",
    "y": "history=(X, y) of predict, or condition(X, y), for rows with their response",
    "sample_weight": "nothing: predictions of rows do not depend on their number",
    "threshold": "a comparison of predict_proba with it",
    "random": _PREDICT,
    "re_formula": _PREDICT,
    "nsim": "n_samples= of simulate",
    "n": "n_samples= of simulate",
    "size": "n_samples= of simulate",
    "use_u": "conditional=True of simulate",
}
_OF_TESTS = {
    "alpha": _LEVEL,
    "conf_level": _LEVEL,
    "parm": "parameters=, names of parameters",
    "nsim": "skmixed.inference.bootstrap(model, X, n=...)",
    "n_boot": "skmixed.inference.bootstrap(model, X, n=...)",
    "n": "skmixed.inference.bootstrap(model, X, n=...)",
    "typ": "type=, 1, 2 or 3",
    "df": "ddf='satterthwaite', 'kenward_roger', 'residual' or 'asymptotic'",
    "test": "ddf='satterthwaite', 'kenward_roger', 'residual' or 'asymptotic'",
    "l": "K=, the rows of the contrast",
}
# What a name means in some methods alone: there it comes before all else.
_IN_METHODS = {
    **dict.fromkeys(
        ("predict", "predict_proba", "predict_log_proba", "predict_interval", "simulate"),
        _OF_PREDICTIONS,
    ),
    **dict.fromkeys(
        ("anova", "coefficients", "confint", "contrast", "variance_components"), _OF_TESTS
    ),
    "residuals": {"type": "kind='response', 'pearson', 'scaled' or another"},
}
_P_VALUES = "coefficients(), with tests and limits"
# attribute or method elsewhere -> what it is here
_ATTRIBUTES = {
    **dict.fromkeys(("params", "fe_params", "fixef", "coef", "coefs"), "fixed_effects_"),
    **dict.fromkeys(("ranef", "ranef_df"), "random_effects_, a DataFrame by grouping factor"),
    **dict.fromkeys(("bse", "bse_fe"), "standard_errors_"),
    **dict.fromkeys(("pvalues", "tvalues"), _P_VALUES),
    **dict.fromkeys(("conf_int", "confint_"), "confint()"),
    **dict.fromkeys(("VarCorr", "cov_re", "vcomp"), "covariances_, or variance_components()"),
    **dict.fromkeys(("llf", "logLik", "loglik"), "log_likelihood_"),
    **dict.fromkeys(("resid", "resid_pearson"), "residuals(X, y, kind=...)"),
    **dict.fromkeys(("fittedvalues", "fitted"), "predict(X) of the rows of the fit"),
    **dict.fromkeys(("sigma", "scale"), "sigma_, a standard deviation"),
    **dict.fromkeys(("nobs", "n_obs"), "n_obs_"),
    "aic": "aic_", "AIC": "aic_", "bic": "bic_", "BIC": "bic_", "deviance": "deviance_",
    "cov_params": "vcov()", "df_resid": "df_resid_", "converged": "converged_",
    "t_test": "contrast(K)", "f_test": "contrast(K)", "wald_test": "contrast(K)",
    "isSingular": "is_singular_", "getME": "the attributes that end in _, such as theta_",
    "drop1": "skmixed.inference.drop1(model, X)",
}  # fmt: skip


def attribute_elsewhere(name):
    """What an attribute of other programs is called here, or None."""
    return _ATTRIBUTES.get(name)


class KnowsOtherNames:
    """Constructors and methods tell what an argument that they do not have is called here."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name, value in list(vars(cls).items()):
            if inspect.isfunction(value) and (name == "__init__" or not name.startswith("_")):
                setattr(cls, name, _asking(value))


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
    plain = name.lower().replace(".", "_")
    hint = (
        _IN_METHODS.get(method, {}).get(plain)
        or _own(cls, name)
        or _ELSEWHERE.get(plain)
        or _alike(cls, name, known)
    )
    if hint:
        return f"{begin}: {hint}"
    return f"{begin}. It has {', '.join(known) or 'no arguments'}"


def _own(cls, name):
    """Where this class has an argument of this name."""
    if name in inspect.signature(cls).parameters:
        return f"it belongs to the constructor, {cls.__name__}(..., {name}=...)"
    if name in inspect.signature(cls.fit).parameters:
        return f"it belongs to fit, fit(..., {name}=...)"
    return None


def _alike(cls, name, known):
    """An argument of nearly the same name."""
    names = [*known, *inspect.signature(cls).parameters]
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.7)
    return f"did you mean {near[0]}=?" if near else None
