"""Fits in a service: deadlines, interrupts, logs, callbacks, warm starts, threads."""

import itertools
import logging
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from threadpoolctl import threadpool_info

from skmixed import (
    FitTimeoutError,
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedLogisticClassifier,
    MixedNonlinearRegressor,
    SingularFitWarning,
    _deadline,
)
from skmixed.datasets import (
    load_dyestuff,
    load_dyestuff2,
    load_grouseticks,
    load_orange,
    load_sleepstudy,
)
from skmixed.models import optimize, recession

SLEEP = "Reaction ~ Days + (Days | Subject)"


def _classes():
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(30), 12), rng.normal(size=360)
    eta = x + rng.normal(size=30)[g] + rng.logistic(size=360)
    return pd.DataFrame({"g": g, "x": x, "y": np.where(eta > 0, "yes", "no")})


MODELS = {
    "linear": (MixedLinearRegressor(SLEEP), load_sleepstudy().frame),
    "generalised": (
        MixedGLMRegressor("TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | LOCATION)"),
        load_grouseticks().frame,
    ),
    "classifier": (MixedLogisticClassifier("y ~ x + (1 | g)"), _classes()),
    "nonlinear": (
        MixedNonlinearRegressor("circumference ~ logistic(age, Asym, xmid, scal) ~ (Asym | Tree)"),
        load_orange().frame,
    ),
}
every_model = pytest.mark.parametrize(("model", "frame"), MODELS.values(), ids=MODELS)


@pytest.fixture(scope="module")
def sleep():
    return MODELS["linear"][1]


def _blas():
    return [(own["internal_api"], own["num_threads"]) for own in threadpool_info()]


def _count_seconds(monkeypatch):
    """A second passes at every look at the clock of a deadline."""
    clock = SimpleNamespace(monotonic=itertools.count().__next__)
    monkeypatch.setattr(_deadline, "time", clock)


def _interrupted_at(monkeypatch, nth, error):
    """The nth evaluation of a search raises an error."""
    count = itertools.count(1)

    def check():
        if next(count) == nth:
            raise error

    monkeypatch.setattr(optimize, "check_time", check)


# Deadlines and interrupts


@every_model
@pytest.mark.parametrize("seconds", [1, 4])
def test_a_deadline_leaves_the_estimator_unfitted(model, frame, seconds, monkeypatch):
    model = clone(model).fit(frame)
    expected, threads = model.deviance_, _blas()
    with monkeypatch.context() as patched:
        _count_seconds(patched)
        with pytest.raises(TimeoutError, match=rf"{type(model).__name__}: max_time={seconds} sec"):
            model.set_params(max_time=seconds).fit(frame)
    with pytest.raises(NotFittedError):
        model.predict(frame)
    assert not [name for name in vars(model) if name in ("result_", "labels_", "design_spec_")]
    assert _blas() == threads
    assert model.set_params(max_time=1e6).fit(frame).deviance_ == pytest.approx(expected)


def test_a_deadline_says_how_far_the_search_was(sleep, monkeypatch):
    _count_seconds(monkeypatch)
    model = MixedLinearRegressor(SLEEP, max_time=4)
    with pytest.raises(FitTimeoutError, match=r"after \d+ steps of the search \(criterion 174"):
        model.fit(sleep)
    with pytest.raises(FitTimeoutError, match="before the first step"):
        model.set_params(max_time=1).fit(sleep)
    with pytest.raises(FitTimeoutError, match="Raise max_time, or make the fit cheaper"):
        model.fit(sleep)
    error = pickle.loads(pickle.dumps(FitTimeoutError("too late")))
    assert str(error) == "too late"


def test_a_deadline_holds_for_batches_and_for_the_iterative_solver(sleep, monkeypatch):
    _count_seconds(monkeypatch)
    parts = [sleep[:90], sleep[90:]]
    with pytest.raises(FitTimeoutError):
        MixedLinearRegressor(SLEEP, max_time=1).fit_batches(lambda: iter(parts))
    model = MixedLinearRegressor(
        "Reaction ~ Days + (1 | Subject)", solver="iterative", max_time=1.5
    )
    with pytest.raises(FitTimeoutError):
        model.fit(sleep)


