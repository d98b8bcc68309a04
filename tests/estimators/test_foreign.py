"""Arguments under the names of other programs, and groups that no fit gets."""

import inspect
import warnings

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_score

from skmixed import (
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedLogisticClassifier,
    MixedNonlinearRegressor,
    NoGroupsWarning,
)
from skmixed.datasets import load_sleepstudy
from skmixed.estimators._foreign import _ATTRIBUTES, _ELSEWHERE, _IN_METHODS

CLASSES = [
    MixedLinearRegressor,
    MixedGLMRegressor,
    MixedLogisticClassifier,
    MixedNonlinearRegressor,
]

# Names of R, statsmodels and scikit-learn, and a word of what they are told.
NAMES = {
    "weights": "prior_weights",
    "freq_weights": "sample_weight",
    "class_weight": "TunedThresholdClassifierCV",
    "re_form": "random_effects",
    "re.form": "random_effects",
    "data": r"fit\(data\)",
    "nAGQ": "n_agq",
    "random": "in the formula",
    "re_formula": "in the formula",
    "vc_formula": r"\(1 \| g / h\)",
    "allow_new_levels": "unseen_groups",
    "allow.new.levels": "unseen_groups",
    "na_action": "missing='drop'",
    "offset": r"offset\(x\)",
    "control": "max_iter",
    "correlation": "residual=",
    "exog": "X, the first",
    "endog": "y, the second",
    "fit_intercept": "0 \\+ x",
}


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy().frame


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(("name", "told"), NAMES.items(), ids=NAMES)
def test_names_of_other_programs(cls, name, told, sleep):
    with pytest.raises(TypeError, match=rf"{cls.__name__}\(\) got .* '{name}': .*{told}"):
        cls("y ~ x", **{name: 1})
    with pytest.raises(TypeError, match=rf"{cls.__name__}.fit\(\) got .* '{name}': .*{told}"):
        cls().fit(sleep, **{name: 1})


def test_arguments_at_the_wrong_place(sleep):
    with pytest.raises(TypeError, match=r"constructor, MixedLinearRegressor\(\.\.\., reml=\.\.\."):
        MixedLinearRegressor().fit(sleep, reml=True)
    with pytest.raises(TypeError, match=r"it belongs to fit, fit\(\.\.\., groups=\.\.\.\)"):
        MixedLinearRegressor(groups="Subject")
    with pytest.raises(TypeError, match=r"MixedGLMRegressor.*have other families"):
        MixedLinearRegressor("y ~ x", family="poisson")
    with pytest.raises(TypeError, match=r"it belongs to the constructor"):
        MixedGLMRegressor("y ~ x").fit(sleep, family="poisson")
    with pytest.raises(TypeError, match="'REML': reml= of"):
        MixedLinearRegressor("y ~ x", REML=False)


def test_slips_of_the_pen(sleep):
    with pytest.raises(TypeError, match=r"did you mean max_iter=\?"):
        MixedLinearRegressor(max_itr=3)
    with pytest.raises(TypeError, match=r"did you mean sample_weight=\?"):
        MixedLinearRegressor().fit(sleep, sample_weigth=3)
    with pytest.raises(TypeError, match=r"'zzz'\. It has X, y, groups, sample_weight"):
        MixedLinearRegressor().fit(sleep, zzz=3)


@pytest.mark.parametrize("cls", CLASSES)
def test_no_name_is_both_ours_and_foreign(cls):
    """The table speaks of names that this class lacks; what it has comes first."""
    assert "formula" in inspect.signature(cls).parameters
    assert list(inspect.signature(cls.fit).parameters)[:3] == ["self", "X", "y"]
    assert not {"formula", "missing", "sample_weight", "X", "y", "tol"} & set(_ELSEWHERE)


def test_sub_classes_have_arguments_of_their_own(sleep):
    class Own(MixedLinearRegressor):
        def __init__(self, formula=None, *, weights=None):
            super().__init__(formula)
            self.weights = weights

        def fit(self, X, y=None, **anything):
            return super().fit(X, y)

    model = Own("Reaction ~ Days + (1 | Subject)", weights=2).fit(sleep, data=3)
    assert clone(model).weights == 2
    with pytest.raises(TypeError, match=r"Own\(\) got .* 'control'"):
        Own(control=3)


