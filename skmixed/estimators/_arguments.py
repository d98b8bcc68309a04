"""Arguments of predictions under the names that other programs give them."""

from __future__ import annotations

# name elsewhere -> what it is here
_ELSEWHERE = {
    "re_form": "random_effects=True, False or a list of grouping factors",
    "re.form": "random_effects=True, False or a list of grouping factors",
    "allow_new_levels": "the parameter unseen_groups of the estimator",
    "allow.new.levels": "the parameter unseen_groups of the estimator",
    "na_action": "the parameter missing of the estimator",
    "se_fit": "return_std=True",
    "se.fit": "return_std=True",
    "std": "return_std=True",
    "return_cov": "return_std=True",
    "interval": "the method predict_interval(X, level=, kind=)",
    "level": "the method predict_interval(X, level=, kind=)",
    "alpha": "the method predict_interval(X, level=, kind=)",
    "kind": "the method predict_interval(X, level=, kind=)",
    "type": "scale='response' or 'link' of generalised models",
    "newdata": "X, the first argument",
    "exog": "X, the first argument",
    "data": "X, the first argument",
    "y": "history=(X, y), or condition(X, y), for rows with their response",
    "sample_weight": "nothing: predictions of rows do not depend on their number",
    "weights": "the column of X that prior_weights names",
    "offset": "a column of X with offset(...) in the formula",
    "class_weight": "sample_weight of fit; the threshold of a class is chosen on predict_proba",
    "threshold": "a comparison of predict_proba with it",
    "family": "a parameter of the estimator, set before fit",
    "formula": "a parameter of the estimator, set before fit",
    "missing": "a parameter of the estimator: set_params(missing=...)",
    "unseen_groups": "a parameter of the estimator: set_params(unseen_groups=...)",
    "unknown_categories": "a parameter of the estimator: set_params(unknown_categories=...)",
}


def unknown_argument(estimator, method, unknown):
    """TypeError for arguments that a method does not have, with the way to say it here."""
    name = next(iter(unknown))
    told = _ELSEWHERE.get(name)
    return TypeError(
        f"{type(estimator).__name__}.{method}() got an unexpected keyword argument {name!r}"
        + (f": here that is {told}" if told else "")
    )
