"""A fit under way: its deadline, the logger, scikit-learn's callbacks, and where it starts."""

from __future__ import annotations

import inspect
import logging
import time
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval

from skmixed._deadline import OutOfTime, time_limit
from skmixed._log import log, tell
from skmixed.exceptions import FitTimeoutError

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """No callbacks."""

    def with_callbacks(method):
        """The method as it is."""
        return method


# Parameters of every fit that say how it runs, and nothing of its result.
RUNNING: dict = {
    "verbose": ["verbose"],
    "max_time": [Interval(Real, 0, None, closed="neither"), None],
    "warm_start": ["boolean"],
}

_under_way: ContextVar[Watch] = ContextVar("skmixed_fit_under_way")


def watched(fit):
    """Decorator of a method that fits: it begins and ends here, whatever happens in between.

    The parameters are checked, and what an earlier fit found is gone; attributes of the new fit are
    set at its very end, so that an interrupted estimator is not fitted, and fits again. One whose
    callbacks fail after that end forgets them.
    """
    parameters = inspect.signature(fit)

    @with_callbacks
    @wraps(fit)
    def run(self, *args, **kwargs):
        try:
            given = parameters.bind(self, *args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}.{fit.__name__}(): {error}") from None
        _check_given(type(self).__name__, given)
        before = vars(self).get("result_") if self.warm_start else None
        self._begin()
        try:
            with _watching(Watch(self, before, given)), time_limit(self.max_time):
                return fit(self, *args, **kwargs)
        except BaseException:
            self._forget()
            raise

    return run


def _check_given(who, given):
    """Errors for text in the place of data."""
    if isinstance(given.get("X"), str):
        raise ValueError(
            f"{who}: X are the data, a DataFrame or array, got the text {given['X']!r}. A formula "
            f"belongs to the constructor, {who}(formula).fit(data)"
        )
    weights = given.get("sample_weight")
    if isinstance(weights, str) and "X" in given:  # of batches it is a column
        raise ValueError(
            f"{who}: sample_weight are the weights of the rows, got the text {weights!r}: pass the "
            f"column, sample_weight=data[{weights!r}]"
        )


@contextmanager
def _watching(watch):
    token = _under_way.set(watch)
    try:
        watch.begin()
        yield
        watch.end()
    except OutOfTime:
        raise FitTimeoutError(watch.too_late()) from None
    finally:
        _under_way.reset(token)


class Watch:
    """One fit: how far it is, and who is told.

    ``before`` is the fit that it may start from, ``given`` what the user gave.
    """

    def __init__(self, estimator, before, given):
        self.estimator, self.before = estimator, before
        metadata = {name: given[name] for name in ("groups", "sample_weight") if name in given}
        self._given = {"X": given.get("X"), "y": given.get("y"), "metadata": metadata or None}
        self.response = None  # the name of one of several
        self._began = time.monotonic()
        self._n_steps, self._value = 0, None
        self._context: Any = None
        self._task: Any = None

    @property
    def _who(self):
        return type(self.estimator).__name__

    @contextmanager
    def of_response(self, k, name):
        """The part of a fit of several responses that is about one, which errors name."""
        before = self.before
        fits = getattr(before, "fits", ())
        self.response, self.before = name, fits[k] if k < len(fits) else None
        try:
            yield
        except ValueError as error:
            if type(error) is ValueError:
                raise ValueError(f"response {name!r}: {error}") from None
            raise
        finally:
            self.response, self.before = None, before

    def begin(self):
        """scikit-learn's callbacks hear of the fit."""
        if hasattr(self.estimator, "_init_callback_context"):
            self._context = self.estimator._init_callback_context(max_subtasks=None)
            self._begun(self._context)

    def end(self):
        """They hear of its end, and so does the logger."""
        if self._task is not None:
            self._ended(self._task)
        if self._context is not None:
            self._ended(self._context, reconstruction_attributes={})
        seconds = time.monotonic() - self._began
        for fit in getattr(self.estimator.result_, "fits", (self.estimator.result_,)):
            log.info(
                "%s: fitted in %.3g s, %d steps, %d evaluations, criterion %.8g",
                self._who,
                seconds,
                fit.optimum.n_iter,
                fit.optimum.n_evaluations,
                fit.optimum.value,
            )

    def step(self, objective, iteration, value, parameters):
        """One step of the search; whether a callback wants it to be the last one."""
        self._n_steps, self._value = self._n_steps + 1, value
        shown = self.estimator.verbose
        if shown or log.isEnabledFor(logging.DEBUG):
            theta = self.estimator._user_theta(objective, parameters)
            text = np.array2string(theta, precision=6, max_line_width=np.inf)
            tell(f"{iteration:3d}: {value:14.8g}: {text}", shown, logging.DEBUG)
        return self.next_task()

    def next_task(self):
        """A step ends for callbacks, and the next one begins; whether one of them says stop."""
        if self._context is None or not getattr(self.estimator, "_skl_callbacks", None):
            return False
        stop = self._task is not None and self._ended(self._task)
        self._task = self._begun(self._context.subcontext("step"))
        return bool(stop)

    def _begun(self, context):
        return context.call_on_fit_task_begin(estimator=self.estimator, **self._given)

    def _ended(self, context, **more):
        return context.call_on_fit_task_end(estimator=self.estimator, **self._given, **more)

    def too_late(self):
        """What a deadline says."""
        if self._value is None:
            far = "before the first step of the search"
        else:
            far = f"after {self._n_steps} steps of the search (criterion {self._value:.8g})"
        return (
            f"{self._who}: max_time={self.estimator.max_time:g} seconds were over {far}: the model "
            "is not fitted. Raise max_time, or make the fit cheaper: a larger tol, fewer "
            "random-effects terms, n_agq=0 of a generalised model"
        )


class OperatedFits(CallbackSupportMixin):
    """What a fit asks of the watch over it."""

    def _of_response(self, k, name):
        return _under_way.get().of_response(k, name)

    def _who(self):
        """Who warns: the class, and the response where there are several."""
        watch = _under_way.get(None)
        about = "" if watch is None or watch.response is None else f", response {watch.response!r}"
        return f"{type(self).__name__}{about}"

    def _told(self, objective):
        """The callback of a search over the parameters of an objective."""
        watch = _under_way.get()
        watch.next_task()
        return partial(watch.step, objective)

    def _user_theta(self, objective, parameters):
        """theta, which is not the only parameter."""
        return objective.layout.user_theta(objective.split(parameters)[1])

    def _warm(self, read, problem):
        """``read(before, problem)`` of the fit to start from; None without one, which is told."""
        before = _under_way.get().before
        found = None if before is None else read(before, problem)
        if before is not None and found is None:
            log.info(
                "%s: warm_start has nothing to start from: the earlier fit had other terms or "
                "columns, is singular, or its parameters depend on its rows",
                type(self).__name__,
            )
        return found