def test_a_deadline_holds_for_the_search_for_separated_rows(monkeypatch):
    """Its linear program is long where columns and rows are many."""
    x, z = np.random.default_rng(0).normal(size=(2, 60))
    frame = pd.DataFrame({"x": x, "z": z, "y": np.where(x > z, "b", "a")})
    monkeypatch.setattr(recession, "check_time", _raise)
    with pytest.raises(FitTimeoutError, match="before the first step"):
        MixedLogisticClassifier("y ~ x + z", max_time=60).fit(frame)


def _raise():
    raise _deadline.OutOfTime


def test_a_deadline_is_of_one_fit_and_one_thread():
    with _deadline.time_limit(1e-9), ThreadPoolExecutor(1) as pool:
        with pytest.raises(_deadline.OutOfTime):
            _deadline.check_time()
        assert pool.submit(_deadline.check_time).result() is None
        with _deadline.time_limit(None):
            assert _deadline.check_time() is None
        with pytest.raises(_deadline.OutOfTime):
            _deadline.check_time()
    assert _deadline.check_time() is None


@pytest.mark.parametrize("seconds", [0, -1, "1"])
def test_a_deadline_is_a_positive_number(sleep, seconds):
    with pytest.raises(ValueError, match="The 'max_time' parameter"):
        MixedLinearRegressor(SLEEP, max_time=seconds).fit(sleep)


def test_a_search_scores_candidates_that_are_too_late_as_missing(sleep, monkeypatch):
    X, y = sleep[["Days", "Subject"]], sleep["Reaction"]
    model = MixedLinearRegressor("Days + (Days | Subject)")
    search = GridSearchCV(model, {"max_time": [1e-9, None]}, cv=KFold(3, shuffle=True))
    with (
        pytest.warns(sklearn.exceptions.FitFailedWarning, match="FitTimeoutError"),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="One or more of the test scores")
        search.fit(X, y)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [True, False]
    assert search.best_params_ == {"max_time": None}


@every_model
@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_leaves_an_estimator_that_fits_again(model, frame, nth, error, monkeypatch):
    model = clone(model).fit(frame)
    expected, threads = model.deviance_, _blas()
    with monkeypatch.context() as patched:
        _interrupted_at(patched, nth, error)
        with pytest.raises(error):
            model.fit(frame)
    assert _blas() == threads
    with pytest.raises(NotFittedError):
        model.predict(frame)
    assert not hasattr(model, "fixed_effects_")
    assert model.fit(frame).deviance_ == pytest.approx(expected)


# Logs


@every_model
def test_a_fit_is_logged(model, frame, caplog, capsys):
    with caplog.at_level(logging.INFO, logger="skmixed"):
        model = clone(model).fit(frame)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert f"{model.n_iter_} steps, {model.n_evaluations_} evaluations" in told[0]
    assert capsys.readouterr().out == ""


def test_steps_are_logged_below_and_printed_where_asked(sleep, caplog, capsys):
    with caplog.at_level(logging.DEBUG, logger="skmixed"):
        model = MixedLinearRegressor(SLEEP, verbose=1).fit(sleep)
    steps = [r.getMessage() for r in caplog.records if r.levelno == logging.DEBUG]
    assert len(steps) == model.n_iter_
    assert capsys.readouterr().out.splitlines() == steps
    assert "1743.6283" in steps[-1]


def test_batches_are_logged(sleep, caplog):
    with caplog.at_level(logging.INFO, logger="skmixed"):
        MixedLinearRegressor(SLEEP).fit_batches(lambda: iter([sleep[:90], sleep[90:]]))
    told = " | ".join(record.getMessage() for record in caplog.records)
    assert "levels and means: done, 180 rows" in told
    assert "cross-products: done, 180 rows" in told


# Warm starts


@every_model
def test_a_warm_start_ends_where_a_fit_ends_in_fewer_evaluations(model, frame):
    model = clone(model).fit(frame)
    cold, beta = model.n_evaluations_, model.fixed_effects_
    again = model.set_params(warm_start=True).fit(frame)
    assert again.n_evaluations_ < cold
    np.testing.assert_allclose(again.fixed_effects_, beta, rtol=1e-4)