@pytest.mark.parametrize("cls", [MixedLinearRegressor, MixedGLMRegressor, MixedNonlinearRegressor])
def test_groups_that_reach_no_fit_are_told(cls, sleep):
    X, y, groups = sleep[["Days"]], sleep["Reaction"] // 10, sleep["Subject"]
    with pytest.warns(NoGroupsWarning, match="reach its splitter alone"):
        cross_val_score(cls(), X, y, groups=groups, cv=GroupKFold(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error", NoGroupsWarning)
        cls().fit(X, y, groups=groups)
        if cls is not MixedNonlinearRegressor:
            cls(formula=".").fit(X, y)
        with sklearn.config_context(enable_metadata_routing=True):
            routed = cls().set_fit_request(groups=True).set_score_request(groups=True)
            scores = cross_val_score(
                routed, X, y, params={"groups": groups}, cv=GroupKFold(3), error_score="raise"
            )
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("method", "name", "told"),
    [
        ("predict", "newdata", "X, the first argument"),
        ("predict", "alpha", r"predict_interval\(X, level="),
        ("predict_interval", "alpha", "level=, the coverage"),
        ("simulate", "nsim", "n_samples= of simulate"),
        ("simulate", "seed", "random_state="),
        ("confint", "parm", "parameters="),
        ("confint", "nsim", r"skmixed.inference.bootstrap\(model, X, n="),
        ("anova", "typ", "type=, 1, 2 or 3"),
        ("coefficients", "df", "ddf='satterthwaite'"),
        ("residuals", "type", "kind='response'"),
        ("condition", "unseen_groups", r"the constructor, MixedLinearRegressor\("),
        ("score", "sample_weigth", r"did you mean sample_weight=\?"),
        ("predict_report", "zzz", "'zzz'. It has X, groups, kind"),
    ],
)
def test_every_method_knows_other_names(sleep, method, name, told):
    """Without its first argument too: what was meant is told before what is missing."""
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(sleep)
    with pytest.raises(TypeError, match=rf"MixedLinearRegressor.{method}\(\) got .*{told}"):
        getattr(model, method)(**{name: 1})


def test_foreign_arguments_of_methods_are_none_of_theirs():
    """What a method has is never told away: the tables hold only names that it lacks."""
    for cls in CLASSES:
        for method, names in _IN_METHODS.items():
            if hasattr(cls, method):
                had = set(inspect.signature(getattr(cls, method)).parameters)
                wrong = {name for name in names if name in had}
                assert wrong <= {"level", "kind", "type"}  # shared by methods of one table
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(load_sleepstudy().frame)
    assert len(model.predict_interval(load_sleepstudy().frame, level=0.5, kind="mean")) == 180
    assert model.anova(type=2) is not None


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("params", "fixed_effects_"),
        ("ranef", "random_effects_"),
        ("VarCorr", "covariances_"),
        ("bse", "standard_errors_"),
        ("pvalues", "coefficients()"),
        ("llf", "log_likelihood_"),
        ("fittedvalues", "predict"),
        ("resid", "residuals"),
        ("conf_int", "confint()"),
    ],
)
def test_attributes_of_other_programs(sleep, name, here):
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(sleep)
    assert not hasattr(model, name)
    with pytest.raises(AttributeError) as error:
        getattr(model, name)
    told = str(error.value).rpartition("here that is ")[2]
    assert here in told and hasattr(model, here.removesuffix("()"))


@pytest.mark.parametrize("cls", CLASSES)
def test_our_attributes_are_no_foreign_ones(cls):
    assert not [name for name in _ATTRIBUTES if hasattr(cls, name)]


def test_data_that_is_missing_and_groups_by_name(sleep):
    with pytest.raises(TypeError, match=r"MixedLinearRegressor.fit\(\): .*'X'"):
        MixedLinearRegressor("Reaction ~ Days").fit()
    with pytest.raises(ValueError, match=r"180 rows, got the text 'Subject'.*data\['Subject'\]"):
        MixedLinearRegressor().fit(sleep, groups="Subject", y=sleep["Reaction"])


@pytest.mark.parametrize("cls", [MixedLinearRegressor, MixedLogisticClassifier])
def test_text_and_data_in_each_others_place(cls, sleep):
    with pytest.raises(ValueError, match=rf"'y ~ x'. A formula .*, {cls.__name__}\(formula\)"):
        cls().fit("y ~ x", sleep)
    with pytest.raises(ValueError, match=r"'formula' .* Got DataFrame instead.*fit\(data\)"):
        cls(sleep).fit(sleep)
    told = r"'prior_weights' .* Got Series instead.*name of a column"
    with pytest.raises(ValueError, match=told):
        cls("Reaction ~ Days", prior_weights=sleep["Days"]).fit(sleep)
    with pytest.raises(ValueError, match=r"the text 'Days': .*sample_weight=data\['Days'\]"):
        cls("Reaction ~ Days").fit(sleep, sample_weight="Days")


def test_batches_know_other_names_too(sleep):
    with pytest.raises(TypeError, match=r"fit_batches\(\) got .* 'sourc': did you mean source=\?"):
        MixedLinearRegressor("Reaction ~ Days").fit_batches(sourc=[sleep])


def test_a_contrast_is_no_name(sleep):
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(sleep)
    with pytest.raises(ValueError, match=r"such as \{'Days': 1\}, .*got the text 'Days'"):
        model.contrast("Days")