@every_model
def test_a_warm_start_takes_in_other_rows(model, frame):
    model = clone(model).set_params(warm_start=True).fit(frame)
    some = frame[frame.index % 10 != 3]
    warm, cold = model.fit(some), clone(model).fit(some)
    assert warm.deviance_ == pytest.approx(cold.deviance_, abs=1e-5)
    np.testing.assert_allclose(warm.fixed_effects_, cold.fixed_effects_, rtol=1e-3, atol=1e-4)
    assert warm.n_evaluations_ <= cold.n_evaluations_


def test_a_warm_start_of_batches(sleep):
    model = MixedLinearRegressor(SLEEP, warm_start=True).fit(sleep)
    cold = model.n_evaluations_
    model.fit_batches(lambda: iter([sleep[:90], sleep[90:]]))
    assert model.deviance_ == pytest.approx(1743.6282719580)
    assert model.n_evaluations_ < cold


def test_another_model_starts_as_any_and_says_so(sleep, caplog):
    model = MixedLinearRegressor(SLEEP, warm_start=True).fit(sleep)
    with caplog.at_level(logging.INFO, logger="skmixed"):
        model.set_params(formula="Reaction ~ Days + (1 | Subject)").fit(sleep)
    assert "warm_start has nothing to start from" in caplog.text
    cold = clone(model).fit(sleep)
    assert model.n_evaluations_ == cold.n_evaluations_
    assert model.deviance_ == pytest.approx(cold.deviance_)


def test_a_singular_fit_is_no_start():
    """At a variance of zero the criterion has no slope: a search from there would stay."""
    model = MixedLinearRegressor("Yield ~ 1 + (1 | Batch)", warm_start=True)
    with pytest.warns(SingularFitWarning):
        model.fit(load_dyestuff2().frame)
    other = load_dyestuff().frame
    assert model.fit(other).deviance_ == pytest.approx(clone(model).fit(other).deviance_)


def test_a_warm_start_far_from_the_new_estimates():
    """Counts in thousands have hardly a likelihood at means near 1."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(12), 10)
    frame = pd.DataFrame({"g": g, "x": rng.normal(size=120)})
    frame["y"] = rng.poisson(np.exp(0.3 * frame["x"] + rng.normal(size=12)[g] / 2))
    model = MixedGLMRegressor("y ~ x + (1 | g)", warm_start=True).fit(frame)
    large = frame.assign(y=1000 * frame["y"] + 1000)
    warm, cold = model.fit(large), clone(model).fit(large)
    assert warm.deviance_ == pytest.approx(cold.deviance_, rel=1e-6)


# Threads


def test_fits_in_threads_are_those_of_one_after_the_other():
    threads = _blas()
    jobs = [pair for pair in MODELS.values() for _ in range(3)]
    with ThreadPoolExecutor(4) as pool:
        fits = list(pool.map(lambda job: clone(job[0]).fit(job[1]).deviance_, jobs))
    assert _blas() == threads
    for (model, frame), found in zip(jobs, fits, strict=True):
        assert found == pytest.approx(clone(model).fit(frame).deviance_, rel=1e-9)


def test_failing_fits_beside_others_leave_the_setting_of_blas(sleep):
    threads = _blas()

    def fit(k):
        model = MixedLinearRegressor(SLEEP, max_time=1e-9 if k % 2 else None)
        try:
            return model.fit(sleep).deviance_
        except FitTimeoutError:
            return None

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fit, range(12)))
    assert _blas() == threads
    assert [value is None for value in found] == [bool(k % 2) for k in range(12)]


# Callbacks


class _Recorder:
    """What scikit-learn's callbacks are told, and a wish to stop after some steps."""

    def __init__(self, stop_after=None):
        self.events, self.stop_after, self.fitted = [], stop_after, []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None):
        self.events.append(f"begin {context.task_name}")
        self.X = X

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.events.append(f"end {context.task_name}")
        self.fitted.append(fitted_estimator)
        return self.events.count("end step") == self.stop_after


callbacks = pytest.mark.skipif(
    not hasattr(MixedLinearRegressor, "set_callbacks"), reason="scikit-learn has no callbacks"
)


@callbacks
@every_model
def test_callbacks_hear_of_every_step(model, frame):
    recorder = _Recorder()
    model = clone(model).set_callbacks(recorder).fit(frame)
    events = recorder.events
    assert events[:2] == ["setup", "begin fit"]
    assert events[-2:] == ["end fit", "teardown"]
    assert events.count("begin step") == events.count("end step") > model.n_iter_
    assert recorder.X is frame
    assert recorder.fitted[-1].deviance_ == model.deviance_


@callbacks
def test_callbacks_are_torn_down_after_a_deadline(sleep):
    recorder = _Recorder()
    model = MixedLinearRegressor(SLEEP, max_time=1e-9).set_callbacks(recorder)
    with pytest.raises(FitTimeoutError):
        model.fit(sleep)
    assert recorder.events[0] == "setup"
    assert recorder.events[-1] == "teardown"
    assert "end fit" not in recorder.events


@callbacks
def test_a_callback_may_stop_the_search(sleep):
    model = MixedLinearRegressor(SLEEP).set_callbacks(_Recorder(stop_after=2))
    with pytest.warns(ConvergenceWarning, match="a callback has stopped the search"):
        model.fit(sleep)
    assert not model.converged_


@callbacks
def test_callbacks_through_a_search_and_a_pipeline(sleep):
    X, y = sleep[["Days", "Subject"]], sleep["Reaction"]
    recorder = _Recorder()
    recorder.max_propagation_depth = None
    pipeline = make_pipeline(FunctionTransformer(), MixedLinearRegressor("Days + (1 | Subject)"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*FunctionTransformer does not support")
        GridSearchCV(pipeline, {}, cv=3).set_callbacks(recorder).fit(X, y)
    assert recorder.events.count("setup") == recorder.events.count("teardown") == 1
    assert recorder.events.count("begin step") == recorder.events.count("end step") > 8


@callbacks
def test_progress_bar(sleep, capsys):
    pytest.importorskip("rich")
    bar = sklearn.callback.ProgressBar()
    MixedLinearRegressor(SLEEP).set_callbacks(bar).fit(sleep)
    assert "MixedLinearRegressor - fit" in capsys.readouterr().out


@callbacks
def test_callbacks_of_several_responses(sleep):
    recorder = _Recorder()
    Y = sleep[["Reaction"]].assign(log=np.log(sleep["Reaction"]))
    model = MixedLinearRegressor("Days + (1 | Subject)").set_callbacks(recorder)
    model.fit(sleep[["Days", "Subject"]], Y)
    events = recorder.events
    assert events.count("begin fit") == events.count("end fit") == events.count("setup") == 1
    assert events.count("begin step") == events.count("end step")
    assert not any("_skl_callbacks" in vars(one) for one in model.estimators_)
    assert recorder.fitted[-1].predict(sleep).shape == (180, 2)


@callbacks
def test_warnings_point_at_the_line_of_the_user(sleep):
    constant = sleep.assign(twice=2 * sleep["Days"])
    with pytest.warns(match="rank deficient") as found:
        MixedLinearRegressor("Reaction ~ Days + twice + (1 | Subject)").fit(constant)
    assert {warning.filename for warning in found} == {__file__}


@callbacks
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_callback_that_fails_at_any_event_leaves_an_estimator_that_fits_again(sleep, error):
    whole = _Recorder()
    expected = MixedLinearRegressor(SLEEP).set_callbacks(whole).fit(sleep).theta_
    count = sum(event.startswith("end") for event in whole.events)

    class Failing(_Recorder):
        def on_fit_task_end(self, *args, **kwargs):
            answer = super().on_fit_task_end(*args, **kwargs)
            if sum(event.startswith("end") for event in self.events) == self.last:
                raise error("here")
            return answer

    for last in range(1, count + 1):
        failing = Failing()
        failing.last = last
        model = MixedLinearRegressor(SLEEP).set_callbacks(failing)
        with pytest.raises(error, match="here"):
            model.fit(sleep)
        assert not [name for name in vars(model) if name.endswith("_")]
        with pytest.raises(NotFittedError):
            model.predict(sleep)
        np.testing.assert_allclose(model.set_callbacks().fit(sleep).theta_, expected)
